"""Starts both emulated clusters, says when they are ready, and takes everything away at the end.

Three things see to it that nothing survives, however the supervisor dies: the kernel kills the children with their
parent, the guardian (beside this file) kills and removes what is left, and locks and ports are sockets that go with
their process.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from lab.addresses import Block
from lab.processes import guardian
from lab.processes.blocks import take_block
from lab.processes.children import Child, start, stop
from lab.processes.readiness import Readiness
from lab.settings import DEFAULT_KUBERNETES_VERSION, KNOBS, ClusterSettings

CLUSTERS = ("mesh1", "mesh2")
PROCESSES = ("api", "manager", "node")
STATE_FILE = "lab.json"
_API_PORTS = range(20000, 30000)
_READY_WITHIN = 30.0
_STOP_WITHIN = 1.5
_PROJECT = Path(__file__).resolve().parents[2]


class LabError(Exception):
    """The lab cannot start or go on; the message is for the person who runs it."""


def command(*arguments: str) -> list[str]:
    """The command line of `python -m lab ...` for whoever starts it as a subprocess (working directory: any)."""
    return [sys.executable, "-m", "lab", *arguments]


class Supervisor:
    """One running lab; use as a context manager, which removes everything at its end."""

    def __init__(
        self,
        ossm_version: str,
        directory: str | None = None,
        kubernetes_version: str = DEFAULT_KUBERNETES_VERSION,
        knobs: Mapping[str, float] | None = None,
    ) -> None:
        """`knobs` by the names of KNOBS; what is not named is as a lab has it."""
        self._ossm_version, self._wanted_directory = ossm_version, directory
        self._kubernetes_version = kubernetes_version
        self._knobs = {name: knob.lab for name, knob in KNOBS.items()} | dict(knobs or {})
        self._mark = secrets.token_hex(8)
        self._locks: list[socket.socket] = []
        self._guardian: subprocess.Popen[bytes] | None = None
        self.children: list[Child] = []
        self.settings: list[ClusterSettings] = []
        self.directory = Path()

    def __enter__(self) -> Supervisor:
        try:
            self.directory = _own_directory(self._wanted_directory)
            self._start_guardian()
            self._start_clusters()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops all processes and removes the directory; the guardian does what is left to do."""
        stop(self.children, _STOP_WITHIN)
        self.children = []
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            if self._guardian.wait() != 0:  # it was killed: nobody else is left to do its work
                guardian.clean_up(self._mark, str(self.directory))
        for lock in self._locks:
            lock.close()

    def _start_guardian(self) -> None:
        script = [sys.executable, "-I", "-S", guardian.__file__, self._mark, str(self.directory)]
        quiet = subprocess.DEVNULL
        self._guardian = subprocess.Popen(
            script, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
        )

    def _start_clusters(self) -> None:
        from lab.api.http.pki import create_cluster_files

        for name in CLUSTERS:
            try:
                block, lock = take_block()
            except OSError as error:
                raise LabError(f"no addresses for {name}: {error.strerror}") from error
            self._locks.append(lock)
            settings = self._cluster_settings(name, block)
            settings.path.mkdir(mode=0o700)
            settings.save()
            create_cluster_files(settings)
            self.settings.append(settings)
        (self.directory / STATE_FILE).write_text(
            json.dumps({"pid": os.getpid(), "clusters": {item.name: item.directory for item in self.settings}})
        )
        environment = {**os.environ, guardian.MARK: self._mark, "PYTHONUNBUFFERED": "1"}
        for process in PROCESSES:
            for settings in self.settings:
                line = [sys.executable, "-m", f"lab.{process}", "--cluster-dir", settings.directory]
                log = settings.path / f"{process}.log"
                self.children.append(start(settings.name, process, line, environment, log, _PROJECT))

    def _cluster_settings(self, name: str, block: Block) -> ClusterSettings:
        return ClusterSettings(
            name=name,
            octet=block.octet,
            directory=str(self.directory / name),
            server=f"https://{block.apiserver}:{random.choice(_API_PORTS)}",
            token=secrets.token_hex(32),
            ossm_version=self._ossm_version,
            kubernetes_version=self._kubernetes_version,
            **self._knobs,  # type: ignore[arg-type]
        )

    def serve(self, until_eof: bool) -> None:
        """Announces the clusters when they are ready and returns when asked to stop.

        LabError when they are not ready in time or one of the processes ends by itself.
        """
        began = time.monotonic()
        waiting = [Readiness(settings) for settings in self.settings]
        announced = False
        with _Wakeups(self.children, self._guardian, until_eof) as wakeups:
            while True:
                wakeups.wait(None if announced else 0.03)
                if wakeups.stop:
                    return
                self._check_children(wakeups.guardian_ended)
                if announced:
                    continue
                waiting = [item for item in waiting if not item.ready()]
                if not waiting:
                    self._announce(time.monotonic() - began)
                    announced = True
                elif time.monotonic() - began > _READY_WITHIN:
                    missing = "; ".join(f"{item.settings.name}: {item.missing}" for item in waiting)
                    raise LabError(f"not ready after {_READY_WITHIN:.0f} s, waiting for {missing}{self._log_tails()}")

    def _check_children(self, guardian_ended: bool) -> None:
        for child in self.children:
            code = child.process.poll()
            if code is not None:
                how = f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
                raise LabError(f"{child.title} ended by itself ({how}). Its last lines:\n{child.log_tail()}")
        if guardian_ended:
            raise LabError("the guardian process was killed; without it the lab could leave things behind")

    def _log_tails(self) -> str:
        return "".join(f"\n--- {child.title}:\n{child.log_tail(8)}" for child in self.children)

    def _announce(self, seconds: float) -> None:
        with contextlib.suppress(BrokenPipeError):
            for settings in self.settings:
                print(f"export {settings.name.upper()}_KUBECONFIG={shlex.quote(str(settings.kubeconfig))}")
            sys.stdout.flush()
        print(
            f"lab: two clusters with OSSM {self._ossm_version} ready after {seconds:.1f} s, logs in {self.directory}; "
            "Ctrl-C ends them",
            file=sys.stderr,
            flush=True,
        )


class _Wakeups:
    """Everything the supervisor waits for: signals, ends of children, the end of standard input."""

    def __init__(self, children: list[Child], guard: subprocess.Popen[bytes] | None, until_eof: bool) -> None:
        self.stop = self.guardian_ended = False
        self._selector = selectors.PollSelector()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._selector.register(self._reader, selectors.EVENT_READ, "signal")
        for child in children:
            self._selector.register(child.pidfd, selectors.EVENT_READ, "child")
        self._guardian_fd = os.pidfd_open(guard.pid) if guard else -1
        if guard:
            self._selector.register(self._guardian_fd, selectors.EVENT_READ, "guardian")
        if until_eof:
            self._selector.register(0, selectors.EVENT_READ, "stdin")

    def __enter__(self) -> _Wakeups:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._asked)
        return self

    def __exit__(self, *_: object) -> None:
        # Handlers stay: a second Ctrl-C must not cut the clean-up short.
        self._selector.close()
        os.close(self._guardian_fd)

    def _asked(self, *_: object) -> None:
        self.stop = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, timeout: float | None) -> None:
        """Returns after the timeout or at the next of them; sets `stop` and `guardian_ended`."""
        for key, _ in self._selector.select(timeout):
            if key.data == "stdin" and not os.read(0, 4096):
                self.stop = True
            elif key.data == "guardian":
                self.guardian_ended = True


def _own_directory(wanted: str | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="ossm-lab-"))
    path = Path(wanted).resolve()
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise LabError(f"{path} exists already; the lab wants a directory of its own, which it removes") from None
    return path
