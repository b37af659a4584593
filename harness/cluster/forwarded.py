"""Plain HTTP to a port of a pod that has no address outside its cluster: by a port-forward through the API server."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import NamedTuple

from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError

_SECONDS = 10.0


class Answer(NamedTuple):
    """HTTP status and body."""

    status: int
    body: str


def get(
    cluster: Cluster,
    namespace: str,
    pod: str,
    port: int,
    path: str,
    what: str,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """GET `path`; raises ClusterError where nobody answers, with `what` as that which was tried."""
    connection = http.client.HTTPConnection("localhost", port, timeout=_SECONDS)
    connection.sock = cluster.port_forward(namespace, pod, port)
    connection.sock.settimeout(_SECONDS)
    try:
        connection.request("GET", path, headers={"Connection": "close", **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        raise ClusterError(cluster.name, what, f"no answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
