"""What a cluster streams from its pods: logs, the output of commands, forwarded ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import ws_client

from harness.kinds import POD
from harness.transport import ClusterError, Transport


def lines_of(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Non-empty lines of a stream as soon as they are there."""
    buffer = b""
    while chunk := response.read1():
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        yield from (line for line in lines if line)
    if buffer:
        yield buffer


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


def open_log(
    transport: Transport,
    namespace: str,
    pod: str,
    container: str,
    follow: bool,
    since: datetime | None,
    tail: int | None,
) -> LogStream:
    """`since` must know its time zone; without `follow` the stream ends with what is there now."""
    params = {"container": container}
    if follow:
        params["follow"] = "true"
    if since:
        params["sinceTime"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if tail is not None:
        params["tailLines"] = str(tail)
    path = POD.path(namespace, pod, "log")
    return LogStream(transport, transport.open(path, params, read_timeout=None if follow else 60))


def run_command(
    transport: Transport, namespace: str, pod: str, container: str, argv: Sequence[str], timeout: float
) -> str:
    what = f"exec {namespace}/{pod} -c {container}: {' '.join(argv)}"
    query = [("container", container), ("stdout", "true"), ("stderr", "true"), ("command", list(argv))]
    url = transport.server + POD.path(namespace, pod, "exec")
    try:
        client = ws_client.websocket_call(
            transport.configuration,
            "GET",
            url,
            query_params=query,
            headers=transport.headers(),
            capture_all=False,
            _preload_content=False,
        )
    except ApiException as error:
        raise ClusterError(transport.mesh, what, str(error.reason)) from error
    try:
        client.run_forever(timeout=timeout)
        if client.is_open():
            raise ClusterError(transport.mesh, what, f"still running after {timeout:.0f} s")
        output, errors, code = client.read_stdout(), client.read_stderr(), client.returncode
    except (OSError, KeyError, TypeError) as error:
        raise ClusterError(transport.mesh, what, f"lost the connection: {error}") from error
    finally:
        client.close()
    if code != 0:
        raise ClusterError(transport.mesh, what, f"exit code {code}: {(errors or output).strip()[:500]}")
    return output


class ForwardedSocket(socket.socket):
    """A socket whose other end is a port of a pod; closing it ends the forwarding."""

    def __init__(self, forward: ws_client.PortForward, raw: socket.socket) -> None:
        super().__init__(raw.family, raw.type, raw.proto, fileno=raw.detach())
        self._forward = forward


def forward(transport: Transport, namespace: str, pod: str, port: int) -> ForwardedSocket:
    what = f"port-forward {namespace}/{pod} {port}"
    url = transport.server + POD.path(namespace, pod, "portforward")
    try:
        forwarding = ws_client.portforward_call(
            transport.configuration, "GET", url, query_params=[("ports", str(port))], headers=transport.headers()
        )
    except (ApiException, OSError) as error:
        raise ClusterError(transport.mesh, what, str(getattr(error, "reason", "") or error)) from error
    return ForwardedSocket(forwarding, forwarding.socket(port)._socket)
