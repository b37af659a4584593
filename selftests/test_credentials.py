"""What a kubeconfig can hold: client certificates, exec plugins, tokens of files, proxies; TLS is verified."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import sys
import threading
from pathlib import Path

import pytest
import yaml

from harness.cluster import Cluster
from harness.transport import Unreachable
from selftests.support.api import api_server


@pytest.fixture(scope="module")
def lab():
    with api_server() as settings:
        yield settings


@pytest.fixture
def opened(lab, tmp_path):
    """A Cluster by a kubeconfig with this user, and other entries of the cluster."""
    with contextlib.ExitStack() as stack:

        def build(user, **entry):
            content = yaml.safe_load(lab.kubeconfig.read_text())
            content["users"][0]["user"] = user
            content["clusters"][0]["cluster"].update(entry)
            (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
            found = Cluster("mesh1", tmp_path / "kubeconfig", patience=0.3)
            stack.callback(found.close)
            return found

        yield build


def embedded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def test_a_client_certificate_is_enough(lab, opened):
    cluster = opened(
        {
            "client-certificate-data": embedded(lab.path / "admin.crt"),
            "client-key-data": embedded(lab.path / "admin.key"),
        }
    )
    assert cluster.version() == lab.kubernetes_version


def test_an_exec_plugin_is_asked_for_the_token(lab, opened, tmp_path):
    answer = {
        "kind": "ExecCredential",
        "apiVersion": "client.authentication.k8s.io/v1",
        "status": {"token": lab.token},
    }
    plugin = tmp_path / "plugin.py"
    plugin.write_text(f"print({json.dumps(json.dumps(answer))})\n")
    cluster = opened(
        {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": sys.executable,
                "args": [str(plugin)],
                "interactiveMode": "Never",
            }
        }
    )
    assert cluster.version() == lab.kubernetes_version


def test_a_server_of_another_authority_is_not_believed(lab, opened, tmp_path):
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes((lab.path / "admin.crt").read_bytes())
    cluster = opened({"token": lab.token}, **{"certificate-authority-data": embedded(stranger)})
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        cluster.version()


class Proxy:
    """An HTTP proxy for CONNECT that remembers what it was asked to reach."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        target = head.split()[1].decode()
        self.reached.append(target)
        host, _, port = target.rpartition(":")
        with client, socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(monkeypatch):
    found = Proxy()
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield found
    found.listener.close()


def target_of(lab) -> str:
    return lab.server.removeprefix("https://")


def test_the_proxy_of_the_environment_is_used_and_no_proxy_spares_it(lab, opened, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert opened({"token": lab.token}).version() == lab.kubernetes_version
    assert proxy.reached == [target_of(lab)]
    monkeypatch.setenv("NO_PROXY", target_of(lab).partition(":")[0])
    assert opened({"token": lab.token}).version() == lab.kubernetes_version
    assert proxy.reached == [target_of(lab)]


def test_the_proxy_of_the_kubeconfig_is_used(lab, opened, proxy):
    assert opened({"token": lab.token}, **{"proxy-url": proxy.url}).version() == lab.kubernetes_version
    assert proxy.reached == [target_of(lab)]
