"""The same for addresses, gateways, trust and pods; and which causes have commands that nothing here tries."""

from __future__ import annotations

import pytest

from harness.cluster import kinds
from harness.diagnosis import CAUSES
from selftests.harness.diagnosis import test_remedies_of_routes_and_sets as others
from selftests.support.diagnosed import Meshes, meshes
from selftests.support.healing import APP, SYSTEM, Break, deleted, heal, patched, peer, scaled, shell

__all__ = ["meshes", "shell"]
NOBODY = "203.0.113.99"  # an address for documentation
BARE = {"template": {"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}}}
RESTART, COPY = "restarts istiod, as peer-missing does", "copies the root, as root-not-current does"
UNTRIED = {
    **dict.fromkeys(("root-empty", "root-expired"), COPY),
    **dict.fromkeys(
        (
            *("peer-not-processed", "federation-frozen", "leader-missing", "not-exported-yet", "not-imported-yet"),
            *("routes-not-generated", "egress-endpoint-stale", "remote-address-stale", "export-denied"),
            *("member-without-root", "members-without-root"),
        ),
        RESTART,
    ),
    **dict.fromkeys(("stale-sync", "foreign-gateway-announced"), "the lab has it by a knob, which stays turned"),
    "chain-not-trusted": "the lab's authorities do not rotate",
    "kubeconfigs-swapped": "is for the shell of who runs the suite",
}


def another_root(mesh: str) -> Break:
    """The mesh's own root in the place of its peer's."""
    own = "istio-ca-root-cert"

    def change(meshes: Meshes) -> None:
        cluster = meshes.clusters[mesh]
        name = {"mesh1": "mesh2-ca-root-cert", "mesh2": "mesh1-ca-root-cert"}[mesh]
        cluster.patch(
            kinds.CONFIG_MAP, name, SYSTEM[mesh], {"data": cluster.get(kinds.CONFIG_MAP, own, SYSTEM[mesh])["data"]}
        )

    return change


BROKEN: dict[str, Break] = {
    # Addresses, ports, gateways
    "wrong-discovery-port": peer("mesh2", remote={"discoveryPort": 8189}),
    "wrong-service-port": peer("mesh2", remote={"servicePort": 15444}),
    "address-missing": peer("mesh2", remote={"addresses": []}),
    "address-unresolvable": peer("mesh2", remote={"addresses": ["mesh1.invalid"]}),
    "address-unreachable": peer("mesh2", remote={"addresses": [NOBODY]}),
    "egress-gateway-missing": peer("mesh2", gateways={"egress": {"name": "nope"}}),
    "ingress-gateway-missing": peer("mesh1", gateways={"ingress": {"name": "nope"}}),
    "network-view-wrong": patched(
        "mesh2",
        kinds.CONTROL_PLANE,
        "fed-import",
        {"gateways": {"additionalEgress": {"mesh1-egress": {"requestedNetworkView": ["mesh1-network"]}}}},
    ),
    "gateway-down": scaled("mesh1", "mesh2-ingress", 0),
    # Trust
    "wrong-client-id": peer("mesh1", security={"clientID": "mesh2.local/ns/mesh2-system/sa/somebody"}),
    "client-id-missing": peer("mesh1", security={"clientID": ""}),
    "wrong-trust-domain": peer("mesh2", security={"trustDomain": "mesh1.example"}),
    "root-not-current": another_root("mesh2"),
    "root-missing": deleted("mesh2", kinds.CONFIG_MAP, "mesh1-ca-root-cert"),
    # Pods
    "backend-down": scaled("mesh1", "mongodb-v1", 0, APP["mesh1"]),
    "sidecar-missing": patched("mesh2", kinds.DEPLOYMENT, "reviews-v3", BARE, APP["mesh2"]),
    "namespace-not-member": patched("mesh2", kinds.MEMBER_ROLL, "default", {"members": []}),
    "access-log-off": patched("mesh1", kinds.CONTROL_PLANE, "fed-export", {"proxy": {"accessLogging": {"file": None}}}),
    "istiod-down": scaled("mesh1", "istiod-fed-export", 0),
    "second-istiod": scaled("mesh2", "istiod-fed-import", 2),
    "peer-missing": deleted("mesh1", kinds.PEER, "mesh2"),
}


@pytest.mark.parametrize("cause", BROKEN)
def test_the_commands_of_a_cause_put_it_right(meshes: Meshes, shell: dict[str, str], cause: str) -> None:
    BROKEN[cause](meshes)
    heal(meshes, shell, cause)


def test_every_command_that_heals_is_tried_or_said_not_to_be() -> None:
    healing = {name for name, cause in CAUSES.items() if cause.heals}
    assert BROKEN.keys() | others.BROKEN.keys() | UNTRIED.keys() == healing
