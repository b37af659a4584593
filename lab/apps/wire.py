"""HTTP/1.1 over asyncio protocols for the lab's apps: one server, one client with kept connections.

Only the standard library, and little of it: fifteen processes of this start together on two cores.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

IP_BIND_ADDRESS_NO_PORT = 24
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Request(NamedTuple):
    """One request; header names are in lower case, `target` is the path with its query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Response(NamedTuple):
    """One answer; `headers` are extra ones, Content-Length is added."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], "Response | Awaitable[Response]"]


class BadMessage(Exception):
    """The other side does not speak HTTP/1.1."""


def parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    """First line and headers (names in lower case) of a message head."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadMessage(line)
        headers[name.lower()] = value.strip()
    return first, headers


class Message:
    """Bytes of one message after another: add them to `buffer`; `take()` returns a whole message once it is there."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def take(self, ended: bool = False) -> tuple[str, dict[str, str], bytes] | None:
        """(first line, headers, body) or None; `ended` says that nothing more will come."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, headers = parse_head(bytes(self.buffer[:end]))
        start = end + 4
        if "chunked" in headers.get("transfer-encoding", "").lower():
            whole = self._chunked(start)
            if whole is None:
                return None
            body, stop = whole
        elif "content-length" in headers:
            stop = start + int(headers["content-length"])
            if len(self.buffer) < stop:
                return None
            body = bytes(self.buffer[start:stop])
        elif first.startswith("HTTP/"):
            if not ended:
                return None
            body, stop = bytes(self.buffer[start:]), len(self.buffer)
        else:
            body, stop = b"", start
        del self.buffer[:stop]
        return first, headers, body

    def _chunked(self, position: int) -> tuple[bytes, int] | None:
        parts: list[bytes] = []
        while True:
            end = self.buffer.find(b"\r\n", position)
            if end < 0:
                return None
            size = int(bytes(self.buffer[position:end]).split(b";")[0], 16)
            position = end + 2
            if size == 0:
                end = self.buffer.find(b"\r\n", position)
                return None if end < 0 else (b"".join(parts), end + 2)
            if len(self.buffer) < position + size + 2:
                return None
            parts.append(bytes(self.buffer[position : position + size]))
            position += size + 2


class HttpServer:
    """Serves `handler` on one address; `close()` finishes what is being answered."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections: set[_ServerConnection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _ServerConnection(self), host, port, backlog=1024)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self, grace: float = 1.0) -> None:
        """Stops listening, waits at most `grace` seconds for open requests, closes all connections."""
        if self._server:
            self._server.close()
        tasks = [connection.task for connection in self.connections if connection.task]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for connection in list(self.connections):
            connection.transport.close()


class _ServerConnection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.message = Message()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.message.buffer += data
        if self.task is None:
            self._next()

    def _next(self) -> None:
        while not self.transport.is_closing():
            try:
                message = self.message.take()
                if message is None:
                    return
                first, headers, body = message
                method, target, version = first.split(" ")
            except (ValueError, BadMessage):
                self._answer(Response(400, b'{"error": "bad request"}'), keep=False)
                return
            keep = headers.get("connection", "").lower() != "close" and version == "HTTP/1.1"
            result = self.server.handler(Request(method, target, headers, body))
            if isinstance(result, Response):
                self._answer(result, keep, method)
            else:
                self.task = asyncio.ensure_future(self._finish(result, keep, method))
                return

    async def _finish(self, result: Awaitable[Response], keep: bool, method: str) -> None:
        try:
            response = await result
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            response = Response(500, b'{"error": "internal error"}')
        self.task = None
        self._answer(response, keep, method)
        self._next()

    def _answer(self, response: Response, keep: bool, method: str = "GET") -> None:
        if self.transport.is_closing():
            return
        status, body, content_type, extra = response
        lines = [
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}",
            f"content-type: {content_type}",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in extra),
        ]
        if not keep:
            lines.append("connection: close")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self.transport.write(head if method == "HEAD" else head + body)
        if not keep:
            self.transport.close()


class _ClientConnection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.message = Message()
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.reusable = True
        self.silent = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.silent = False
        self.message.buffer += data
        self._deliver(ended=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._deliver(ended=True)
        if self.answer and not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("connection closed before the answer"))

    def _deliver(self, ended: bool) -> None:
        if self.answer is None or self.answer.done():
            return
        try:
            message = self.message.take(ended)
            if message is None:
                return
            first, headers, body = message
            status = int(first.split(" ")[1])
        except (ValueError, IndexError, BadMessage) as error:
            self.answer.set_exception(ConnectionError(f"not an HTTP answer: {error}"))
            self.transport.close()
            return
        sized = "content-length" in headers or "transfer-encoding" in headers
        if not sized or headers.get("connection", "").lower() == "close":
            self.reusable = False
        self.answer.set_result((status, body))


class Names:
    """Looks names up in a hosts file that another process keeps current; numeric addresses are their own names."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._known: dict[str, str] = {}

    def lookup(self, name: str) -> str:
        """Address of `name`; OSError as a resolver words it where there is none."""
        if name.replace(".", "").isdigit():
            return name
        if self.path:
            stat = os.stat(self.path)
            if (stat.st_mtime_ns, stat.st_ino) != self._seen:
                with open(self.path) as file:
                    rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
                self._known = {alias: row[0] for row in rows for alias in row[1:]}
                self._seen = (stat.st_mtime_ns, stat.st_ino)
        if name not in self._known:
            raise OSError(f"getaddrinfo ENOTFOUND {name}")
        return self._known[name]


class Dialer:
    """Opens the app's connections: through the sidecar's outbound address where there is one, else directly."""

    def __init__(self, names: Names, outbound: str | None = None, source: str | None = None) -> None:
        self.names, self.outbound, self.source = names, outbound, source

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connected socket; OSError where the name or the way is not there."""
        address = self.names.lookup(host)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if self.source:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self.source, 0))
            await asyncio.get_running_loop().sock_connect(sock, (self.outbound or address, port))
        except BaseException:
            sock.close()
            raise
        return sock


class HttpClient:
    """GET requests over kept connections."""

    def __init__(self, dialer: Dialer) -> None:
        self.dialer = dialer
        self._idle: dict[tuple[str, int], list[_ClientConnection]] = {}

    async def get(self, host: str, port: int, path: str, headers: dict[str, str], timeout: float) -> tuple[int, bytes]:
        """(status, body); OSError or TimeoutError where there is no answer within `timeout` seconds."""
        lines = [f"GET {path} HTTP/1.1", f"host: {host}:{port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        raw = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        async with asyncio.timeout(timeout):
            while connection := self._idle_connection((host, port)):
                try:
                    return await self._ask(connection, (host, port), raw)
                except ConnectionError:
                    # The server closed a kept connection while we wrote: it never looked at this request.
                    if not connection.silent:
                        raise
            sock = await self.dialer.connect(host, port)
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_ClientConnection, sock=sock)
            return await self._ask(connection, (host, port), raw)

    def _idle_connection(self, key: tuple[str, int]) -> _ClientConnection | None:
        idle = self._idle.get(key, [])
        while idle:
            connection = idle.pop()
            if connection.reusable and not connection.transport.is_closing():
                return connection
        return None

    async def _ask(self, connection: _ClientConnection, key: tuple[str, int], raw: bytes) -> tuple[int, bytes]:
        connection.answer = asyncio.get_running_loop().create_future()
        connection.silent = True
        connection.transport.write(raw)
        try:
            answer = await connection.answer
        except BaseException:
            connection.transport.abort()
            raise
        if connection.reusable:
            self._idle.setdefault(key, []).append(connection)
        else:
            connection.transport.close()
        return answer
