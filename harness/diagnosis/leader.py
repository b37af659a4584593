"""Who writes the statuses of exports and imports: the istiod pod that holds a lock."""

from __future__ import annotations

import json
from datetime import timedelta

from harness.cluster import kinds
from harness.diagnosis.mesh_facts import MeshFacts
from harness.product.status import parse_time

LOCK = "servicemesh-federation"
_RECORD = "control-plane.alpha.kubernetes.io/leader"
_LEASE = timedelta(seconds=30)  # renewed more often while its holder lives


def missing_writer(mesh: MeshFacts) -> str:
    """Why nobody writes the statuses of the mesh's sets, '' where somebody does; may raise ClusterError.

    Every istiod writes its own part of a peer's status, but only the holder of the lock those of the sets.
    """
    found = mesh.cluster.find(kinds.CONFIG_MAP, LOCK, mesh.system)
    if found is None:
        return f"there is no ConfigMap {LOCK}, by which istiod's pods agree on one that writes"
    try:
        record = json.loads((found["metadata"].get("annotations") or {}).get(_RECORD, "{}"))
        holder, renewed = record.get("holderIdentity") or "", parse_time(record.get("renewTime"))
    except ValueError:
        return f"ConfigMap {LOCK} holds no lock"
    if not holder:
        return f"no pod of istiod holds the lock in ConfigMap {LOCK}"
    pods = [pod["metadata"]["name"] for pod in mesh.istiod_pods()]
    if holder not in pods:
        return f"{holder} holds the lock in ConfigMap {LOCK}, but only {', '.join(pods) or 'no istiod'} runs"
    if renewed is None or (age := mesh.cluster.now() - renewed) > 2 * _LEASE:
        since = f"for {age.total_seconds():.0f} s" if renewed else "ever"
        return f"{holder} has not renewed the lock in ConfigMap {LOCK} {since}"
    return ""
