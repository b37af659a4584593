"""Seconds until the lab is ready, until the scenario is provisioned, and for provisioning it again; its memory."""

from __future__ import annotations

from pathlib import Path

from benchmarks.labs import lab, quiet
from benchmarks.measure import Figure, stopwatch
from harness.scenario.provision import Provisioner

_RUNS = 3


def measure() -> list[Figure]:
    ready: list[float] = []
    cold: list[float] = []
    again: list[float] = []
    memory: list[float] = []
    for _ in range(_RUNS):
        with stopwatch() as since_start, lab() as clusters, quiet() as progress:
            ready.append(since_start())
            provisioner = Provisioner(clusters, "benchmark", progress)
            for values in (cold, again):
                with stopwatch() as elapsed:
                    provisioner.run()
                    values.append(elapsed())
            memory.append(_lab_memory())
    return [
        Figure("lab: start to ready", tuple(ready), "s", "5"),
        Figure("provisioning, cold: two meshes, federated, bookinfo available", tuple(cold), "s"),
        Figure("provisioning again, nothing to change", tuple(again), "s", "3"),
        Figure("lab: memory of all processes, provisioned (proportional set size)", tuple(memory), "MB", "2000"),
    ]


def _lab_memory() -> float:
    """Sum of the proportional set sizes of this process's descendants, in MB: shared pages are counted once."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(after_name[1])
    mine, found = {_self()}, 0
    for pid in sorted(parents):
        ancestor = pid
        while ancestor in parents and ancestor not in mine:
            ancestor = parents[ancestor]
        if ancestor in mine and pid != _self():
            found += _pss(pid)
    return found / 1024


def _self() -> int:
    return int(Path("/proc/self").resolve().name)


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
