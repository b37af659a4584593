"""Child processes that never outlive the node: own process group, killed by the kernel when the node dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from lab.processes.children import die_with


class Process:
    """One running program; `exited` becomes its return code (negative: the signal), its group is gone by then."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @classmethod
    def start(
        cls,
        argv: list[str],
        env: dict[str, str],
        cwd: Path,
        stdout: int | IO[Any],
        stderr: int | IO[Any] = subprocess.STDOUT,
        stdin: int | IO[Any] = subprocess.DEVNULL,
    ) -> Process:
        """Starts `argv`; OSError where the program cannot be run."""
        popen = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            process_group=0,
            preexec_fn=die_with(os.getpid()),
        )
        return cls(popen)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        # The dead leader still holds the group's number, so this cannot hit a stranger.
        self._signal(signal.SIGKILL)
        code = self._popen.wait()
        if not self.exited.done():
            self.exited.set_result(code)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole group, unless it is gone."""
        if self._popen.returncode is None:
            self._signal(signal.SIGKILL)

    async def stop(self, grace: float) -> int:
        """SIGTERM, after `grace` seconds SIGKILL; returns when the process is gone."""
        if self._popen.returncode is None:
            self._signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(asyncio.shield(self.exited), grace)
        except TimeoutError:
            self.kill()
            return await asyncio.shield(self.exited)


class _Pump(asyncio.Protocol):
    def __init__(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._on_data, self._on_end = on_data, on_end

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._on_end()


async def output_pipe(on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> int:
    """The write end of a pipe (close it after the start) whose output goes to `on_data` as it comes."""
    reader, writer = os.pipe()
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Pump(on_data, on_end), os.fdopen(reader, "rb", 0))
    return writer
