"""Whether the API servers answer for what the checks look at."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

from harness.cluster import kinds
from harness.cluster.transport import ClusterError
from harness.product.mesh import Federation, Mesh

KINDS = (
    *(kinds.CONTROL_PLANE, kinds.MEMBER_ROLL, *kinds.FEDERATION_KINDS, kinds.VIRTUAL_SERVICE),
    *(kinds.CONFIG_MAP, kinds.DEPLOYMENT, kinds.POD, kinds.SERVICE),
)


def ask_once(federation: Federation) -> None:
    """Each kind has been asked for in both meshes, all at the same time.

    So an API server's patience is spent once, and not kind by kind: what gave no answer is asked for shortly later.
    Raises nothing: what a missing answer means is for the checks to say.
    """
    asked = [(mesh, kind) for mesh in federation.meshes for kind in KINDS]
    with ThreadPoolExecutor(len(asked), thread_name_prefix="asked once") as pool:
        list(pool.map(_ask, asked))


def _ask(asked: tuple[Mesh, kinds.Kind]) -> None:
    mesh, kind = asked
    with contextlib.suppress(ClusterError):
        mesh.cluster.find(kind, mesh.peer, mesh.system_namespace)  # any name: it is the answer that counts
