"""A time that goes on evenly while clocks are set and machines sleep, and what is told of both."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LATE = 1.0  # seconds without a beat from which something could have been missed
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _since_boot() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True)
class Clocks:
    """The clocks of this machine; `boot` also counts the time asleep, `awake` does not."""

    wall: Callable[[], float] = time.time
    boot: Callable[[], float] = _since_boot
    awake: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Moment:
    """A moment: seconds since 1970, seconds since boot, and which boot of which machine that was ('' unknown)."""

    at: float
    boot: float
    host: str


class SteadyTime:
    """Seconds since 1970 as the wall clock had them when this began, and from then on by the time since boot."""

    def __init__(self, clocks: Clocks | None = None) -> None:
        self.clocks = clocks or Clocks()
        self._offset = self.clocks.wall() - self.clocks.boot()
        self._host = ""
        with contextlib.suppress(OSError):
            self._host = _BOOT_ID.read_text().strip()

    def now(self) -> float:
        return self.clocks.boot() + self._offset

    def moment(self) -> Moment:
        boot = self.clocks.boot()
        return Moment(boot + self._offset, boot, self._host)


@dataclass(frozen=True)
class Missed:
    """A time in which the watch itself did not run."""

    start: float
    end: float
    why: str


class Pulse:
    """Tells by regular beats when the watch did not run, when the machine was asleep, and when its clock was set."""

    def __init__(self, steady: SteadyTime) -> None:
        self._steady, self._clocks = steady, steady.clocks
        self._last = self._look()

    def _look(self) -> tuple[float, float, float]:
        return self._clocks.boot(), self._clocks.awake(), self._clocks.wall()

    def beat(self, every: float) -> tuple[Missed | None, float]:
        """What was missed since the last beat, due `every` seconds, if anything, and by how far the clock was set."""
        before, end = self._last, self._steady.now()
        boot, awake, wall = now = self._look()
        self._last = now
        passed = boot - before[0]
        asleep = passed - (awake - before[1])
        step = (wall - before[2]) - passed
        missed = None
        if passed - every > LATE:
            slept = f"the machine was asleep for {asleep:.0f} s" if asleep > LATE else "the watch was not let run"
            missed = Missed(end - passed, end, slept)
        return missed, step if abs(step) > LATE / 2 else 0.0
