"""What a cluster streams from its pods: logs, the output of commands, forwarded ports."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import ws_client
from websocket import WebSocketBadStatusException

from harness.cluster.kinds import POD
from harness.cluster.transport import (
    CONNECT_SECONDS,
    GONE_SECONDS,
    READ_SECONDS,
    ClusterError,
    Transport,
    Unreachable,
    passes_by,
)


class _Closes(Protocol):
    def close(self, **_: Any) -> None: ...


T = TypeVar("T", bound=_Closes)

LOG_SECONDS = 60  # longest silence while a log that is not followed is read, by whoever has the patience
_OPENING_SECONDS = CONNECT_SECONDS + READ_SECONDS  # the websockets' own patience has no end
_LOST = re.compile(r"reset|refused|closed|timed out|lost", re.IGNORECASE)


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
    read_timeout = None if asked.follow else _patient(transport, LOG_SECONDS)
    return LogStream(transport, transport.open(POD.path(namespace, pod, "log"), asked.params, read_timeout))


def _patient(transport: Transport, seconds: float) -> float:
    """How long whoever asks waits for what has `seconds` as long as somebody has the time."""
    return min(seconds, max(transport.patience, CONNECT_SECONDS))


def _opened(transport: Transport, what: str, about: str, connect: Callable[[], T]) -> T:
    """Repeats, as a request is, what failed before anything had begun in the pod."""

    seconds = transport.try_seconds(about, min(_OPENING_SECONDS, max(transport.patience, GONE_SECONDS)))

    def attempt() -> T:
        try:
            return transport.interruptible(connect, lambda opened: opened.close(), seconds=seconds)
        except TimeoutError as error:
            raise Unreachable(transport.mesh, what, f"no answer within {seconds:.0f} s") from error
        except (ApiException, OSError) as error:
            raise _not_opened(transport, what, error) from error

    return transport.persist(attempt, passes_by, about=about)


def _not_opened(transport: Transport, what: str, error: ApiException | OSError) -> ClusterError:
    # The official client keeps only the text of what the websocket's handshake ended with.
    answer = error.__context__
    if isinstance(answer, WebSocketBadStatusException):
        headers, raw = answer.resp_headers or {}, answer.resp_body or b""
        return transport.refusal(what, answer.status_code, raw, headers.get("retry-after", ""))
    why = str(getattr(error, "reason", "") or error)
    return (Unreachable if _LOST.search(why) else ClusterError)(transport.mesh, what, why)


def run_command(
    transport: Transport, namespace: str, pod: str, container: str, argv: Sequence[str], timeout: float
) -> str:
    what = f"exec {namespace}/{pod} -c {container}: {' '.join(argv)}"
    query = [("container", container), ("stdout", "true"), ("stderr", "true"), ("command", list(argv))]
    url = transport.server + POD.path(namespace, pod, "exec")
    client = _opened(
        transport,
        what,
        "pods/exec",
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
    timeout = _patient(transport, timeout)
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
        "pods/portforward",
        lambda: ws_client.portforward_call(
            transport.configuration, "GET", url, query_params=[("ports", str(port))], headers=transport.headers()
        ),
    )
    return ForwardedSocket(forwarding, forwarding.socket(port)._socket)
