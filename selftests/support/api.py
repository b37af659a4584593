"""Starts the lab's API server for selftests, as its own process on a free address block."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from lab.api.pki import create_cluster_files
from lab.blocks import take_block
from lab.settings import ClusterSettings

_START_SECONDS = 20


@contextlib.contextmanager
def api_server(name: str = "mesh1") -> Iterator[ClusterSettings]:
    """A running, ready and empty API server; settings.kubeconfig leads to it. It ends with the context."""
    block, lock = take_block()
    with lock, tempfile.TemporaryDirectory(prefix="lab-api-") as directory:
        with socket.socket() as probe:
            probe.bind((block.apiserver, 0))
            port = probe.getsockname()[1]
        server = f"https://{block.apiserver}:{port}"
        settings = ClusterSettings(name, block.octet, directory, server, secrets.token_urlsafe(32))
        settings.save()
        create_cluster_files(settings)
        log = Path(directory) / "api.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "lab.api", "--cluster-dir", directory],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        try:
            _wait_ready(settings, process, log)
            yield settings
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(settings: ClusterSettings, process: subprocess.Popen[bytes], log: Path) -> None:
    context = ssl.create_default_context(cafile=str(settings.ca_file))
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{settings.server}/readyz", context=context, timeout=2):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the API server is not ready: {error}\n{log.read_text()}") from error
            time.sleep(0.02)
