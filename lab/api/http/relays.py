"""WebSocket relays: exec to the kubelet API, port-forward to the pod."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import aiohttp
from aiohttp import WSMsgType, web

from lab.addresses import inside
from lab.api.schema.errors import bad_request, internal

_PORT_FORWARD = ("v5.channel.k8s.io", "v4.channel.k8s.io", "portforward.k8s.io")
_CHUNK = 64 * 1024


async def connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a pod, to its inside where nothing listens on its own address; OSError where neither does."""
    try:
        return await asyncio.open_connection(address, port)
    except OSError:
        return await asyncio.open_connection(inside(address), port)


async def listening(address: str, port: int) -> str:
    """The one of a pod's two addresses that accepts connections on the port; OSError where neither does."""
    _, writer = await connect(address, port)
    writer.close()
    return str(writer.get_extra_info("peername")[0])


def _offered(request: web.BaseRequest) -> list[str]:
    header = request.headers.get("Sec-WebSocket-Protocol", "")
    return [name.strip() for name in header.split(",") if name.strip()]


def _require_websocket(request: web.BaseRequest) -> None:
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise bad_request("unable to upgrade: only WebSocket is supported")


async def relay_websocket(
    request: web.BaseRequest, session: aiohttp.ClientSession, url: str, query: list[tuple[str, str]]
) -> web.StreamResponse:
    """Connects the client to `url` with the same subprotocol and passes frames on as they are."""
    _require_websocket(request)
    try:
        upstream = await session.ws_connect(url, params=query, protocols=_offered(request), max_msg_size=0)
    except aiohttp.WSServerHandshakeError as error:
        raise internal(f"error dialing backend: {error.message} ({error.status})") from None
    except aiohttp.ClientError as error:
        raise internal(f"error dialing backend: {error}") from None
    chosen = [upstream.protocol] if upstream.protocol else []
    downstream = web.WebSocketResponse(protocols=chosen, max_msg_size=0, autoclose=True)
    await downstream.prepare(request)
    tasks = [asyncio.ensure_future(_pump(downstream, upstream)), asyncio.ensure_future(_pump(upstream, downstream))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await upstream.close()
        await downstream.close()
    return downstream


async def say_nothing(request: web.BaseRequest) -> web.StreamResponse:
    """exec of a command that ends well and writes an empty JSON object, as a proxy without configuration does."""
    _require_websocket(request)
    socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
    await socket.prepare(request)
    await socket.send_bytes(b"\x01{}")
    await socket.send_bytes(b'\x03{"metadata":{},"status":"Success"}')
    await socket.close()
    return socket


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: _Socket, target: _Socket) -> None:
    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        async for message in source:
            if message.type == WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type == WSMsgType.TEXT:
                await target.send_str(message.data)


async def forward_ports(request: web.BaseRequest, address: str) -> web.StreamResponse:
    """Port-forward by channels: `ports=` in the query, data on channel 2i and errors on 2i+1 of the i-th port."""
    _require_websocket(request)
    try:
        ports = [int(part) for text in request.rel_url.query.getall("ports", []) for part in text.split(",")]
    except ValueError:
        raise bad_request("ports must be numbers") from None
    if not ports:
        raise bad_request('query parameter "ports" is required')
    offered = _offered(request)
    if offered and not any(name in _PORT_FORWARD for name in offered):
        raise bad_request(f"unable to upgrade: none of the subprotocols {offered} is supported for port-forward")
    socket = web.WebSocketResponse(protocols=_PORT_FORWARD, max_msg_size=0)
    await socket.prepare(request)
    writers: dict[int, asyncio.StreamWriter] = {}
    answers: list[asyncio.Task[None]] = []
    ends: list[asyncio.Task[None]] = []
    try:
        for index, port in enumerate(ports):
            first = struct.pack("<H", port)
            await socket.send_bytes(bytes([2 * index]) + first)
            await socket.send_bytes(bytes([2 * index + 1]) + first)
            try:
                reader, writers[2 * index] = await connect(address, port)
            except OSError as error:
                text = f"unable to connect to port {port} of the pod: {error.strerror or error}"
                await socket.send_bytes(bytes([2 * index + 1]) + text.encode())
                continue
            answers.append(asyncio.ensure_future(_to_client(reader, socket, 2 * index)))
        ends = [asyncio.ensure_future(_to_pod(socket, writers)), asyncio.ensure_future(_all(answers))]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*ends, *answers):
            task.cancel()
        await asyncio.gather(*ends, *answers, return_exceptions=True)
        for writer in writers.values():
            writer.close()
        await socket.close()
    return socket


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        await task


async def _to_client(reader: asyncio.StreamReader, socket: web.WebSocketResponse, channel: int) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            await socket.send_bytes(bytes([channel]) + data)


async def _to_pod(socket: web.WebSocketResponse, writers: dict[int, asyncio.StreamWriter]) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in socket:
            if message.type == WSMsgType.BINARY and message.data and (writer := writers.get(message.data[0])):
                writer.write(message.data[1:])
                await writer.drain()
