"""Controllers of plain Kubernetes against the lab's API: workloads, garbage, namespaces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from lab.client import ApiError, Object
from lab.resources import (
    CONFIG_MAP,
    CRD,
    DEPLOYMENT,
    EVENT,
    NAMESPACE,
    NODE,
    POD,
    REPLICA_SET,
    SERVICE_ACCOUNT,
    Resource,
)
from lab.settings import ClusterSettings
from selftests.support.controllers import Scene, api_server, played, played_scene
from selftests.support.stories import told_in

WIDGET = Resource("example.com/v1", "widgets", "Widget")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterSettings]:
    with api_server() as settings:
        yield settings


def deployment(scene: Scene, name: str = "web", replicas: int = 1) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": scene.namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": "example/web:1"}]},
            },
        },
    }


def config_map(scene: Scene, name: str, **meta: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": scene.namespace, **meta},
    }


async def clear_faults(scene: Scene) -> None:
    """Faults must have been made, or the test proves nothing."""
    assert (await scene.api.request("GET", "/lab/faults"))["made"]
    await scene.api.request("POST", "/lab/faults", {"rate": 0})


def finished(item: Object) -> bool:
    status = item.get("status", {})
    reasons = {entry["type"]: entry["reason"] for entry in status.get("conditions") or ()}
    wanted = {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}
    current = status.get("observedGeneration") == item["metadata"]["generation"]
    return current and reasons == wanted and status.get("updatedReplicas") == item["spec"]["replicas"]


async def rolled_out(scene: Scene) -> Object:
    """The Deployment `web` as soon as its rollout is finished."""
    return await scene.until_one(DEPLOYMENT, "web", "a finished rollout", finished)


@contextlib.asynccontextmanager
async def kubelet(scene: Scene) -> AsyncIterator[None]:
    task = asyncio.create_task(scene.kubelet())
    try:
        yield
    finally:
        task.cancel()


@played
async def test_a_cluster_has_its_node(scene, cluster):
    node = await scene.until_one(NODE, "node2", "the node", lambda item: item.get("status", {}).get("addresses"))
    assert {item["address"] for item in node["status"]["addresses"]} == {cluster.block.node}
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "zone2"


@played
async def test_a_namespace_has_its_defaults_and_gets_them_back(scene, cluster):
    await scene.until_one(SERVICE_ACCOUNT, "default", "default ServiceAccount", lambda _: True)
    root = await scene.until_one(CONFIG_MAP, "kube-root-ca.crt", "root CA", lambda _: True)
    assert root["data"]["ca.crt"] == cluster.ca_file.read_text()
    await scene.api.delete(CONFIG_MAP, "kube-root-ca.crt", scene.namespace)
    again = lambda item: item["metadata"]["uid"] != root["metadata"]["uid"]  # noqa: E731
    await scene.until_one(CONFIG_MAP, "kube-root-ca.crt", "root CA again", again)


@played
async def test_the_pods_of_a_deployment_are_its_replica_sets(scene):
    await scene.api.create(DEPLOYMENT, deployment(scene, replicas=2))
    pods = await scene.pods(2)
    (made,) = await scene.until(REPLICA_SET, "its ReplicaSet", lambda items: list(items.values()))
    for pod in pods:
        name, labels = pod["metadata"]["name"], pod["metadata"]["labels"]
        assert name.rpartition("-")[0] == made["metadata"]["name"] == f"web-{labels['pod-template-hash']}"
        assert pod["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        assert (pod["spec"]["nodeName"], pod["spec"]["serviceAccountName"]) == ("node2", "default")


@played
async def test_a_deployment_becomes_available_with_its_pods(scene, cluster):
    await scene.api.create(DEPLOYMENT, deployment(scene, replicas=2))
    unavailable = lambda item: item.get("status", {}).get("unavailableReplicas") == 2  # noqa: E731
    waiting = await scene.until_one(DEPLOYMENT, "web", "two unavailable pods", unavailable)
    assert "availableReplicas" not in waiting["status"]
    for index, pod in enumerate(await scene.pods(2)):
        await scene.set_ready(pod, cluster.block.pod(index))
    done = await rolled_out(scene)
    assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    assert done["status"]["readyReplicas"] == 2


@played
async def test_what_is_made_for_a_deployment_is_told_in_events(scene):
    def told(items: dict[Any, Object]) -> bool:
        return {"ScalingReplicaSet", "SuccessfulCreate"} <= {item["reason"] for item in items.values()}

    await scene.api.create(DEPLOYMENT, deployment(scene, replicas=2))
    await scene.until(EVENT, "events of both", told)


async def restarted(scene: Scene) -> str:
    """Changes the template of a Deployment of one pod; the pod's name. Nobody makes the new pod ready."""
    async with kubelet(scene):
        await scene.api.create(DEPLOYMENT, deployment(scene))
        await rolled_out(scene)
        first = (await scene.pods(1))[0]
    change = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}
    await scene.api.merge(DEPLOYMENT, "web", scene.namespace, {"spec": {"template": change}})
    return first["metadata"]["name"]


@played
async def test_a_new_template_replaces_the_pods_one_after_the_other(scene):
    first = await restarted(scene)
    assert first in {pod["metadata"]["name"] for pod in await scene.pods(2)}
    async with kubelet(scene):
        done = await rolled_out(scene)
        left = await scene.pods(1)
    assert left[0]["metadata"]["annotations"] == {"kubectl.kubernetes.io/restartedAt": "now"}
    assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"


async def scale(scene: Scene, replicas: int) -> None:
    await scene.api.merge(DEPLOYMENT, "web", scene.namespace, {"spec": {"replicas": replicas}})


@played
async def test_scaling_to_zero_and_back(scene):
    async with kubelet(scene):
        await scene.api.create(DEPLOYMENT, deployment(scene, replicas=3))
        await rolled_out(scene)
        await scale(scene, 0)
        await scene.until(POD, "no pods", lambda items: not items)
        await scene.until_one(DEPLOYMENT, "web", "an empty Deployment", empty)
        await scale(scene, 1)
        await scene.pods(1)
    sets, _ = await scene.api.list_objects(REPLICA_SET, scene.namespace)
    assert len(sets) == 1, "scaling makes no new ReplicaSet"


def empty(item: Object) -> bool:
    return "replicas" not in item["status"] and finished(item | {"spec": {"replicas": None}})


@played
async def test_a_lost_pod_is_replaced(scene):
    async with kubelet(scene):
        await scene.api.create(DEPLOYMENT, deployment(scene))
        lost = (await scene.pods(1))[0]["metadata"]["name"]
        await scene.api.delete(POD, lost, scene.namespace)
        await scene.pods(1, lambda pod: pod["metadata"]["name"] != lost)


class Refusing:
    """A webhook that refuses every pod until it is told to be content."""

    why = "the sidecar cannot be injected yet"
    content = False

    def __call__(self, pod: Object) -> Object:
        if not self.content:
            raise ApiError(500, "InternalError", self.why)
        pod["metadata"].setdefault("annotations", {})["mutated"] = "yes"
        return pod

    def shown(self, item: Object) -> bool:
        return f"'message': '{self.why}'" in str(item.get("status"))


@contextlib.asynccontextmanager
async def refusing_scene(cluster: ClusterSettings) -> AsyncIterator[tuple[Scene, Refusing]]:
    """A scene with such a webhook, and a Deployment that was told so."""
    webhook = Refusing()
    async with played_scene(cluster, webhook) as scene:
        await scene.api.create(DEPLOYMENT, deployment(scene))
        await scene.until_one(DEPLOYMENT, "web", "ReplicaFailure in the Deployment", webhook.shown)
        yield scene, webhook


@told_in(refusing_scene)
async def test_a_refused_pod_is_told_in_an_event(told):
    scene, webhook = told
    failed = lambda items: [item for item in items.values() if item["reason"] == "FailedCreate"]  # noqa: E731
    event = (await scene.until(EVENT, "a FailedCreate event", failed))[0]
    assert event["message"] == f"Error creating: {webhook.why}"


@told_in(refusing_scene)
async def test_a_refused_pod_is_tried_again(told):
    scene, webhook = told
    webhook.content = True
    pods = await scene.pods(1)
    assert pods[0]["metadata"]["annotations"]["mutated"] == "yes"
    await scene.until_one(DEPLOYMENT, "web", "no ReplicaFailure", lambda item: not webhook.shown(item))


@played
async def test_an_api_that_fails_often_gets_no_pod_too_many(scene):
    await scene.api.create(DEPLOYMENT, deployment(scene, replicas=5))
    await scene.api.request("POST", "/lab/faults", {"rate": 0.3, "seed": 1, "all": True})
    await scene.until(POD, "five pods", lambda items: len(items) >= 5)
    await clear_faults(scene)
    counted = lambda items: [item for item in items.values() if item.get("status", {}).get("replicas") == 5]  # noqa: E731
    await scene.until(REPLICA_SET, "five pods counted", counted)
    # Without a kubelet pods that were one too many would still be there, terminating.
    assert len((await scene.api.list_objects(POD, scene.namespace))[0]) == 5


@played
async def test_what_a_deleted_deployment_owned_goes_with_it(scene):
    async with kubelet(scene):
        await scene.api.create(DEPLOYMENT, deployment(scene))
        await scene.pods(1)
        await scene.api.delete(DEPLOYMENT, "web", scene.namespace, propagationPolicy="Background")
        for kind in (REPLICA_SET, POD):
            await scene.until(kind, f"no {kind.kind}", lambda items: not items)


@played
async def test_orphans_stay(scene):
    await scene.api.create(DEPLOYMENT, deployment(scene))
    await scene.pods(1)
    await scene.api.delete(DEPLOYMENT, "web", scene.namespace, propagationPolicy="Orphan")
    await scene.until(DEPLOYMENT, "no Deployment", lambda items: not items)
    free = lambda items: [item for item in items.values() if not item["metadata"].get("ownerReferences")]  # noqa: E731
    assert len(await scene.until(REPLICA_SET, "a ReplicaSet without owner", free)) == 1


@played
async def test_an_object_of_an_owner_that_never_was_is_collected(scene):
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "0000-0000"}
    await scene.api.create(CONFIG_MAP, config_map(scene, "stray", ownerReferences=[reference]))
    await scene.until(CONFIG_MAP, "no stray", lambda items: (scene.namespace, "stray") not in items)


@contextlib.asynccontextmanager
async def held_scene(cluster: ClusterSettings) -> AsyncIterator[Scene]:
    """A scene whose namespace holds a Deployment's pod and, by a finalizer, a Widget; with a kubelet."""
    async with played_scene(cluster) as scene:
        await scene.api.create(CRD, widgets())
        established = lambda item: "Established" in str(item.get("status", {}).get("conditions"))  # noqa: E731
        await scene.until_one(CRD, "widgets.example.com", "an established CRD", established)
        meta = {"name": "one", "namespace": scene.namespace, "finalizers": ["example.com/hold"]}
        await scene.api.create(WIDGET, {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": meta})
        async with kubelet(scene):
            await scene.api.create(DEPLOYMENT, deployment(scene))
            await scene.pods(1)
            yield scene
        await scene.api.delete(CRD, "widgets.example.com")


@told_in(held_scene)
async def test_a_namespace_is_emptied_of_every_kind_and_waits_for_finalizers(scene):
    await scene.api.delete(NAMESPACE, scene.namespace)
    told = lambda item: "example.com/hold in 1 objects" in str(item.get("status"))  # noqa: E731
    await scene.until_one(NAMESPACE, scene.namespace, "the finalizer named", told)
    await scene.until(POD, "no pods", lambda items: not items)
    await scene.api.merge(WIDGET, "one", scene.namespace, {"metadata": {"finalizers": None}})
    await scene.until(NAMESPACE, "no namespace", lambda items: ("", scene.namespace) not in items)


def widgets() -> Object:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [version],
        },
    }
