"""Which two meshes a run verifies, and by which names: those of the objects, or what the other mesh expects of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.cluster import kinds
from harness.product.mesh import MESH1, SCENARIO
from harness.product.topology import topology
from harness.scenario.adopt import NothingToAdopt, names_in
from selftests.support.captured_topology import Captured, captured

PAIR = {"east": "mesh1", "west": "mesh2"}
THREE = {"east": "mesh1", "north": "mesh1", "west": "mesh2"}


@pytest.fixture
def pair() -> Captured:
    return captured("a-other-names/2.1", PAIR)


def named(found: Captured, *labels: str):
    return names_in(topology(found.clusters(*labels)))[0]


def test_names_are_those_of_the_objects(pair):
    east = named(pair)["mesh1"]
    assert (east.name, east.other, east.peer, east.place) == ("mesh1", "mesh2", "west", "east-mesh/core")
    assert (east.members, east.trust_domain) == (("shop",), "east.example")
    assert (east.ingress_gateway, east.egress_gateway) == ("ingress-west", "egress-west")
    assert east.gateways == ("ingress-west", "egress-west")
    assert east.root_config_map == "west-ca-root-cert"


def test_the_server_name_of_discovery_is_the_captured_one(pair):
    """Captured in the egress gateway of west: `sni`."""
    assert named(pair)["mesh1"].discovery_name == "discovery.west-mesh.svc.east.local"


def test_mesh1_is_the_mesh_of_the_first_cluster(pair):
    assert named(pair, "mesh2", "mesh1")["mesh1"].place == "west-mesh/core"


def test_in_one_cluster_mesh1_is_the_one_that_exports():
    found = captured("a-other-names/2.1", {"east": "mesh1", "west": "mesh1"})
    found.drop(kinds.EXPORTS, "east", "west")
    assert named(found)["mesh1"].place == "west-mesh/core"


def test_the_names_of_a_mesh_without_its_peer_are_those_that_the_other_expects(pair):
    before = named(pair)["mesh2"]
    pair.drop(kinds.PEER, "west", "east")
    after = named(pair)["mesh2"]
    for name in ("peer", "place", "ingress_gateway", "egress_gateway", "trust_domain", "members"):
        assert getattr(after, name) == getattr(before, name), name


def test_how_discovery_is_asked_for_is_known_where_one_peer_is_missing(pair):
    pair.drop(kinds.PEER, "west", "east")
    assert named(pair)["mesh1"].discovery_name == "discovery.west-mesh.svc.east.local"


def test_members_without_a_roll_are_the_namespaces_that_the_sets_name(pair):
    pair.drop(kinds.MEMBER_ROLL, "west", "default")
    assert named(pair)["mesh2"].members == ("front",)


def test_of_a_mesh_that_is_gone_its_place_is_known_from_the_other(pair):
    pair.objects["mesh2"] = {kind: [] for kind in pair.objects["mesh2"]}
    gone = named(pair)["mesh2"]
    assert (gone.control_plane, gone.system_namespace, gone.trust_domain) == ("", "west-mesh", "west.example")


@pytest.mark.parametrize("own", ["mesh1", "mesh2"])
def test_one_side_alone_knows_its_own_names_and_what_it_expects_of_the_other(pair, own):
    both, alone = named(pair), named(pair, own)
    other = both[own].other
    assert replace(alone[own], discovery_name="") == replace(both[own], discovery_name="")
    assert (alone[other].control_plane, alone[other].system_namespace) == ("", both[other].system_namespace)


def test_of_several_federations_one_has_to_be_chosen():
    found = topology(captured("d-three-meshes/2.1", THREE).clusters())
    with pytest.raises(NothingToAdopt, match="there are 3") as told:
        names_in(found)
    assert "--federation-link east-mesh/core:north=north-mesh/core:east" in str(told.value)


def test_the_chosen_one_is_taken():
    said = {("east-mesh", "west"): ("west-mesh", "east"), ("west-mesh", "east"): ("east-mesh", "west")}
    found = topology(captured("d-three-meshes/2.1", THREE).clusters(), said)
    names, meshes = names_in(found, chosen=True)
    assert [mesh.place for mesh in names.values()] == ["east-mesh/core", "west-mesh/core"]
    assert {name: mesh.cluster for name, mesh in meshes.items()} == {"mesh1": "mesh1", "mesh2": "mesh2"}


def test_where_the_scenario_is_it_is_what_is_meant(pair):
    for kind, name in ((kinds.CONTROL_PLANE, "core"), (kinds.MEMBER_ROLL, "default")):
        pair.get(kind, "east", name)["metadata"]["namespace"] = "mesh1-system"
    pair.objects["mesh1"][kinds.CONTROL_PLANE][0]["metadata"]["name"] = MESH1.control_plane
    assert named(pair) is SCENARIO


def test_where_no_mesh_is_in_view_nothing_can_be_adopted(pair):
    for objects in pair.objects.values():
        objects[kinds.CONTROL_PLANE].clear()
    with pytest.raises(NothingToAdopt, match="no ServiceMeshControlPlane in any namespace of mesh1, mesh2"):
        named(pair)
