"""TCP forwarders: what kube-proxy and a load balancer do with connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
import zlib
from dataclasses import dataclass

log = logging.getLogger(__name__)

Address = tuple[str, int]
IP_BIND_ADDRESS_NO_PORT = 24
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
CONNECT_TIMEOUT = 10.0  # seconds until a target that does not answer counts as unreachable
RETRY = 0.5  # seconds a patient forwarder waits before it tries again


@dataclass(frozen=True)
class Forward:
    """Where connections go: one of `targets` at random; `source` None keeps the client's address.

    A `patient` one is listened on without targets too and holds connections until one answers; all connections of
    one client then lead to the same target, as long as that is there.
    """

    targets: tuple[Address, ...]
    source: str | None = None
    patient: bool = False

    def target_for(self, client: str) -> Address:
        """Where a connection of this client goes; there must be targets."""
        if self.patient:
            return max(self.targets, key=lambda target: zlib.crc32(f"{client} {target}".encode()))
        return random.choice(self.targets)


def _reset(transport: asyncio.Transport) -> None:
    """Closes with RST, as a dropped connection looks behind a packet-level forwarder."""
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


class _Half(asyncio.Protocol):
    """One of the two connections of a forwarded one; what comes in here goes out at the other."""

    transport: asyncio.Transport | None = None
    other: _Half | None = None

    def __init__(self) -> None:
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self.other and self.other.transport:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        other = self.other
        if other is None or other.transport is None or other._ended:
            return False
        if not other.transport.is_closing():
            other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        other = self.other
        if other and other.transport and not other.transport.is_closing():
            if exc:
                _reset(other.transport)
            else:
                other.transport.close()


class _Accepted(_Half):
    def __init__(self, forwarder: Forwarder) -> None:
        super().__init__()
        self._forwarder = forwarder
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport
        # Not at once: up to Python 3.11.3 asyncio starts to read right after this call, paused or not.
        asyncio.get_running_loop().call_soon(self.transport.pause_reading)
        self._task = asyncio.ensure_future(self._connect(self.transport))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task:
            self._task.cancel()
        super().connection_lost(exc)

    async def _connect(self, transport: asyncio.Transport) -> None:
        client = transport.get_extra_info("peername")
        try:
            sock = await self._reach(client[0] if client else None)
            half = _Half()
            half.other, self.other = self, half
            await asyncio.get_running_loop().create_connection(lambda: half, sock=sock)
        except OSError:
            _reset(transport)
        else:
            transport.resume_reading()

    async def _reach(self, client: str | None) -> socket.socket:
        """A socket connected to a target; OSError where there is none."""
        while True:
            forward = self._forwarder.forward
            try:
                if not forward.targets or not client:
                    raise ConnectionRefusedError("no ready endpoint")
                return await _dial(forward.target_for(client), forward.source or client)
            except OSError:
                if not forward.patient:
                    raise
            if forward is self._forwarder.forward:
                await self._forwarder.news()


async def _dial(target: Address, source: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


class Forwarder:
    """Listens on one address and port; open connections outlive `close()` and changes of `forward`."""

    def __init__(self, address: Address, forward: Forward) -> None:
        self.address, self.forward = address, forward
        self._server: asyncio.Server | None = None
        self._news = asyncio.Event()

    def change(self, forward: Forward) -> None:
        """Leads new connections, and those still held, elsewhere."""
        if forward != self.forward:
            self.forward = forward
            self._news.set()
            self._news = asyncio.Event()

    async def news(self) -> None:
        """Returns after a change, or when it is time to try a target again that did not answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY):
                await self._news.wait()

    async def start(self) -> None:
        """Listens; OSError where the address is taken or is not ours."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Accepted(self), *self.address, backlog=1024)

    def close(self) -> None:
        if self._server:
            self._server.close()


class Forwarders:
    """All forwarders of a node, kept as `apply()` was last told."""

    def __init__(self) -> None:
        self.running: dict[Address, Forwarder] = {}

    async def apply(self, wanted: dict[Address, Forward]) -> None:
        """Starts, changes and stops forwarders; an address without targets is not listened on."""
        wanted = {address: forward for address, forward in wanted.items() if forward.targets or forward.patient}
        for address in [address for address in self.running if address not in wanted]:
            self.running.pop(address).close()
        for address, forward in wanted.items():
            if known := self.running.get(address):
                known.change(forward)
                continue
            forwarder = Forwarder(address, forward)
            try:
                await forwarder.start()
            except OSError as error:
                log.warning("cannot listen on %s:%s: %s", *address, error)
                continue
            self.running[address] = forwarder

    def close(self) -> None:
        for forwarder in self.running.values():
            forwarder.close()
        self.running.clear()
