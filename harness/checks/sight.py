"""Whether the API servers answer for what the checks look at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from harness.cluster import kinds
from harness.cluster.transport import ClusterError
from harness.product.mesh import Federation, Mesh

_SYSTEM = (
    *(kinds.CONTROL_PLANE, kinds.MEMBER_ROLL, kinds.PEER),
    *(kinds.CONFIG_MAP, kinds.DEPLOYMENT, kinds.POD, kinds.SERVICE),
)


def ask_once(federation: Federation) -> None:
    """Each kind has been asked for in both meshes, all at the same time.

    So an API server's patience is spent once, and not kind by kind: what gave no answer is asked for shortly later.
    Raises nothing: what a missing answer means is for the checks to say.
    """
    asked = [(mesh, *place) for mesh in federation.meshes for place in _places(mesh)]
    with ThreadPoolExecutor(len(asked), thread_name_prefix="asked once") as pool:
        list(pool.map(_ask, asked))


def _places(mesh: Mesh) -> Iterator[tuple[kinds.Kind, str]]:
    """Kinds and the namespaces where the checks look at them."""
    for kind in (*_SYSTEM, kinds.EXPORTS if mesh.exports else kinds.IMPORTS):
        yield kind, mesh.system_namespace
    if not mesh.exports:
        yield kinds.VIRTUAL_SERVICE, mesh.app_namespace


def _ask(asked: tuple[Mesh, kinds.Kind, str]) -> None:
    mesh, kind, namespace = asked
    with contextlib.suppress(ClusterError):
        mesh.cluster.find(kind, mesh.peer, namespace)  # any name: it is the answer that counts
