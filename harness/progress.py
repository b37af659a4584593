"""What the run is doing, for people: one live line per mesh on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_WIDTH = 110


class Progress:
    """Writes steps of several meshes to one stream. Thread-safe.

    live: rewrite one line per mesh (a terminal); otherwise every step is one line, with the seconds since the start.
    """

    def __init__(self, stream: TextIO, live: bool) -> None:
        self._stream, self._live = stream, live
        self._lines: dict[str, str] = {}
        self._drawn = 0
        self._fresh = True
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self.timings: list[tuple[float, str, str]] = []

    def step(self, mesh: str, text: str) -> None:
        """Says what happens on `mesh` now; (seconds, mesh, text) is kept in `timings`."""
        seconds = time.monotonic() - self._start
        line = f"{seconds:6.1f} s  {mesh}  {text}"[:_WIDTH]
        with self._lock:
            self.timings.append((seconds, mesh, text))
            if self._fresh:
                self._stream.write("\n")  # whoever wrote before us may be in the middle of a line
                self._fresh = False
            if self._live:
                self._lines[mesh] = line
                self._draw()
            else:
                self._stream.write(line + "\n")
            self._stream.flush()

    def _draw(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A")
        for mesh in sorted(self._lines):
            self._stream.write(f"\x1b[2K{self._lines[mesh]}\n")
        self._drawn = len(self._lines)

    def settle(self) -> None:
        """Leaves the lines as they are: somebody else may write. The next step begins below."""
        with self._lock:
            self._fresh = True
            self._lines.clear()
            self._drawn = 0

    @contextmanager
    def during(self, mesh: str, text: str) -> Iterator[None]:
        """A step with its end: `text ...` and then `text, 1.2 s`."""
        self.step(mesh, f"{text} …")
        start = time.monotonic()
        yield
        self.step(mesh, f"{text}: {time.monotonic() - start:.1f} s")
