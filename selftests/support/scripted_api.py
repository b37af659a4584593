"""An HTTP server that answers API requests from a script: for what a healthy API server does not do on demand."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Reply:
    """One answer. status 0: the connection is cut; lines: sent as a stream, which then ends, or stays if `hold`.

    late: it comes only when `ScriptedApi.end` is set.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    lines: list[Any] | None = None
    hold: bool = False
    late: bool = False


class ScriptedApi:
    """Gives the replies in their order, then the last one again.

    `requests` are (method, path, token), `times` when each came, in seconds.
    """

    def __init__(self, *replies: Reply) -> None:
        self.replies, self.requests, self.times = list(replies), list[tuple[str, str, str]](), list[float]()
        self.end = threading.Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                token = self.headers.get("authorization", "").removeprefix("Bearer ")
                api.times.append(time.monotonic())
                api.requests.append((self.command, self.path, token))
                reply = api.replies.pop(0) if len(api.replies) > 1 else api.replies[0]
                if reply.late:
                    api.end.wait()
                if not reply.status:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.lines is None:
                    body = json.dumps(reply.body or {}).encode()
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                self.send_header("connection", "close")
                self.end_headers()
                for line in reply.lines:
                    self.wfile.write(json.dumps(line).encode() + b"\n")
                self.wfile.flush()
                if reply.hold:
                    api.end.wait()
                self.close_connection = True

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @contextlib.contextmanager
    def running(self, kubeconfig: Path, token: str = "first") -> Iterator[Path]:
        """Serves, and writes a kubeconfig for it."""
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        self.write_kubeconfig(kubeconfig, token)
        try:
            yield kubeconfig
        finally:
            self.end.set()
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def write_kubeconfig(self, path: Path, token: str) -> None:
        content = {
            "kind": "Config",
            "apiVersion": "v1",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "admin", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "admin",
        }
        path.write_text(yaml.safe_dump(content))
