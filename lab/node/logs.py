"""Container logs: lines with the time they arrived, as a kubelet keeps them."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

_STAMP = len("2026-01-01T00:00:00.000000000Z ")
_INDEX_STEP = 64 * 1024
_BLOCK = 256 * 1024


def stamp(nanoseconds: int) -> str:
    """UTC time of fixed width, so that texts sort as times do."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


@dataclass(frozen=True)
class LogQuery:
    """What is asked for; `since` is nanoseconds of the epoch (arrival time), `tail` lines, `limit` bytes."""

    follow: bool = False
    tail: int | None = None
    since: int | None = None
    timestamps: bool = False
    limit: int | None = None


class ContainerLog:
    """The output of one run of one container, in a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended = False
        self._removed = False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0
        self._partial = b""
        self._index: list[tuple[str, int]] = []
        self._followers: set[asyncio.Event] = set()

    def append(self, data: bytes) -> None:
        """Takes output as it comes; a line counts when it is whole."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        if lines:
            self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        now = stamp(time.time_ns())
        if not self._index or self._size - self._index[-1][1] >= _INDEX_STEP:
            self._index.append((now, self._size))
        prefix = now.encode() + b" "
        data = b"".join([prefix + line + b"\n" for line in lines])
        os.write(self._fd, data)
        self._size += len(data)
        self._wake()

    def end(self) -> None:
        """No more output will come."""
        if self._partial:
            self._write([self._partial])
            self._partial = b""
        self.ended = True
        self._wake()

    def remove(self) -> None:
        """Ends the log and removes its file; readers get the rest of it first."""
        self.end()
        self._removed = True
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._close_unread()

    def _close_unread(self) -> None:
        if self._removed and not self._followers and self._fd >= 0:
            os.close(self._fd)
            self._fd, self._size = -1, 0

    def _wake(self) -> None:
        for event in self._followers:
            event.set()

    def _tail_start(self, start: int, lines: int) -> int:
        """Offset of the last `lines` lines, not before `start`."""
        if lines == 0:
            return self._size
        position, found = self._size, 0
        while position > start:
            size = min(_BLOCK, position - start)
            block = os.pread(self._fd, size, position - size)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                found += 1
                if found == lines + 1:
                    return position - size + at + 1
            position -= size
        return start

    def _since_start(self, since: int) -> int:
        wanted = stamp(since)
        entry = bisect.bisect_left(self._index, (wanted, 0)) - 1
        position = self._index[entry][1] if entry >= 0 else 0
        while position < self._size:
            block = self._whole_lines(position)
            offset = 0
            while offset < len(block):
                if block[offset : offset + _STAMP - 1] >= wanted.encode():
                    return position + offset
                offset = block.index(b"\n", offset) + 1
            position += len(block)
        return self._size

    def _whole_lines(self, position: int) -> bytes:
        """About one block of whole lines from `position`, which is the start of a line."""
        size = _BLOCK
        while True:
            block = os.pread(self._fd, size, position)
            end = block.rfind(b"\n") + 1
            if end or len(block) < size:
                return block[:end]
            size *= 2

    async def read(self, query: LogQuery) -> AsyncIterator[bytes]:
        """The log's text in pieces; with `follow` until the container has ended."""
        left = query.limit
        event = asyncio.Event()
        self._followers.add(event)
        try:
            position = self._since_start(query.since) if query.since is not None else 0
            if query.tail is not None:
                position = self._tail_start(position, query.tail)
            while True:
                event.clear()
                ended = self.ended
                while position < self._size:
                    block = self._whole_lines(position)
                    position += len(block)
                    if not query.timestamps:
                        block = b"".join([line[_STAMP:] for line in block.splitlines(keepends=True)])
                    if left is not None:
                        block, left = block[:left], left - len(block)
                    if block:
                        yield block
                    if left is not None and left <= 0:
                        return
                if ended or not query.follow:
                    return
                await event.wait()
        finally:
            self._followers.discard(event)
            self._close_unread()
