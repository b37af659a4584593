"""An HTTPS server that gives recorded answers by path: clusters that cannot be had here."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab.api.http.pki import create_cluster_files
from lab.settings import ClusterSettings

Object = dict[str, Any]
Review = Callable[[Object], bool]


def items(*objects: Object) -> Object:
    """A list as the API server answers it."""
    return {"metadata": {"resourceVersion": "1"}, "items": list(objects)}


def resources(*plurals: str) -> Object:
    """Discovery of one group version."""
    return {"resources": [{"name": plural, "kind": plural, "namespaced": True} for plural in plurals]}


def refused(status: int, message: str) -> tuple[int, Object]:
    return status, {"kind": "Status", "code": status, "message": message}


@dataclass
class RecordedApi:
    """`answers` by `path`, or by `METHOD path`: a body for 200, or (status, body). What is not there is 404.

    allows: what a SelfSubjectAccessReview about these attributes is answered; clock: seconds ahead in the Date header.
    """

    answers: dict[str, Any]
    allows: Review = bool
    clock: float = 0.0
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Object) -> tuple[int, Object]:
        self.asked.append(f"{method} {path}")
        path = urlsplit(path).path
        if path.endswith("/selfsubjectaccessreviews"):
            return 201, {"status": {"allowed": self.allows(body["spec"]["resourceAttributes"])}}
        found = self.answers.get(f"{method} {path}", self.answers.get(path) if method == "GET" else None)
        if found is None:
            return refused(404, f"no answer recorded for {method} {path}")
        return found if isinstance(found, tuple) else (200, found)

    @contextlib.contextmanager
    def running(self, directory: Path, name: str = "mesh1") -> Iterator[Path]:
        """Serves; gives a kubeconfig with the server's own CA."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one packet: the second of two would wait for the first's acknowledgement

            def serve(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, body = api.answer(self.command, self.path, json.loads(raw) if raw else {})
                content = json.dumps(body).encode()
                self.send_response_only(status)
                self.send_header("date", formatdate(time.time() + api.clock, usegmt=True))
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = serve

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        directory.mkdir(exist_ok=True)
        settings = ClusterSettings(name, 16, str(directory), f"https://127.0.0.1:{server.server_port}", "token")
        create_cluster_files(settings)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(directory / "apiserver.crt", directory / "apiserver.key")
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield settings.kubeconfig
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
