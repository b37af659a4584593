"""What earlier runs left in the clusters: kept on purpose, or the remains of runs that died."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import kind_of
from harness.cluster.transport import Forbidden, NotFound, Object, Objects
from harness.product.mesh import MESH1, MESH2, MeshNames
from harness.run.progress import Progress
from harness.scenario.manifests import KEPT_LABEL, scenario
from harness.scenario.ownership.removal import InBothMeshes, belongs_to_the_suite, is_ours, run_of

_AT_ONCE = 8


def existing(cluster: Cluster, names: MeshNames) -> Objects:
    """The scenario's objects that are there already, with their kinds; what may not be read is left out."""

    def find(wanted: Object) -> Object | None:
        kind, meta = kind_of(wanted), wanted["metadata"]
        try:
            found = cluster.find(kind, meta["name"], meta.get("namespace"))
        except Forbidden:
            return None
        return {"apiVersion": kind.api_version, "kind": kind.kind, **found} if found else None

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="existing") as pool:
        return [obj for obj in pool.map(find, scenario(names)) if obj]


def by_run(there: Iterable[Object]) -> dict[str, Objects]:
    """The suite's own among these objects, by the id of the run that made them or took them over last."""
    runs: dict[str, Objects] = {}
    for obj in there:
        if belongs_to_the_suite(obj):
            runs.setdefault(run_of(obj), []).append(obj)
    return runs


def were_kept(objects: Iterable[Object]) -> bool:
    """Whether --federation-keep kept these objects of one run; one mark speaks for all, as marking may be cut short."""
    return any(KEPT_LABEL in (obj["metadata"].get("labels") or {}) for obj in objects)


def dead_runs(clusters: Mapping[str, Cluster]) -> frozenset[str]:
    """Ids of the runs that left anything in either mesh that was not kept. Raises ClusterError.

    Only for who holds the Leases of both clusters: otherwise one of these runs may be going on.
    """
    there = [obj for names in (MESH1, MESH2) for obj in existing(clusters[names.name], names)]
    return frozenset(run for run, objects in by_run(there).items() if not were_kept(objects))


class Keeping(InBothMeshes):
    """Marks what these runs made as kept on purpose, so that no later run takes it for the remains of a dead one."""

    def __init__(self, clusters: Mapping[str, Cluster], run_ids: Iterable[str], progress: Progress) -> None:
        super().__init__(clusters, progress)
        self._run_ids = tuple(run_ids)

    def _work(self, cluster: Cluster, names: MeshNames) -> None:
        mark = {"metadata": {"labels": {KEPT_LABEL: "true"}}}
        for obj in existing(cluster, names):
            self._check()
            if is_ours(obj, *self._run_ids):
                with contextlib.suppress(NotFound):  # somebody removes it just now
                    cluster.patch(kind_of(obj), obj["metadata"]["name"], obj["metadata"].get("namespace"), mark)
        self._progress.step(names.name, "marked as kept")
