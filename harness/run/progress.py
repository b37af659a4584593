"""What the run is doing, for people: one live line per mesh on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

from harness.run.redact import redacted_text
from harness.run.waiting import Cancelled, pause

_WIDTH = 80  # where the terminal does not say
# In a log a wait is told of when it is long, and then often enough to see that it goes on; seconds.
_LONG = 10.0
_AGAIN = 30.0


@dataclass
class _Wait:
    """One wait: since when, when it was last told of (both on the monotonic clock), and what was seen last."""

    seen: str = ""
    since: float = field(default_factory=time.monotonic)
    told: float = 0.0

    def due(self, now: float) -> bool:
        return now - self.since >= _LONG and (not self.told or now - self.told >= _AGAIN)


class Step(NamedTuple):
    """What happened on a mesh, `seconds` after the start of the run; subject: what it happened to, '' for the mesh."""

    seconds: float
    mesh: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}" if self.subject else self.text


class Progress:
    """Writes steps of several meshes to one stream. Thread-safe.

    live: rewrite one line per mesh (a terminal); otherwise every step is one line, with the seconds since the start.
    A wait that has no live line to be shown on is told of when it takes more than 10 s, and every 30 s from then on.
    """

    def __init__(self, stream: TextIO, live: bool) -> None:
        self._stream, self._live = stream, live
        self._lines: dict[str, str] = {}
        self._waits: dict[str, dict[str, _Wait]] = {}
        self._over: threading.Event | None = None  # ends the thread that tells of long waits
        self._drawn = 0
        self._fresh = True
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self.timings: list[Step] = []

    def step(self, mesh: str, text: str, subject: str = "") -> None:
        """Says what happens on `mesh` now, to what; kept in `timings`."""
        step = Step(time.monotonic() - self._start, mesh, subject, redacted_text(text))
        with self._lock:
            self.timings.append(step)
            self._lines[mesh] = f"{step.seconds:6.1f} s  {mesh}  {step}"
            if self._live:
                self._draw()
            else:
                self._begin()
                self._stream.write(self._lines[mesh] + "\n")
                self._stream.flush()

    def last(self, mesh: str) -> str:
        """The last step of `mesh`, '' where there was none."""
        with self._lock:
            return next((str(step) for step in reversed(self.timings) if step.mesh == mesh), "")

    @contextmanager
    def waiting(self, mesh: str, what: str) -> Iterator[Callable[[str], None]]:
        """Shows what is being waited for and what was seen last: on its mesh's live line at once, else when it is long.

        Yields a function that takes the last observation in words.
        """
        wait = _Wait()

        def seen(text: str) -> None:
            text = redacted_text(text)
            with self._lock:
                if wait.seen != text:
                    wait.seen = text
                    self._draw()

        with self._lock:
            self._waits.setdefault(mesh, {})[what] = wait
            self._draw()
            if self._over is None and not self._drawn_on(mesh):
                self._over = threading.Event()
                threading.Thread(target=self._tell, args=(self._over,), name="long waits", daemon=True).start()
        try:
            yield seen
        finally:
            with self._lock:
                if self._waits[mesh].get(what) is wait:
                    del self._waits[mesh][what]
                if wait.told and not self._lines:
                    self._fresh = True  # after settling others write in between
                if self._over and not any(self._waits.values()):
                    self._over.set()
                    self._over = None

    def _tell(self, over: threading.Event) -> None:
        with contextlib.suppress(Cancelled):
            while True:
                pause(min(_LONG, _AGAIN) / 10, over)
                with self._lock:
                    self._tell_due()

    def _drawn_on(self, mesh: str) -> bool:
        return self._live and mesh in self._lines

    def _tell_due(self) -> None:
        now = time.monotonic()
        for mesh, waits in sorted(self._waits.items()):
            for what, wait in waits.items():
                if wait.due(now) and not self._drawn_on(mesh):
                    wait.told = now
                    last = f"; last seen: {wait.seen}" if wait.seen else ""
                    text = f"still waiting for {what}, since {now - wait.since:.0f} s{last}"
                    self._begin()
                    self._stream.write(f"{now - self._start:6.1f} s  {mesh}  {text}\n")
                    self._stream.flush()

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
            pending = self._waits.get(mesh) or {}
            waits = ", ".join(f"{what} ({wait.seen})" if wait.seen else what for what, wait in pending.items())
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
