"""An API server of one namespace that serves pods and their logs, and does to logs what clusters do to them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

NAMESPACE = "mesh1-bookinfo"


@dataclass
class LoggedPod:
    """One pod with one container; `cuts` counts how often its streams were ended."""

    name: str
    uid: str
    restarts: int = 0
    log: list[str] = field(default_factory=list)
    previous: list[str] = field(default_factory=list)
    cuts: int = 0
    short: bool = False  # its streams end at once

    @property
    def manifest(self) -> dict:
        status = {"name": "istio-proxy", "restartCount": self.restarts}
        return {
            "metadata": {"name": self.name, "uid": self.uid, "labels": {"app": "ratings", "version": "v1"}},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [status]},
        }


class PodLogs:
    """The pods by name, and what happens to them; every change wakes the followers up."""

    def __init__(self) -> None:
        self.pods: dict[str, LoggedPod] = {}
        self.asked: list[dict[str, str]] = []
        self.times: list[float] = []  # when each log was asked for, in seconds
        self.forbidden = False
        self.busy = 0  # how many more requests for logs are told to come again
        self.changed = threading.Condition()

    def add(self, pod: LoggedPod) -> LoggedPod:
        with self.changed:
            self.pods[pod.name] = pod
        return pod

    def write(self, pod: LoggedPod, *lines: str) -> None:
        with self.changed:
            pod.log.extend(lines)
            self.changed.notify_all()

    def cut(self, pod: LoggedPod, *meanwhile: str) -> None:
        """Ends all streams; `meanwhile` is written before anybody can ask again."""
        with self.changed:
            pod.cuts += 1
            pod.log.extend(meanwhile)
            self.changed.notify_all()

    def restart(self, pod: LoggedPod, *last_words: str) -> None:
        """The container writes its last words to a stream that is cut already, and starts with an empty log."""
        with self.changed:
            pod.cuts += 1
            pod.previous, pod.log = [*pod.log, *last_words], []
            pod.restarts += 1
            self.changed.notify_all()

    def delete(self, pod: LoggedPod) -> None:
        with self.changed:
            del self.pods[pod.name]
            pod.cuts += 1
            self.changed.notify_all()

    @contextlib.contextmanager
    def serving(self, directory: Path) -> Iterator[Path]:
        """Path of a kubeconfig for this server."""

        class Handler(BaseHTTPRequestHandler):
            logs = self

            def do_GET(self) -> None:
                _answer(self, self.logs)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        named = {"name": "x", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}
        config = {
            "current-context": "x",
            "clusters": [named],
            "users": [{"name": "x", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        }
        path = directory / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        try:
            yield path
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _answer(request: BaseHTTPRequestHandler, logs: PodLogs) -> None:
    parts = urlsplit(request.path)
    asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
    _, _, rest = parts.path.partition(f"/namespaces/{NAMESPACE}/pods")
    name, _, sub = rest.strip("/").partition("/")
    with logs.changed:
        pod = logs.pods.get(name)
        listed = [each.manifest for each in logs.pods.values()]
    if logs.forbidden:
        _send(request, 403, {"kind": "Status", "message": "pods is forbidden", "code": 403})
    elif not name:
        _send(request, 200, {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": listed})
    elif pod is None:
        _send(request, 404, {"kind": "Status", "message": f"pods {name} not found", "code": 404})
    elif sub == "log" and logs.busy:
        logs.busy -= 1
        _send(request, 503, {"kind": "Status", "message": "busy", "code": 503})
    elif sub == "log":
        logs.times.append(time.monotonic())
        logs.asked.append(asked)
        _send_log(request, logs, pod, asked)
    else:
        _send(request, 200, pod.manifest)


def _send(request: BaseHTTPRequestHandler, status: int, body: dict) -> None:
    data = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def _send_log(request: BaseHTTPRequestHandler, logs: PodLogs, pod: LoggedPod, asked: dict[str, str]) -> None:
    request.send_response(200)
    request.end_headers()
    with logs.changed:
        lines = list(pod.previous if "previous" in asked else pod.log)
        sent, cuts = len(lines), pod.cuts
    since = asked.get("sinceTime", "").removesuffix("Z")
    lines = [line for line in lines if not since or line[1 : 1 + len(since)] >= since]
    if "tailLines" in asked:
        lines = lines[-int(asked["tailLines"]) :]
    while True:
        with contextlib.suppress(OSError):
            request.wfile.write("".join(f"{line}\n" for line in lines).encode())
            request.wfile.flush()
        if asked.get("follow") != "true" or pod.short:
            return
        with logs.changed:
            while pod.cuts == cuts and len(pod.log) == sent:
                if not logs.changed.wait(timeout=10):
                    return
            if pod.cuts > cuts:
                return
            lines, sent = pod.log[sent:], len(pod.log)
