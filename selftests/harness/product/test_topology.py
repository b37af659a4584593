"""Who is federated with whom, from the objects alone: captured federations as they are, and with one thing wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.cluster import kinds
from harness.product.topology import findings, topology
from selftests.support.captured_topology import Captured, captured

PAIR = {"east": "one", "west": "two"}
THREE = {"east": "one", "north": "one", "west": "two"}


@pytest.fixture
def pair() -> Captured:
    """East in one cluster and west in another, each the other's peer, at load balancers."""
    return captured("a-other-names/2.1", PAIR)


def told(found: Captured, *labels: str) -> str:
    return "\n".join(map(str, findings(topology(found.clusters(*labels)))))


@pytest.mark.parametrize(
    ("folder", "where"), [("a-other-names/2.1", PAIR), ("f-nodeport/2.1", PAIR), ("d-three-meshes/2.1", THREE)]
)
def test_every_peer_of_a_captured_federation_is_understood_and_nothing_is_found(folder, where):
    found = topology(captured(folder, where).clusters())
    assert len(found.meshes) == len(where)
    assert [link.to.namespace.partition("-")[0] for link in found.links] == [link.peer for link in found.links]
    assert [len(vote.meshes) for link in found.links for vote in link.votes] == [1] * 4 * len(found.links)
    assert all(link.back == link.mesh.namespace.partition("-")[0] for link in found.links)
    assert findings(found) == []


def test_three_meshes_are_three_federations():
    pairs = topology(captured("d-three-meshes/2.1", THREE).clusters()).pairs
    assert [(one.peer, two.peer) for one, two in pairs] == [("north", "east"), ("west", "east"), ("west", "north")]


def test_a_mesh_is_told_with_what_is_installed_of_it(pair):
    east, _ = topology(pair.clusters()).meshes
    assert (east.place, east.trust_domain) == ("east-mesh/core", "east.example")
    assert (east.version, east.release) == ("v2.1", "2.1.6")
    assert (east.members, east.mode) == (("shop",), "MultiTenant")
    assert (east.ingresses, east.egresses) == (("ingress-west",), ("egress-west",))


def test_a_mesh_for_the_whole_cluster_and_one_without_a_roll(pair):
    pair.get(kinds.CONTROL_PLANE, "east", "core")["spec"]["mode"] = "ClusterWide"
    pair.drop(kinds.MEMBER_ROLL, "west", "default")
    east, west = topology(pair.clusters()).meshes
    assert (east.mode, west.members) == ("ClusterWide", None)


def test_a_cluster_that_is_given_twice_counts_once(pair):
    one, two = pair.clusters()
    assert topology([one, two, one]) == topology([one, two])


def wrong_root(found: Captured) -> None:
    held = found.get(kinds.CONFIG_MAP, "west", "east-ca-root-cert")
    held["data"] = found.get(kinds.CONFIG_MAP, "west", "istio-ca-root-cert")["data"]


def wrong_trust_domain(found: Captured) -> None:
    found.peer("west", "east")["security"]["trustDomain"] = "est.example"


def wrong_client(found: Captured) -> None:
    found.peer("west", "east")["security"]["clientID"] = "east.example/ns/est-mesh/sa/egress-west-service-account"


def wrong_address(found: Captured) -> None:
    found.peer("west", "east")["remote"]["addresses"] = ["10.200.0.201"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (wrong_root, "root is that of this mesh itself: ConfigMap west-mesh/east-ca-root-cert holds "),
        (wrong_trust_domain, "trust domain est.example is that of no mesh in view; east-mesh/core (one) has east."),
        (wrong_client, "clientID east.example/ns/est-mesh/sa/egress-west-service-account is that of no mesh in view; "),
        (wrong_address, "addresses 10.200.0.201 (ports 8188 and 15443) is that of this mesh itself; east-mesh/core ("),
    ],
)
def test_a_vote_that_disagrees_is_the_finding(pair, change, sentence):
    change(pair)
    found = topology(pair.clusters())
    assert [link.to and link.to.namespace for link in found.links] == ["west-mesh", "east-mesh"]
    (finding,) = findings(found)
    begin = "two: ServiceMeshPeer west-mesh/east means east-mesh/core (one), but its "
    assert str(finding).startswith(begin + sentence)


def test_no_mesh_is_its_own_peer_whatever_its_objects_say(pair):
    for change in (wrong_root, wrong_address):
        change(pair)
    pair.peer("west", "east")["security"]["trustDomain"] = "west.example"
    (link,) = [link for link in topology(pair.clusters()).links if link.peer == "east"]
    assert link.to.namespace == "east-mesh"


def test_of_three_meshes_the_one_whose_root_is_held_instead_is_named():
    found = captured("d-three-meshes/2.1", THREE)
    held = found.get(kinds.CONFIG_MAP, "west", "east-ca-root-cert")
    held["data"] = found.get(kinds.CONFIG_MAP, "north", "istio-ca-root-cert")["data"]
    assert "its root is that of north-mesh/core (one): ConfigMap west-mesh/east-ca-root-cert holds" in told(found)


def tied() -> Captured:
    """West's peer east has address and clientID of east, trust domain and root of north."""
    found = captured("d-three-meshes/2.1", THREE)
    found.peer("west", "east")["security"]["trustDomain"] = "north.example"
    held = found.get(kinds.CONFIG_MAP, "west", "east-ca-root-cert")
    held["data"] = found.get(kinds.CONFIG_MAP, "north", "istio-ca-root-cert")["data"]
    return found


def test_a_tie_is_told_with_what_settles_it():
    said = told(tied())
    assert "ServiceMeshPeer west-mesh/east does not say clearly whom it means" in said
    assert "--federation-link west-mesh/core:east=MESH:PEER" in said


def test_a_tie_is_settled_by_a_person():
    found = topology(tied().clusters(), {("west-mesh", "east"): ("east-mesh", "west")})
    link = found.link(found.meshes[2], "east")
    assert (link.to.namespace, link.tied) == ("east-mesh", False)
    assert "its root is that of north-mesh/core" in "\n".join(map(str, findings(found)))


def test_a_mesh_in_a_cluster_that_is_not_in_view_is_no_mesh_that_has_a_namespace_of_that_name(pair):
    """Many meshes are installed in istio-system: its name alone means nobody."""
    for obj in (kinds.CONTROL_PLANE, "core"), (kinds.MEMBER_ROLL, "default"):
        pair.get(obj[0], "east", obj[1])["metadata"]["namespace"] = "istio-system"
    client = "west.example/ns/istio-system/sa/egress-east-service-account"
    pair.peer("west", "east")["security"]["clientID"] = client
    found = topology(pair.clusters("two"))
    assert [(link.to, link.tied) for link in found.links] == [(None, False)]
    assert findings(found) == []


@pytest.mark.parametrize(("field", "port"), [("discoveryPort", 8188), ("servicePort", 15443)])
def test_a_port_that_was_forgotten_is_found(field, port):
    found = captured("f-nodeport/2.1", PAIR)
    found.peer("west", "east")["remote"][field] = port
    right = {"discoveryPort": 30188, "servicePort": 30443}[field]
    assert f"has {field} {port}; east-mesh/core (one) has {right} at 10.200.0.11" in told(found)


def test_one_dead_address_of_two_is_found(pair):
    pair.peer("west", "east")["remote"]["addresses"] = ["10.200.0.99", "10.200.0.101"]
    assert "names 10.200.0.99, which is no address of east-mesh/core (one): it has 10.200.0.101" in told(pair)


def test_a_peer_without_one_that_leads_back_is_one_way(pair):
    pair.drop(kinds.PEER, "east", "west")
    said = told(pair)
    assert "ServiceMeshPeer west-mesh/east means east-mesh/core (one), which has no ServiceMeshPeer for west-" in said
    assert "one: ExportedServiceSet east-mesh/west has the name of no ServiceMeshPeer, so nobody reads it" in said


def test_a_peer_beside_no_control_plane_is_found(pair):
    pair.get(kinds.PEER, "west", "east")["metadata"]["namespace"] = "front"
    assert "two: ServiceMeshPeer front/east is beside no ServiceMeshControlPlane, so nobody reads it" in told(pair)


def test_a_gateway_that_is_not_there_is_found_at_both_ends(pair):
    pair.peer("east", "west")["gateways"]["ingress"]["name"] = "ingress-wst"
    said = told(pair)
    assert "one: ServiceMeshPeer east-mesh/west has ingress gateway ingress-wst, which east-mesh/core (one)" in said
    assert "two: ServiceMeshPeer west-mesh/east leads to gateway ingress-west of east-mesh/core (one), but" in said


def test_an_identity_of_another_gateway_is_found():
    found = captured("d-three-meshes/2.1", THREE)
    client = "east.example/ns/east-mesh/sa/egress-north-service-account"
    found.peer("west", "east")["security"]["clientID"] = client
    said = "sends by egress-west, which is east.example/ns/east-mesh/sa/egress-west-service-account"
    assert f"admits {client}; ServiceMeshPeer east-mesh/west {said}" in told(found)


def test_what_could_not_be_read_is_told_and_is_not_missing(pair):
    one, two = pair.clusters()
    objects = {kind: [] if kind == kinds.PEER else some for kind, some in one.objects.items()}
    blind = replace(one, objects=objects, unread={kinds.PEER: "forbidden"})
    assert list(map(str, findings(topology([blind, two])))) == ["one: ServiceMeshPeer could not be read: forbidden"]


def test_a_set_that_nobody_has_read_is_found(pair):
    del pair.get(kinds.EXPORTS, "west", "east")["status"]
    assert "ExportedServiceSet west-mesh/east has no status: istiod of west-mesh/core has not read it" in told(pair)
