"""What istiod keeps in its memory and shows nowhere else: the Istio objects that federation makes of its sets."""

from __future__ import annotations

import json

from harness.cluster.cluster import Cluster
from harness.cluster.forwarded import get
from harness.cluster.transport import ClusterError
from harness.product.envoy import Json

_PORT, _PATH = 8080, "/debug/configz"
# What federation makes, whatever the version, begins with one of these.
_MADE_BY_FEDERATION = ("federation-", "fed-")


def federation_config(cluster: Cluster, namespace: str, pod: str) -> list[Json]:
    """The objects that federation made in an istiod's memory: kind, name, namespace, spec; sorted by kind and name.

    Raises ClusterError where istiod's debug port does not answer.
    """
    what = f"read the configuration in the memory of {pod}"
    answer = get(cluster, namespace, pod, _PORT, _PATH, what)
    if answer.status != 200:
        raise ClusterError(cluster.name, what, f"HTTP {answer.status}: {answer.body[:200]}", answer.status)
    try:
        found = [_flat(entry) for entry in json.loads(answer.body) or []]
    except (ValueError, TypeError, AttributeError) as error:
        raise ClusterError(cluster.name, what, f"not understood: {error}") from error
    made = [entry for entry in found if entry["name"].startswith(_MADE_BY_FEDERATION)]
    return sorted(made, key=lambda entry: (entry["kind"], entry["name"]))


def _flat(entry: Json) -> Json:
    # Kubernetes' shape, or kind, name, namespace and spec side by side.
    metadata = entry.get("metadata") or entry
    return {
        "kind": entry.get("kind", ""),
        "name": metadata.get("name", ""),
        "namespace": metadata.get("namespace", ""),
        "spec": entry.get("spec") or {},
    }
