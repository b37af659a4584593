"""Cleans up after a lab, however it ended: run as a script, it waits until the supervisor is gone.

Standard input is a pipe only the supervisor holds. When that closes, every process that carries the lab's mark in its
environment is killed and the lab's directory is removed. Standard library only, so that it is small and starts fast.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "OSSM_LAB_OWNER"
_GIVE_UP_AFTER = 4.0


def marked_processes(mark: str) -> list[int]:
    """Process ids, except our own, whose environment has `MARK=mark`."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:  # gone, or another user's
                continue
            if wanted in environment.split(b"\0"):
                found.append(int(entry.name))
    return found


def clean_up(mark: str, directory: str) -> None:
    """Kills what is left of the lab and removes its directory."""
    deadline = time.monotonic() + _GIVE_UP_AFTER
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    mark, directory = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    clean_up(mark, directory)


if __name__ == "__main__":
    main()
