"""Sends tagged requests to productpage: fixed concurrency, a fresh connection each, never a retry."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from harness.cluster.proxies import proxy_for

_UNAVAILABLE = b"unavailable"
_STARS = (b"glyphicon-star", b"stars")
_LONGEST_ANSWER = 4 << 20
_WITHOUT_BODY = (204, 304)
_CONNECT_SECONDS = 3.0  # of one address, while its name has others


class Page(StrEnum):
    """What the page shows."""

    STARS = "stars"
    UNAVAILABLE = "unavailable"
    NO_RATINGS = "no ratings"
    NONE = "no page"


@dataclass(frozen=True)
class Probe:
    """One request and its answer. `sent_at` is in seconds since the epoch, `duration` in seconds; `status` is 0 and
    `error` says why when no answer came; `connected` tells whether anything was sent at all."""

    index: int
    worker: int
    user_agent: str
    request_id: str
    sent_at: float
    duration: float
    status: int
    page: Page
    connected: bool = True
    error: str = ""

    @property
    def answered_at(self) -> float:
        return self.sent_at + self.duration


def user_agent(run: str, index: int) -> str:
    """The mark of one probe, forwarded by every bookinfo service."""
    return f"probe/{run}/{index}"


def look_at(status: int, body: bytes) -> Page:
    """Words of the page; stars on one review do not outweigh ratings missing on another."""
    if status != 200:
        return Page.NONE
    if _UNAVAILABLE in body:
        return Page.UNAVAILABLE
    return Page.STARS if any(mark in body for mark in _STARS) else Page.NO_RATINGS


@dataclass(frozen=True)
class Way:
    """How HTTP requests to one URL are sent: straight, or by the proxy that harness/cluster/proxies.py names.

    origin: what stands before the path in a request to a proxy, '' without; tls: the proxy wants it.
    """

    host: str
    port: int
    path: str
    headers: dict[str, str]
    origin: str = ""
    tls: bool = False

    @classmethod
    def to(cls, url: str) -> Way:
        """Raises ValueError for a URL, or a proxy, that is not HTTP."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"probes go to an http:// URL, not {url}")
        path, headers = parts.path or "/", {"Host": parts.netloc}
        proxy = proxy_for(url)
        if proxy is None:
            return cls(parts.hostname, parts.port or 80, path, headers)
        if proxy.scheme not in ("http", "https"):
            raise ValueError(f"probes know HTTP proxies only, not {proxy.url}: name {parts.hostname} in NO_PROXY")
        host, port = proxy.address
        return cls(host, port, path, headers | proxy.headers, f"http://{parts.netloc}", proxy.scheme == "https")


class ProbeClient:
    """Sends up to `limit` probes of one run with `concurrency` requests in flight, in a thread of its own.

    `deliver` gets every probe, in send order, from that thread. `timeout` is for one whole request, in seconds.
    Probes go by the proxy that harness/cluster/proxies.py names. Use as a context manager, or call `start` and `stop`.
    Raises ValueError for a URL, or a proxy, that is not HTTP.
    """

    def __init__(
        self,
        url: str,
        run: str,
        deliver: Callable[[Probe], None],
        limit: int,
        concurrency: int = 16,
        timeout: float = 15.0,
    ) -> None:
        self._way = Way.to(url)
        self._addresses = [self._way.host]
        self.run, self.limit, self.concurrency, self.timeout = run, limit, concurrency, timeout
        self._deliver = deliver
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"probes {run}", daemon=True)
        self._next = 0
        self._early: dict[int, Probe] = {}
        self._delivered = 0
        self._failure: BaseException | None = None
        self._started_at = self._ended_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sends nothing more and waits for the answers of what is in flight; raises what ended the thread, if so."""
        self._stopping.set()
        self._thread.join()
        if self._failure:
            raise self._failure

    def wait(self, timeout: float | None = None) -> None:
        """Waits until everything is sent and answered, at most `timeout` seconds."""
        self._thread.join(timeout)

    def __enter__(self) -> ProbeClient:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def sent(self) -> int:
        """Probes sent so far."""
        return self._next

    @property
    def running(self) -> bool:
        """Whether there is more to send or to receive."""
        return self._thread.is_alive()

    @property
    def rate(self) -> float:
        """Probes per second between start and end."""
        return self._next / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def elapsed(self) -> float:
        """Seconds from the first probe to the last answer, or until now."""
        return (self._ended_at or time.monotonic()) - self._started_at if self._started_at else 0.0

    def _serve(self) -> None:
        self._started_at = time.monotonic()
        try:
            asyncio.run(self._send_all())
        except BaseException as error:
            self._failure = error
        self._ended_at = time.monotonic()

    async def _send_all(self) -> None:
        # Asked once: a look-up per probe would set the pace. Where it fails, every probe says so itself.
        with contextlib.suppress(OSError):
            where = self._way.host, self._way.port
            found = await asyncio.get_running_loop().getaddrinfo(*where, type=socket.SOCK_STREAM)
            self._addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found)) or self._addresses
        async with asyncio.TaskGroup() as group:
            for worker in range(self.concurrency):
                group.create_task(self._work(worker))

    async def _work(self, worker: int) -> None:
        while not self._stopping.is_set() and self._next < self.limit:
            index = self._next
            self._next += 1
            self._early[index] = await self._send(index, worker)
            while self._delivered in self._early:
                probe = self._early.pop(self._delivered)
                self._delivered += 1
                self._deliver(probe)

    async def _send(self, index: int, worker: int) -> Probe:
        agent, request_id = user_agent(self.run, index), str(uuid.uuid4())
        headers = self._way.headers | {
            "User-Agent": agent,
            "X-Request-Id": request_id,
            "Accept": "text/html",
            "Connection": "close",
        }
        target = f"{self._way.origin}{self._way.path}"
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        connected, status, page, error = False, 0, Page.NONE, ""
        sent_at, begin = time.time(), time.monotonic()
        try:
            async with asyncio.timeout(self.timeout):
                reader, writer = await self._connected()
                try:
                    connected = True
                    sent_at = time.time()
                    writer.write(request)
                    status, body = await read_answer(reader)
                    page = look_at(status, body)
                finally:
                    writer.close()
        except TimeoutError:
            error = f"no answer within {self.timeout:g} s"
        except (OSError, ValueError) as problem:
            error = str(problem) or type(problem).__name__
        duration = time.monotonic() - begin
        return Probe(index, worker, agent, request_id, sent_at, duration, status, page, connected, error)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first address that takes one, which is the first to be tried by later probes.

        Raises OSError with the last one's refusal.
        """
        tls: dict[str, Any] = {"ssl": True, "server_hostname": self._way.host} if self._way.tls else {}
        *others, last = self._addresses
        for address in others:
            with contextlib.suppress(OSError):  # TimeoutError is one
                async with asyncio.timeout(_CONNECT_SECONDS):
                    found = await asyncio.open_connection(address, self._way.port, limit=_LONGEST_ANSWER, **tls)
                self._prefer(address)
                return found
        found = await asyncio.open_connection(last, self._way.port, limit=_LONGEST_ANSWER, **tls)
        self._prefer(last)
        return found

    def _prefer(self, address: str) -> None:
        self._addresses = [address, *(other for other in self._addresses if other != address)]


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """(status, body) of one HTTP/1.1 answer, as soon as it is whole: its end is not that of the connection.

    Raises ValueError when it is cut off or none at all.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").removesuffix("\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        cut = "the answer was cut off" if error.partial else "the connection was closed without an answer"
        raise ValueError(cut) from None
    except asyncio.LimitOverrunError:
        raise ValueError("not an HTTP answer: its head has no end") from None
    first, *lines = head.split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise ValueError(f"not an HTTP answer: {first[:80]}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    try:
        return int(words[1]), await _body(reader, int(words[1]), headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ValueError("the answer was cut off") from None


async def _body(reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]) -> bytes:
    if status in _WITHOUT_BODY:
        return b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _chunks(reader)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read(-1)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    chunks: list[bytes] = []
    while length := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        chunks.append(await reader.readexactly(length))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return b"".join(chunks)
