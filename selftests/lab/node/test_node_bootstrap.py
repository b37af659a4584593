"""The bootstrap of proxies: a real Envoy starts with it and asks for its configuration."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from lab.node.bootstrap import bootstrap, discovery_service, role_of
from lab.node.environment import container_environment
from lab.node.images import envoy_path
from lab.node.process import Process, output_pipe
from lab.node.readiness import Readiness, http_get
from selftests.support.loopback import loopback_address

ENV = [
    {"name": "CA_ADDR", "value": "istiod-fed-import.mesh2-system.svc:15012"},
    {"name": "ISTIO_META_ROUTER_MODE", "value": "sni-dnat"},
    {"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": "network-mesh1"},
    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
    {"name": "BOTH", "value": "$(APP)@$(POD_IP)-$(MISSING)"},
]
CONTAINER = {"name": "istio-proxy", "args": ["proxy", "router", "--domain", "x"], "env": ENV}
POD = {
    "metadata": {
        "name": "mesh1-egress-1",
        "namespace": "mesh2-system",
        "uid": "u",
        "labels": {"app": "mesh1-egress", "topology.kubernetes.io/region": "region2"},
    },
    "spec": {"serviceAccountName": "mesh1-egress-service-account", "containers": [CONTAINER]},
}


class Discovery:
    """Answers the first long poll of each kind with nothing to configure and holds the others."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.address = (loopback_address(), 15012)
        self.open = asyncio.Event()

    async def serve(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        await self.open.wait()
        if body.get("version_info"):
            await asyncio.Event().wait()
        return web.json_response({"version_info": "1", "resources": [], "type_url": body["type_url"]})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/v3/{kind}", self.serve)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, *self.address).start()
        try:
            yield
        finally:
            await runner.cleanup()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def envoy(config: dict[str, Any], directory: Path) -> AsyncIterator[None]:
    (directory / "envoy.json").write_text(json.dumps(config))
    said = bytearray()
    writer = await output_pipe(said.extend, lambda: None)
    argv = [envoy_path(), "-c", str(directory / "envoy.json"), "--concurrency", "1", "--disable-hot-restart"]
    process = Process.start([*argv, "-l", "warning"], {}, directory, writer)
    try:
        yield
    finally:
        assert await process.stop(5) == 0, said.decode()


class Started(NamedTuple):
    """What was seen of an Envoy with the bootstrap of the egress gateway; ready: before istiod gave a configuration."""

    ip: str
    node: dict[str, Any]
    ready: bool
    health: int
    metrics: bytes


async def start(directory: Path) -> Started:
    discovery, ip = Discovery(), loopback_address()
    environment = container_environment(POD, CONTAINER, ip, "127.20.254.1")
    config = bootstrap(POD, ip, role_of(CONTAINER), environment, discovery.address)
    readiness = Readiness("proxy", CONTAINER, ip, ip)

    async def asked() -> bool:
        return {body["type_url"].rsplit(".", 1)[1] for body in discovery.asked} >= {"Cluster"}

    async with discovery.running(), envoy(config, directory):
        await until(asked)
        early = await readiness.look()
        discovery.open.set()
        await until(readiness.look)
        health, _ = await http_get(ip, 15021, "/healthz/ready", 5)
        _, metrics = await http_get(ip, 15090, "/stats/prometheus", 5)
        return Started(ip, discovery.asked[0]["node"], early, health, metrics)


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Started:
    return asyncio.run(start(tmp_path_factory.mktemp("envoy")))


def test_envoy_is_ready_only_with_the_configuration_of_istiod(started):
    assert not started.ready
    assert started.health == 200


def test_envoy_serves_its_metrics(started):
    assert b"envoy_cluster_upstream_cx_total" in started.metrics


def test_envoy_says_who_it_is_when_it_asks(started):
    node = started.node
    assert node["id"] == f"router~{started.ip}~mesh1-egress-1.mesh2-system~mesh2-system.svc.cluster.local"
    assert node["cluster"] == "mesh1-egress.mesh2-system"
    assert node["locality"] == {"region": "region2"}
    assert node["metadata"]["REQUESTED_NETWORK_VIEW"] == "network-mesh1"
    assert node["metadata"]["SERVICE_ACCOUNT"] == "mesh1-egress-service-account"


def test_environment_of_a_container_is_resolved_as_in_kubernetes():
    values = container_environment(POD, CONTAINER, "127.20.0.4", "127.20.254.1")
    assert (values["POD_IP"], values["APP"]) == ("127.20.0.4", "mesh1-egress")
    assert values["BOTH"] == "mesh1-egress@127.20.0.4-$(MISSING)"
    with pytest.raises(ValueError, match="TOKEN comes from secretKeyRef"):
        container_environment(POD, {"env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}, "", "")


def test_ca_addr_names_the_service_of_istiod():
    assert discovery_service({"CA_ADDR": "istiod-a.b.svc:15012"}) == ("b", "istiod-a", 15012)
    assert discovery_service({"CA_ADDR": "istiod-a.b.svc.cluster.local"}) == ("b", "istiod-a", 15012)
    with pytest.raises(ValueError, match="CA_ADDR"):
        discovery_service({})
