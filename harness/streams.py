"""What a cluster streams from its pods: logs, the output of commands, forwarded ports."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import ws_client

from harness.kinds import POD
from harness.transport import ClusterError, Transport
from harness.waiting import Deadline, pause

T = TypeVar("T")

LOG_SECONDS = 60  # longest silence while a log that is not followed is read
_AGAIN_SECONDS = 0.3
# What an API server says that is busy, restarting or behind a proxy that is: no websocket was opened yet.
_PASSES_BY = re.compile(r"Handshake status (429|50[0234])|reset|refused|closed|timed out|lost", re.IGNORECASE)


def lines_of(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Non-empty lines of a stream as soon as they are there."""
    buffer = b""
    while chunk := _read_some(response):
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        yield from (line for line in lines if line)
    if buffer:
        yield buffer


def _read_some(response: urllib3.BaseHTTPResponse) -> bytes:
    try:
        return response.read1()
    except AttributeError as error:
        # http.client's way to say that another thread has closed the response meanwhile.
        raise ValueError("the stream was closed") from error


class LogStream:
    """Iterates over the lines of a log; ends with the log, or when `close` is called, from any thread."""

    def __init__(self, transport: Transport, response: urllib3.BaseHTTPResponse) -> None:
        self._transport, self._response = transport, response

    def __iter__(self) -> Iterator[str]:
        try:
            for line in lines_of(self._response):
                yield line.decode(errors="replace")
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return
        finally:
            self.close()

    def close(self) -> None:
        self._transport.release(self._response)

    def __enter__(self) -> LogStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class LogQuery:
    """What of a log is asked for; `since` must know its time zone, and counts in whole seconds."""

    container: str
    follow: bool = False
    since: datetime | None = None
    tail: int | None = None
    previous: bool = False

    @property
    def params(self) -> dict[str, str]:
        found = {"container": self.container}
        if self.follow:
            found["follow"] = "true"
        if self.previous:
            found["previous"] = "true"
        if self.since:
            found["sinceTime"] = self.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self.tail is not None:
            found["tailLines"] = str(self.tail)
        return found


def open_log(transport: Transport, namespace: str, pod: str, asked: LogQuery) -> LogStream:
    """Without `follow` the stream ends with what is there now; raises ClusterError."""
    read_timeout = None if asked.follow else LOG_SECONDS
    return LogStream(transport, transport.open(POD.path(namespace, pod, "log"), asked.params, read_timeout))


def _opened(transport: Transport, what: str, connect: Callable[[], T]) -> T:
    """Repeats what failed before anything had begun in the pod, as long as the patience lasts."""
    deadline, cancelled = Deadline(transport.patience), transport.cancelled
    while True:
        try:
            return connect()
        except (ApiException, OSError) as error:
            why = str(getattr(error, "reason", "") or error)
            if deadline.passed or not _PASSES_BY.search(why):
                raise ClusterError(transport.mesh, what, why) from error
        pause(_AGAIN_SECONDS, cancelled)


def run_command(
    transport: Transport, namespace: str, pod: str, container: str, argv: Sequence[str], timeout: float
) -> str:
    what = f"exec {namespace}/{pod} -c {container}: {' '.join(argv)}"
    query = [("container", container), ("stdout", "true"), ("stderr", "true"), ("command", list(argv))]
    url = transport.server + POD.path(namespace, pod, "exec")
    client = _opened(
        transport,
        what,
        lambda: ws_client.websocket_call(
            transport.configuration,
            "GET",
            url,
            query_params=query,
            headers=transport.headers(),
            capture_all=False,
            _preload_content=False,
        ),
    )
    try:
        client.run_forever(timeout=timeout)
        if client.is_open():
            raise ClusterError(transport.mesh, what, f"still running after {timeout:.0f} s")
        output, errors = client.read_stdout(), client.read_stderr()
        ended = json.loads(client.read_channel(ws_client.ERROR_CHANNEL) or "{}")
    except (OSError, ValueError) as error:
        raise ClusterError(transport.mesh, what, f"lost the connection: {error}") from error
    finally:
        client.close()
    if ended.get("status") != "Success":
        why = ended.get("message") or "the connection ended before the command did"
        raise ClusterError(transport.mesh, what, f"{why}: {(errors or output).strip()[:500]}".rstrip(": "))
    return output


class ForwardedSocket(socket.socket):
    """A socket whose other end is a port of a pod; closing it ends the forwarding."""

    def __init__(self, forward: ws_client.PortForward, raw: socket.socket) -> None:
        super().__init__(raw.family, raw.type, raw.proto, fileno=raw.detach())
        self._forward = forward


def forward(transport: Transport, namespace: str, pod: str, port: int) -> ForwardedSocket:
    what = f"port-forward {namespace}/{pod} {port}"
    url = transport.server + POD.path(namespace, pod, "portforward")
    forwarding = _opened(
        transport,
        what,
        lambda: ws_client.portforward_call(
            transport.configuration, "GET", url, query_params=[("ports", str(port))], headers=transport.headers()
        ),
    )
    return ForwardedSocket(forwarding, forwarding.socket(port)._socket)
