"""What provisioning goes by: version bounds, addresses, and what counts as a change."""

from __future__ import annotations

import io
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from harness.cluster.cluster import Cluster
from harness.product.mesh import MESH1, MESH2
from harness.product.status import condition_true, is_current
from harness.product.versions import bounds
from harness.run.progress import Progress
from harness.scenario import entry, manifests, provision
from harness.scenario.entry import ingress_address
from harness.scenario.provision import Provisioner, _Run
from harness.scenario.snapshot import changes
from selftests.support.scripted_api import Reply, ScriptedApi


@pytest.mark.parametrize(
    ("version", "minutes"),
    [
        ("2.1.6", 7),
        ("v2.3", 7),
        ("2.4.6", 7),
        ("2.4.7", 4),
        ("v2.4", 7),
        ("2.5.0", 7),
        ("2.5.1-0", 4),
        ("2.6.0", 4),
        ("unknown", 7),
    ],
)
def test_a_full_sync_may_be_as_old_as_the_version_resyncs(version, minutes):
    assert bounds(version).sync_age == timedelta(minutes=minutes)


def test_the_captured_ingress_has_the_address_the_peer_was_given(observed):
    services = observed("healthy/objects/mesh1-system-services.json")["items"]
    service = next(obj for obj in services if obj["metadata"]["name"] == "mesh2-ingress")
    remote = observed("healthy/objects/mesh2-servicemeshpeer-mesh1.json")["spec"]["remote"]
    found = ingress_address(service)
    assert found is not None
    assert list(found.hosts) == remote["addresses"]
    assert (found.discovery_port, found.service_port) == (remote["discoveryPort"], remote["servicePort"])


def test_an_address_prefers_ip_to_hostname_and_waits_for_either():
    def service(*ingress):
        return {"status": {"loadBalancer": {"ingress": list(ingress)}}}

    both = ingress_address(service({"hostname": "lb.example", "ip": "192.0.2.1"}))
    assert both is not None
    assert both.hosts == ("192.0.2.1",)
    only = ingress_address(service({"hostname": "lb.example"}))
    assert only is not None
    assert only.hosts == ("lb.example",)
    assert ingress_address(service()) is None
    assert ingress_address({"status": {"loadBalancer": {}}}) is None
    assert ingress_address(None) is None


def test_the_scenario_names_every_object_that_was_captured_as_asked_for(observed):
    for mesh in (MESH1, MESH2):
        names = {(obj["kind"], obj["metadata"]["name"]) for obj in manifests.scenario(mesh)}
        for file in ("bookinfo-services", "bookinfo-deployments", "smcp-smmr"):
            for obj in observed(f"healthy/objects/{mesh.name}-{file}.json")["items"]:
                assert (obj["kind"], obj["metadata"]["name"]) in names


def test_a_condition_counts_only_when_the_status_speaks_of_this_spec(observed):
    plane = observed("healthy/objects/mesh1-smcp-smmr.json")["items"][0]
    assert condition_true(plane, "Ready")
    assert is_current(plane)
    plane["metadata"]["generation"] += 1
    assert not is_current(plane)
    assert not condition_true({}, "Ready")


def test_changes_name_object_and_field():
    before = {"a": ("u1", 1, {"l": "1"}, {"s": 1}), "b": ("u2", 1, None, None)}
    after = {"a": ("u1", 2, {"l": "1"}, {"s": 2}), "c": ("u3", 1, None, None)}
    assert changes(before, before) == []
    assert changes(before, after) == [
        "a: generation was 1, is 2",
        "a: spec was {'s': 1}, is {'s': 2}",
        "b is gone",
        "c is new",
    ]


def test_what_does_not_settle_is_given_up_and_not_called_complete(tmp_path):
    nothing = Reply(body={"metadata": {"resourceVersion": "1"}, "items": []})
    progress = Progress(io.StringIO(), live=False)
    done: Future[Any] = Future()
    done.set_result(None)
    before = {(mesh, step): done for mesh in ("mesh1", "mesh2") for step in ("peers", "istiod")}
    with ScriptedApi(nothing).running(tmp_path / "kubeconfig") as file, ThreadPoolExecutor(1) as pool:
        cluster = Cluster("mesh1", file)
        provisioner = Provisioner({"mesh1": cluster, "mesh2": cluster}, "run", progress, patience=0.0)
        _Run(provisioner, MESH1, before, pool, False, Event()).settle()
        cluster.close()
    assert [step.text.partition(" waiting")[0] for step in progress.timings] == ["gave up", "gave up"]
    watches, sets = provisioner.unsettled
    assert watches.endswith("last seen: ServiceMeshPeer mesh1-system/mesh2 does not exist")
    assert sets.endswith("last seen: mongodb is missing; ratings is missing")


def test_what_did_not_settle_is_noted_of_the_last_run_only(tmp_path, monkeypatch):
    nothing = Reply(body={"metadata": {"resourceVersion": "1", "uid": "one"}, "items": []})
    monkeypatch.setattr(provision, "_STEPS", ("settle",))
    monkeypatch.setattr(_Run, "result_of", lambda *_: None)
    monkeypatch.setattr(_Run, "mesh", lambda _: None)
    with ScriptedApi(nothing).running(tmp_path / "kubeconfig") as file:
        cluster = Cluster("mesh1", file)
        clusters = {"mesh1": cluster, "mesh2": cluster}
        provisioner = Provisioner(clusters, "run", Progress(io.StringIO(), live=False), patience=0.0)
        provisioner.run()
        first = list(provisioner.unsettled)
        provisioner.run()
        cluster.close()
    assert len(first) == len(provisioner.unsettled) == 4


def test_a_name_that_does_not_resolve_yet_is_waited_for_and_the_reason_is_told(monkeypatch):
    answers = [socket.gaierror(-2, "Name or service not known")] * 2

    def getaddrinfo(*_):
        if answers:
            raise answers.pop()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(entry, "_NAME_SECONDS", 0.0)
    said: list[str] = []
    assert entry.wait_for_name("nlb.example", "mesh1", 60, said.append) == ""
    assert said == ["waiting until nlb.example resolves: Name or service not known"]
    answers[:] = [socket.gaierror(-2, "Name or service not known")] * 1000000
    late = entry.wait_for_name("nlb.example", "mesh1", 0.01, said.append)
    assert late.startswith("mesh1: ")
    assert "Name or service not known" in late
