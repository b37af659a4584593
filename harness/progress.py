"""What the run is doing, for people: one live line per mesh on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from harness.redact import redacted_text

_WIDTH = 80  # where the terminal does not say


class Progress:
    """Writes steps of several meshes to one stream. Thread-safe.

    live: rewrite one line per mesh (a terminal); otherwise every step is one line, with the seconds since the start.
    """

    def __init__(self, stream: TextIO, live: bool) -> None:
        self._stream, self._live = stream, live
        self._lines: dict[str, str] = {}
        self._pending: dict[str, dict[str, str]] = {}
        self._drawn = 0
        self._fresh = True
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self.timings: list[tuple[float, str, str]] = []

    def step(self, mesh: str, text: str) -> None:
        """Says what happens on `mesh` now; (seconds, mesh, text) is kept in `timings`."""
        seconds, text = time.monotonic() - self._start, redacted_text(text)
        with self._lock:
            self.timings.append((seconds, mesh, text))
            self._lines[mesh] = f"{seconds:6.1f} s  {mesh}  {text}"
            if self._live:
                self._draw()
            else:
                self._begin()
                self._stream.write(self._lines[mesh] + "\n")
                self._stream.flush()

    def last(self, mesh: str) -> str:
        """The last step of `mesh`, '' where there was none."""
        with self._lock:
            return next((text for _, name, text in reversed(self.timings) if name == mesh), "")

    @contextmanager
    def waiting(self, mesh: str, what: str) -> Iterator[Callable[[str], None]]:
        """Shows on a live line what is being waited for and what was seen last; plain lines only tell what happened.

        Yields a function that takes the last observation in words.
        """
        pending = self._pending.setdefault(mesh, {})

        def seen(text: str) -> None:
            text = redacted_text(text)
            with self._lock:
                if pending.get(what) != text:
                    pending[what] = text
                    self._draw()

        seen("")
        try:
            yield seen
        finally:
            with self._lock:
                pending.pop(what, None)

    def _begin(self) -> None:
        if self._fresh:
            self._stream.write("\n")  # whoever wrote before us may be in the middle of a line
            self._fresh = False

    def _draw(self) -> None:
        if not self._live or not self._lines:
            return
        self._begin()
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A")
        width = _terminal_width(self._stream)
        for mesh in sorted(self._lines):
            pending = self._pending.get(mesh)
            waits = ", ".join(f"{what} ({text})" if text else what for what, text in (pending or {}).items())
            line = self._lines[mesh] + (f"; waiting for {waits}" if waits else "")
            self._stream.write(f"\x1b[2K{line[:width]}\n")
        self._drawn = len(self._lines)
        self._stream.flush()

    def settle(self) -> None:
        """Leaves the lines as they are: somebody else may write. The next step begins below."""
        with self._lock:
            self._fresh = True
            self._lines.clear()
            self._drawn = 0


def _terminal_width(stream: TextIO) -> int:
    # A line that wraps would be two, and the next drawing would begin too low.
    try:
        return (os.get_terminal_size(stream.fileno()).columns or _WIDTH) - 1
    except (OSError, ValueError):
        return _WIDTH - 1
