"""How istiod talks to proxies and people: long polls, readiness and debug pages, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from lab.istiod.debug import DebugServer
from lab.istiod.model import FederationOutput
from lab.istiod.xds import ConfigServer, proxy_of
from selftests.support.live_meshes import LiveMesh, split

NODE = {
    "id": "sidecar~127.251.1.9~reviews.mesh2-bookinfo~mesh2-bookinfo.svc.cluster.local",
    "metadata": {"SERVICE_ACCOUNT": "bookinfo-reviews", "LABELS": {"app": "reviews"}},
}
Ask = Callable[..., Awaitable[Any]]


def with_istiod(directory: Path, scenario: Callable[[LiveMesh, TestClient, DebugServer], Awaitable[None]]) -> None:
    """Runs a scenario with a mesh of one service and istiod's HTTP servers."""

    async def run() -> None:
        mesh = LiveMesh("mesh2", directory)
        mesh.service(mesh.bookinfo, "ratings", {"name": "http", "port": 9080})
        mesh.pod(mesh.bookinfo, "reviews", "bookinfo-reviews")
        mesh.put("virtual_services", mesh.bookinfo, "ratings-split", spec=split(50, 50))
        pages = DebugServer(mesh.state)
        pages.server = ConfigServer(mesh.state, mesh.authority)
        app = web.Application()
        app.add_routes([*pages.server.routes(), *pages.http_routes()])
        async with TestClient(TestServer(app)) as client:
            await scenario(mesh, client, pages)

    asyncio.run(run())


def poll(client: TestClient, kind: str, version: str = "", *names: str) -> asyncio.Task[Any]:
    async def ask() -> Any:
        body = {"node": NODE, "version_info": version, "resource_names": list(names)}
        async with client.post(f"/v3/discovery:{kind}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    return asyncio.create_task(ask())


def test_a_change_wakes_those_it_concerns_and_nobody_else(tmp_path: Path) -> None:
    async def scenario(mesh: LiveMesh, client: TestClient, _: DebugServer) -> None:
        clusters, routes = await poll(client, "clusters"), await poll(client, "routes", "", "9080")
        waiting = [
            poll(client, "clusters", clusters["version_info"]),
            poll(client, "routes", routes["version_info"], "9080"),
        ]
        mesh.put("virtual_services", mesh.bookinfo, "ratings-split", spec=split(90, 10))
        changed = await waiting[1]
        [configuration] = changed["resources"]
        assert [entry["weight"] for entry in _weights(configuration)] == [90, 10]
        assert not waiting[0].done()
        mesh.service(mesh.bookinfo, "details", {"name": "http", "port": 9080})
        names = [cluster["name"] for cluster in (await waiting[0])["resources"]]
        assert "outbound|9080||details.mesh2-bookinfo.svc.cluster.local" in names

    with_istiod(tmp_path, scenario)


def _weights(configuration: Any) -> Any:
    [host] = [host for host in configuration["virtual_hosts"] if host["name"].startswith("ratings.")]
    return host["routes"][0]["route"]["weighted_clusters"]["clusters"]


def test_a_refused_configuration_is_not_offered_again_until_it_changes(tmp_path: Path) -> None:
    async def scenario(mesh: LiveMesh, client: TestClient, _: DebugServer) -> None:
        first = await poll(client, "clusters")
        mesh.service(mesh.bookinfo, "details", {"name": "http", "port": 9080})
        second = await poll(client, "clusters", first["version_info"])
        again = poll(client, "clusters", first["version_info"])
        mesh.put("virtual_services", mesh.bookinfo, "ratings-split", spec=split(90, 10))
        await poll(client, "routes", "", "9080")
        assert not again.done()
        mesh.service(mesh.bookinfo, "reviews", {"name": "http", "port": 9080})
        assert (await again)["version_info"] not in (first["version_info"], second["version_info"])

    with_istiod(tmp_path, scenario)


def test_a_restarted_proxy_is_configured_again(tmp_path: Path) -> None:
    async def scenario(_: LiveMesh, client: TestClient, __: DebugServer) -> None:
        first = await poll(client, "listeners")
        assert await poll(client, "listeners") == first

    with_istiod(tmp_path, scenario)


def test_roots_of_peers_stay_after_the_peer(tmp_path: Path) -> None:
    async def domains(client: TestClient) -> list[str]:
        [secret] = (await poll(client, "secrets", "none", "ROOTCA"))["resources"]
        validator = secret["validation_context"]["custom_validator_config"]["typed_config"]
        return [entry["name"] for entry in validator["trust_domains"]]

    async def scenario(mesh: LiveMesh, client: TestClient, _: DebugServer) -> None:
        assert await domains(client) == ["mesh2.local"]
        own = await poll(client, "secrets", "", "ROOTCA")
        waiting = poll(client, "secrets", own["version_info"], "ROOTCA")
        mesh.state.federation["mesh1"] = FederationOutput(bundles={"mesh1.local": "PEM"})
        mesh.state.changed()
        with_peer = await waiting
        mesh.state.federation.clear()
        mesh.state.changed()
        mesh.put("virtual_services", mesh.bookinfo, "ratings-split", spec=split(90, 10))
        await poll(client, "routes", "", "9080")
        assert "mesh1.local" in json.dumps(with_peer)
        assert (await poll(client, "secrets", "", "ROOTCA"))["version_info"] == with_peer["version_info"]

    with_istiod(tmp_path, scenario)


def test_a_proxy_keeps_its_certificate_when_another_istiod_of_the_mesh_answers(tmp_path: Path) -> None:
    async def scenario(mesh: LiveMesh, client: TestClient, __: DebugServer) -> None:
        own = await poll(client, "secrets", "", "default")
        app = web.Application()
        app.add_routes(ConfigServer(mesh.state, mesh.authority).routes())
        async with TestClient(TestServer(app)) as other:
            until, _, whose = own["version_info"].partition(".")
            # as if issued at another moment, so that what the other istiod would issue now has another version
            waiting = poll(other, "secrets", f"{int(until) + 60}.{whose}", "default")
            await poll(other, "secrets", "", "ROOTCA")
            mesh.service(mesh.bookinfo, "details", {"name": "http", "port": 9080})
            await poll(other, "clusters", "none")
            assert not waiting.done()
            renewed = await poll(other, "secrets", f"1.{whose}", "default")
            assert int(renewed["version_info"].partition(".")[0]) > 1
            waiting.cancel()

    with_istiod(tmp_path, scenario)


def test_nothing_is_ready_before_the_configuration_server(tmp_path: Path) -> None:
    async def scenario(_: LiveMesh, client: TestClient, pages: DebugServer) -> None:
        server, pages.server = pages.server, None
        assert (await client.get("/ready")).status == 503
        pages.server = server
        assert (await client.get("/ready")).status == 200

    with_istiod(tmp_path, scenario)


def test_configz_shows_objects_of_users_and_of_federation_as_captured(
    tmp_path: Path, observed: Callable[[str], Any]
) -> None:
    captured = observed("healthy/discovery/mesh2-istiod-configz.json")
    informers = {
        "DestinationRule": "destination_rules",
        "Gateway": "gateways",
        "VirtualService": "virtual_services",
        "PeerAuthentication": "peer_authentications",
    }

    async def scenario(mesh: LiveMesh, client: TestClient, _: DebugServer) -> None:
        made = tuple(item for item in captured if item["name"].startswith("federation-"))
        for item in captured:
            if item not in made:
                mesh.put(informers[item["kind"]], item["namespace"], item["name"], spec=item["spec"])
        mesh.state.federation["mesh1"] = FederationOutput(objects=made)
        mesh.state.changed()
        mesh.remove("virtual_services", mesh.bookinfo, "nothing")
        shown = await (await client.get("/debug/configz")).json()
        assert sorted(shown, key=_place) == sorted(captured, key=_place)
        assert [item["kind"] for item in shown] == [item["kind"] for item in captured], "kinds come in the same order"

    with_istiod(tmp_path, scenario)


def _place(item: Any) -> tuple[str, str, str]:
    return item["kind"], item["namespace"], item["name"]


def test_syncz_shows_who_is_connected_and_forgets_who_is_gone(tmp_path: Path) -> None:
    async def scenario(mesh: LiveMesh, client: TestClient, _: DebugServer) -> None:
        sent = await poll(client, "clusters")
        [proxy] = await (await client.get("/debug/syncz")).json()
        assert proxy == {
            "proxy": "reviews.mesh2-bookinfo",
            "sent": {"CDS": sent["version_info"]},
            "acknowledged": {"CDS": ""},
        }
        published = asyncio.Event()
        mesh.state.on_publish(published.set)
        mesh.remove("pods", mesh.bookinfo, "reviews")
        await published.wait()
        assert await (await client.get("/debug/syncz")).json() == []

    with_istiod(tmp_path, scenario)


@pytest.mark.parametrize("node_id", ["", "sidecar~127.0.0.1", "ztunnel~127.0.0.1~a.b~c"])
def test_a_strangers_node_id_is_refused(node_id: str) -> None:
    with pytest.raises(ValueError, match="node id"):
        proxy_of({"id": node_id})


def test_the_proxy_tells_its_network_view() -> None:
    metadata = {"REQUESTED_NETWORK_VIEW": "network-a,network-b", "ROUTER_MODE": "sni-dnat"}
    proxy = proxy_of({"id": "router~127.0.0.1~a.b~c", "metadata": metadata})
    assert (proxy.name, proxy.namespace, proxy.sni_dnat) == ("a", "b", True)
    assert proxy.network_view == {"network-a", "network-b"}
