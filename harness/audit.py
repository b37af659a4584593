"""What a run leaves behind: what was there before is there again, and nothing of ours remains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.cluster import Cluster
from harness.kinds import LEASE, NAMESPACE, Kind, kind_of
from harness.manifests import OWNER, OWNER_LABEL, RUN_LABEL, scenario
from harness.mesh import MESH1, MESH2, MeshNames
from harness.ownership import described
from harness.transport import Forbidden, NotFound, Object, Objects

# Controllers keep their own books in these; they are no part of what somebody set up.
_BOOKKEEPING = frozenset({"istio-ca-root-cert", "kube-root-ca.crt", "openshift-service-ca.crt"})


@dataclass(frozen=True)
class Remembered:
    """An object as it was: `said` is what a person or a program asked for (labels, spec, data)."""

    uid: str
    said: Any


Inventory = Mapping[str, Remembered]


def _kinds(names: MeshNames) -> list[Kind]:
    return list(dict.fromkeys(kind_of(obj) for obj in scenario(names)))


def take_inventory(clusters: Mapping[str, Cluster]) -> Inventory:
    """All namespaces, and in the scenario's namespaces everything of the kinds the suite writes. Raises ClusterError.

    What is on its way out, and what the suite made, is not counted.
    """
    found: dict[str, Remembered] = {}
    for names in (MESH1, MESH2):
        cluster = clusters[names.name]
        for obj in _present(cluster, names):
            meta = obj["metadata"]
            if "deletionTimestamp" in meta or (meta.get("labels") or {}).get(OWNER_LABEL) == OWNER:
                continue
            said = {"labels": meta.get("labels") or {}, "spec": obj.get("spec"), "data": obj.get("data")}
            found[f"{names.name}: {described(obj)}"] = Remembered(meta["uid"], said)
    return found


def _present(cluster: Cluster, names: MeshNames) -> Iterator[Object]:
    for kind in _kinds(names):
        if kind is NAMESPACE:
            yield from _listed(cluster, kind)
            continue
        for namespace in (names.system_namespace, names.app_namespace):
            yield from (obj for obj in _listed(cluster, kind, namespace) if not _is_bookkeeping(obj))


def _is_bookkeeping(obj: Object) -> bool:
    return obj["kind"] == "ConfigMap" and obj["metadata"]["name"] in _BOOKKEEPING


def _listed(cluster: Cluster, kind: Kind, namespace: str | None = None, selector: str | None = None) -> Objects:
    try:
        return cluster.list(kind, namespace, selector)
    except NotFound:
        return []


def leftovers(clusters: Mapping[str, Cluster], run_id: str) -> list[str]:
    """What carries this run's label anywhere, one line each; in our namespaces only where no more may be seen."""
    selector = f"{OWNER_LABEL}={OWNER},{RUN_LABEL}={run_id}"
    lines: dict[str, str] = {}
    for names in (MESH1, MESH2):
        cluster = clusters[names.name]
        for kind in (*_kinds(names), LEASE):
            for obj in _everywhere(cluster, kind, names, selector):
                lines[obj["metadata"]["uid"]] = f"{names.name}: {described(obj)} remains"
    return sorted(lines.values())


def _everywhere(cluster: Cluster, kind: Kind, names: MeshNames, selector: str) -> Objects:
    try:
        return _listed(cluster, kind, None, selector)
    except Forbidden:
        if kind is NAMESPACE:
            raise
        namespaces = (names.system_namespace, names.app_namespace)
        return [obj for namespace in namespaces for obj in _listed(cluster, kind, namespace, selector)]


def audit(clusters: Mapping[str, Cluster], run_id: str, before: Inventory) -> list[str]:
    """How the clusters differ from `before`, and what of this run remains; [] when the run left no trace.

    Kinds that the operator brought with the first control plane stay, as its own.
    """
    after = take_inventory(clusters)
    problems = []
    for key, old in before.items():
        new = after.get(key)
        if new is None:
            problems.append(f"{key} was there before the run and is gone")
        elif new.uid != old.uid:
            problems.append(f"{key} was there before the run and has been made anew")
        elif new.said != old.said:
            parts = [part for part in old.said if old.said[part] != new.said[part]]
            problems.append(f"{key} was there before the run and has been changed: {', '.join(parts)}")
    return [*problems, *leftovers(clusters, run_id)]
