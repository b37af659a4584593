"""A pytest plugin for runs in a subprocess: notes every request that is sent to an API server, as RBAC names it.

`-p selftests.support.asked` with ASKED_FILE in the environment; `read` gives what a run noted.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import urllib3
import websocket

from lab.api.http.server import parse

VARIABLE = "ASKED_FILE"
_WRITES = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
_lock = threading.Lock()


class Request(NamedTuple):
    """What an authorizer is asked: `resource` as in `pods/exec`; namespace '' for the whole cluster."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str


def request_of(method: str, url: str) -> Request | None:
    """None for what names no resource: versions, discovery."""
    parts = urlsplit(url)
    target = parse(parts.path)
    if target is None or not target.plural:
        return None
    if method == "GET":
        watching = parse_qs(parts.query).get("watch") == ["true"]
        verb = "watch" if watching else "get" if target.name else "list"
    else:
        verb = _WRITES[method]
    resource = target.plural + (f"/{target.sub}" if target.sub else "")
    return Request(verb, target.group, resource, target.namespace, target.name)


def read(path: Path) -> set[tuple[str, Request]]:
    """(port of the API server, request)."""
    found = set()
    for line in path.read_text().splitlines():
        method, url = line.split(" ", 1)
        if request := request_of(method, url):
            found.add((urlsplit(url).netloc, request))
    return found


def _note(method: str, url: str) -> None:
    with _lock, Path(os.environ[VARIABLE]).open("a") as file:
        file.write(f"{method} {url}\n")


def pytest_configure() -> None:
    request, connect = urllib3.PoolManager.request, websocket.WebSocket.connect

    def noted_request(self: Any, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        _note(method, url)
        return request(self, method, url, *arguments, **options)

    def noted_connect(self: Any, url: str, **options: Any) -> Any:
        _note("GET", url)
        return connect(self, url, **options)

    urllib3.PoolManager.request = noted_request  # type: ignore[method-assign]
    websocket.WebSocket.connect = noted_connect  # type: ignore[method-assign]
