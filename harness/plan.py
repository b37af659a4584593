"""What a run would do, in lines for people; nothing is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.cluster import Cluster
from harness.lease import NAME, NAMESPACE
from harness.mesh import MESH1, MESH2
from harness.preflight.surroundings import kinds_to_create
from harness.remains import existing
from harness.transport import ClusterError, Objects


def plan(clusters: Mapping[str, Cluster], adopt: bool) -> Iterator[str]:
    """What would be created in each mesh, by kind. `clusters` lacks what cannot be reached, or all of an empty lab."""
    if adopt:
        yield f"would be created: Lease {NAMESPACE}/{NAME} in each cluster, for as long as the run lasts"
        return
    for names in (MESH1, MESH2):
        there: Objects = []
        if cluster := clusters.get(names.name):
            try:
                there = existing(cluster, names)
            except ClusterError:
                continue
        yield f"{names.name}: would be created, and removed after the run:"
        yield f"    Lease: {NAMESPACE}/{NAME}"
        for kind, created in kinds_to_create(names, there).items():
            yield f"    {kind}: {', '.join(created)}"
