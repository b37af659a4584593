"""By which exported service a federation ingress can be judged: one that has ready pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from harness.cluster.kinds import ENDPOINTS
from harness.cluster.transport import ClusterError
from harness.product.mesh import Mesh, server_names
from harness.product.names import SERVICE_PORT, SHARED

T = TypeVar("T")


class Unjudged(ClusterError):
    """Who is at a port of the federation ingress is unknown, and for a reason that is not its own."""


def at_a_live_export(mesh: Mesh, port: int, look: Callable[[str], T]) -> T:
    """What `look` gives for the first server name of a port of the mesh's ingress that it makes a connection by.

    A gateway that has no pod to pass a connection on to ends it before the TLS handshake: that says nothing of who the
    gateway is. Raises Unjudged where no exported service has a ready pod, and OSError where one has.
    """
    errors = {}
    for name in server_names(mesh, port):
        try:
            return look(name)
        except OSError as error:
            errors[name] = error
    said = "; ".join(f"{name}: {error}" for name, error in errors.items())
    if port == SERVICE_PORT and not _served(mesh):
        services = " and ".join(SHARED)
        detail = f"unknown: {services} have no ready pod in {mesh.app_namespace} to pass a connection on to ({said})"
        raise Unjudged(mesh.name, f"see who is at {mesh.ingress_gateway} port {port}", detail)
    raise OSError(said)


def _served(mesh: Mesh) -> list[str]:
    """The exported services that have a ready pod."""
    return [
        obj["metadata"]["name"]
        for obj in mesh.cluster.list(ENDPOINTS, mesh.app_namespace)
        if obj["metadata"]["name"] in SHARED and any(subset.get("addresses") for subset in obj.get("subsets") or [])
    ]
