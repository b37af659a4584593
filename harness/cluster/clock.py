"""How far the clock of a server is ahead of this machine's."""

from __future__ import annotations

import math
import threading

_TICK = 1.0  # seconds: what a Date header tells is cut to whole ones (RFC 9110, 5.6.7)


class ServerClock:
    """By the Date of its answers: each bounds the offset from both sides, and many of them narrow it down. Thread-safe.

    One answer leaves a second and its own time on the way, twenty within a second leave some hundredths of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bounds: tuple[float, float] | None = None

    def heard(self, told: float, asked: float, answered: float) -> None:
        """`told` came as Date; when the answer was asked for and came, by this machine's clock; seconds since 1970."""
        low, high = told - answered, told + _TICK - asked
        with self._lock:
            known = self._bounds or (low, high)
            narrowed = max(known[0], low), min(known[1], high)
            # Where they contradict each other, one of the clocks was set since.
            self._bounds = narrowed if narrowed[0] <= narrowed[1] else (low, high)

    @property
    def width(self) -> float:
        """Seconds between the bounds of the offset; infinite before the first answer."""
        bounds = self._bounds
        return bounds[1] - bounds[0] if bounds else math.inf

    @property
    def offset(self) -> float:
        """Seconds the server's clock is ahead; 0 before its first answer."""
        bounds = self._bounds
        return sum(bounds) / 2 if bounds else 0.0
