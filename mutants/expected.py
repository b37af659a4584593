"""What every fault of the lab has to lead to; the facts behind each are the product's (statuses, codes, order).

Traffic and discovery are separate ways: a watch that breaks leaves imports and their traffic as they were, and a
broken data path leaves every status perfect. Half of mesh2's own ratings (v2) use mesh1's mongodb over the same
gateways, so whatever stops traffic to mesh1 may also fail requests that stay in mesh2.
"""

from __future__ import annotations

from lab.faults import CATALOGUE
from mutants.verdict import Expected

# mesh2 does not watch mesh1, or the other way round: both sides of the watch say so, and so does a question by hand,
# which is also the control of the knock at the service port.
_MESH2_BLIND = ("FED-001[mesh2]", "FED-002[mesh1]", "FED-007[mesh1]", "FED-008")
_MESH1_BLIND = ("FED-001[mesh1]", "FED-002[mesh2]", "FED-007[mesh2]")
_BOTH_BLIND = (*_MESH2_BLIND, *_MESH1_BLIND)
# A new istiod starts without imports.
_NOTHING_IMPORTED = ("FED-004", "FED-005", "FED-006")
# 15443 knows the names of exported services only, and without exports there is no listener.
_NO_SERVICE_PORT = ("INSTALL-007[mesh1]", "INSTALL-012[mesh1]", "FED-008")
_SPLIT = ("SPLIT-001",)
_WITH_TRAFFIC = ("SPLIT-005", "FED-009")
_TRAFFIC = (*_SPLIT, *_WITH_TRAFFIC)

_NO_METRICS = "the control planes have no Prometheus, so nothing but the log tells which mesh served a request"

_API_FAULTS = tuple(name for name in CATALOGUE if name.startswith("api-"))

EXPECTED: dict[str, Expected] = {
    "wrong-trust-domain-import": Expected(
        ("INSTALL-012[mesh1]", *_BOTH_BLIND), ("wrong-trust-domain",), "mesh2", (*_NOTHING_IMPORTED, *_TRAFFIC)
    ),
    "wrong-trust-domain-export": Expected(
        ("INSTALL-012[mesh2]", *_BOTH_BLIND, *_SPLIT), ("wrong-trust-domain",), "mesh1", _WITH_TRAFFIC
    ),
    "own-trust-domain-import": Expected(
        ("INSTALL-012[mesh1]", *_MESH2_BLIND, "FED-002[mesh2]", "FED-007[mesh2]"),
        ("wrong-trust-domain",),
        "mesh2",
        ("FED-001[mesh1]", *_NOTHING_IMPORTED, *_TRAFFIC),
        "mesh1 may not notice at once that its watch ended with the gateway that carried it; mesh2 does",
    ),
    "wrong-clientid-export": Expected(_MESH2_BLIND, ("wrong-client-id",), "mesh1"),
    "wrong-clientid-import": Expected(_MESH1_BLIND, ("wrong-client-id",), "mesh2"),
    "wrong-clientid-from-the-start": Expected((*_MESH2_BLIND, *_SPLIT), ("wrong-client-id",), "mesh1", _WITH_TRAFFIC),
    "clientid-with-spiffe-prefix": Expected(_MESH2_BLIND, ("wrong-client-id",), "mesh1"),
    "clientid-empty": Expected(_MESH2_BLIND, ("client-id-missing",), "mesh1"),
    "root-missing-import": Expected(
        ("INSTALL-011[mesh2]", "INSTALL-012[mesh1]", "FED-002[mesh1]", "FED-007", "FED-008", "FED-006"),
        ("root-missing",),
        "mesh2",
        # istiod opens its ingress only for a peer that it has taken up.
        ("INSTALL-007[mesh2]", "INSTALL-012[mesh2]", *_BOTH_BLIND, "FED-004", "FED-005", *_TRAFFIC),
        "statuses keep what was last written under their name: nobody is left who would change them",
    ),
    "root-foreign-import": Expected(
        ("INSTALL-011[mesh2]", "INSTALL-012[mesh1]", *_BOTH_BLIND, *_SPLIT),
        ("root-not-current",),
        "mesh2",
        _WITH_TRAFFIC,
    ),
    "root-foreign-export": Expected(
        ("INSTALL-011[mesh1]", "INSTALL-012[mesh2]", *_BOTH_BLIND, *_SPLIT),
        ("root-not-current",),
        "mesh1",
        _WITH_TRAFFIC,
    ),
    "root-expired-import": Expected(
        ("INSTALL-011[mesh2]", "INSTALL-012[mesh1]", *_BOTH_BLIND, *_SPLIT),
        ("root-expired",),
        "mesh2",
        _WITH_TRAFFIC,
    ),
    "root-empty-import": Expected(
        ("INSTALL-011[mesh2]", "INSTALL-012[mesh1]", *_BOTH_BLIND),
        ("root-empty",),
        "mesh2",
        (*_NOTHING_IMPORTED, *_TRAFFIC),
    ),
    "wrong-discovery-port-import": Expected(_MESH2_BLIND, ("wrong-discovery-port",), "mesh2"),
    "wrong-service-port-import": Expected(_SPLIT, ("wrong-service-port",), "mesh2", _WITH_TRAFFIC),
    "unreachable-address-import": Expected(_MESH2_BLIND, ("address-unreachable",), "mesh2", _TRAFFIC),
    "unresolvable-address-import": Expected(_MESH2_BLIND, ("address-unresolvable",), "mesh2", _TRAFFIC),
    "addresses-empty-import": Expected(_MESH2_BLIND, ("address-missing",), "mesh2", _TRAFFIC),
    "one-direction-only": Expected(_MESH1_BLIND, ("wrong-discovery-port",), "mesh1"),
    "peer-missing-export": Expected(
        ("FED-001", "FED-002", "FED-007[mesh1]", "FED-008"),
        ("peer-missing",),
        "mesh1",
        # Without the peer its ingress has no listener, and mesh1 takes back what it offered.
        ("INSTALL-007[mesh1]", "INSTALL-012", "FED-003", *_NOTHING_IMPORTED, "FED-007[mesh2]", *_TRAFFIC),
    ),
    "peer-stale-import": Expected(
        ("FED-001[mesh2]", "FED-006"),
        ("stale-sync",),
        "mesh2",
        ("FED-004", "FED-005", *_TRAFFIC),
        "the import set keeps its last status: nobody takes over anything that would change it",
    ),
    "wrong-egress-name-import": Expected(_MESH2_BLIND, ("egress-gateway-missing",), "mesh2", ("FED-006", *_TRAFFIC)),
    "wrong-ingress-name-export": Expected(
        _MESH2_BLIND, ("ingress-gateway-missing",), "mesh1", ("INSTALL-007[mesh1]", "INSTALL-012[mesh1]", *_TRAFFIC)
    ),
    "ingress-down-export": Expected(
        ("INSTALL-004[mesh1]", "INSTALL-007[mesh1]", "INSTALL-012[mesh1]", *_MESH2_BLIND, *_SPLIT),
        ("gateway-down",),
        "mesh1",
        _WITH_TRAFFIC,
    ),
    "egress-down-import": Expected(
        ("INSTALL-004[mesh2]", *_MESH2_BLIND, *_SPLIT), ("gateway-down",), "mesh2", ("FED-006", *_WITH_TRAFFIC)
    ),
    "istiod-export-down": Expected(
        ("INSTALL-004[mesh1]", "FED-001[mesh1]", "FED-001[mesh2]", "FED-002[mesh2]", "FED-007[mesh1]", "FED-008"),
        ("istiod-down",),
        "mesh1",
        ("INSTALL-002[mesh1]", "FED-002[mesh1]"),
    ),
    "istiod-import-down": Expected(
        ("INSTALL-004[mesh2]", "FED-001[mesh2]", "FED-001[mesh1]", "FED-002[mesh1]", "FED-007[mesh2]"),
        ("istiod-down",),
        "mesh2",
        ("INSTALL-002[mesh2]", "FED-002[mesh2]", *_TRAFFIC),
    ),
    "network-view-wrong-import": Expected(
        ("INSTALL-006[mesh2]", *_SPLIT), ("network-view-wrong",), "mesh2", ("FED-006", *_WITH_TRAFFIC)
    ),
    "export-set-misnamed": Expected(
        ("FED-003", "FED-004", "FED-005"),
        ("export-set-misnamed",),
        "mesh1",
        (*_NO_SERVICE_PORT, "FED-006", *_TRAFFIC),
    ),
    "import-set-misnamed": Expected(("FED-004", "FED-005"), ("import-set-misnamed",), "mesh2", ("FED-006", *_TRAFFIC)),
    "export-rule-nomatch": Expected(
        ("FED-003", "FED-004"),
        ("export-rule-no-match",),
        "mesh1",
        (*_NO_SERVICE_PORT, "FED-005", "FED-006", *_TRAFFIC),
    ),
    "import-rule-nomatch": Expected(("FED-004", "FED-005"), ("import-rule-no-match",), "mesh2", ("FED-006", *_TRAFFIC)),
    "import-as-local": Expected(("FED-004", "FED-006"), ("import-as-local",), "mesh2", ("FED-005", *_TRAFFIC)),
    "too-much-exported": Expected(("FED-003",), ("surplus-export",), "mesh1", ("FED-004", "FED-005")),
    "member-removed-import": Expected(
        ("INSTALL-003[mesh2]",),
        ("namespace-not-member",),
        "mesh2",
        # No request gets as far as productpage any more.
        ("INSTALL-013[mesh2]", "FED-006", "FED-010", *_TRAFFIC),
    ),
    "member-removed-export": Expected(
        ("INSTALL-003[mesh1]", "FED-003"),
        ("namespace-not-member",),
        "mesh1",
        (*_NO_SERVICE_PORT, "INSTALL-013[mesh1]", *_NOTHING_IMPORTED, *_TRAFFIC),
    ),
    "split-60-40": Expected(("SPLIT-001",), ("weights-differ",), "mesh2", ("SPLIT-005",)),
    "split-70-30": Expected(("SPLIT-001",), ("weights-differ",), "mesh2", ("SPLIT-005",)),
    "split-90-10": Expected(("SPLIT-001",), ("weights-differ",), "mesh2", ("SPLIT-005",)),
    "split-all-remote": Expected(("SPLIT-001",), ("weights-differ",), "mesh2", ("SPLIT-005",)),
    "split-all-local": Expected(("SPLIT-001",), ("weights-differ",), "mesh2", ("SPLIT-005",)),
    "skewed-by-10": Expected(("SPLIT-001",), ("not-independent",), "mesh2"),
    "skewed-by-20": Expected(("SPLIT-001",), ("not-independent",), "mesh2"),
    "pinned-picks": Expected(("SPLIT-001",), ("not-independent",), "mesh2", ("SPLIT-005",)),
    "split-unknown-host": Expected(("SPLIT-001",), ("unknown-host",), "mesh2", _TRAFFIC),
    "split-missing-subset": Expected(_SPLIT, ("unknown-subset",), "mesh2", _WITH_TRAFFIC),
    "mongo-route-missing": Expected(("SPLIT-001",), ("mongodb-route-missing",), "mesh2", _TRAFFIC),
    "ratings-down-export": Expected(
        _SPLIT,
        ("backend-down",),
        "mesh1",
        ("INSTALL-012[mesh1]", "FED-004", "FED-005", *_WITH_TRAFFIC),
        "without a pod to pass it on to, the ingress ends a connection to 15443 before its TLS handshake",
    ),
    "mongodb-down-export": Expected(("SPLIT-001",), ("backend-down",), "mesh1", _TRAFFIC),
    "ratings-half-failing-export": Expected(_SPLIT, ("backend-failing",), "mesh1", ("SPLIT-005", "FED-009")),
    "ratings-half-failing-import": Expected(("SPLIT-001",), ("backend-failing",), "mesh2", _WITH_TRAFFIC),
    "sidecars-missing-export": Expected(("INSTALL-013[mesh1]", *_SPLIT), ("sidecar-missing",), "mesh1", _WITH_TRAFFIC),
    "sidecars-missing-import": Expected(("INSTALL-013[mesh2]",), ("sidecar-missing",), "mesh2", ("FED-006", *_TRAFFIC)),
    "access-log-off-export": Expected(("SPLIT-001",), ("access-log-off",), "mesh1", ("SPLIT-005",), _NO_METRICS),
    "access-log-off-import": Expected(("SPLIT-001",), ("access-log-off",), "mesh2", ("SPLIT-005",), _NO_METRICS),
    "plaintext-at-ingress": Expected(("FED-007[mesh1]",), ("plaintext-accepted",), "mesh1", ("FED-008",)),
    "foreign-client-accepted": Expected(("FED-007[mesh1]", "FED-008"), ("stranger-accepted",), "mesh1"),
    **{
        name: Expected((), ("", "api-failing"), why="one request in twenty fails; the suite has to cope")
        for name in _API_FAULTS
    },
}

# One of each kind: trust, discovery, exports, traffic, an API that fails.
QUICK = ("wrong-clientid-export", "root-foreign-import", "import-rule-nomatch", "wrong-service-port-import", "api-all")
