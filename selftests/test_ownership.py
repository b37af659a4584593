"""Ours and theirs, on the lab: what is there already is not taken, what is not ours is not removed."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from harness import manifests
from harness.cluster import Cluster
from harness.kinds import CONFIG_MAP, NAMESPACE, SERVICE, kind_of
from harness.mesh import MESH1
from harness.ownership import is_ours, new_run_id, teardown
from harness.progress import Progress
from harness.provision import Provisioner, ProvisionError
from selftests.support.lab import start_lab, stop_lab


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[str, Cluster]]:
    lab = start_lab()
    found = {settings.name: Cluster(settings.name, settings.kubeconfig) for settings in lab.clusters}
    yield found
    for cluster in found.values():
        cluster.close()
    stop_lab(lab)


@pytest.fixture
def progress():
    return Progress(io.StringIO(), live=False)


def without_pods(run_id):
    """Some of mesh1's scenario: namespaces and Services, as that run labels them."""
    objects = [*manifests.control_plane(MESH1, None, set()), *manifests.bookinfo(MESH1)]
    return [manifests.labelled(obj, run_id) for obj in objects if obj["kind"] in ("Namespace", "Service")]


def there(cluster, obj):
    return cluster.find(kind_of(obj), obj["metadata"]["name"], obj["metadata"].get("namespace"))


def test_run_ids_differ_and_are_labels():
    first, second = new_run_id(), new_run_id()
    assert first != second
    assert len(first) <= 63
    assert first.replace("-", "").isalnum()


def test_teardown_removes_what_this_run_made_and_nothing_else(clusters, progress):
    mesh1 = clusters["mesh1"]
    objects = without_pods("run-a")
    for obj in objects:
        mesh1.apply(obj)
    theirs = manifests.labelled(without_pods("run-a")[-1], "run-b")
    mesh1.apply(theirs)
    kept = next(obj for obj in objects if obj["kind"] == "Namespace" and obj["metadata"]["name"] == "mesh1-bookinfo")
    mesh1.patch(NAMESPACE, "mesh1-bookinfo", None, {"metadata": {"labels": {manifests.RUN_LABEL: "run-b"}}})

    teardown(clusters, "run-a", progress)

    left = [obj["metadata"]["name"] for obj in objects if there(mesh1, obj)]
    assert sorted(left) == sorted([kept["metadata"]["name"], theirs["metadata"]["name"]])
    teardown(clusters, "run-b", progress)
    assert [obj for obj in objects if there(mesh1, obj)] == []


def test_what_somebody_else_installed_stops_provisioning_and_stays_as_it_is(clusters, progress):
    mesh1 = clusters["mesh1"]
    for obj in manifests.control_plane(MESH1, None, set())[:2]:
        mesh1.apply(obj)
    foreign = {
        "apiVersion": "maistra.io/v1",
        "kind": "ServiceMeshMemberRoll",
        "metadata": {"name": "default", "namespace": "mesh1-system"},
        "spec": {"members": ["somebody"]},
    }
    before = mesh1.apply(foreign)

    with pytest.raises(ProvisionError, match=r"mesh1: .*ServiceMeshMemberRoll mesh1-system/default.*federation-adopt"):
        Provisioner(clusters, "run-c", progress).run()

    assert mesh1.get(kind_of(foreign), "default", "mesh1-system")["spec"] == before["spec"]
    teardown(clusters, "run-c", progress)
    namespace = mesh1.get(NAMESPACE, "mesh1-system")
    assert not is_ours(namespace, "run-c")
    assert mesh1.list(SERVICE, "mesh1-bookinfo") == []
    assert there(mesh1, foreign)
    assert mesh1.find(CONFIG_MAP, MESH1.root_config_map, "mesh1-system") is None
