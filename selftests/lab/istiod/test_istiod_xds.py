"""How istiod talks to proxies and people: long polls, readiness and debug pages, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from lab.istiod.debug import DebugServer
from lab.istiod.model import FederationOutput
from lab.istiod.xds import ConfigServer, proxy_of
from selftests.support.live_meshes import LiveMesh, split
from selftests.support.stories import told_in

NODE = {
    "id": "sidecar~127.251.1.9~reviews.mesh2-bookinfo~mesh2-bookinfo.svc.cluster.local",
    "metadata": {"SERVICE_ACCOUNT": "bookinfo-reviews", "LABELS": {"app": "reviews"}},
}


@dataclass
class Istiod:
    """A mesh of one service, and a client of istiod's HTTP servers."""

    mesh: LiveMesh
    client: TestClient
    pages: DebugServer

    def poll(self, kind: str, version: str = "", *names: str) -> asyncio.Task[Any]:
        return poll(self.client, kind, version, *names)

    def split(self, remote: int, local: int) -> None:
        self.mesh.put("virtual_services", self.mesh.bookinfo, "ratings-split", spec=split(remote, local))

    def add_service(self, name: str) -> None:
        self.mesh.service(self.mesh.bookinfo, name, {"name": "http", "port": 9080})

    async def debug(self, page: str) -> Any:
        return await (await self.client.get(f"/debug/{page}")).json()


@contextlib.asynccontextmanager
async def istiod_of_one_service(tmp_path: Path) -> AsyncIterator[Istiod]:
    mesh = LiveMesh("mesh2", tmp_path)
    mesh.service(mesh.bookinfo, "ratings", {"name": "http", "port": 9080})
    mesh.pod(mesh.bookinfo, "reviews", "bookinfo-reviews")
    mesh.put("virtual_services", mesh.bookinfo, "ratings-split", spec=split(50, 50))
    pages = DebugServer(mesh.state)
    pages.server = ConfigServer(mesh.state, mesh.authority)
    app = web.Application()
    app.add_routes([*pages.server.routes(), *pages.http_routes()])
    async with TestClient(TestServer(app)) as client:
        yield Istiod(mesh, client, pages)


with_istiod = told_in(istiod_of_one_service)


def poll(client: TestClient, kind: str, version: str = "", *names: str) -> asyncio.Task[Any]:
    async def ask() -> Any:
        body = {"node": NODE, "version_info": version, "resource_names": list(names)}
        async with client.post(f"/v3/discovery:{kind}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    return asyncio.create_task(ask())


@with_istiod
async def test_a_change_wakes_those_it_concerns_and_nobody_else(istiod: Istiod) -> None:
    clusters, routes = await istiod.poll("clusters"), await istiod.poll("routes", "", "9080")
    waiting = istiod.poll("clusters", clusters["version_info"])
    concerned = istiod.poll("routes", routes["version_info"], "9080")
    istiod.split(90, 10)
    [configuration] = (await concerned)["resources"]
    assert [entry["weight"] for entry in _weights(configuration)] == [90, 10]
    assert not waiting.done()
    istiod.add_service("details")
    names = [cluster["name"] for cluster in (await waiting)["resources"]]
    assert "outbound|9080||details.mesh2-bookinfo.svc.cluster.local" in names


def _weights(configuration: Any) -> Any:
    [host] = [host for host in configuration["virtual_hosts"] if host["name"].startswith("ratings.")]
    return host["routes"][0]["route"]["weighted_clusters"]["clusters"]


@with_istiod
async def test_a_refused_configuration_is_not_offered_again_until_it_changes(istiod: Istiod) -> None:
    first = await istiod.poll("clusters")
    istiod.add_service("details")
    second = await istiod.poll("clusters", first["version_info"])
    again = istiod.poll("clusters", first["version_info"])
    istiod.split(90, 10)
    await istiod.poll("routes", "", "9080")
    assert not again.done()
    istiod.add_service("reviews")
    assert (await again)["version_info"] not in (first["version_info"], second["version_info"])


@with_istiod
async def test_a_restarted_proxy_is_configured_again(istiod: Istiod) -> None:
    first = await istiod.poll("listeners")
    assert await istiod.poll("listeners") == first


async def with_peer(istiod: Istiod) -> Any:
    """mesh1 becomes a peer; gives the roots that a waiting proxy is told then."""
    own = await istiod.poll("secrets", "", "ROOTCA")
    waiting = istiod.poll("secrets", own["version_info"], "ROOTCA")
    istiod.mesh.state.federation["mesh1"] = FederationOutput(bundles={"mesh1.local": "PEM"})
    istiod.mesh.state.changed()
    return await waiting


@with_istiod
async def test_without_peers_the_own_root_is_the_only_one(istiod: Istiod) -> None:
    [secret] = (await istiod.poll("secrets", "none", "ROOTCA"))["resources"]
    validator = secret["validation_context"]["custom_validator_config"]["typed_config"]
    assert [entry["name"] for entry in validator["trust_domains"]] == ["mesh2.local"]


@with_istiod
async def test_roots_of_peers_stay_after_the_peer(istiod: Istiod) -> None:
    told = await with_peer(istiod)
    assert "mesh1.local" in json.dumps(told)
    istiod.mesh.state.federation.clear()
    istiod.mesh.state.changed()
    istiod.split(90, 10)
    await istiod.poll("routes", "", "9080")
    assert (await istiod.poll("secrets", "", "ROOTCA"))["version_info"] == told["version_info"]


@contextlib.asynccontextmanager
async def another(mesh: LiveMesh) -> AsyncIterator[TestClient]:
    """The client of another istiod of the mesh."""
    app = web.Application()
    app.add_routes(ConfigServer(mesh.state, mesh.authority).routes())
    async with TestClient(TestServer(app)) as client:
        yield client


@with_istiod
async def test_a_proxy_keeps_its_certificate_when_another_istiod_of_the_mesh_answers(istiod: Istiod) -> None:
    until, _, whose = (await istiod.poll("secrets", "", "default"))["version_info"].partition(".")
    async with another(istiod.mesh) as other:
        # as if issued at another moment, so that what the other istiod would issue now has another version
        waiting = poll(other, "secrets", f"{int(until) + 60}.{whose}", "default")
        await poll(other, "secrets", "", "ROOTCA")
        istiod.add_service("details")
        await poll(other, "clusters", "none")
        assert not waiting.done()
        waiting.cancel()


@with_istiod
async def test_another_istiod_of_the_mesh_renews_an_old_certificate(istiod: Istiod) -> None:
    whose = (await istiod.poll("secrets", "", "default"))["version_info"].partition(".")[2]
    async with another(istiod.mesh) as other:
        renewed = await poll(other, "secrets", f"1.{whose}", "default")
    assert int(renewed["version_info"].partition(".")[0]) > 1


@with_istiod
async def test_nothing_is_ready_before_the_configuration_server(istiod: Istiod) -> None:
    server, istiod.pages.server = istiod.pages.server, None
    assert (await istiod.client.get("/ready")).status == 503
    istiod.pages.server = server
    assert (await istiod.client.get("/ready")).status == 200


INFORMERS = {
    "DestinationRule": "destination_rules",
    "Gateway": "gateways",
    "VirtualService": "virtual_services",
    "PeerAuthentication": "peer_authentications",
}


@with_istiod
async def test_configz_shows_objects_of_users_and_of_federation_as_captured(
    istiod: Istiod, observed: Callable[[str], Any]
) -> None:
    captured = observed("healthy/discovery/mesh2-istiod-configz.json")
    made = tuple(item for item in captured if item["name"].startswith("federation-"))
    for item in (item for item in captured if item not in made):
        istiod.mesh.put(INFORMERS[item["kind"]], item["namespace"], item["name"], spec=item["spec"])
    istiod.mesh.state.federation["mesh1"] = FederationOutput(objects=made)
    istiod.mesh.state.changed()
    istiod.mesh.remove("virtual_services", istiod.mesh.bookinfo, "nothing")
    shown = await istiod.debug("configz")
    assert sorted(shown, key=_place) == sorted(captured, key=_place)
    assert [item["kind"] for item in shown] == [item["kind"] for item in captured], "kinds come in the same order"


def _place(item: Any) -> tuple[str, str, str]:
    return item["kind"], item["namespace"], item["name"]


@with_istiod
async def test_syncz_shows_who_is_connected_and_forgets_who_is_gone(istiod: Istiod) -> None:
    sent = {"CDS": (await istiod.poll("clusters"))["version_info"]}
    [proxy] = await istiod.debug("syncz")
    assert proxy == {"proxy": "reviews.mesh2-bookinfo", "sent": sent, "acknowledged": {"CDS": ""}}
    published = asyncio.Event()
    istiod.mesh.state.on_publish(published.set)
    istiod.mesh.remove("pods", istiod.mesh.bookinfo, "reviews")
    await published.wait()
    assert await istiod.debug("syncz") == []


@pytest.mark.parametrize("node_id", ["", "sidecar~127.0.0.1", "ztunnel~127.0.0.1~a.b~c"])
def test_a_strangers_node_id_is_refused(node_id: str) -> None:
    with pytest.raises(ValueError, match="node id"):
        proxy_of({"id": node_id})


def test_the_proxy_tells_its_network_view() -> None:
    metadata = {"REQUESTED_NETWORK_VIEW": "network-a,network-b", "ROUTER_MODE": "sni-dnat"}
    proxy = proxy_of({"id": "router~127.0.0.1~a.b~c", "metadata": metadata})
    assert (proxy.name, proxy.namespace, proxy.sni_dnat) == ("a", "b", True)
    assert proxy.network_view == {"network-a", "network-b"}
