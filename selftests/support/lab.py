"""A whole lab as a subprocess, and what it must not leave behind."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cluster.cluster import Cluster
from lab.processes import guardian
from lab.processes.supervisor import command
from lab.settings import ClusterSettings

_LISTEN = "0A"


@dataclass
class Lab:
    """A running lab; `announced` are the two lines it printed."""

    process: subprocess.Popen[str]
    announced: list[str]
    directory: Path

    @property
    def clusters(self) -> list[ClusterSettings]:
        return [ClusterSettings.load(self.directory / name) for name in ("mesh1", "mesh2")]


def start_lab(*arguments: str) -> Lab:
    """Starts `python -m lab up` and returns when it has said that it is ready."""
    process = subprocess.Popen(
        command("up", *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    announced = [process.stdout.readline() for _ in range(2)]
    if not all(announced):
        raise AssertionError(f"the lab did not start: {process.communicate()[1]}")
    kubeconfig = Path(shlex.split(announced[0])[1].partition("=")[2])
    return Lab(process, announced, kubeconfig.parent.parent)


def stop_lab(lab: Lab) -> None:
    """Ends a lab if it still runs; for clean-up only."""
    if lab.process.poll() is None:
        lab.process.terminate()
    lab.process.communicate()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab that lives as long as this module's tests."""
    found = start_lab()
    yield found
    stop_lab(found)


@pytest.fixture(scope="module")
def clusters(lab: Lab) -> Iterator[dict[str, Cluster]]:
    """Both clusters of this module's lab, by mesh, as the suite sees them."""
    found = {settings.name: Cluster(settings.name, settings.kubeconfig) for settings in lab.clusters}
    yield found
    for cluster in found.values():
        cluster.close()


def processes_of(directory: Path) -> dict[int, str]:
    """Process ids and command lines of everything that belongs to the lab: named in its words or environment."""
    wanted, found = str(directory).encode(), {}
    mark = _mark(directory)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in words or (mark and mark in environment):
            found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace")
    return found


def _mark(directory: Path) -> bytes:
    """The mark in the environment of the lab's processes, as the running API server has it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(directory).encode() not in (entry / "cmdline").read_bytes():
                    continue
                for item in (entry / "environ").read_bytes().split(b"\0"):
                    if item.startswith(guardian.MARK.encode()):
                        return item
            except OSError:
                continue
    return b""


def listening(octets: list[int]) -> list[str]:
    """Addresses in the blocks 127.B.0.0/16 that something listens on."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        host, port = local.split(":")
        a, b, c, d = bytes.fromhex(host)[::-1]
        if state == _LISTEN and a == 127 and b in octets:
            found.append(f"{a}.{b}.{c}.{d}:{int(port, 16)}")
    return found


def ended(pids: list[int], within: float) -> list[int]:
    """Waits until all these processes are gone; returns those that are not after `within` seconds."""
    handles: dict[int, int] = {}
    for pid in pids:
        try:
            handles[os.pidfd_open(pid)] = pid
        except ProcessLookupError:
            continue
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + within
    left = dict(handles)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(remaining * 1000):
            poll.unregister(handle)
            left.pop(handle)
    for handle in handles:
        os.close(handle)
    return list(left.values())
