"""Addresses, ports and gateways of peers, and istiods that are not there: why one mesh does not hear of the other."""

from __future__ import annotations

from lab import resources
from lab.faults.changes import Change, Target
from lab.faults.edits import anew, control_plane, down, knob, peer, refusal
from lab.faults.fault import CAPTURED, SYSTEM, Fault
from lab.istiod.knobs import GATEWAYS, START, SYNC

NOBODY = "203.0.113.99"
"""An address for documentation: nobody has it, and no packet of a loopback address is ever routed there."""


def faults() -> list[Fault]:
    """The faults of this module."""
    return [
        Fault(
            "wrong-discovery-port-import",
            "mesh2's peer has a discovery port that mesh1's federation ingress does not listen on",
            CAPTURED,
            (peer("mesh2", {"remote": {"discoveryPort": 8189}}),),
        ),
        Fault(
            "wrong-service-port-import",
            "mesh2's peer has a service port that mesh1's federation ingress does not listen on",
            CAPTURED,
            (peer("mesh2", {"remote": {"servicePort": 15444}}),),
        ),
        Fault(
            "unreachable-address-import",
            "mesh2's peer has an address where nothing answers",
            CAPTURED,
            (peer("mesh2", {"remote": {"addresses": [NOBODY]}}),),
        ),
        Fault(
            "unresolvable-address-import",
            "mesh2's peer has a host name that does not resolve",
            "F31, product 9",
            (peer("mesh2", {"remote": {"addresses": ["mesh1.invalid"]}}),),
        ),
        Fault(
            "addresses-empty-import",
            "mesh2's peer has no address at all",
            "F31, product 10",
            (peer("mesh2", {"remote": {"addresses": []}}),),
        ),
        Fault(
            "one-direction-only",
            "mesh2 watches mesh1, but mesh1's peer has a wrong discovery port, so mesh1 does not watch mesh2",
            "F30",
            (peer("mesh1", {"remote": {"discoveryPort": 8189}}),),
        ),
        Fault(
            "peer-missing-export",
            "mesh1 has no ServiceMeshPeer for mesh2",
            "F32, product 44",
            (Change(Target("mesh1", resources.PEER, "mesh2", SYSTEM["mesh1"])),),
            healed_by=(("mesh1", "istiod"),),  # frozen: its istiod takes no peer any more
        ),
        Fault(
            "federation-frozen",
            "mesh1's peer was deleted while it had exports, and made anew: its istiod takes up no peer any more",
            "F32, product 44",
            (anew("mesh1", missed_by="mesh2-ingress"),),
            healed_by=(("mesh1", "istiod"),),
            certain_after=75,  # istiod looks at a peer that it has not taken up within 60 s
        ),
        Fault(
            "restarted-without-federation",
            "mesh1's istiod gave up its peer at its start and serves without federation (the product's 2.1 for a "
            "minute; the knob keeps it so)",
            "F29",
            (knob("mesh1", START, "blind"),),
            begun_by=(("mesh1", "istiod"),),
        ),
        Fault(
            "peer-stale-import",
            "mesh2's watch is connected, but its istiod took over what mesh1 offers an hour ago for the last time (the "
            "hour is made up: the lab's istiod stops to ask, and writes the times of its watch as an hour earlier)",
            "F33",
            (knob("mesh2", SYNC, "stopped"),),
        ),
        Fault(
            "list-refused-export",
            "a policy in mesh1 refuses mesh2 the list of services, though not its watch, which begins anew and waits",
            "F33, F37",
            (
                refusal(
                    "mesh1",
                    "list-refused",
                    {"app": "mesh2-ingress"},
                    {"paths": ["/v1/services/*"], "ports": ["8188"]},
                ),
            ),
        ),
        Fault(
            "foreign-gateway-announced",
            "mesh1's discovery names mesh2's own ingress as a gateway to mesh1, where half of mesh2's new connections "
            "go then (2.2 does so after any new Service in a member namespace; the knob has every version do it)",
            "F50",
            (knob("mesh1", GATEWAYS, "announced"),),
        ),
        Fault(
            "wrong-egress-name-import",
            "mesh2's peer names an egress gateway that does not exist",
            CAPTURED,
            (peer("mesh2", {"gateways": {"egress": {"name": "nope"}}}),),
        ),
        Fault(
            "wrong-ingress-name-export",
            "mesh1's peer names an ingress gateway that exists in mesh2 only",
            "F15, product 15",
            (peer("mesh1", {"gateways": {"ingress": {"name": "mesh1-ingress"}}}),),
        ),
        Fault(
            "ingress-down-export",
            "mesh1's federation ingress has no pod",
            CAPTURED,
            (down("mesh1", "mesh2-ingress"),),
        ),
        Fault(
            "egress-down-import",
            "mesh2's egress gateway has no pod",
            CAPTURED,
            (down("mesh2", "mesh1-egress"),),
        ),
        Fault(
            "istiod-export-down",
            "mesh1's istiod has no pod: nobody writes its status, and no change reaches its proxies",
            CAPTURED,
            (down("mesh1", "istiod-fed-export"),),
        ),
        Fault(
            "istiod-import-down",
            "mesh2's istiod has no pod: nobody writes its status, and no change reaches its proxies",
            "F28, product 43",
            (down("mesh2", "istiod-fed-import"),),
        ),
        Fault(
            "network-view-wrong-import",
            "mesh2's egress gateway asks for another network than that of its peer mesh1",
            "F47, product 40",
            (
                control_plane(
                    "mesh2",
                    {"gateways": {"additionalEgress": {"mesh1-egress": {"requestedNetworkView": ["mesh1-network"]}}}},
                ),
            ),
        ),
    ]
