"""Starts the lab's API server for selftests, as its own process on a free address block."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import ssl
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from lab.api.http.pki import create_cluster_files
from lab.processes.blocks import take_block
from lab.processes.children import Child, start, stop
from lab.settings import DEFAULT_KUBERNETES_VERSION, ClusterSettings

_START_SECONDS = 20
_PROJECT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def api_server(name: str = "mesh1", kubernetes: str = DEFAULT_KUBERNETES_VERSION) -> Iterator[ClusterSettings]:
    """A running, ready and empty API server; settings.kubeconfig leads to it. It ends with the context."""
    block, lock = take_block()
    with lock, tempfile.TemporaryDirectory(prefix="lab-api-") as directory:
        with socket.socket() as probe:
            probe.bind((block.apiserver, 0))
            port = probe.getsockname()[1]
        server = f"https://{block.apiserver}:{port}"
        token = secrets.token_urlsafe(32)
        settings = ClusterSettings(name, block.octet, directory, server, token, kubernetes_version=kubernetes)
        settings.save()
        create_cluster_files(settings)
        line = [sys.executable, "-m", "lab.api", "--cluster-dir", directory]
        child = start(name, "api", line, dict(os.environ), settings.path / "api.log", _PROJECT)
        try:
            _wait_ready(settings, child)
            yield settings
        finally:
            stop([child], 5)


def _wait_ready(settings: ClusterSettings, child: Child) -> None:
    context = ssl.create_default_context(cafile=str(settings.ca_file))
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{settings.server}/readyz", context=context, timeout=2):
                return
        except OSError as error:
            if child.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the API server is not ready: {error}\n{child.log_tail()}") from error
            time.sleep(0.02)


class Http:
    """Plain HTTP to an API server: `call` returns status and decoded JSON, without judging them."""

    def __init__(self, settings: ClusterSettings, token: str | None = None) -> None:
        self.settings = settings
        self.session = requests.Session()
        self.session.verify = str(settings.ca_file)
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {token or settings.token}"
        self.session.headers["User-Agent"] = "selftest/1"

    def call(
        self, method: str, path: str, body: Any = None, media_type: str = "application/json", **params: Any
    ) -> tuple[int, Any]:
        data = json.dumps(body) if body is not None and not isinstance(body, str) else body
        headers = {"Content-Type": media_type} if data is not None else {}
        url = self.settings.server + path
        answer = self.session.request(method, url, data=data, headers=headers, params=params, timeout=20)
        return answer.status_code, answer.json() if answer.content[:1] in (b"{", b"[") else answer.text

    def must(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Like `call`, but an answer other than 2xx fails the test."""
        status, answer = self.call(method, path, body, **more)
        assert status < 300, f"{method} {path} answered {status}: {answer}"
        return answer

    def patch(self, path: str, body: Any, kind: str = "merge", **params: Any) -> tuple[int, Any]:
        """`kind` is merge, json, strategic or apply."""
        media_type = {
            "merge": "application/merge-patch+json",
            "json": "application/json-patch+json",
            "strategic": "application/strategic-merge-patch+json",
            "apply": "application/apply-patch+yaml",
        }[kind]
        return self.call("PATCH", path, body, media_type, **params)

    def apply(self, path: str, body: Any, manager: str, **params: Any) -> tuple[int, Any]:
        return self.patch(path, body, "apply", fieldManager=manager, **params)

    def namespace(self) -> str:
        """A new namespace."""
        return self.must("POST", "/api/v1/namespaces", {"metadata": {"generateName": "t-"}})["metadata"]["name"]

    def events(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """The events of a watch until the server ends it."""
        query = {"watch": "true", "timeoutSeconds": "5", **params}
        with self.session.get(self.settings.server + path, params=query, stream=True, timeout=20) as answer:
            assert answer.status_code == 200, answer.text
            for line in answer.iter_lines(chunk_size=None):
                yield json.loads(line)


def config_map(name: str, data: dict[str, str] | None = None, **meta: Any) -> dict[str, Any]:
    """A ConfigMap as a client sends it."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}}
    return body | ({"data": data} if data is not None else {})


def definition(schema: dict[str, Any], **version: Any) -> dict[str, Any]:
    """A CustomResourceDefinition `widgets.test.lab` with this schema for `spec`."""
    properties = {"spec": schema, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    served = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        "subresources": {"status": {}},
        **version,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.test.lab"},
        "spec": {
            "group": "test.lab",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [served],
        },
    }


def widget(name: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "test.lab/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec, **more}
