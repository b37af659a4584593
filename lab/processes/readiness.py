"""Whether an emulated cluster is ready to be used, asked through its API only."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from lab.resources import NODE, SERVICE_ACCOUNT, SMCP, SMM, SMMR
from lab.settings import ClusterSettings


class Readiness:
    """Asks one question after the other; `missing` says what the cluster still lacks."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self._context: ssl.SSLContext | None = None
        self._questions = [
            ("its API", "/readyz"),
            ("its node to be Ready", NODE.path()),
            ("the default ServiceAccount", SERVICE_ACCOUNT.path("default", "default")),
            *((f"the operator's {kind.kind} kind", kind.path()) for kind in (SMCP, SMMR, SMM)),
        ]

    @property
    def missing(self) -> str:
        return self._questions[0][0] if self._questions else "nothing"

    def ready(self) -> bool:
        """Whether everything is there now; what was there once is not asked for again."""
        while self._questions:
            path = self._questions[0][1]
            answer = self._get(path)
            if answer is None or (path == NODE.path() and not _ready_node(answer)):
                return False
            self._questions.pop(0)
        return True

    def _get(self, path: str) -> bytes | None:
        server = urlsplit(self.settings.server)
        self._context = self._context or ssl.create_default_context(cafile=str(self.settings.ca_file))
        connection = http.client.HTTPSConnection(server.netloc, context=self._context, timeout=2)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.settings.token}"})
            answer = connection.getresponse()
            body = answer.read()
            return body if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def _ready_node(answer: bytes) -> bool:
    nodes: list[dict[str, Any]] = json.loads(answer).get("items") or []
    return any(
        item["type"] == "Ready" and item["status"] == "True"
        for node in nodes
        for item in node.get("status", {}).get("conditions") or ()
    )
