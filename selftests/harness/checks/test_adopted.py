"""What an adopted mesh may hold beside the scenario: pods that are done, gateways without port 80, pods that go."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from harness.checks.installation import bookinfo_pods
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import NAMESPACE
from harness.cluster.transport import ClusterError
from harness.diagnosis.request_links import _at
from harness.product.mesh import MESH2, IngressAddress, Mesh
from harness.run.waiting import WaitTimeout
from harness.scenario.entry import LocalForward, productpage_entry
from harness.scenario.ownership import removal
from selftests.support.recorded_api import RecordedApi, items
from selftests.support.scripted_api import Reply, ScriptedApi

PODS = "/api/v1/namespaces/mesh2-bookinfo/pods"
GATEWAY = "/api/v1/namespaces/mesh2-system/services/istio-ingressgateway"


@pytest.fixture
def recorded(tmp_path):
    """Cluster mesh2 with these answers."""
    with contextlib.ExitStack() as stack:

        def build(answers):
            file = stack.enter_context(RecordedApi(answers).running(tmp_path))
            cluster = Cluster("mesh2", file, patience=0.1)
            stack.callback(cluster.close)
            return cluster

        yield build


def pod(name, phase, container, ready):
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": container}]},
        "status": {"phase": phase, "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_is_done_needs_no_sidecar(recorded, phase):
    job, ratings = pod("job", phase, "job", "False"), pod("ratings", "Running", "istio-proxy", "True")
    address = IngressAddress(("127.0.0.1",), 8188, 15443, "LoadBalancer ip")
    mesh = Mesh(*vars(MESH2).values(), recorded({PODS: items(job, ratings)}), "v2.1", "2.1.6", address)
    assert bookinfo_pods(mesh).problems == []


def test_an_address_is_not_that_of_a_pod_that_is_done():
    assert _at(pod("ratings", "Running", "istio-proxy", "True"), "10.0.0.1:9080")
    assert not _at(pod("job", "Succeeded", "job", "False"), "10.0.0.1:9080")


def gateway(**port):
    spec = {"selector": {"app": "gateway"}, "ports": [{"name": "status-port", "port": 15021}, port]}
    return {"metadata": {"name": "istio-ingressgateway", "namespace": "mesh2-system"}, "spec": spec}


def test_a_gateway_without_port_80_is_reached_by_its_port_for_http(recorded):
    cluster = recorded({GATEWAY: gateway(name="http2", port=8081, targetPort=8080), "/api/v1/nodes": items()})
    with contextlib.ExitStack() as forwards:
        assert productpage_entry(cluster, MESH2, forwards).entry == "port-forward"


def test_a_gateway_without_a_port_for_http_is_named(recorded):
    cluster = recorded({GATEWAY: gateway(name="https", port=443)})
    with contextlib.ExitStack() as forwards, pytest.raises(ClusterError, match="ports it has: 15021, 443"):
        productpage_entry(cluster, MESH2, forwards)


@pytest.mark.parametrize("pods", [items(), items(pod("gone", "Running", "istio-proxy", "True")), (403, {})])
def test_a_forwarded_connection_whose_pod_is_gone_just_ends(recorded, monkeypatch, pods):
    died = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    forward = LocalForward(recorded({PODS: pods}), "mesh2-bookinfo", "app=gateway", 8080)
    with contextlib.closing(forward), socket.create_connection(("127.0.0.1", forward.port), 30) as client:
        assert client.recv(1) == b""
    for thread in threading.enumerate():
        if thread.name.endswith("(_serve)"):
            thread.join(30)
    assert died == []


@pytest.mark.parametrize(("is_long", "asked"), [(60.0, False), (0.0, True)])
def test_a_removal_doubts_its_controller_only_when_it_is_long(tmp_path, monkeypatch, is_long, asked):
    monkeypatch.setattr(removal, "LONG_SECONDS", is_long)
    held = {"kind": "Namespace", "metadata": {"name": "n", "uid": "1", "resourceVersion": "1"}}
    api = ScriptedApi(Reply(body={"metadata": {"resourceVersion": "1"}, "items": [held]}), Reply(lines=[], hold=True))
    with (
        api.running(tmp_path / "kubeconfig") as file,
        contextlib.closing(Cluster("mesh1", file)) as cluster,
        pytest.raises(WaitTimeout) as told,
    ):
        removal._wait_gone(cluster, NAMESPACE, held, 0.5, cluster.cancelled, lambda _: None)
    assert ("controller that removes it" in str(told.value)) == asked
