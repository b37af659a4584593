"""The node of one cluster as a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.processes.children import die_with
from lab.settings import ClusterSettings

_PROJECT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def running_node(settings: ClusterSettings) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m lab.node`; shows what it said of itself where it did not end as asked."""
    line = [sys.executable, "-m", "lab.node", "--cluster-dir", settings.directory]
    log = settings.path / "node.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            line, env=dict(os.environ), stdout=out, stderr=out, cwd=_PROJECT, preexec_fn=die_with(os.getpid())
        )
    try:
        yield process
    finally:
        killed = process.poll() is not None
        process.terminate()
        try:
            code = process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    assert killed or code == 0, log.read_text()
