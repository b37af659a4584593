"""Latencies of the lab's API: get, patch, list of 1,000 objects, delivery of a watch event. One client, kept open."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

import yaml

from benchmarks.labs import lab
from benchmarks.measure import Figure, timed

_CALLS = 300
_OBJECTS = 1000
_LISTS = 20
_EVENTS = 100
_NAMESPACE = "/api/v1/namespaces/default"


class Client:
    """One connection to the API with the admin's token."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._headers = {"Authorization": f"Bearer {user['token']}"}
        address = urlsplit(cluster["server"])
        assert address.hostname
        context = ssl.create_default_context(cadata=authority)
        self._connection = http.client.HTTPSConnection(address.hostname, address.port, context=context)

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> bytes:
        headers = {**self._headers, "Content-Type": kind}
        self._connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = self._connection.getresponse()
        raw = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {raw[:200]!r}")
        return raw

    def stream(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path, headers=self._headers)
        return self._connection.getresponse()


def measure() -> list[Figure]:
    with lab() as clusters:
        kubeconfig = clusters["mesh1"].kubeconfig
        client = Client(kubeconfig)
        for number in range(_OBJECTS):
            client.call("POST", f"{_NAMESPACE}/configmaps", _config_map(f"many-{number}"))
        one = f"{_NAMESPACE}/configmaps/many-0"
        get = timed(_CALLS, lambda: client.call("GET", one), 1000)
        patch = timed(_CALLS, lambda: client.call("PATCH", one, _change(), "application/merge-patch+json"), 1000)
        everything = timed(_LISTS, lambda: client.call("GET", f"{_NAMESPACE}/configmaps"), 1000)
        delivery = _delivery(client, Client(kubeconfig), one)
    return [
        Figure("API: get", get, "ms", "2"),
        Figure("API: merge patch", patch, "ms", "2"),
        Figure(f"API: list of {_OBJECTS:,} objects", everything, "ms", "20"),
        Figure("API: from a patch sent to its watch event received", delivery, "ms"),
    ]


def _config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "x" * 200}}


def _change() -> dict[str, Any]:
    return {"data": {"changed": str(time.perf_counter_ns())}}


def _delivery(client: Client, watcher: Client, path: str) -> tuple[float, ...]:
    """Milliseconds between sending a patch and reading its event on another connection."""
    version = json.loads(client.call("GET", path))["metadata"]["resourceVersion"]
    stream = watcher.stream(f"{_NAMESPACE}/configmaps?watch=true&resourceVersion={version}&timeoutSeconds=60")
    seen: Queue[float] = Queue()

    def read() -> None:
        for _ in range(_EVENTS):
            stream.readline()
            seen.put(time.perf_counter())

    threading.Thread(target=read, daemon=True).start()
    values = []
    for _ in range(_EVENTS):
        sent = time.perf_counter()
        client.call("PATCH", path, _change(), "application/merge-patch+json")
        values.append((seen.get(timeout=10) - sent) * 1000)
    return tuple(values)
