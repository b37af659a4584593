"""Why a workload has no ready pod: on the lab, and as clusters with images, quotas and schedulers say it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.cluster import kinds
from harness.diagnosis import diagnose
from harness.diagnosis.unready_pods import why_not_ready
from harness.product.mesh import running_pods
from selftests.support.diagnosed import Meshes, meshes, until

__all__ = ["meshes"]
LABELS = {"app": "mesh2-ingress"}
SYSTEM, APP = "mesh1-system", "mesh1-bookinfo"


class Facts:
    """What a mesh's API lists: Deployments and pods, of one namespace."""

    system, app = SYSTEM, APP

    def __init__(self, deployment: dict[str, Any] | None, *pods: dict[str, Any]) -> None:
        self._listed = {kinds.DEPLOYMENT: [deployment] if deployment else [], kinds.POD: list(pods)}

    def telling(self, *events: dict[str, Any]) -> Facts:
        self._listed[kinds.EVENT] = list(events)
        return self

    def events(self, _: str) -> list[dict[str, Any]]:
        return self._listed.get(kinds.EVENT, [])

    def all(self, kind: kinds.Kind, namespace: str) -> list[dict[str, Any]]:
        return self._listed[kind] if namespace == SYSTEM else []


def deployment(replicas: int = 1, *conditions: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS | {"istio": "federation"}}}
    spec = {"replicas": replicas, "template": template}
    return {"metadata": {"name": "mesh2-ingress"}, "spec": spec, "status": {"conditions": list(conditions)}}


def pod(**status: Any) -> dict[str, Any]:
    metadata = {"name": "mesh2-ingress-x", "namespace": SYSTEM, "uid": "1", "labels": LABELS}
    return {"metadata": metadata, "status": status}


def event(uid: str, message: str, second: int, kind: str = "Warning") -> dict[str, Any]:
    last = f"2026-01-01T00:00:{second:02}Z"
    return {
        "type": kind,
        "reason": "FailedMount",
        "message": message,
        "lastTimestamp": last,
        "involvedObject": {"uid": uid},
    }


def waiting(reason: str, message: str = "", **last: Any) -> dict[str, Any]:
    return {"name": "istio-proxy", "state": {"waiting": {"reason": reason, "message": message}}, "lastState": last}


QUOTA = {"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: exceeded quota: small"}
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: insufficient cpu",
}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (Facts(None), "there is no Deployment of it"),
        (Facts(deployment(0)), "Deployment mesh2-ingress is scaled to 0"),
        (Facts(deployment(1, QUOTA)), "Deployment mesh2-ingress: pods is forbidden: exceeded quota: small"),
        (
            Facts(deployment(), pod(conditions=[UNSCHEDULABLE])),
            "pod mesh2-ingress-x: Unschedulable (0/3 nodes are available: insufficient cpu)",
        ),
        (
            Facts(deployment(), pod(containerStatuses=[waiting("ImagePullBackOff", "Back-off pulling image x")])),
            "pod mesh2-ingress-x, container istio-proxy: ImagePullBackOff (Back-off pulling image x)",
        ),
        (
            Facts(deployment(), pod(initContainerStatuses=[waiting("CrashLoopBackOff", terminated={"exitCode": 137})])),
            "pod mesh2-ingress-x, container istio-proxy: CrashLoopBackOff (exit code 137)",
        ),
        (
            Facts(deployment(), pod(containerStatuses=[waiting("ContainerCreating")])),
            "its Deployment and pods do not say why",
        ),
        (
            Facts(deployment(), pod(containerStatuses=[waiting("ContainerCreating")])).telling(
                event("1", "no volume y", 9),
                event("1", "no volume x", 5),
                event("2", "another pod's", 20),
                event("1", "pulled", 30, "Normal"),
            ),
            "pod mesh2-ingress-x, container istio-proxy: ContainerCreating, FailedMount (no volume y)",
        ),
    ],
    ids=["no Deployment", "scaled to 0", "quota", "unschedulable", "image", "crash", "silent", "events"],
)
def test_what_keeps_pods_from_being_ready_is_told_in_kubernetes_words(facts, said):
    assert why_not_ready(facts, SYSTEM, LABELS) == said


def test_a_ready_pod_and_pods_of_others_have_nothing_to_say():
    ready = pod(conditions=[{"type": "Ready", "status": "True"}], containerStatuses=[waiting("ImagePullBackOff")])
    other = {"metadata": {"name": "other", "labels": {"app": "other"}}, "status": {"conditions": [UNSCHEDULABLE]}}
    assert why_not_ready(Facts(deployment(), ready, other), SYSTEM, LABELS) == "its Deployment and pods do not say why"


@pytest.mark.parametrize(
    ("name", "namespace", "selector", "cause"),
    [  # from the end of the chain to its beginning: what comes up again is behind what is down next
        ("reviews-v3", "mesh2-bookinfo", "app=reviews,version=v3", "backend-down"),
        ("mesh1-egress", "mesh2-system", "app=mesh1-egress", "gateway-down"),
        ("istiod-fed-import", "mesh2-system", "app=istiod", "istiod-down"),
    ],
)
def test_a_workload_that_is_scaled_down_is_said_to_be(meshes: Meshes, name, namespace, selector, cause):
    with meshes.changed("mesh2", kinds.DEPLOYMENT, name, namespace, {"replicas": 0}):
        until(f"{name} to be gone", lambda: not running_pods(meshes.clusters["mesh2"], namespace, selector))
        found = diagnose(meshes.clusters)
    assert (found.cause, found.side) == (cause, "mesh2"), found.summary
    assert f"Deployment {name} is scaled to 0" in found.sentence
