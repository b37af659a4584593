"""A bookinfo whose answers and logs follow a script: the real probe client asks it, the real ledger reads its lines."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.split.ledger import Ledger, Role, Source

HOSTS = {
    "mesh1": "ratings.mesh2-bookinfo.svc.mesh1-imports.local",
    "mesh2": "ratings.mesh2-bookinfo.svc.cluster.local",
}
BACKENDS = {host: mesh for mesh, host in HOSTS.items()}
CALLER = Source("mesh2", Role.CALLER, "reviews-v3", "reviews-v3-1", "10.2.0.12")
RATINGS = {mesh: Source(mesh, Role.RATINGS, "ratings-v1", f"ratings-v1-{mesh}", "10.0.0.9") for mesh in HOSTS}
STARS = b'<span class="glyphicon glyphicon-star"></span>'
NO_STARS = b"Ratings service is currently unavailable"


@dataclass(frozen=True)
class Answer:
    """What becomes of one request: which mesh is picked, on which connection, the status of the ratings call, the
    seconds it takes, whether the ratings sidecar logs it, and how many seconds later its lines are written."""

    mesh: str
    connection: str = ""
    status: int = 200
    seconds: float = 0.0
    logged: bool = True
    late: float = 0.0


def stamp(seconds: float | None = None) -> str:
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def call_line(agent: str, answer: Answer, at: str) -> str:
    """The calling sidecar's line of one ratings call."""
    flags, details = ("-", "via_upstream") if answer.status == 200 else ("UC", "upstream_reset_before_response_started")
    return (
        f'[{at}] "GET /ratings/0 HTTP/1.1" {answer.status} {flags} {details} - "-" 0 54 3 2 "-" "{agent}" "id" '
        f'"ratings:9080" "10.2.0.8:15443" outbound|9080||{HOSTS[answer.mesh]} 10.2.0.12:39188 10.92.225.16:9080 '
        f"{answer.connection or '-'} - -"
    )


def ratings_line(agent: str, at: str) -> str:
    """The ratings sidecar's line of one call."""
    return (
        f'[{at}] "GET /ratings/0 HTTP/1.1" 200 - via_upstream - "-" 0 54 1 1 "-" "{agent}" "id" "ratings:9080" '
        '"127.0.0.1:9080" inbound|9080|| 127.0.0.1:37152 10.1.0.11:9080 10.1.0.6:57386 '
        "outbound_.9080_._.ratings.mesh1-bookinfo.svc.cluster.local default"
    )


class ScriptedBookinfo:
    """Serves on 127.0.0.1 in a thread of its own; `script` is asked for every request in order of arrival."""

    def __init__(self, script: Callable[[int], Answer], ledger: Ledger) -> None:
        self._script, self._ledger = script, ledger
        self._arrived = 0
        self._ready = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/productpage"

    async def serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        found = re.search(r"User-Agent: (\S+)", request)
        assert found
        answer = self._script(self._arrived)
        self._arrived += 1
        at = stamp()
        if answer.seconds:
            await asyncio.sleep(answer.seconds)
        body = STARS if answer.status == 200 else NO_STARS
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        writer.close()
        if answer.late:
            self._loop.call_later(answer.late, self._log, found[1], answer, at)
        else:
            self._log(found[1], answer, at)

    def _log(self, agent: str, answer: Answer, at: str) -> None:
        if answer.logged:
            self._ledger.add_line(CALLER, call_line(agent, answer, at))
            if answer.status == 200:
                self._ledger.add_line(RATINGS[answer.mesh], ratings_line(agent, at))

    @contextlib.contextmanager
    def running(self) -> Iterator[ScriptedBookinfo]:
        thread = threading.Thread(target=lambda: asyncio.run(self.serve()))
        thread.start()
        self._ready.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)
            thread.join()
