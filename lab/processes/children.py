"""Child processes that cannot outlive their parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: the kernel kills the child as soon as process `parent` (the caller) is gone."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)

    return prepare


@dataclass
class Child:
    """One process of the lab; `pidfd` becomes readable when it ends."""

    cluster: str
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    pidfd: int

    @property
    def title(self) -> str:
        return f"{self.name} of {self.cluster}"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines the process wrote."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def start(cluster: str, name: str, command: list[str], environment: dict[str, str], log: Path, cwd: Path) -> Child:
    """Starts a process in its own process group, output to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )
    return Child(cluster, name, process, log, os.pidfd_open(process.pid))


def stop(children: list[Child], patience: float) -> None:
    """SIGTERM to all, and after `patience` seconds SIGKILL to the groups of those that are still there."""
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            child.process.terminate()
    for child in children:
        try:
            child.process.wait(patience)
        except subprocess.TimeoutExpired:
            patience = 0.1
    for child in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        os.close(child.pidfd)
