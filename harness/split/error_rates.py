"""What a sequential test does to a given truth: exact probabilities by dynamic programming, no simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class OperatingCharacteristics:
    """Probabilities of the outcomes and the number of requests (mean, 95th percentile) for one truth."""

    passes: float
    fails: float
    inconclusive: float
    mean: float
    percentile_95: int


@dataclass(frozen=True)
class Boundaries:
    """The outcomes at one look as integers, for two backends and no unattributed request.

    With s hits of the first backend: FAIL iff s <= fail_low or s >= fail_high; PASS iff pass_low <= s <= pass_high
    and not FAIL. Sides that can not be reached are -1 and n + 1; an empty PASS range has pass_low > pass_high.
    """

    fail_low: int
    pass_low: int
    pass_high: int
    fail_high: int


def exact_characteristics(
    batch: int, cap: int, boundaries: Callable[[int], Boundaries], p: float
) -> OperatingCharacteristics:
    """Exact figures of a test with looks every `batch` requests up to `cap`, for independent hits with probability p.

    The state is the number of hits; probability leaves at the looks, what is left at the cap is inconclusive.
    """
    first, mass = 0, [1.0]
    passes: list[float] = []
    fails: list[float] = []
    stopped: list[tuple[int, float]] = []
    for n in range(batch, cap + 1, batch):
        for _ in range(batch):
            mass = [miss * (1 - p) + hit * p for miss, hit in zip([*mass, 0.0], [0.0, *mass], strict=True)]
        look = boundaries(n)
        before = len(passes), len(fails)
        for i, m in enumerate(mass):
            s = first + i
            if s <= look.fail_low or s >= look.fail_high:
                fails.append(m)
            elif look.pass_low <= s <= look.pass_high:
                passes.append(m)
            else:
                continue
            mass[i] = 0.0
        stopped.append((n, math.fsum(passes[before[0] :]) + math.fsum(fails[before[1] :])))
        first, mass = _trimmed(first, mass)
    left = math.fsum(mass)
    stopped.append((cap, left))
    return OperatingCharacteristics(
        math.fsum(passes), math.fsum(fails), left, math.fsum(n * m for n, m in stopped), _percentile(stopped, 0.95)
    )


def _trimmed(first: int, mass: list[float]) -> tuple[int, list[float]]:
    """Without the zeros at both ends."""
    kept = [i for i, m in enumerate(mass) if m]
    return (first + kept[0], mass[kept[0] : kept[-1] + 1]) if kept else (first, [0.0])


def _percentile(stopped: list[tuple[int, float]], level: float) -> int:
    below = 0.0
    for n, m in stopped:
        below += m
        if below >= level:
            return n
    return stopped[-1][0]
