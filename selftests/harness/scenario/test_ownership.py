"""Ours and theirs, on the lab: what is there already is not taken, what is not ours is not removed."""

from __future__ import annotations

import io
import signal
import threading

import pytest

from harness.cluster.kinds import CONFIG_MAP, NAMESPACE, SERVICE, kind_of
from harness.product.mesh import MESH1, MESH2
from harness.run.progress import Progress
from harness.scenario import manifests
from harness.scenario.ownership.removal import Removal, Unfinished, is_ours, new_run_id, teardown
from harness.scenario.provision import Provisioner, ProvisionError
from selftests.support.lab import clusters, lab

__all__ = ["clusters", "lab"]


@pytest.fixture
def progress():
    return Progress(io.StringIO(), live=False)


def without_pods(run_id):
    """Some of mesh1's scenario: namespaces and Services, as that run labels them."""
    objects = [*manifests.control_plane(MESH1, None, set()), *manifests.bookinfo(MESH1)]
    return [manifests.labelled(obj, run_id) for obj in objects if obj["kind"] in ("Namespace", "Service")]


def there(cluster, obj):
    return cluster.find(kind_of(obj), obj["metadata"]["name"], obj["metadata"].get("namespace"))


class Istiod:
    """A cluster that has every object asked for, and an istiod that offers something once more after the exports."""

    cancelled = threading.Event()

    def __init__(self):
        self.done, self.offers = [], [["fed-exp-ratings-mesh1-bookinfo-mesh2"], []]

    def get(self, _, name, namespace=None):
        return {"metadata": {"name": name, "namespace": namespace, "uid": "1"}}

    def delete(self, kind, *_):
        self.done.append(kind.kind)

    def wait(self, *_, **__):
        pass

    def list(self, *_):
        return [{"metadata": {"name": "istiod"}, "status": {"phase": "Running"}}]


def test_a_peer_goes_only_after_nothing_is_offered_to_it_any_more(progress, monkeypatch):
    mesh1 = Istiod()

    def memory(*_):
        offered = mesh1.offers.pop(0)
        mesh1.done.append(f"{len(offered)} offered")
        return [{"name": name} for name in offered]

    monkeypatch.setattr("harness.scenario.ownership.removal.federation_config", memory)
    Removal({}, lambda _: True, progress, 1)._work(mesh1, MESH1)
    assert mesh1.done[:3] == ["ExportedServiceSet", "1 offered", "0 offered"]
    assert "ServiceMeshPeer" in mesh1.done[3:]


def test_run_ids_differ_and_are_labels():
    first, second = new_run_id(), new_run_id()
    assert first != second
    assert len(first) <= 63
    assert first.replace("-", "").isalnum()


@pytest.fixture
def of_two_runs(clusters):
    """Objects that run-a made in mesh1, and the names of two of them that are run-b's by now."""
    mesh1, objects = clusters["mesh1"], without_pods("run-a")
    for obj in objects:
        mesh1.apply(obj)
    service = manifests.labelled(without_pods("run-a")[-1], "run-b")
    mesh1.apply(service)
    mesh1.patch(NAMESPACE, "mesh1-bookinfo", None, {"metadata": {"labels": {manifests.RUN_LABEL: "run-b"}}})
    return objects, ["mesh1-bookinfo", service["metadata"]["name"]]


def test_teardown_removes_what_this_run_made_and_nothing_else(clusters, progress, of_two_runs):
    objects, of_run_b = of_two_runs
    teardown(clusters, "run-a", progress)
    left = [obj["metadata"]["name"] for obj in objects if there(clusters["mesh1"], obj)]
    assert sorted(left) == sorted(of_run_b)
    teardown(clusters, "run-b", progress)
    assert [obj for obj in objects if there(clusters["mesh1"], obj)] == []


@pytest.fixture
def foreign(clusters):
    """A member roll that somebody else has put into mesh1's namespace; both namespaces are deleted afterwards."""
    mesh1 = clusters["mesh1"]
    for obj in manifests.control_plane(MESH1, None, set())[:2]:
        mesh1.apply(obj)
    metadata = {"name": "default", "namespace": "mesh1-system"}
    roll = {"apiVersion": "maistra.io/v1", "kind": "ServiceMeshMemberRoll", "metadata": metadata}
    yield mesh1.apply({**roll, "spec": {"members": ["somebody"]}})
    for name in ("mesh1-system", "mesh1-bookinfo"):
        mesh1.delete(NAMESPACE, name)


def test_what_somebody_else_installed_stops_provisioning_and_stays_as_it_is(clusters, progress, foreign):
    mesh1 = clusters["mesh1"]
    with pytest.raises(ProvisionError, match=r"mesh1: .*ServiceMeshMemberRoll mesh1-system/default.*federation-adopt"):
        Provisioner(clusters, "run-c", progress).run()
    assert there(mesh1, foreign)["spec"] == foreign["spec"]
    teardown(clusters, "run-c", progress)
    assert not is_ours(mesh1.get(NAMESPACE, "mesh1-system"), "run-c")
    assert mesh1.list(SERVICE, "mesh1-bookinfo") == []
    assert there(mesh1, foreign)
    assert mesh1.find(CONFIG_MAP, MESH1.root_config_map, "mesh1-system") is None


FINALIZER = "selftest.example/hold"


def with_finalizers(value):
    return {"metadata": {"finalizers": value}}


@pytest.fixture
def held(clusters):
    """Namespaces of a run, in each mesh one with something in it that does not go away; let go of afterwards."""
    stuck = []
    for names in (MESH1, MESH2):
        cluster = clusters[names.name]
        for obj in manifests.control_plane(names, None, set())[:2]:
            cluster.wait(
                "remains of other tests to be gone",
                NAMESPACE,
                name=obj["metadata"]["name"],
                until=lambda found: not found or None,
                timeout=60,
            )
            cluster.apply(manifests.labelled(obj, "run-d"))
        meta = {"name": "stuck", "namespace": names.app_namespace, "finalizers": [FINALIZER]}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        stuck.append((cluster, names))
    yield
    for cluster, names in stuck:
        cluster.patch(CONFIG_MAP, "stuck", names.app_namespace, with_finalizers(None))
        cluster.wait("the rest", NAMESPACE, name=names.app_namespace, until=lambda found: not found or None, timeout=60)


@pytest.mark.usefixtures("held")
def test_what_does_not_go_away_is_told_of_both_meshes_with_what_holds_it(clusters, progress):
    with pytest.raises(Unfinished) as told:
        Removal(clusters, lambda obj: is_ours(obj, "run-d"), progress, 4).run()
    lines = str(told.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["mesh1", "mesh2"]
    for line in lines:
        assert "Namespace mesh" in line
        assert "held by finalizers kubernetes; NamespaceContentRemaining: " in line
        assert f"NamespaceFinalizersRemaining: Still in the namespace: {FINALIZER} in 1 objects" in line


@pytest.fixture
def interrupted(clusters, progress):
    """A provisioning that Ctrl-C meets just before mesh1's first object; what it made is removed afterwards."""

    class InterruptedAtOnce(Progress):
        """Interrupts the main thread just before mesh1's first object, which waits until that has arrived."""

        def step(self, mesh, text, subject=""):
            if (mesh, subject, text) == ("mesh1", "control plane", "applying"):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                assert provisioner.stopped.wait(30)

    provisioner = Provisioner(clusters, "run-e", InterruptedAtOnce(io.StringIO(), live=False))
    yield provisioner
    teardown(clusters, "run-e", progress)


def test_an_interrupted_provisioning_applies_nothing_more(clusters, interrupted):
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    assert [obj for obj in clusters["mesh1"].list(NAMESPACE) if is_ours(obj, "run-e")] == []
