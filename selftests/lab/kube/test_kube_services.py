"""Services, Endpoints and EndpointSlices against the lab's API."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from lab.client import Object
from lab.resources import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE
from lab.settings import ClusterSettings
from selftests.support.controllers import Scene, api_server, played


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterSettings]:
    with api_server() as settings:
        yield settings


def service(scene: Scene, name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": scene.namespace, "labels": {"app": name, "service": name}},
        "spec": {"ports": [{"name": "http", "port": 9080}], "selector": {"app": name}, **spec},
    }


def pod(scene: Scene, name: str, app: str) -> Object:
    container = {"name": "app", "image": "example/app:1", "ports": [{"name": "web", "containerPort": 8080}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": scene.namespace, "labels": {"app": app}},
        "spec": {"containers": [container]},
    }


def complete(item: Object) -> bool:
    return bool(item["spec"].get("clusterIP"))


def addresses(item: Object, kind: str = "addresses") -> list[str]:
    return [entry["ip"] for subset in item.get("subsets") or () for entry in subset.get(kind) or ()]


async def details_with_a_pod(scene: Scene, ready: bool = True) -> tuple[Object, str]:
    """A Service `details` and one pod of it, on a node; gives the pod and its address."""
    await scene.api.create(SERVICE, service(scene, "details"))
    made = await scene.api.create(POD, pod(scene, "details-1", "details"))
    await scene.until_one(POD, "details-1", "a node", lambda item: item["spec"].get("nodeName"))
    ip = scene.settings.block.pod(7)
    await scene.set_ready(made, ip, ready)
    return made, ip


async def endpoints_with(scene: Scene, ip: str) -> Object:
    """The Endpoints `details` as soon as this address alone is served."""
    return await scene.until_one(ENDPOINTS, "details", "the ready pod", lambda item: addresses(item) == [ip])


@played
async def test_a_service_gets_an_address_and_defaults(scene, cluster):
    await scene.api.create(SERVICE, service(scene, "details"))
    spec = (await scene.until_one(SERVICE, "details", "a ClusterIP", complete))["spec"]
    assert ip_address(spec["clusterIP"]) in ip_network(f"127.{cluster.octet}.192.0/19")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["type"], spec["sessionAffinity"]) == ("ClusterIP", "None")
    assert spec["ports"] == [{"name": "http", "port": 9080, "protocol": "TCP", "targetPort": 9080}]
    assert "externalTrafficPolicy" not in spec


@played
async def test_applying_the_same_service_again_changes_nothing(scene):
    asked = service(scene, "details")
    await scene.api.apply(SERVICE, asked)
    first = await scene.until_one(SERVICE, "details", "a ClusterIP", complete)
    again = await scene.api.apply(SERVICE, asked)
    assert again["spec"] == first["spec"]


async def twenty_services(scene: Scene) -> list[Object]:
    """With a NodePort each, and complete."""
    names = [f"many-{index}" for index in range(20)]
    for name in names:
        await scene.api.create(SERVICE, service(scene, name, type="NodePort"))
    return [await scene.until_one(SERVICE, name, "a ClusterIP", complete) for name in names]


@played
async def test_addresses_and_node_ports_are_never_given_twice(scene):
    served = await twenty_services(scene)
    assert len({item["spec"]["clusterIP"] for item in served}) == len(served) == 20
    node_ports = {item["spec"]["ports"][0]["nodePort"] for item in served}
    assert len(node_ports) == len(served)
    assert all(30000 <= port <= 32767 for port in node_ports)


async def load_balancer(scene: Scene) -> Object:
    """A Service `ingress` of two ports, with its address."""
    ports = [{"name": "tls", "port": 15443}, {"name": "https-discovery", "port": 8188}]
    await scene.api.create(SERVICE, service(scene, "ingress", type="LoadBalancer", ports=ports))

    def balanced(item: Object) -> Any:
        return item.get("status", {}).get("loadBalancer", {}).get("ingress")

    return await scene.until_one(SERVICE, "ingress", "a LoadBalancer address", balanced)


@played
async def test_a_load_balancer_has_an_address_of_its_own(scene, cluster):
    (way_in,) = (await load_balancer(scene))["status"]["loadBalancer"]["ingress"]
    assert way_in.keys() == {"ip"}
    assert ip_address(way_in["ip"]) in ip_network(f"127.{cluster.octet}.253.0/24")


@played
async def test_a_load_balancer_looks_as_captured(scene, observed):
    listed = observed("healthy/objects/mesh2-system-services.json")["items"]
    captured = next(item["spec"] for item in listed if item["metadata"]["name"] == "mesh1-ingress")
    own = (await load_balancer(scene))["spec"]
    assert own.keys() >= captured.keys(), "newer versions of Kubernetes have more"
    for mine, real in zip(own["ports"], captured["ports"], strict=True):
        assert {**mine, "nodePort": 0} == {**real, "nodePort": 0}


@played
async def test_a_headless_service_stays_headless(scene):
    await scene.api.create(SERVICE, service(scene, "db", clusterIP="None"))
    done = await scene.until_one(SERVICE, "db", "defaults", lambda item: item["spec"].get("clusterIPs"))
    assert (done["spec"]["clusterIP"], done["spec"]["clusterIPs"]) == ("None", ["None"])
    found = await scene.until_one(ENDPOINTS, "db", "Endpoints", lambda _: True)
    assert "service.kubernetes.io/headless" in found["metadata"]["labels"]


@played
async def test_without_pods_endpoints_are_empty(scene):
    await scene.api.create(SERVICE, service(scene, "details"))
    empty = await scene.until_one(ENDPOINTS, "details", "empty Endpoints", lambda _: True)
    assert "subsets" not in empty


@played
async def test_endpoints_follow_readiness(scene):
    made, ip = await details_with_a_pod(scene, ready=False)
    waiting = lambda item: addresses(item, "notReadyAddresses") == [ip]  # noqa: E731
    await scene.until_one(ENDPOINTS, "details", "a pod that is not ready", waiting)
    await scene.set_ready(made, ip)
    await endpoints_with(scene, ip)
    await scene.api.delete(POD, "details-1", scene.namespace)
    await scene.until_one(ENDPOINTS, "details", "no endpoint", lambda item: not addresses(item))


@played
async def test_endpoints_look_as_captured(scene, observed):
    made, ip = await details_with_a_pod(scene)
    found = await endpoints_with(scene, ip)
    assert shape(found) == shape(observed("healthy/objects/mesh2-bookinfo-endpoints.json")["items"][0])
    assert found["subsets"][0]["addresses"][0]["targetRef"]["uid"] == made["metadata"]["uid"]
    assert found["subsets"][0]["ports"] == [{"name": "http", "port": 9080, "protocol": "TCP"}]


@played
async def test_a_slice_says_what_the_endpoints_say(scene):
    _, ip = await details_with_a_pod(scene)
    sliced = lambda items: [item for item in items.values() if item["endpoints"]]  # noqa: E731
    piece = (await scene.until(ENDPOINT_SLICE, "a slice", sliced))[0]
    assert piece["metadata"]["labels"]["kubernetes.io/service-name"] == "details"
    assert piece["endpoints"][0]["addresses"] == [ip]


@played
async def test_endpoints_and_slices_go_with_their_service(scene):
    _, ip = await details_with_a_pod(scene)
    await endpoints_with(scene, ip)
    await scene.until(ENDPOINT_SLICE, "a slice", lambda items: items)
    await scene.api.delete(SERVICE, "details", scene.namespace)
    for kind in (ENDPOINTS, ENDPOINT_SLICE):
        await scene.until(kind, f"no {kind.kind}", lambda items: not items)


def shape(value: Any) -> Any:
    """The names of all fields, without what they hold."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key != "managedFields"}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


@played
async def test_a_named_target_port_is_the_pods_own(scene, cluster):
    ports = [{"name": "http", "port": 80, "targetPort": "web"}, {"name": "other", "port": 81, "targetPort": "no"}]
    await scene.api.create(SERVICE, service(scene, "named", ports=ports))
    made = await scene.api.create(POD, pod(scene, "named-1", "named"))
    await scene.set_ready(made, cluster.block.pod(8))
    found = await scene.until_one(ENDPOINTS, "named", "the ready pod", addresses)
    assert found["subsets"][0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


@played
async def test_endpoints_made_by_hand_are_left_alone(scene):
    metadata = {"name": "outside", "namespace": scene.namespace}
    subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 443}]}
    await scene.api.create(
        ENDPOINTS, {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]}
    )
    await come_and_go(scene)
    assert addresses(await scene.api.get(ENDPOINTS, "outside", scene.namespace)) == ["192.0.2.1"]
    await scene.api.create(SERVICE, service(scene, "outside", selector=None))
    await come_and_go(scene)
    assert addresses(await scene.api.get(ENDPOINTS, "outside", scene.namespace)) == ["192.0.2.1"]


async def come_and_go(scene: Scene) -> None:
    """One Service made and deleted; what its controllers did for it they did after all that was there before."""
    await scene.api.create(SERVICE, service(scene, "later"))
    await scene.until_one(ENDPOINTS, "later", "Endpoints of the later Service", lambda _: True)
    await scene.api.delete(SERVICE, "later", scene.namespace)
    await scene.until(ENDPOINTS, "no Endpoints of it", lambda items: (scene.namespace, "later") not in items)
