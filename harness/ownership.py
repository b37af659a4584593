"""Ours and theirs: what carries our labels is ours; only that is ever deleted."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from harness import manifests
from harness.cluster import Cluster
from harness.kinds import Kind, kind_of
from harness.manifests import OWNER, OWNER_LABEL, RUN_LABEL
from harness.mesh import MESH1, MESH2, MeshNames
from harness.progress import Progress
from harness.transport import NotFound, Object, Objects
from harness.versions import Bounds


def new_run_id() -> str:
    """A label value that names one run: time in UTC and four random hex digits."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def belongs_to_the_suite(obj: Object) -> bool:
    """Whether an object was created by this or another run of the suite."""
    return (obj["metadata"].get("labels") or {}).get(OWNER_LABEL) == OWNER


def is_ours(obj: Object, run_id: str) -> bool:
    """Whether an object was created by this run."""
    return belongs_to_the_suite(obj) and obj["metadata"]["labels"].get(RUN_LABEL) == run_id


def _stages(names: MeshNames) -> Iterator[Objects]:
    """What is deleted together, in order: each stage only when the one before is gone."""
    control_plane = manifests.control_plane(names, None, set())
    yield manifests.federation(names, manifests.cluster_local(names), "")
    yield manifests.bookinfo(names)
    for kind in ("ServiceMeshMemberRoll", "ServiceMeshControlPlane", "Namespace"):
        yield [obj for obj in control_plane if obj["kind"] == kind]


def teardown(clusters: Mapping[str, Cluster], run_id: str, progress: Progress) -> None:
    """Deletes what this run created, in both meshes at once, and waits until it is gone.

    What is not ours stays: a namespace that was there before, another run's objects. Raises WaitTimeout naming what
    does not go away, and why.
    """
    with ThreadPoolExecutor(2, thread_name_prefix="teardown") as pool:
        tasks = [pool.submit(_teardown, clusters[names.name], names, run_id, progress) for names in (MESH1, MESH2)]
    for task in tasks:
        task.result()


def _teardown(cluster: Cluster, names: MeshNames, run_id: str, progress: Progress) -> None:
    for stage in _stages(names):
        progress.step(names.name, f"removing {', '.join(sorted({obj['kind'] for obj in stage}))}")
        ours = [found for obj in stage if (found := _find(cluster, obj)) and is_ours(found[1], run_id)]
        for kind, obj in ours:
            cluster.delete(kind, obj["metadata"]["name"], obj["metadata"].get("namespace"))
        for kind, obj in ours:
            _wait_gone(cluster, kind, obj)
    progress.step(names.name, "removed")


def _find(cluster: Cluster, obj: Object) -> tuple[Kind, Object] | None:
    kind, meta = kind_of(obj), obj["metadata"]
    try:
        return kind, cluster.get(kind, meta["name"], meta.get("namespace"))
    except NotFound:
        return None


def _wait_gone(cluster: Cluster, kind: Kind, obj: Object) -> None:
    meta = obj["metadata"]

    def why(found: Objects) -> str:
        still = found[0]["metadata"] if found else {}
        return f"{kind} {still.get('name')} still there, finalizers {still.get('finalizers') or 'none'}"

    cluster.wait(
        f"{kind} {meta['name']} to be gone",
        kind,
        meta.get("namespace"),
        name=meta["name"],
        until=lambda found: all(now["metadata"]["uid"] != meta["uid"] for now in found) or None,
        timeout=Bounds().delete,
        describe=why,
    )
