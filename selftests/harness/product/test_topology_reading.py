"""What is read of a cluster for its topology: everything that may be read, in two rounds, and why the rest is not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.product.topology import ClusterObjects, findings, topology
from harness.product.topology.reading import Scope, read
from selftests.support.captured_topology import captured
from selftests.support.dead_api import DeadApi
from selftests.support.recorded_api import RecordedApi, items, refused

Reading = Callable[..., ClusterObjects]


def answers() -> dict[str, Any]:
    """East of the captured pair, as an API server gives it."""
    objects = captured("a-other-names/2.1", {"east": "one", "west": "two"}).objects["one"]
    found: dict[str, Any] = {kinds.NAMESPACE.path(None, "kube-system"): {"metadata": {"uid": "u-1"}}}
    found["/version"] = {"gitVersion": "v1.20.2"}
    for kind, some in objects.items():
        found[kind.path()] = items(*some)
        for namespace in {obj["metadata"].get("namespace") for obj in some} - {None}:
            found[kind.path(namespace)] = items(*[obj for obj in some if obj["metadata"]["namespace"] == namespace])
        for obj in some:
            found[kind.path(obj["metadata"].get("namespace"), obj["metadata"]["name"])] = obj
    found[kinds.SERVICE.path("shop")] = items()
    return found


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    """Reads a cluster that gives these answers; scope: as of Scope."""
    with contextlib.ExitStack() as stack:

        def read_one(known: dict[str, Any], **scope: str) -> ClusterObjects:
            kubeconfig = stack.enter_context(RecordedApi(known).running(tmp_path))
            cluster = stack.enter_context(contextlib.closing(Cluster("mesh1", kubeconfig, patience=5.0)))
            (found,) = read([Scope(cluster, **scope)])
            return found

        yield read_one


def test_a_mesh_is_read_with_its_services_and_roots(reading):
    found = reading(answers())
    (mesh,) = topology([found]).meshes
    assert (found.uid, found.unread, mesh.place) == ("u-1", {}, "east-mesh/core")
    assert mesh.roots
    assert {way.host for way in mesh.entrances if way.gateway == "ingress-west" and not way.inside} >= {"10.200.0.101"}


def test_config_maps_are_read_one_by_one_and_only_those_of_roots(reading):
    found = reading(answers())
    names = [obj["metadata"]["name"] for obj in found.all(kinds.CONFIG_MAP)]
    assert sorted(names) == ["istio-ca-root-cert", "west-ca-root-cert"]


def test_who_may_not_look_into_every_namespace_sees_the_one_at_home(reading):
    known = answers()
    for kind in (kinds.CONTROL_PLANE, kinds.MEMBER_ROLL, kinds.PEER, kinds.EXPORTS, kinds.IMPORTS):
        known[kind.path()] = refused(403, "forbidden")
    assert topology([reading(known)]).meshes == ()
    (mesh,) = topology([reading(known, home="east-mesh")]).meshes
    assert mesh.place == "east-mesh/core"


@pytest.mark.parametrize(("status", "reason"), [(403, "forbidden"), (404, "does not serve"), (503, "503")])
def test_what_cannot_be_read_is_known_to_be_unread(reading, status, reason):
    known = answers()
    known[kinds.PEER.path()] = refused(status, "forbidden" if status == 403 else "no")
    found = reading(known)
    assert reason in found.unread[kinds.PEER]
    assert kinds.EXPORTS not in found.unread


def test_a_cluster_that_does_not_answer_is_asked_once(tmp_path):
    api = DeadApi({"tls-server-name": "api.elsewhere.example"})
    with api.running(tmp_path / "dead") as kubeconfig:
        cluster = Cluster("mesh1", kubeconfig, patience=0.1)
        (found,) = read([Scope(cluster)])
        cluster.close()
    assert len(api.connections) == 1
    assert len(set(found.unread.values())) == 1
    assert len(findings(topology([found]))) == 1


def test_a_root_that_may_not_be_read_says_nothing_of_whom_a_peer_means(reading):
    known = answers()
    known[kinds.CONFIG_MAP.path("east-mesh", "west-ca-root-cert")] = refused(403, "forbidden")
    (link,) = topology([reading(known)]).links
    (root,) = [vote for vote in link.votes if vote.by == "root"]
    assert "forbidden" in root.unknown


def test_one_control_plane_may_be_chosen(reading):
    assert topology([reading(answers(), namespace="east-mesh", control_plane="other")]).meshes == ()
    assert topology([reading(answers(), namespace="east-mesh", control_plane="core")]).meshes
