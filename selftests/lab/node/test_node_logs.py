"""Container logs: what is asked for is what comes."""

from __future__ import annotations

import asyncio
import time

import pytest

from lab.node.kubelet import log_query
from lab.node.logs import ContainerLog, LogQuery


class Clock:
    """Stands for the time of arrival."""

    def __init__(self) -> None:
        self.nanoseconds = 1_700_000_000_000_000_000

    def time_ns(self) -> int:
        return self.nanoseconds

    def later(self, seconds: float) -> int:
        self.nanoseconds += int(seconds * 1e9)
        return self.nanoseconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("lab.node.logs.time.time_ns", clock.time_ns)
    return clock


@pytest.fixture
def log(tmp_path):
    log = ContainerLog(tmp_path / "c-0.log")
    yield log
    log.remove()


def text(log: ContainerLog, query: LogQuery) -> bytes:
    async def read() -> bytes:
        return b"".join([block async for block in log.read(query)])

    return asyncio.run(read())


def test_lines_come_whole_however_the_pipe_cuts_them(log):
    for piece in (b"on", b"e\ntw", b"o\n", b"thr"):
        log.append(piece)
    assert text(log, LogQuery()) == b"one\ntwo\n"
    log.end()
    assert text(log, LogQuery()) == b"one\ntwo\nthr\n"


def test_tail_gives_the_last_lines_over_block_borders(log):
    lines = [b"%06d " % number + b"x" * 90 for number in range(9000)]
    log.append(b"".join(line + b"\n" for line in lines))
    for count in (1, 2, 4000, 8999, 9000, 9001):
        assert text(log, LogQuery(tail=count)).splitlines() == lines[-count:]
    assert text(log, LogQuery(tail=0)) == b""


def test_since_goes_by_the_time_of_arrival(log, clock):
    arrivals = []
    for number in range(4000):
        arrivals.append(clock.later(0.25))
        log.append(b"line %04d " % number + b"y" * 60 + b"\n")
    for number in (0, 1, 1700, 3999):
        got = text(log, LogQuery(since=arrivals[number])).splitlines()
        assert (len(got), got[0][:9]) == (4000 - number, b"line %04d" % number)
    assert text(log, LogQuery(since=arrivals[-1] + 1)) == b""


def test_since_and_tail_together_give_the_shorter_end(log, clock):
    log.append(b"old\n")
    since = clock.later(1)
    log.append(b"a\nb\n")
    assert text(log, LogQuery(since=since, tail=10)) == b"a\nb\n"
    assert text(log, LogQuery(since=since, tail=1)) == b"b\n"


def test_timestamps_are_rfc_3339_of_the_arrival(log, clock):
    clock.later(0.123456789)
    log.append(b"hello\n")
    assert text(log, LogQuery(timestamps=True)) == b"2023-11-14T22:13:20.123456789Z hello\n"


def test_limit_counts_bytes(log):
    log.append(b"0123456789\n" * 10)
    assert text(log, LogQuery(limit=15)) == b"0123456789\n0123"


def test_a_follower_gets_new_lines_and_the_end(log):
    async def scenario() -> None:
        log.append(b"before\n")
        reader = log.read(LogQuery(follow=True))
        assert await anext(reader) == b"before\n"
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        assert not waiting.done()
        log.append(b"after\n")
        assert await asyncio.wait_for(waiting, 5) == b"after\n"
        log.append(b"last words")
        log.remove()
        assert [block async for block in reader] == [b"last words\n"]

    asyncio.run(scenario())


def test_log_parameters_mean_what_kubectl_means():
    query = log_query({"follow": "true", "tailLines": "5", "sinceTime": "2023-11-14T22:13:20Z", "timestamps": "false"})
    assert query == LogQuery(follow=True, tail=5, since=1_700_000_000_000_000_000)
    before = time.time_ns()
    since = log_query({"sinceSeconds": "60"}).since
    assert since is not None
    assert before - 60e9 <= since <= time.time_ns() - 60e9
    for wrong in ({"tailLines": "-1"}, {"sinceSeconds": "0"}, {"sinceTime": "yesterday"}, {"limitBytes": "0"}):
        with pytest.raises(ValueError):
            log_query(wrong)
