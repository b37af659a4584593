"""Forwarders and what Services ask of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from lab.node.proxy import Forward, Forwarder, Forwarders
from lab.node.services import hosts_text, wanted_forwards
from selftests.support.loopback import loopback_address
from selftests.support.stories import told_in

Peer = tuple[str, int]


class Backend:
    """Echoes what it gets until the end, and remembers who came."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.address = (loopback_address(), 9080)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Backend:
        self._server = await asyncio.start_server(self._serve, *self.address)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer.get_extra_info("peername"))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        writer.close()


@contextlib.asynccontextmanager
async def forwarding(wanted: dict[Peer, Forward]) -> AsyncIterator[Forwarders]:
    forwarders = Forwarders()
    try:
        await forwarders.apply(wanted)
        yield forwarders
    finally:
        forwarders.close()


async def say(address: Peer, text: bytes, source: str | None = None) -> bytes:
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(*address, local_addr=local)
    writer.write(text)
    writer.write_eof()
    heard = await reader.read()
    writer.close()
    return heard


def test_a_cluster_ip_keeps_the_address_of_the_client():
    async def scenario() -> None:
        front, client = (loopback_address(), 80), loopback_address()
        async with Backend() as backend, forwarding({front: Forward((backend.address,))}):
            assert await say(front, b"hello", source=client) == b"hello"
            assert backend.peers[0][0] == client

    asyncio.run(scenario())


def test_a_load_balancer_sends_from_the_node():
    async def scenario() -> None:
        front, node = (loopback_address(), 80), loopback_address()
        async with Backend() as backend, forwarding({front: Forward((backend.address,), node)}):
            assert await say(front, b"hello", source=loopback_address()) == b"hello"
            assert backend.peers[0][0] == node

    asyncio.run(scenario())


@contextlib.asynccontextmanager
async def waiting_backend(patient: bool = False) -> AsyncIterator[tuple[Peer, Backend, Forwarders]]:
    """(an address that leads nowhere yet, a backend it could lead to, all forwarders)."""
    front = (loopback_address(), 80)
    async with Backend() as backend, forwarding({front: Forward((), patient=patient)}) as forwarders:
        yield front, backend, forwarders


@contextlib.asynccontextmanager
async def served_backend() -> AsyncIterator[tuple[Peer, Forwarders]]:
    """(an address that leads to a backend, all forwarders)."""
    async with waiting_backend() as (front, backend, forwarders):
        await forwarders.apply({front: Forward((backend.address,))})
        yield front, forwarders


@told_in(waiting_backend)
async def test_without_endpoints_a_connection_is_refused_and_works_as_soon_as_there_is_one(scene):
    front, backend, forwarders = scene
    with pytest.raises(ConnectionRefusedError):
        await say(front, b"hello")
    await forwarders.apply({front: Forward((backend.address,))})
    assert await say(front, b"hello") == b"hello"
    await forwarders.apply({front: Forward(())})
    with pytest.raises(ConnectionRefusedError):
        await say(front, b"hello")


@told_in(served_backend)
async def test_open_connections_outlive_the_removal_of_their_endpoint(scene):
    front, forwarders = scene
    reader, writer = await asyncio.open_connection(*front)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    await forwarders.apply({})
    writer.write(b"two")
    assert await reader.readexactly(3) == b"two"
    writer.close()


def test_an_endpoint_that_refuses_resets_the_client():
    async def scenario() -> None:
        front = (loopback_address(), 80)
        async with forwarding({front: Forward(((loopback_address(), 9080),))}):
            with pytest.raises(ConnectionResetError):
                await say(front, b"hello")

    asyncio.run(scenario())


@told_in(served_backend)
async def test_large_answers_pass_whole_to_a_slow_reader(scene):
    text, heard = bytes(range(256)) * 40_000, bytearray()
    reader, writer = await asyncio.open_connection(*scene[0])
    writer.write(text)
    writer.write_eof()
    while piece := await reader.read(1 << 14):
        heard += piece
        await asyncio.sleep(0)
    writer.close()
    assert heard == text


def test_connections_are_spread_over_all_endpoints():
    async def scenario() -> None:
        front = (loopback_address(), 80)
        async with Backend() as one, Backend() as two, forwarding({front: Forward((one.address, two.address))}):
            # Chance that one of two gets none of 60: below 2e-18.
            for _ in range(60):
                await say(front, b"x")
            assert one.peers and two.peers  # noqa: PT018
            assert len(one.peers) + len(two.peers) == 60

    asyncio.run(scenario())


@pytest.fixture
def held(monkeypatch) -> asyncio.Event:
    """Set whenever a patient forwarder begins to wait for news; it never tries again by itself."""
    begun, original = asyncio.Event(), Forwarder.news

    async def news(forwarder: Forwarder) -> None:
        begun.set()
        await original(forwarder)

    monkeypatch.setattr("lab.node.proxy.RETRY", 3600)
    monkeypatch.setattr(Forwarder, "news", news)
    return begun


@told_in(partial(waiting_backend, patient=True))
async def test_a_patient_forwarder_holds_connections_until_somebody_answers(scene, held):
    front, backend, forwarders = scene
    saying = asyncio.ensure_future(say(front, b"hello"))
    for targets in (((loopback_address(), 9080),), (backend.address,)):
        await asyncio.wait_for(held.wait(), 10)
        held.clear()
        assert not saying.done()
        await forwarders.apply({front: Forward(targets, patient=True)})
    assert await asyncio.wait_for(saying, 10) == b"hello"


def test_a_patient_forwarder_leads_one_client_always_to_the_same_target():
    targets = tuple((f"127.20.0.{number}", 15012) for number in range(4, 9))
    forward = Forward(targets, patient=True)
    clients = [f"127.20.1.{number}" for number in range(4, 204)]
    chosen = {client: forward.target_for(client) for client in clients}
    assert set(chosen.values()) == set(targets)
    smaller = Forward(targets[1:], patient=True)
    moved = {client for client in clients if smaller.target_for(client) != chosen[client]}
    assert moved == {client for client in clients if chosen[client] == targets[0]}


def service(name: str, *, ip: str | None, ports: list[dict[str, Any]], balancer: str | None = None) -> dict[str, Any]:
    status = {"loadBalancer": {"ingress": [{"ip": balancer}]} if balancer else {}}
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": ip, "ports": ports},
        "status": status,
    }


def endpoints(ports: list[dict[str, Any]], ready: list[str], unready: list[str] | None = None) -> dict[str, Any]:
    subset: dict[str, Any] = {"ports": ports, "addresses": [{"ip": ip} for ip in ready]}
    subset["notReadyAddresses"] = [{"ip": ip} for ip in unready or []]
    return {"subsets": [subset]}


@pytest.fixture
def web() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """A load balancer `web` of two ports with one ready pod and one that is not: Services and Endpoints."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}, {"name": "tls", "port": 443}]
    served = [{"name": "http", "port": 8080}, {"name": "tls", "port": 8443}]
    key = "shop", "web"
    balanced = service("web", ip="127.20.192.4", ports=ports, balancer="127.20.253.4")
    return {key: balanced}, {key: endpoints(served, ["127.20.0.4"], ["127.20.0.5"])}


def test_every_way_to_a_service_leads_to_its_ready_endpoints_by_port_name(web):
    node, http, tls = "127.20.254.1", (("127.20.0.4", 8080),), (("127.20.0.4", 8443),)
    assert wanted_forwards(*web, node) == {
        ("127.20.192.4", 80): Forward(http),
        ("127.20.192.4", 443): Forward(tls),
        (node, 30080): Forward(http, node),
        ("127.20.253.4", 80): Forward(http, node),
        ("127.20.253.4", 443): Forward(tls, node),
    }


def test_a_service_without_endpoints_object_has_no_targets():
    services = {("shop", "web"): service("web", ip="127.20.192.4", ports=[{"port": 80}])}
    assert wanted_forwards(services, {}, "127.20.254.1") == {("127.20.192.4", 80): Forward(())}


@pytest.fixture
def shop() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Services and Endpoints of a namespace: `web` with a ClusterIP, and `db` without one."""
    ports = [{"name": "mongo", "port": 27017}]
    services = {
        ("shop", "web"): service("web", ip="127.20.192.4", ports=[{"port": 80}]),
        ("shop", "db"): service("db", ip="None", ports=ports),
    }
    return services, {("shop", "db"): endpoints(ports, ["127.20.0.9"])}


def test_hosts_files_give_short_names_at_home(shop):
    assert hosts_text(*shop, "shop").splitlines() == [
        "127.20.0.9 db.shop.svc.cluster.local db.shop.svc db.shop db",
        "127.20.192.4 web.shop.svc.cluster.local web.shop.svc web.shop web",
    ]


def test_hosts_files_give_no_short_names_elsewhere(shop):
    lines = hosts_text(*shop, "elsewhere").splitlines()
    assert [line.split()[-1] for line in lines] == ["db.shop", "web.shop"]
