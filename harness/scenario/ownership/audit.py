"""What a run leaves behind: what was there before is there again, and nothing of ours remains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import LEASE, NAMESPACE, Kind, kind_of
from harness.cluster.transport import Forbidden, NotFound, Object, Objects
from harness.product.mesh import SCENARIO, MeshNames
from harness.product.names import ROOT_CONFIG_MAP
from harness.scenario.manifests import OWNER, OWNER_LABEL, scenario
from harness.scenario.ownership import lease
from harness.scenario.ownership.removal import belongs_to_the_suite, described, is_ours

# Controllers keep their own books in these; they are no part of what somebody set up.
_BOOKKEEPING = frozenset({ROOT_CONFIG_MAP, "kube-root-ca.crt", "openshift-service-ca.crt"})


@dataclass(frozen=True)
class Remembered:
    """An object as it was: `said` is what a person or a program asked for (labels, spec, data); place: where it is."""

    uid: str
    said: Any
    place: str


Inventory = Mapping[str, Remembered]


def _kinds(names: MeshNames) -> list[Kind]:
    return list(dict.fromkeys(kind_of(obj) for obj in scenario(SCENARIO[names.name])))


def take_inventory(clusters: Mapping[str, Cluster], meshes: Mapping[str, MeshNames] = SCENARIO) -> Inventory:
    """All namespaces, and in those of the meshes everything of the kinds the suite writes. Raises ClusterError.

    What is on its way out, what the suite made, and what goes away with that, is not counted.
    """
    found, unseen = _look(clusters, meshes)
    for error in unseen.values():
        raise error
    return found


def _look(
    clusters: Mapping[str, Cluster], meshes: Mapping[str, MeshNames]
) -> tuple[dict[str, Remembered], dict[str, Forbidden]]:
    """The inventory, and by place why it may not be looked at."""
    found: dict[str, Remembered] = {}
    unseen: dict[str, Forbidden] = {}
    for names in (meshes[name] for name in clusters):
        cluster = clusters[names.name]
        namespaces = _there(cluster, names)
        listed: dict[str, Objects] = {}
        for kind in _kinds(names):
            for namespace in namespaces if kind.namespaced else ("",):
                place = _place(names, kind, namespace)
                try:
                    listed[place] = _listed(cluster, kind, namespace)
                except Forbidden as error:
                    unseen[place] = error
        ours = [obj["metadata"] for objects in listed.values() for obj in objects if belongs_to_the_suite(obj)]
        uids, spaces = {meta["uid"] for meta in ours}, {meta["name"] for meta in ours if "namespace" not in meta}
        for place, objects in listed.items():
            for obj in objects:
                meta = obj["metadata"]
                goes_along = meta.get("namespace") in spaces or uids & _owners(obj)
                if not (goes_along or _is_passed_over(obj)):
                    said = {"labels": meta.get("labels") or {}, "spec": obj.get("spec"), "data": obj.get("data")}
                    found[f"{names.name}: {described(obj)}"] = Remembered(meta["uid"], said, place)
    return found, unseen


def _place(names: MeshNames, kind: Kind, namespace: str) -> str:
    return f"{names.name}: {kind} in {namespace or 'the whole cluster'}"


def _there(cluster: Cluster, names: MeshNames) -> list[str]:
    """The namespaces of a mesh that exist: Roles go away with theirs, and so does everything else."""
    return [name for name in (names.system_namespace, *names.members) if name and cluster.find(NAMESPACE, name)]


def _owners(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()}


def _is_passed_over(obj: Object) -> bool:
    meta = obj["metadata"]
    return "deletionTimestamp" in meta or belongs_to_the_suite(obj) or _is_bookkeeping(obj)


def _is_bookkeeping(obj: Object) -> bool:
    return obj["kind"] == "ConfigMap" and obj["metadata"]["name"] in _BOOKKEEPING


def _listed(cluster: Cluster, kind: Kind, namespace: str, selector: str | None = None) -> Objects:
    try:
        return cluster.list(kind, namespace or None, selector)
    except NotFound:
        return []


def _remains(
    clusters: Mapping[str, Cluster], run_ids: Set[str], meshes: Mapping[str, MeshNames]
) -> Iterator[tuple[str, str]]:
    """(uid, sentence) of what carries these runs' label anywhere; in our namespaces only where no more may be seen."""
    for names in (meshes[name] for name in clusters):
        cluster = clusters[names.name]
        for kind in _kinds(names):
            for obj in _everywhere(cluster, kind, names, f"{OWNER_LABEL}={OWNER}"):
                if is_ours(obj, *run_ids):
                    yield obj["metadata"]["uid"], f"{names.name}: {described(obj)} remains"
        held = cluster.find(LEASE, lease.NAME, lease.NAMESPACE)
        if held and is_ours(held, *run_ids):
            yield held["metadata"]["uid"], f"{names.name}: {LEASE} {lease.NAMESPACE}/{lease.NAME} remains"


def _everywhere(cluster: Cluster, kind: Kind, names: MeshNames, selector: str) -> Iterator[Object]:
    with contextlib.suppress(Forbidden):
        yield from _listed(cluster, kind, "", selector)
        return
    for namespace in _there(cluster, names) if kind.namespaced else ():
        with contextlib.suppress(Forbidden):  # which `_look` has noticed
            yield from _listed(cluster, kind, namespace, selector)


def audit(
    clusters: Mapping[str, Cluster],
    run_ids: Set[str],
    before: Inventory,
    meshes: Mapping[str, MeshNames] = SCENARIO,
) -> list[str]:
    """How the clusters differ from `before`, and what of these runs remains; [] when there is no trace of them.

    run_ids: this run's, and those of the runs whose remains it has taken over.
    What may not be looked at any more is said to be so. Kinds that the operator brought with the first control plane
    stay, as its own. Raises ClusterError.
    """
    after, unseen = _look(clusters, meshes)
    problems = [f"{place} could not be looked at: {error.detail}" for place, error in unseen.items()]
    for key, old in before.items():
        new = after.get(key)
        if new is None and old.place in unseen:
            continue
        if new is None:
            problems.append(f"{key} was there before the run and is gone")
        elif new.uid != old.uid:
            problems.append(f"{key} was there before the run and has been made anew")
        elif new.said != old.said:
            parts = [part for part in old.said if old.said[part] != new.said[part]]
            problems.append(f"{key} was there before the run and has been changed: {', '.join(parts)}")
    return [*problems, *sorted(dict(_remains(clusters, run_ids, meshes)).values())]
