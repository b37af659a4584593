"""Looks whether a container is ready."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from lab.apps.wire import BadMessage, Message
from lab.client import Object
from lab.node.bootstrap import ADMIN_PORT

FIRST_POLLS = 0.03  # seconds between looks at a container that has just started
LATER_POLLS = 0.25
PATIENCE = 10.0  # seconds after which a container no longer counts as just started


async def http_get(host: str, port: int, path: str, timeout: float) -> tuple[int, bytes]:
    """Status and body of one plain request; OSError where there is no answer in time, ValueError for nonsense."""
    message = Message()
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            while (whole := message.take()) is None:
                more = await reader.read(1 << 16)
                message.buffer += more
                if not more and (whole := message.take(ended=True)) is None:
                    raise ConnectionError("connection closed before the answer")
        finally:
            writer.close()
    first, _, body = whole
    return int(first.split(" ")[1]), body


async def accepts(host: str, port: int, timeout: float) -> bool:
    """Whether a TCP connection can be opened."""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True
    return False


def _port(container: Object, port: Any) -> int:
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or []:
        if declared.get("name") == port:
            return int(declared["containerPort"])
    return int(port)


class Readiness:
    """The readiness rule of one container: its probe, or what the kind of its program promises.

    Proxies are asked for the state of Envoy whatever their probe says: the product's agent does the same.
    """

    def __init__(self, kind: str, container: Object, pod_ip: str, app_address: str) -> None:
        self._kind, self._container, self._pod_ip = kind, container, pod_ip
        self._host = app_address if kind == "app" else pod_ip
        self._probe: Object = container.get("readinessProbe") or {}
        self._timeout = float(self._probe.get("timeoutSeconds") or 1)

    @property
    def period(self) -> float | None:
        """Seconds between looks at a ready container; None: once ready it stays so as long as it runs."""
        return float(self._probe.get("periodSeconds") or 10) if self._probe and self._kind != "wait" else None

    @property
    def failure_threshold(self) -> int:
        return int(self._probe.get("failureThreshold") or 3)

    async def look(self) -> bool:
        """Whether the container is ready now."""
        if self._kind == "wait":
            return True
        with contextlib.suppress(OSError, ValueError, IndexError, BadMessage):
            if self._kind == "proxy":
                return (await http_get(self._pod_ip, ADMIN_PORT, "/ready", self._timeout))[0] == 200
            if http := self._probe.get("httpGet"):
                port = _port(self._container, http["port"])
                status, _ = await http_get(self._host, port, http.get("path", "/"), self._timeout)
                return 200 <= status < 400
            if tcp := self._probe.get("tcpSocket"):
                return await accepts(self._host, _port(self._container, tcp["port"]), self._timeout)
            ports = [declared["containerPort"] for declared in self._container.get("ports") or []]
            if self._kind == "istiod":
                ports = [8080]
            return all([await accepts(self._host, port, self._timeout) for port in ports])
        return False
