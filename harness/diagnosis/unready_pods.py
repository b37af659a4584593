"""Why a workload has no ready pod, in the words of Kubernetes: replicas, scheduling, mounts, images, crashes, quota."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from harness.cluster import kinds
from harness.cluster.transport import ClusterError, Forbidden, Object, Objects
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.product.names import ROOT_CONFIG_MAP
from harness.product.status import condition, condition_true, ended

_SHOWN = 200  # characters of a message
_STARTING = ("ContainerCreating", "PodInitializing")  # a container waits for something that only events tell
_NO_ROOT = f'configmap "{ROOT_CONFIG_MAP}" not found'
_SILENT = "its Deployment and pods do not say why"


def why_not_ready(mesh: MeshFacts, namespace: str, labels: Mapping[str, str]) -> str:
    """What Deployments and pods with these labels say of it; words for a cause's detail."""
    try:
        deployments = [obj for obj in _deployments(mesh, namespace) if _carries(obj["spec"]["template"], labels)]
        pods = [obj for obj in mesh.all(kinds.POD, namespace) if _carries(obj, labels)]
    except ClusterError as error:
        return f"why is not known ({error})"
    said = [*_of_deployments(deployments), *(text for pod in pods if (text := _of_pod(mesh, pod)))]
    return "; ".join(dict.fromkeys(said)) or (_SILENT if deployments or pods else "there is no Deployment of it")


def backend_down(look: Look, facts: Facts, mesh: MeshFacts, labels: Mapping[str, str], service: str) -> Link:
    """The link where a service of the application has no ready pod; `labels` are its pods'."""
    if (rootless := [each for each in facts.meshes if _lacks_root(each)]) and mesh in rootless:
        cause = "members-without-root" if len(rootless) > 1 else "member-without-root"
        seen = f"{service}: pods of {mesh.app} wait for ConfigMap {ROOT_CONFIG_MAP}"
        return look.broken(cause, seen, side="both" if len(rootless) > 1 else "", detail=_NO_ROOT)
    why = why_not_ready(mesh, mesh.app, labels)
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return look.broken(
        "backend-down", f"{service}: no ready pod: {why}", service=service, selector=selector, detail=why
    )


def _lacks_root(mesh: MeshFacts) -> bool:
    """Whether pods of the application cannot start since istiod did not write the mesh's root into its namespace."""
    try:
        pods = [pod for pod in mesh.all(kinds.POD, mesh.app) if not condition_true(pod, "Ready") and not ended(pod)]
        if not any(_NO_ROOT in text for pod in pods for text in _warnings(mesh, pod)):
            return False
        with contextlib.suppress(Forbidden):
            return mesh.cluster.find(kinds.CONFIG_MAP, ROOT_CONFIG_MAP, mesh.app) is None  # else it has come since
        return True
    except ClusterError:
        return False


def _warnings(mesh: MeshFacts, pod: Object) -> list[str]:
    """What warnings say of a pod, the last one last; raises ClusterError."""
    about = pod["metadata"].get("uid")
    mine = [
        event
        for event in mesh.events(pod["metadata"]["namespace"])
        if event.get("type") == "Warning" and event["involvedObject"].get("uid") == about
    ]
    mine.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return [f"{event.get('reason')} ({_cut(event.get('message') or '')})" for event in mine]


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


def _of_pod(mesh: MeshFacts, pod: Object) -> str:
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
        if waiting.get("reason") in _STARTING and (warnings := _warnings(mesh, pod)):
            return f"{name}, container {entry['name']}: {waiting['reason']}, {warnings[-1]}"
        if waiting.get("reason") and waiting["reason"] not in _STARTING:
            more = waiting.get("message") or (f"exit code {before.get('exitCode')}" if before else "")
            return f"{name}, container {entry['name']}: {waiting['reason']}" + (f" ({_cut(more)})" if more else "")
    ready = condition(pod, "Ready")
    return f"{name}: {ready.reason} ({_cut(ready.message)})" if ready.message else ""


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
