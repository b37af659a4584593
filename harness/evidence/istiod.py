"""What istiod makes of the federation in its memory: no API object shows it, and every proxy is configured by it."""

from __future__ import annotations

import http.client
import json
from typing import Any

from harness.cluster import Cluster
from harness.transport import ClusterError

_PORT, _PATH = 8080, "/debug/configz"
_SECONDS = 10.0
# Of the objects of the federation controller; the others are those of the API.
_PREFIXES = ("federation-", "fed-")


def federation_objects(cluster: Cluster, namespace: str, pod: str) -> list[dict[str, Any]]:
    """The federation's objects in the memory of one istiod pod, through a port-forward, as its debug page has them.

    An object is `{kind, name, namespace, spec}` (observed with OSSM 2.1.6) or has these in `metadata`. Raises
    ClusterError where istiod does not answer, ValueError where it answers something else.
    """
    what = f"GET {_PATH} of istiod {namespace}/{pod}"
    connection = http.client.HTTPConnection("localhost", _PORT, timeout=_SECONDS)
    connection.sock = cluster.port_forward(namespace, pod, _PORT)
    connection.sock.settimeout(_SECONDS)
    try:
        connection.request("GET", _PATH, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise ClusterError(cluster.name, what, f"no answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise ClusterError(cluster.name, what, f"answered {response.status}: {body[:200]}", response.status)
    return federation_part(json.loads(body))


def federation_part(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the debug page's objects that the federation controller made."""
    return [entry for entry in entries if _name(entry).startswith(_PREFIXES)]


def _name(entry: dict[str, Any]) -> str:
    return entry.get("name") or (entry.get("metadata") or {}).get("name") or ""
