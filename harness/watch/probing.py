"""Sends streams of probes at an even pace, whatever becomes of their answers; one thread for all of them.

A probe is sent when it is due, not when the one before is answered. Where so many hang that two seconds of them are
unanswered, only every fifth is sent: enough to see the end, too few to be what keeps a slow service down. Nothing is
tried again.
"""

from __future__ import annotations

import asyncio
import collections
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.split.probe import Page, Way, look_at
from harness.watch.timeline import StreamFacts

TIMEOUT = 10.0  # seconds for one probe; productpage itself gives up on reviews sooner
_LARGEST = 4 << 20
_KEPT = 4  # idle connections of a stream that keeps them
_LOOK_UP = 5.0  # seconds that an address of a name is used
_HANGING = 2.0  # seconds of probes without an answer from which only every fifth one is sent
_SPARED = 5
_LATE = 1.0  # seconds behind its pace from which a stream leaves probes out instead of catching up

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class ProbeStream:
    """One stream: its path, how its answers are looked at (good or not, and what came in words), its facts."""

    name: str
    path: str
    look: Callable[[int, bytes], tuple[bool, str]]
    facts: StreamFacts


def _page(status: int, body: bytes) -> tuple[bool, str]:
    page = look_at(status, body)
    return page is Page.STARS, page.value if status == 200 else f"HTTP {status}"


def _answer(status: int, _: bytes) -> tuple[bool, str]:
    return status == 200, f"HTTP {status}"


def page_streams(rate: float) -> tuple[ProbeStream, ...]:
    """The four streams of a watch, each with `rate` probes a second.

    control: needs mesh2's entry, productpage and details only; what it shares with the others is not the federation.
    """
    return (
        ProbeStream("fresh", "/productpage", _page, StreamFacts(rate)),
        ProbeStream("kept", "/productpage", _page, StreamFacts(rate, kept=True)),
        ProbeStream("control", "/api/v1/products/0", _answer, StreamFacts(rate, crosses=False)),
        ProbeStream("ratings", "/api/v1/products/0/ratings", _answer, StreamFacts(rate)),
    )


@dataclass(frozen=True)
class ProbeResult:
    """One probe: its stream and number there, when it was sent (by the watch's time), what became of it."""

    stream: str
    number: int
    at: float
    took: float
    good: bool
    saw: str
    agent: str


@dataclass
class _Lane:
    """What belongs to one stream while it runs."""

    stream: ProbeStream
    due: int = 0
    idle: collections.deque[Connection] = field(default_factory=collections.deque)


class Prober:
    """Sends the streams to an entry until it is stopped. `deliver` gets each result, from the prober's thread.

    now: the time that results carry; aim: where requests go, which may be changed from any thread.
    """

    def __init__(
        self,
        streams: tuple[ProbeStream, ...],
        run: str,
        deliver: Callable[[ProbeResult], None],
        now: Callable[[], float] = time.time,
        timeout: float = TIMEOUT,
    ) -> None:
        self.run, self._deliver, self._now, self._timeout = run, deliver, now, timeout
        self._lanes = [_Lane(stream) for stream in streams]
        self._way: Way | None = None
        self._resolved: tuple[Way, str, float] | None = None
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="probes", daemon=True)

    def aim(self, url: str) -> None:
        """From now on probes go to the host and port of this URL. Raises ValueError for one that is not HTTP."""
        self._way = Way.to(url)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sends nothing more; what is in flight is given up and counts as nothing."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def __enter__(self) -> Prober:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._send_all())
        finally:
            self._loop.close()

    async def _send_all(self) -> None:
        paces = [asyncio.create_task(self._pace(lane, place)) for place, lane in enumerate(self._lanes)]
        await self._over.wait()
        flying = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in flying:
            task.cancel()
        await asyncio.gather(*paces, *flying, return_exceptions=True)
        for lane in self._lanes:
            for _, writer in lane.idle:
                writer.close()

    async def _pace(self, lane: _Lane, place: int) -> None:
        every = 1 / lane.stream.facts.rate
        # Streams take turns, so that each has its probes evenly and none waits for another's.
        due = self._loop.time() + every * place / len(self._lanes)
        flying: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            number, lane.due = lane.due, lane.due + 1
            if len(flying) < _HANGING / every or number % _SPARED == 0:
                task = asyncio.create_task(self._probe(lane, number))
                flying.add(task)
                task.add_done_callback(flying.discard)
            due += every
            if self._loop.time() - due > _LATE:
                due = self._loop.time()

    async def _probe(self, lane: _Lane, number: int) -> None:
        agent = f"probe/{self.run}-{lane.stream.name}/{number}"
        at, begin = self._now(), self._loop.time()
        good, saw = False, ""
        try:
            async with asyncio.timeout(self._timeout):
                good, saw = lane.stream.look(*await self._ask(lane, agent))
        except TimeoutError:
            saw = f"no answer within {self._timeout:g} s"
        except (OSError, ValueError, EOFError) as error:
            saw = _words(error)
        took = self._loop.time() - begin
        self._deliver(ProbeResult(lane.stream.name, number, at, took, good, saw, agent))

    async def _ask(self, lane: _Lane, agent: str) -> tuple[int, bytes]:
        way, kept = self._way, lane.stream.facts.kept
        if way is None:
            raise ValueError("nothing is known of how productpage is reached")
        headers = {**way.headers, "User-Agent": agent, "X-Request-Id": str(uuid.uuid4()), "Accept": "*/*"}
        if not kept:
            headers["Connection"] = "close"
        lines = [f"GET {way.origin}{lane.stream.path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
        reader, writer = self._idle(lane, way) or await self._opened(way)
        reusable = False
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            status, body, reusable = await _read_answer(reader)
        finally:
            if kept and reusable and len(lane.idle) < _KEPT:
                lane.idle.append((reader, writer))
            else:
                writer.close()
        return status, body

    async def _opened(self, way: Way) -> Connection:
        tls: dict[str, Any] = {"ssl": True, "server_hostname": way.host} if way.tls else {}
        return await asyncio.open_connection(await self._address(way), way.port, limit=_LARGEST, **tls)

    async def _address(self, way: Way) -> str:
        """Looked up anew every few seconds: a look-up per probe would set the pace."""
        now = self._loop.time()
        if self._resolved and self._resolved[0] is way and now < self._resolved[2]:
            return self._resolved[1]
        found = await self._loop.getaddrinfo(way.host, way.port, type=socket.SOCK_STREAM)
        address = str(found[0][4][0])
        self._resolved = way, address, now + _LOOK_UP
        return address

    def _idle(self, lane: _Lane, way: Way) -> Connection | None:
        """A connection that is open still, as far as this side knows, and leads where requests go now."""
        while lane.idle:
            reader, writer = lane.idle.pop()
            peer = writer.get_extra_info("peername") or ("", 0)
            if not reader.at_eof() and not writer.is_closing() and peer[1] == way.port:
                return reader, writer
            writer.close()
        return None


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """(status, body, whether the connection may be used again) of one HTTP/1.1 answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    words = head[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise ValueError(f"not an HTTP answer: {head[0][:80]}")
    headers = {name.strip().lower(): text.strip() for name, _, text in (line.partition(":") for line in head[1:])}
    stays = headers.get("connection", "").lower() != "close"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body, stays = await reader.read(-1), False
    return int(words[1]), body, stays


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks: list[bytes] = []
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        chunk = await reader.readexactly(size + 2)
        if not size:
            return b"".join(chunks)
        chunks.append(chunk[:-2])


def _words(error: Exception) -> str:
    """Why there was no answer, in words that are the same for the same reason."""
    if isinstance(error, asyncio.IncompleteReadError):
        return "the answer was cut off" if error.partial else "the connection was cut without an answer"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error)[:120] or type(error).__name__
