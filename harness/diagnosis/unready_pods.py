"""Why a workload has no ready pod, in the words of Kubernetes: scaled down, not scheduled, image, crash, quota."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.cluster import kinds
from harness.cluster.transport import ClusterError, Object, Objects
from harness.diagnosis.mesh_facts import MeshFacts
from harness.product.status import condition, condition_true, ended

_SHOWN = 200  # characters of a message
_SILENT = "its Deployment and pods do not say why"


def why_not_ready(mesh: MeshFacts, namespace: str, labels: Mapping[str, str]) -> str:
    """What Deployments and pods with these labels say of it; words for a cause's detail."""
    try:
        deployments = [obj for obj in _deployments(mesh, namespace) if _carries(obj["spec"]["template"], labels)]
        pods = [obj for obj in mesh.all(kinds.POD, namespace) if _carries(obj, labels)]
    except ClusterError as error:
        return f"why is not known ({error})"
    said = [*_of_deployments(deployments), *(text for pod in pods if (text := _of_pod(pod)))]
    return "; ".join(dict.fromkeys(said)) or (_SILENT if deployments or pods else "there is no Deployment of it")


def _deployments(mesh: MeshFacts, namespace: str) -> Objects:
    # Of the application they are of interest only where a pod is missing.
    if namespace == mesh.system:
        return mesh.all(kinds.DEPLOYMENT, namespace)
    return mesh.once(f"Deployments in {namespace}", lambda: mesh.cluster.list(kinds.DEPLOYMENT, namespace))


def _carries(obj: Object, labels: Mapping[str, str]) -> bool:
    return labels.items() <= ((obj.get("metadata") or {}).get("labels") or {}).items()


def _of_deployments(deployments: Objects) -> Iterator[str]:
    for obj in deployments:
        name = f"Deployment {obj['metadata']['name']}"
        if obj["spec"].get("replicas", 1) == 0:
            yield f"{name} is scaled to 0"
        elif condition_true(obj, "ReplicaFailure"):
            yield f"{name}: {_cut(condition(obj, 'ReplicaFailure').message)}"


def _of_pod(pod: Object) -> str:
    """Why a pod is not ready, '' where it is, or does not say."""
    status: dict[str, Any] = pod.get("status") or {}
    if condition_true(pod, "Ready") or "deletionTimestamp" in pod["metadata"] or ended(pod):
        return ""
    name = f"pod {pod['metadata']['name']}"
    scheduled = condition(pod, "PodScheduled")
    if scheduled.status == "False":
        return f"{name}: {scheduled.reason} ({_cut(scheduled.message)})"
    for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = entry.get("state") or {}
        waiting, before = state.get("waiting") or {}, (entry.get("lastState") or {}).get("terminated") or {}
        if waiting.get("reason") and waiting["reason"] not in ("ContainerCreating", "PodInitializing"):
            more = waiting.get("message") or (f"exit code {before.get('exitCode')}" if before else "")
            return f"{name}, container {entry['name']}: {waiting['reason']}" + (f" ({_cut(more)})" if more else "")
    ready = condition(pod, "Ready")
    return f"{name}: {ready.reason} ({_cut(ready.message)})" if ready.message else ""


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
