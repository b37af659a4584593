"""Members that are listed before istiod may write into them: captured with operator 2.2.13, met in a whole lab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import Kind
from selftests.support.lab import start_lab, stop_lab

Object = dict[str, Any]
BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
PATIENCE = 60.0
HANGS = 'MountVolume.SetUp failed for volume "istiod-ca-cert": configmap "istio-ca-root-cert" not found'


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Cluster]]:
    """Both clusters of a lab with an operator of 2.2."""
    lab = start_lab("--ossm", "2.2.13")
    found = [Cluster(settings.name, settings.kubeconfig) for settings in lab.clusters]
    yield found
    for cluster in found:
        cluster.close()
    stop_lab(lab)


def named(kind: Kind, name: str, namespace: str | None = None, **content: Any) -> Object:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **content}


def control_plane() -> Object:
    """One of 2.1 with istiod and an ingress gateway."""
    off = {"enabled": False}
    spec = {
        "version": "v2.1",
        "addons": dict.fromkeys(("prometheus", "grafana", "kiali"), off),
        "tracing": {"type": "None"},
        "gateways": {"egress": off},
    }
    return named(kinds.CONTROL_PLANE, "fed", "system", spec=spec)


def application() -> Object:
    """A Deployment with a sidecar."""
    labels = {"app": "details"}
    container = {"name": "details", "image": "quay.io/maistra/examples-bookinfo-details-v1:2.1.0"}
    meta = {"labels": labels, "annotations": {"sidecar.istio.io/inject": "true"}}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": meta, "spec": {"containers": [container]}}}
    return named(kinds.DEPLOYMENT, "details", "bookinfo", spec=spec)


def applied(cluster: Cluster, *objects: Object) -> None:
    for obj in objects:
        cluster.apply(obj)


def until(cluster: Cluster, kind: Kind, namespace: str, what: str, good: Callable[[Object], Any]) -> Object:
    """The first object of a kind that is good; follows a watch."""

    def first(found: list[Object]) -> Object | None:
        return next(filter(good, found), None)

    return cluster.wait(what, kind, namespace, until=first, timeout=PATIENCE)


def available(deployment: Object) -> bool:
    return bool((deployment.get("status") or {}).get("availableReplicas"))


def lists(roll: Object) -> bool:
    return "bookinfo" in ((roll.get("status") or {}).get("configuredMembers") or ())


def installed(cluster: Cluster, early: bool) -> None:
    """A mesh whose roll comes with the control plane, or when istiod is there, and an application that joins it."""
    roll = named(kinds.MEMBER_ROLL, "default", "system", spec={"members": ["bookinfo"]})
    applied(cluster, *(named(kinds.NAMESPACE, name) for name in ("system", "bookinfo")))
    applied(cluster, *([roll] if early else []), control_plane())
    until(cluster, kinds.DEPLOYMENT, "system", "istiod to be there", available)
    applied(cluster, roll)
    until(cluster, kinds.MEMBER_ROLL, "system", "the roll to list its member", lists)
    applied(cluster, application())


def test_members_that_come_with_the_control_plane_hang_until_istiod_starts_anew(pair):
    cluster = pair[0]
    installed(cluster, early=True)
    event = until(cluster, kinds.EVENT, "bookinfo", "a pod that hangs", hangs)
    assert (event["type"], event["message"], event["involvedObject"]["kind"]) == ("Warning", HANGS, "Pod")
    until(cluster, BINDING, "bookinfo", "istiod to have its rights", lambda _: True)
    (now,) = filter(hangs, cluster.list(kinds.EVENT, "bookinfo"))
    until(cluster, kinds.EVENT, "bookinfo", "it not to use them", lambda each: hangs(each) and more(each, now))
    (pod,) = cluster.list(kinds.POD, "bookinfo")
    states = [entry["state"] for entry in pod["status"]["containerStatuses"]]
    assert states == [{"waiting": {"reason": "ContainerCreating"}}] * 2
    (istiod,) = cluster.list(kinds.POD, "system", "app=istiod")
    cluster.delete(kinds.POD, istiod["metadata"]["name"], "system")
    until(cluster, kinds.DEPLOYMENT, "bookinfo", "the application to be there", available)


def hangs(event: Object) -> bool:
    return event["reason"] == "FailedMount"


def more(event: Object, before: Object) -> bool:
    """Whether it was tried again at least twice since."""
    return event["count"] > before["count"] + 1


def test_members_that_come_when_istiod_is_there_do_not_hang(pair):
    cluster = pair[1]
    installed(cluster, early=False)
    (istiod,) = cluster.list(kinds.POD, "system", "app=istiod")
    until(cluster, kinds.DEPLOYMENT, "bookinfo", "the application to be there", available)
    # By the istiod that was there from the beginning; a pod that is quicker than its first write tries again.
    assert [pod["metadata"]["uid"] for pod in cluster.list(kinds.POD, "system", "app=istiod")] == [
        istiod["metadata"]["uid"]
    ]
