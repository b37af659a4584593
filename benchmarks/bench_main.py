"""The whole main job as a user runs it: `pytest` on the embedded lab, from nothing to nothing left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Figure, stopwatch

_RUNS = 3
_ROOT = Path(__file__).resolve().parent.parent


def measure() -> list[Figure]:
    return [Figure("whole main job: pytest on the lab", tuple(_once() for _ in range(_RUNS)), "s", "60, aim 30")]


def _once() -> float:
    with stopwatch() as elapsed:
        done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=_ROOT, capture_output=True, text=True)
        seconds = elapsed()
    if done.returncode:
        raise RuntimeError(f"the main job failed, so its duration means nothing:\n{done.stdout[-2000:]}")
    return seconds
