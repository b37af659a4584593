"""Users of the lab's clusters who may not do everything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import requests

from lab.api.http.pki import kubeconfig
from lab.settings import ClusterSettings


@contextlib.contextmanager
def restricted(
    settings: ClusterSettings, path: Path, rules: Sequence[dict[str, Any]], what: Literal["allow", "deny"] = "deny"
) -> Iterator[Path]:
    """A kubeconfig of user `reader`, at `path`; rules: verbs, groups, resources, namespaces ('' for none).

    They say what is denied, or all that is allowed.
    """
    admin = {"Authorization": f"Bearer {settings.token}"}

    def tell(method: str, body: dict[str, Any]) -> None:
        url = f"{settings.server}/lab/users"
        answer = requests.request(method, url, json=body, headers=admin, verify=str(settings.ca_file), timeout=10)
        answer.raise_for_status()

    tell("POST", {"token": "restricted", "name": "reader", what: list(rules)})
    kubeconfig(settings, path, "restricted", "reader")
    try:
        yield path
    finally:
        tell("DELETE", {"token": "restricted"})
