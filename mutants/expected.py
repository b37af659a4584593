"""What every fault of the lab has to lead to; the facts behind each are the product's (statuses, codes, order).

Traffic and discovery are separate ways: a watch that breaks leaves imports and their traffic as they were, and a
broken data path leaves every status perfect. Half of mesh2's own ratings (v2) use mesh1's mongodb over the same
gateways, so whatever stops traffic to mesh1 also fails requests that stay in mesh2.
"""

from __future__ import annotations

from dataclasses import replace

from lab.faults import CATALOGUE
from mutants.verdict import Expected

# mesh2 does not watch mesh1, or the other way round: both sides of the watch say so, and so does a question by hand,
# which is also the control of the knock at the discovery port.
_MESH2_BLIND = ("FED-001[mesh2]", "FED-002[mesh1]", "FED-007[mesh1]")
_MESH1_BLIND = ("FED-001[mesh1]", "FED-002[mesh2]", "FED-007[mesh2]")
_BOTH_BLIND = (*_MESH2_BLIND, *_MESH1_BLIND)
_NOTHING_IMPORTED = ("FED-004", "FED-005", "FED-006")
# mesh1's ingress knows the names of exported services only on 15443, and without any there is no listener.
_NO_SERVICE_PORT = ("INSTALL-007[mesh1]", "INSTALL-012[mesh1]", "FED-008")
# A quarter of all requests fails at least, picked anew for each, which FED-009's pages miss 1 time in 100 000.
_TRAFFIC = ("SPLIT-001", "FED-009")

_NO_METRICS = "the control planes have no Prometheus, so nothing but the log tells which mesh served a request"

_API_FAULTS = tuple(name for name in CATALOGUE if name.startswith("api-"))

# What the walk along the chain says is asserted too: in general, and of these links by contracts of their own.
_WALK = "FED-014"
_OWN_CONTRACT = {
    **dict.fromkeys(("wrong-client-id", "client-id-missing"), "FED-011"),
    **dict.fromkeys(("wrong-discovery-port", "wrong-service-port"), "FED-012"),
    **dict.fromkeys(("address-unreachable", "address-unresolvable", "address-missing"), "FED-012"),
    "foreign-gateway-announced": "FED-013",
}
# A peer, a gateway or an answer that is not there leaves some of them unknown, which is no success either.
_PERHAPS_UNKNOWN = ("FED-011", "FED-012", "FED-013")
# Only a measured split shows it, and that comes after the walk.
_MEASURED = "not-independent"


def _walked(expected: Expected) -> Expected:
    """The same with what the walk adds to it."""
    named = [cause for cause in expected.causes if cause]
    if not expected.must:
        return replace(expected, may=(*expected.may, *((_WALK, *_PERHAPS_UNKNOWN) if named else ())))
    if not named or _MEASURED in named:
        return expected
    own = [f"{_OWN_CONTRACT[cause]}[{expected.side}]" for cause in named[:1] if cause in _OWN_CONTRACT]
    blind = any(entry.startswith(("FED-007", "INSTALL-004")) for entry in expected.must)
    may = (*expected.may, *(_PERHAPS_UNKNOWN if blind else ()))
    return replace(expected, must=(*expected.must, *own, _WALK), may=may)


_TOLD: dict[str, Expected] = {
    "wrong-trust-domain-import": Expected(
        ("INSTALL-012[mesh1]", *_BOTH_BLIND, *_TRAFFIC), ("wrong-trust-domain",), "mesh2"
    ),
    "wrong-trust-domain-export": Expected(
        ("INSTALL-012[mesh2]", *_BOTH_BLIND, *_TRAFFIC), ("wrong-trust-domain",), "mesh1"
    ),
    "own-trust-domain-import": Expected(
        ("INSTALL-012[mesh1]", *_BOTH_BLIND, *_TRAFFIC), ("wrong-trust-domain",), "mesh2"
    ),
    "wrong-clientid-export": Expected(_MESH2_BLIND, ("wrong-client-id",), "mesh1"),
    "wrong-clientid-import": Expected(_MESH1_BLIND, ("wrong-client-id",), "mesh2"),
    "wrong-clientid-from-the-start": Expected((*_MESH2_BLIND, *_TRAFFIC), ("wrong-client-id",), "mesh1"),
    "clientid-with-spiffe-prefix": Expected(_MESH2_BLIND, ("wrong-client-id",), "mesh1"),
    "clientid-empty": Expected(_MESH2_BLIND, ("client-id-missing",), "mesh1"),
    "root-missing-import": Expected(
        (
            *("INSTALL-007[mesh2]", "INSTALL-011[mesh2]", "INSTALL-012"),
            *_BOTH_BLIND,
            *("FED-001", "FED-002", "FED-006"),
            *_TRAFFIC,
        ),
        ("root-missing",),
        "mesh2",
        why="the import set keeps its last status: nobody is left who would change it",
    ),
    "root-foreign-import": Expected(
        ("INSTALL-011[mesh2]", "INSTALL-012[mesh1]", *_BOTH_BLIND, *_TRAFFIC), ("root-not-current",), "mesh2"
    ),
    "root-foreign-export": Expected(
        ("INSTALL-011[mesh1]", "INSTALL-012[mesh2]", *_BOTH_BLIND, *_TRAFFIC), ("root-not-current",), "mesh1"
    ),
    "root-expired-import": Expected(
        ("INSTALL-011[mesh2]", "INSTALL-012[mesh1]", *_BOTH_BLIND, *_TRAFFIC), ("root-expired",), "mesh2"
    ),
    "root-empty-import": Expected(
        ("INSTALL-011[mesh2]", "INSTALL-012[mesh1]", *_BOTH_BLIND, *_TRAFFIC), ("root-empty",), "mesh2"
    ),
    "wrong-discovery-port-import": Expected(_MESH2_BLIND, ("wrong-discovery-port",), "mesh2"),
    "wrong-service-port-import": Expected(_TRAFFIC, ("wrong-service-port",), "mesh2"),
    "unreachable-address-import": Expected(_MESH2_BLIND, ("address-unreachable",), "mesh2"),
    "unresolvable-address-import": Expected(_MESH2_BLIND, ("address-unresolvable",), "mesh2"),
    "addresses-empty-import": Expected(_MESH2_BLIND, ("address-missing",), "mesh2"),
    "one-direction-only": Expected(_MESH1_BLIND, ("wrong-discovery-port",), "mesh1"),
    "peer-missing-export": Expected(
        (*_BOTH_BLIND, "FED-001", "FED-002", "INSTALL-012", *_TRAFFIC),
        ("peer-missing",),
        "mesh1",
        why="both sets keep their last status; all exports but one stay served for good on 2.1 and 2.2",
    ),
    "federation-frozen": Expected(
        (*_MESH2_BLIND, "FED-001", "FED-002", *_TRAFFIC),
        ("federation-frozen",),
        "mesh1",
        why="the peer made anew gets no status, and both sets keep their last; mesh1's gateways go on",
    ),
    "restarted-without-federation": Expected(
        ("FED-001", "FED-002[mesh2]", "FED-007", *_NO_SERVICE_PORT, *_TRAFFIC),
        ("restarted-without-federation",),
        "mesh1",
        ("FED-002[mesh1]",),
        why="an istiod without federation is Ready, and has its gateways drop the listeners of its peer",
    ),
    "peer-stale-import": Expected(("FED-001[mesh2]",), ("stale-sync",), "mesh2"),
    "list-refused-export": Expected(
        ("FED-001[mesh2]", "FED-007[mesh1]"),
        ("discovery-denied",),
        "mesh1",
        may=("FED-002[mesh1]",),
        why="mesh1 goes on saying that it is watched, which is true; a watch that is cut once more while it waits for "
        "its list is gone for mesh1, and connected for mesh2 until it gives up",
    ),
    "foreign-gateway-announced": Expected(
        _TRAFFIC,
        ("foreign-gateway-announced",),
        "mesh1",
        why="mesh2's egress gateway goes to mesh2's own ingress half of the time: all statuses are perfect",
    ),
    "wrong-egress-name-import": Expected(_MESH2_BLIND, ("egress-gateway-missing",), "mesh2"),
    "wrong-ingress-name-export": Expected(
        (*_MESH2_BLIND, "INSTALL-007[mesh1]", "INSTALL-012[mesh1]"),
        ("ingress-gateway-missing",),
        "mesh1",
        why="exports keep the gateway the peer was met with: 15443 goes on, 8188 is gone",
    ),
    "ingress-down-export": Expected(
        ("INSTALL-004[mesh1]", *_NO_SERVICE_PORT, *_MESH2_BLIND, *_TRAFFIC), ("gateway-down",), "mesh1"
    ),
    "egress-down-import": Expected(
        ("INSTALL-004[mesh2]", *_MESH2_BLIND, "FED-006", *_TRAFFIC), ("gateway-down",), "mesh2"
    ),
    "istiod-export-down": Expected(
        ("INSTALL-004[mesh1]", "FED-001[mesh1]", "FED-001[mesh2]", "FED-002[mesh2]", "FED-007[mesh1]"),
        ("istiod-down",),
        "mesh1",
        why="mesh1's own status goes on saying that mesh2 is connected: nobody is left to write it",
    ),
    "istiod-import-down": Expected(
        ("INSTALL-004[mesh2]", "FED-001[mesh2]", "FED-001[mesh1]", "FED-002[mesh1]", "FED-007[mesh2]"),
        ("istiod-down",),
        "mesh2",
        why="mesh2's own status goes on saying that mesh1 is connected; proxies keep what they were told last",
    ),
    "network-view-wrong-import": Expected(("INSTALL-006[mesh2]", *_TRAFFIC), ("network-view-wrong",), "mesh2"),
    "export-set-misnamed": Expected(
        ("FED-003", *_NO_SERVICE_PORT, *_NOTHING_IMPORTED, *_TRAFFIC), ("export-set-misnamed",), "mesh1"
    ),
    "import-set-misnamed": Expected((*_NOTHING_IMPORTED, *_TRAFFIC), ("import-set-misnamed",), "mesh2"),
    "export-rule-nomatch": Expected(
        ("FED-003", "FED-004", "FED-006", *_TRAFFIC),
        ("export-rule-no-match",),
        "mesh1",
        why="mongodb is still exported: the port is open, proves who it is, and both meshes name the same",
    ),
    "import-rule-nomatch": Expected((*_NOTHING_IMPORTED, *_TRAFFIC), ("import-rule-no-match",), "mesh2"),
    "import-as-local": Expected(
        ("FED-004", "FED-006", "SPLIT-005", *_TRAFFIC),
        ("import-as-local",),
        "mesh2",
        why="mesh1 serves what mesh2's sidecars call by mesh2's own name, so nothing tells who was asked",
    ),
    "too-much-exported": Expected(("FED-003", "FED-005"), ("surplus-export",), "mesh1"),
    "member-removed-import": Expected(
        ("INSTALL-003[mesh2]", "FED-010", *_TRAFFIC),
        ("namespace-not-member",),
        "mesh2",
        why="no request gets as far as productpage any more",
    ),
    "member-removed-export": Expected(
        ("INSTALL-003[mesh1]", "SPLIT-005", *_TRAFFIC),
        ("namespace-not-member",),
        "mesh1",
        why="what left stays listed by both meshes on 2.1; sidecars that belong to no mesh keep no log",
    ),
    "split-60-40": Expected(("SPLIT-001",), ("weights-differ",), "mesh2"),
    "split-70-30": Expected(("SPLIT-001",), ("weights-differ",), "mesh2"),
    "split-90-10": Expected(("SPLIT-001",), ("weights-differ",), "mesh2"),
    "split-all-remote": Expected(("SPLIT-001",), ("weights-differ",), "mesh2"),
    "split-all-local": Expected(("SPLIT-001",), ("weights-differ",), "mesh2"),
    "skewed-by-10": Expected(("SPLIT-001",), ("not-independent",), "mesh2"),
    "skewed-by-20": Expected(("SPLIT-001",), ("not-independent",), "mesh2"),
    "pinned-picks": Expected(("SPLIT-001",), ("not-independent",), "mesh2"),
    "split-unknown-host": Expected(_TRAFFIC, ("unknown-host",), "mesh2"),
    "split-missing-subset": Expected(_TRAFFIC, ("unknown-subset",), "mesh2"),
    "mongo-route-missing": Expected(_TRAFFIC, ("mongodb-route-missing",), "mesh2"),
    "ratings-down-export": Expected(
        _TRAFFIC,
        ("backend-down",),
        "mesh1",
        why="without a pod to pass it on to, the ingress ends a connection before its TLS handshake: who it is shows "
        "by the name of mongodb",
    ),
    "ratings-down-import": Expected(_TRAFFIC, ("backend-down",), "mesh2"),
    "mongodb-down-export": Expected(_TRAFFIC, ("backend-down",), "mesh1"),
    "ratings-half-failing-export": Expected(
        ("SPLIT-001",),
        ("backend-failing",),
        "mesh1",
        ("FED-009",),
        "between the meshes a connection leads to one ratings pod: single pages may always meet the good one",
    ),
    "ratings-half-failing-import": Expected(_TRAFFIC, ("backend-failing",), "mesh2"),
    "sidecars-missing-export": Expected(
        ("INSTALL-013[mesh1]", "SPLIT-001", "SPLIT-005"),
        ("sidecar-missing",),
        "mesh1",
        why="nothing demands mutual TLS here, so requests succeed; without sidecars there is no log of them",
    ),
    "sidecars-missing-import": Expected(
        ("INSTALL-013[mesh2]", "FED-006", "SPLIT-001"),
        ("sidecar-missing",),
        "mesh2",
        why="reviews asks mesh2's ratings only, and they answer: every page shows stars",
    ),
    "access-log-off-export": Expected(("SPLIT-001", "SPLIT-005"), ("access-log-off",), "mesh1", why=_NO_METRICS),
    "access-log-off-import": Expected(("SPLIT-001", "SPLIT-005"), ("access-log-off",), "mesh2", why=_NO_METRICS),
    "plaintext-at-ingress": Expected(("FED-007[mesh1]", "FED-008"), ("plaintext-accepted",), "mesh1"),
    "foreign-client-accepted": Expected(("FED-007[mesh1]", "FED-008"), ("stranger-accepted",), "mesh1"),
    **{
        name: Expected((), ("", "api-failing"), why="one request in twenty fails; the suite has to cope")
        for name in _API_FAULTS
    },
}

EXPECTED = {name: _walked(expected) for name, expected in _TOLD.items()}

# One of each kind: trust, discovery, exports, traffic, an API that fails.
QUICK = ("wrong-clientid-export", "root-foreign-import", "import-rule-nomatch", "wrong-service-port-import", "api-all")
