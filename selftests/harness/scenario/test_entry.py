"""How productpage is reached, on the lab: Route, load balancer, NodePort, port-forward, in this order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import requests

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import POD, ROUTE, SERVICE
from harness.product.mesh import MESH2
from harness.run.waiting import wait_for
from harness.scenario.entry import node_addresses, node_port_address, productpage_entry, reaches
from harness.scenario.manifests import load
from selftests.support.lab import lab
from selftests.support.users import restricted

__all__ = ["lab"]
NAMESPACE = "mesh2-system"
GATEWAY = "istio-ingressgateway"


@pytest.fixture(scope="module")
def cluster(lab) -> Iterator[Cluster]:
    """A cluster in which bookinfo's details stands behind the gateway's Service: it answers HTTP too."""
    found = Cluster("mesh2", lab.clusters[1].kubeconfig)
    found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for obj in load("bookinfo"):
        if obj["metadata"]["name"] in ("bookinfo-details", "details-v1"):
            obj["metadata"]["namespace"] = NAMESPACE
            found.apply(obj)

    def ready(pods):
        conditions = [c for pod in pods for c in (pod.get("status") or {}).get("conditions") or ()]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) or None

    found.wait("details to be ready", POD, NAMESPACE, label_selector="app=details", until=ready, timeout=60)
    yield found
    found.close()


@pytest.fixture
def expose(cluster):
    """Makes the gateway's Service one of a type, and waits until it has what that type brings."""

    def make(kind, has):
        cluster.delete(SERVICE, GATEWAY, NAMESPACE)
        port = {"name": "http2", "port": 80, "targetPort": 9080}
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": GATEWAY, "namespace": NAMESPACE},
                "spec": {"type": kind, "selector": {"app": "details"}, "ports": [port]},
            }
        )
        cluster.wait(
            f"Service of type {kind}",
            SERVICE,
            NAMESPACE,
            name=GATEWAY,
            until=lambda found: (found and has(found[0])) or None,
            timeout=60,
        )
        # The node listens a moment after the Service has its port.
        node_port = cluster.get(SERVICE, GATEWAY, NAMESPACE)["spec"]["ports"][0].get("nodePort")
        if node_port:
            host = node_addresses(cluster)[0]
            wait_for("the NodePort to be served", lambda: (reaches(host, node_port) or None, host), 30)

    return make


@pytest.fixture
def entry(cluster):
    with contextlib.ExitStack() as forwards:
        yield lambda: productpage_entry(cluster, MESH2, forwards)


def answers(url: str) -> bool:
    return requests.get(url.replace("/productpage", "/details/0"), timeout=10).json()["id"] == 0


def test_without_anything_outside_a_port_is_forwarded(expose, entry):
    expose("ClusterIP", lambda service: service["spec"].get("clusterIP"))
    found = entry()
    assert found.entry == "port-forward"
    assert answers(found.productpage_url)
    assert answers(found.productpage_url), "the second connection is forwarded like the first"


def test_a_forwarded_port_is_closed_afterwards(cluster, expose):
    expose("ClusterIP", lambda service: service["spec"].get("clusterIP"))
    with contextlib.ExitStack() as forwards:
        found = productpage_entry(cluster, MESH2, forwards)
    with pytest.raises(requests.ConnectionError):
        answers(found.productpage_url)


def test_a_node_port_comes_before_forwarding(expose, entry):
    expose("NodePort", lambda service: service["spec"]["ports"][0].get("nodePort"))
    found = entry()
    assert found.entry == "NodePort"
    assert answers(found.productpage_url)


def test_a_load_balancer_comes_before_its_node_port(expose, entry):
    expose("LoadBalancer", lambda service: (service.get("status") or {}).get("loadBalancer", {}).get("ingress"))
    found = entry()
    assert found.entry == "LoadBalancer"
    assert answers(found.productpage_url)


def test_a_route_counts_only_when_a_router_admitted_it(cluster, expose, entry):
    expose("ClusterIP", lambda service: service["spec"].get("clusterIP"))
    route = {
        "apiVersion": ROUTE.api_version,
        "kind": "Route",
        "metadata": {"name": GATEWAY, "namespace": NAMESPACE},
        "spec": {"to": {"kind": "Service", "name": GATEWAY}},
    }
    cluster.apply(route)
    assert entry().entry == "port-forward"
    admitted = {"host": "gateway.apps.example", "conditions": [{"type": "Admitted", "status": "True"}]}
    cluster.patch(ROUTE, GATEWAY, NAMESPACE, {"status": {"ingress": [admitted]}}, "status")
    found = entry()
    cluster.delete(ROUTE, GATEWAY, NAMESPACE)
    assert (found.entry, found.productpage_url) == ("Route", "http://gateway.apps.example/productpage")


def test_a_user_who_may_not_read_routes_is_led_by_the_next_way_and_told(lab, expose, tmp_path):
    expose("NodePort", lambda service: service["spec"]["ports"][0].get("nodePort"))
    deny = [{"verbs": ["get"], "resources": ["routes"]}]
    with contextlib.ExitStack() as stack:
        settings = lab.clusters[1]
        reader = Cluster("mesh2", stack.enter_context(restricted(settings, tmp_path / "reader.yaml", deny)))
        stack.callback(reader.close)
        found = productpage_entry(reader, MESH2, stack)
    assert found.entry == "NodePort (this user may not read Routes)"
    assert answers(found.productpage_url)


def test_federation_is_reached_by_node_ports_where_there_is_no_balancer(cluster):
    ports = [{"port": 8188, "nodePort": 30001}, {"port": 15443, "nodePort": 30002}]
    found = node_port_address(cluster, {"spec": {"ports": ports}})
    assert found is not None
    assert (found.discovery_port, found.service_port, found.how) == (30001, 30002, "NodePort")
    assert found.hosts[0].startswith("127.")
    assert node_port_address(cluster, {"spec": {"ports": [{"port": 8188, "nodePort": 30001}]}}) is None
