"""The API server as a process: how it begins and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from selftests.support.api import Http, api_server


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_asked_though_watches_are_open(asked: signal.Signals) -> None:
    with api_server() as settings:
        http = Http(settings)
        events = http.events("/api/v1/namespaces", timeoutSeconds="600")
        http.namespace()
        assert next(events)["type"] == "ADDED"
        (process,) = [
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit() and name != str(os.getpid()) and settings.directory in command_line(name)
        ]
        descriptor = os.pidfd_open(process)
        os.kill(process, asked)
        result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)
        os.close(descriptor)
        assert result is not None
        assert (result.si_code, result.si_status) == (os.CLD_EXITED, 0)


def command_line(process: str) -> str:
    try:
        with open(f"/proc/{process}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def test_a_taken_port_is_told_in_a_sentence() -> None:
    with api_server() as settings:
        line = [sys.executable, "-m", "lab.api", "--cluster-dir", settings.directory]
        second = subprocess.run(line, capture_output=True, text=True, timeout=20)
        assert second.returncode == 1
        expected = f"the API of mesh1 cannot listen on {settings.server}: Address already in use\n"
        assert second.stderr == expected


def test_the_files_of_a_cluster_are_private() -> None:
    with api_server() as settings:
        modes = {file.name: file.stat().st_mode & 0o077 for file in settings.path.iterdir() if file.suffix != ".log"}
        modes.pop("cluster.json")
        assert {"ca.key", "apiserver.key", "admin.key", "webhook.key", "admin.kubeconfig"} <= modes.keys()
        assert not any(modes.values()), modes


def test_only_its_own_address_is_listened_on() -> None:
    with api_server() as settings:
        port = urlsplit(settings.server).port
        with socket.socket() as stranger, pytest.raises(ConnectionRefusedError):
            stranger.connect(("127.0.0.1", port))
