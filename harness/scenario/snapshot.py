"""What the scenario consists of at one moment, and what differs between two: proof that a run changed nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import kind_of
from harness.product.mesh import MESH1, MESH2
from harness.scenario import manifests

Snapshot = dict[str, tuple[Any, ...]]


def snapshot(clusters: Mapping[str, Cluster]) -> Snapshot:
    """uid, generation, labels and spec of everything the scenario consists of, by mesh, kind and name.

    Raises NotFound where an object is not there: two looks at nothing do not differ.
    """
    found: Snapshot = {}
    for names in (MESH1, MESH2):
        for obj in manifests.scenario(names):
            kind, meta = kind_of(obj), obj["metadata"]
            now = clusters[names.name].get(kind, meta["name"], meta.get("namespace"))
            key = f"{names.name}: {kind} {meta.get('namespace', '')}/{meta['name']}"
            asked = now.get("spec") or now.get("data")
            known = now["metadata"]
            found[key] = (known["uid"], known.get("generation"), known.get("labels"), asked)
    return found


def changes(before: Snapshot, after: Snapshot) -> list[str]:
    """What differs between two snapshots, one line per object and field."""
    lines = [f"{key} is gone" for key in before.keys() - after.keys()]
    lines += [f"{key} is new" for key in after.keys() - before.keys()]
    for key in before.keys() & after.keys():
        for name, old, new in zip(("uid", "generation", "labels", "spec"), before[key], after[key], strict=True):
            if old != new:
                lines.append(f"{key}: {name} was {old}, is {new}")
    return sorted(lines)
