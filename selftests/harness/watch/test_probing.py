"""Streams of probes against servers that answer, hang, cut connections and move."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading

import pytest

from harness.run.waiting import wait_for
from harness.watch.probing import Prober, ProbeStream, page_streams
from harness.watch.timeline import StreamFacts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstars"
PATIENCE = 60.0


class Server:
    """A server whose answer may be changed while it runs; counts its connections and keeps what it was asked."""

    def __init__(self):
        self.answer, self.connections, self.asked, self.held = OK, 0, [], asyncio.Event()
        self._writers, self._ready = set(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self):
        self.loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        self._cut()

    async def _handle(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(OSError, EOFError):
            while True:
                self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
                if self.answer is None:
                    await self.held.wait()
                writer.write(self.answer or OK)
                if b"close" in (self.answer or OK) or "Connection: close" in self.asked[-1]:
                    break
        self._writers.discard(writer)
        writer.close()

    def _cut(self):
        for writer in self._writers:
            writer.transport.abort()

    def cut(self):
        """Ends all connections as a proxy does that is killed."""
        self.loop.call_soon_threadsafe(self._cut)

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


def page(kept=False, rate=100.0):
    return next(stream for stream in page_streams(rate) if stream.facts.kept == kept)


@contextlib.contextmanager
def probing(*streams, port, timeout=5.0):
    results = queue.SimpleQueue()
    prober = Prober(streams, "run", results.put, timeout=timeout)
    prober.aim(f"http://127.0.0.1:{port}/productpage")
    with prober:
        yield prober, results


def until(results, wanted):
    """Results up to and with the first one that is wanted."""
    found = []
    while not found or not wanted(found[-1]):
        found.append(results.get(timeout=PATIENCE))
    return found


def test_a_stream_is_sent_at_its_pace_on_connections_of_its_own():
    with Server() as server, probing(page(), port=server.port) as (_, results):
        found = until(results, lambda one: one.number >= 50)
    assert all(one.good and one.saw == "stars" for one in found)
    assert server.connections >= 50
    assert found[-1].at - found[0].at >= 0.4
    assert "User-Agent: probe/run-fresh/0\r\n" in server.asked[0]
    assert "Connection: close\r\n" in server.asked[0]


def test_a_kept_connection_is_used_again_and_again():
    with Server() as server, probing(page(kept=True, rate=20.0), port=server.port) as (_, results):
        until(results, lambda one: one.number >= 30)
    assert server.connections < 15  # more than one only where a probe was due before the last one was answered
    assert "Connection: close" not in server.asked[0]


def test_a_kept_connection_that_is_cut_is_replaced():
    with Server() as server, probing(page(kept=True), port=server.port) as (_, results):
        before = until(results, lambda one: one.number >= 20)
        server.cut()
        after = until(results, lambda one: one.number >= before[-1].number + 20)
    assert sum(not one.good for one in after) <= 3
    assert after[-1].good


def hanging(server, results, count):
    """Has the server hang until it was asked for so many more answers that it does not give."""
    until(results, lambda one: one.number >= 5)
    server.answer, asked = None, len(server.asked)
    wait_for("probes that hang", lambda: (len(server.asked) >= asked + count or None, ""), PATIENCE, interval=0.02)


def test_probes_that_hang_hold_up_no_others():
    with Server() as server, probing(page(rate=20.0), port=server.port, timeout=PATIENCE) as (_, results):
        hanging(server, results, 20)
        server.answer = OK
        server.loop.call_soon_threadsafe(server.held.set)
        slow = [results.get(timeout=PATIENCE) for _ in range(20)]
    assert max(one.took for one in slow) > 0.5


def test_a_service_that_hangs_is_spared_most_probes():
    with Server() as server, probing(page(rate=20.0), port=server.port, timeout=PATIENCE) as (_, results):
        hanging(server, results, 45)
        server.answer = OK
        server.loop.call_soon_threadsafe(server.held.set)
        found = [results.get(timeout=PATIENCE) for _ in range(45)]
    numbers = [one.number for one in sorted(found, key=lambda one: one.number)]
    assert sum(number % 5 == 0 for number in numbers[-3:]) == 3
    assert numbers[-1] - numbers[-2] == 5


def test_what_gives_no_answer_in_time_says_so():
    with Server() as server, probing(page(), port=server.port, timeout=0.2) as (_, results):
        server.answer = None
        found = until(results, lambda one: not one.good)
        assert found[-1].saw == "no answer within 0.2 s"
        assert found[-1].took >= 0.19
        server.loop.call_soon_threadsafe(server.held.set)


@pytest.mark.parametrize(
    ("answer", "saw"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "HTTP 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nunavailable", "unavailable"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 50\r\n\r\nshort", "the answer was cut off"),
        (b"SSH-2.0-close\r\n\r\n", "not an HTTP answer: SSH-2.0-close"),
    ],
)
def test_what_came_instead_is_told_in_words(answer, saw):
    with Server() as server, probing(page(), port=server.port) as (_, results):
        server.answer = answer
        found = until(results, lambda one: not one.good)
    assert found[-1].saw == saw


@pytest.mark.parametrize("kept", [False, True])
def test_a_chunked_page_is_read_whole(kept):
    with Server() as server, probing(page(kept), port=server.port) as (_, results):
        server.answer = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nsta\r\n2;x=y\r\nrs\r\n0\r\n\r\n"
        )  # fmt: skip
        found = until(results, lambda one: one.number >= 20)
    assert found[-1].good


@pytest.mark.parametrize("kept", [False, True])
def test_an_entry_that_moves_is_followed(kept):
    with Server() as old, Server() as new, probing(page(kept, 20.0), port=old.port) as (prober, results):
        until(results, lambda one: one.number >= 5)
        prober.aim(f"http://127.0.0.1:{new.port}/productpage")
        before = len(old.asked)
        until(results, lambda _: bool(new.asked))
        until(results, lambda _: len(new.asked) >= 20)
        assert len(old.asked) <= before + 5


def test_a_port_that_nobody_listens_on_refuses():
    with Server() as server:
        port = server.port
    with probing(page(), port=port) as (_, results):
        assert until(results, lambda one: not one.good)[-1].saw == "Connection refused"


def test_streams_take_turns():
    streams = tuple(
        ProbeStream(name, f"/{name}", lambda status, _: (status == 200, ""), StreamFacts(50.0)) for name in "ab"
    )
    with Server() as server, probing(*streams, port=server.port) as (_, results):
        found = until(results, lambda one: one.number >= 30)
    counts = {name: sum(one.stream == name for one in found) for name in "ab"}
    assert abs(counts["a"] - counts["b"]) <= 5


def test_the_control_leaves_the_federation_alone():
    control = next(stream for stream in page_streams(1.0) if not stream.facts.crosses)
    assert (control.name, control.path) == ("control", "/api/v1/products/0")


def test_an_entry_that_is_not_http_is_refused():
    with pytest.raises(ValueError, match="http://"):
        Prober(page_streams(1.0), "run", lambda _: None).aim("https://productpage.example/")
