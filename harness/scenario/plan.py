"""What a run would do, in lines for people; nothing is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError, Objects
from harness.product.mesh import MESH1, MESH2
from harness.scenario.ownership.lease import NAME, NAMESPACE
from harness.scenario.ownership.remains import existing
from harness.scenario.preflight.surroundings import kinds_to_create


def plan(clusters: Mapping[str, Cluster] | None, adopt: bool) -> Iterator[str]:
    """What would be created in each mesh, by kind. `clusters` lacks those that give no answer; None: an empty lab."""
    if adopt:
        yield f"would be created: Lease {NAMESPACE}/{NAME} in each cluster, for as long as the run lasts"
        return
    for names in (MESH1, MESH2):
        there: Objects = []
        if clusters is not None:
            try:
                there = existing(clusters[names.name], names)
            except (KeyError, ClusterError):
                continue  # said already, by the look at that cluster
        yield f"{names.name}: would be created, and removed after the run:"
        yield f"    Lease: {NAMESPACE}/{NAME}"
        for kind, created in kinds_to_create(names, there).items():
            yield f"    {kind}: {', '.join(created)}"
