"""Medians of several runs, and what machine they were taken on."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row of the table: what was measured, the median with its unit, the spread, the number of runs, the bar."""

    what: str
    values: tuple[float, ...]
    unit: str
    bar: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def row(self) -> str:
        spread = f"{_short(min(self.values))} to {_short(max(self.values))}"
        return f"| {self.what} | {_short(self.median)} {self.unit} | {spread} | {len(self.values)} | {self.bar} |"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Yields a function that says the seconds since the start."""
    start = time.perf_counter()
    yield lambda: time.perf_counter() - start


def timed(runs: int, work: Callable[[], object], scale: float = 1.0) -> tuple[float, ...]:
    """Seconds (times `scale`) of each of `runs` calls of `work`."""
    values = []
    for _ in range(runs):
        with stopwatch() as elapsed:
            work()
            values.append(elapsed() * scale)
    return tuple(values)


def machine() -> str:
    """`2 cores, 24 GB, Linux x86_64, Python 3.11.7`."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}, Python {python}"


def table(figures: list[Figure]) -> str:
    head = "| what | median | from, to | runs | bar |\n|---|---|---|---|---|\n"
    return f"Measured on {machine()}.\n\n{head}" + "\n".join(figure.row() for figure in figures)
