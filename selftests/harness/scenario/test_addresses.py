"""The address of a federation ingress, as provisioning finds it: load balancer, else NodePort, else advice."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from harness.cluster.addresses import netloc
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import NODE, SERVICE
from harness.product.mesh import MESH1
from harness.run.progress import Progress
from harness.run.waiting import WaitTimeout
from harness.scenario.entry import node_addresses, node_port_address, productpage_entry
from harness.scenario.provision import Provisioner, _Run
from selftests.support.api import api_server

NAMESPACE, GATEWAY = MESH1.system_namespace, MESH1.ingress_gateway
NODE_PORTS = {8188: 30188, 15443: 30443}


@pytest.fixture(scope="module")
def api() -> Iterator[Cluster]:
    """An API server without controllers: nobody gives LoadBalancers an address."""
    with api_server() as settings:
        found = Cluster("mesh1", settings.kubeconfig)
        found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield found
        found.close()


@pytest.fixture
def cluster(api) -> Iterator[Cluster]:
    yield api
    api.delete(SERVICE, GATEWAY, NAMESPACE)
    for node in api.list(NODE):
        api.delete(NODE, node["metadata"]["name"])


def add_node(cluster, name, address, ready="True"):
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    status = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "conditions": [{"type": "Ready", "status": ready}],
    }
    cluster.patch(NODE, name, None, {"status": status}, "status")


def add_gateway(cluster, node_ports=None, ingress=()):
    ports = [{"name": f"p{port}", "port": port} for port in NODE_PORTS]
    for port in ports:
        if node_ports:
            port["nodePort"] = node_ports[port["port"]]
    spec = {"type": "LoadBalancer", "selector": {"app": "gateway"}, "ports": ports}
    spec["allocateLoadBalancerNodePorts"] = bool(node_ports)
    meta = {"name": GATEWAY, "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    if ingress:
        cluster.patch(SERVICE, GATEWAY, NAMESPACE, {"status": {"loadBalancer": {"ingress": list(ingress)}}}, "status")


def address(cluster, balancers=("mesh1", "mesh2"), patience=0.3):
    """What the step comes to, and what it noted as not settled."""
    provisioner = Provisioner({"mesh1": cluster}, "run-1", Progress(io.StringIO(), live=False), balancers=balancers)
    installed: Future[None] = Future()
    installed.set_result(None)
    with ThreadPoolExecutor(1) as pool:
        run = _Run(provisioner, MESH1, {("mesh1", "install"): installed}, pool, False, Event())
        run.bounds = replace(run.bounds, address=patience)
        return run.address(), provisioner.unsettled


def test_where_no_load_balancer_comes_the_ports_of_a_ready_node_are_used(cluster):
    add_node(cluster, "a-cordoned-off", "127.0.0.2", ready="Unknown")
    add_node(cluster, "b", "127.0.0.3")
    add_gateway(cluster, NODE_PORTS)
    found, late = address(cluster)
    assert (found.hosts, found.how, late) == (("127.0.0.3",), "NodePort", [])
    assert (found.discovery_port, found.service_port) == (30188, 30443)


def test_where_it_is_known_that_none_comes_none_is_looked_at(cluster):
    add_node(cluster, "a", "127.0.0.3")
    add_gateway(cluster, NODE_PORTS, [{"ip": "192.0.2.1"}])
    assert address(cluster, balancers=("mesh2",))[0].how == "NodePort"
    assert address(cluster)[0].how == "LoadBalancer ip"


@pytest.mark.parametrize("balancers", [("mesh1",), ()], ids=["waited for", "known to be in vain"])
def test_without_balancer_and_node_ports_the_failure_says_what_to_do(cluster, balancers):
    add_gateway(cluster)
    with pytest.raises(WaitTimeout, match=r"^mesh1: waited .* Service mesh2-ingress .*Install a load balancer"):
        address(cluster, balancers)


@pytest.mark.parametrize(("host", "noted"), [("localhost", 0), ("lb.invalid", 1)])
def test_the_name_of_a_load_balancer_is_waited_for_and_used_though_it_does_not_resolve_yet(cluster, host, noted):
    add_gateway(cluster, NODE_PORTS, [{"hostname": host}])
    found, late = address(cluster)
    assert (found.hosts, found.how, found.discovery_port) == ((host,), "LoadBalancer hostname", 8188)
    assert len(late) == noted
    assert all("mesh1: " in line and host in line for line in late)


def test_of_several_ready_nodes_one_that_answers_is_taken(cluster):
    for name, host in (("a", "127.0.0.2"), ("b", "127.0.0.3"), ("c", "127.0.0.4")):
        add_node(cluster, name, host)
    with contextlib.closing(socket.create_server(("127.0.0.3", 0))) as answering:
        ports = {8188: answering.getsockname()[1], 15443: 30443}
        service = {"spec": {"ports": [{"port": port, "nodePort": node} for port, node in ports.items()]}}
        found = node_port_address(cluster, service)
    assert found is not None
    assert found.hosts == ("127.0.0.3",)
    assert node_addresses(cluster) == ("127.0.0.2", "127.0.0.3", "127.0.0.4")


@contextlib.contextmanager
def productpage_at(cluster, listener):
    """How productpage is found where its NodePort is that of the listener, and what is told meanwhile."""
    name, said = "istio-ingressgateway", list[str]()
    port = {"port": 80, "nodePort": listener.getsockname()[1]}
    spec = {"type": "NodePort", "selector": {"app": "gateway"}, "ports": [port]}
    meta = {"name": name, "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    with contextlib.ExitStack() as forwards:
        yield productpage_entry(cluster, MESH1, forwards, say=said.append), said
    cluster.delete(SERVICE, name, NAMESPACE)


def test_productpage_is_sought_at_some_of_many_nodes_and_they_are_told(cluster):
    for last in range(2, 9):
        add_node(cluster, f"n{last}", f"127.0.0.{last}")
    with socket.create_server(("127.0.0.8", 0)) as listener, productpage_at(cluster, listener) as (found, said):
        assert found.entry == "port-forward", "the seventh node was tried"
        (line,) = said
        assert "at 127.0.0.2, 127.0.0.3, 127.0.0.4, 127.0.0.5, 127.0.0.6, of 7 addresses of nodes" in line


def test_an_ipv6_address_of_a_node_stands_in_brackets_in_the_url(cluster):
    add_node(cluster, "a", "::1")
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    with listener, productpage_at(cluster, listener) as (found, _):
        assert found.productpage_url == f"http://[::1]:{listener.getsockname()[1]}/productpage"


@pytest.mark.parametrize(
    ("host", "port", "written"),
    [
        ("fd00::1", 443, "[fd00::1]:443"),
        ("fd00::1", None, "[fd00::1]"),
        ("192.0.2.1", 80, "192.0.2.1:80"),
        ("a.example", None, "a.example"),
    ],
)
def test_only_an_ipv6_address_needs_brackets(host, port, written):
    assert netloc(host, port) == written


def test_where_no_node_is_ready_all_of_them_are_better_than_none(cluster):
    add_node(cluster, "a", "127.0.0.2", ready="False")
    assert node_addresses(cluster) == ("127.0.0.2",)
