"""The port of an API server that answers no request: one that says nothing, or whose certificate is not believed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.api.http.pki import create_cluster_files
from lab.settings import ClusterSettings


@dataclass
class DeadApi:
    """`entry`: what the kubeconfig says of the cluster besides; silent: connections are accepted, and that is all.

    connections: those that came.
    """

    entry: dict[str, Any] = field(default_factory=dict)
    silent: bool = False
    connections: list[socket.socket] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self, directory: Path, name: str = "mesh1") -> Iterator[Path]:
        """Listens; gives a kubeconfig."""
        directory.mkdir(exist_ok=True)
        with contextlib.ExitStack() as closed:
            listener = closed.enter_context(socket.create_server(("127.0.0.1", 0)))
            server = f"https://127.0.0.1:{listener.getsockname()[1]}"
            settings = ClusterSettings(name, 16, str(directory), server, "token")
            create_cluster_files(settings)
            content = yaml.safe_load(settings.kubeconfig.read_text())
            content["clusters"][0]["cluster"].update(self.entry)
            settings.kubeconfig.write_text(yaml.safe_dump(content))
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(directory / "apiserver.crt", directory / "apiserver.key")
            thread = threading.Thread(target=self._accept, args=(listener, tls))
            thread.start()
            try:
                yield settings.kubeconfig
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()
                for connection in self.connections:
                    connection.close()

    def _accept(self, listener: socket.socket, tls: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                self.connections.append(connection)
                if not self.silent:
                    with contextlib.suppress(OSError), tls.wrap_socket(connection, server_side=True) as answered:
                        answered.recv(1)
