"""The operator against a real API server, with the controllers of Kubernetes beside it; the test plays the kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

import pytest

from lab import operator
from lab.client import ApiClient, ApiError, Object
from lab.operator.addons import JAEGER, KIALI
from lab.operator.conditions import find
from lab.resources import (
    CRD,
    DEPLOYMENT,
    GATEWAY,
    NAMESPACE,
    NETWORK_POLICY,
    PEER,
    POD,
    ROUTE,
    SERVICE,
    SMCP,
    SMM,
    SMMR,
    VIRTUAL_SERVICE,
    Resource,
)
from lab.settings import ClusterSettings
from selftests.support.controllers import Scene, api_server, played, played_scene
from selftests.support.operated import (
    LEAN,
    control_plane,
    in_mesh,
    installed,
    member_roll,
    operated,
    operated_scene,
    operating,
    plane_with,
    reason,
    roll_with,
)
from selftests.support.stories import told_in


@pytest.fixture(scope="module")
def cluster():
    with api_server() as settings:
        yield settings


async def namespace(scene: Scene, suffix: str) -> str:
    name = f"{scene.namespace}-{suffix}"
    await scene.api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


async def labels_of(scene: Scene, name: str) -> dict[str, str]:
    return (await scene.api.get(NAMESPACE, name))["metadata"].get("labels") or {}


async def until_left(scene: Scene, name: str) -> None:
    """Until this namespace is no member any more."""

    def left(home: Object) -> bool:
        return "maistra.io/member-of" not in (home["metadata"].get("labels") or {})

    await scene.until_one(NAMESPACE, name, "the namespace left", left)


@contextlib.asynccontextmanager
async def new_cluster() -> AsyncIterator[Scene]:
    """A cluster of its own, which never had a control plane, with the operator."""
    with api_server() as settings:
        async with operated_scene(settings) as scene:
            yield scene


@told_in(new_cluster)
async def test_the_kinds_of_the_mesh_come_with_the_first_control_plane(scene):
    for kind in (PEER, VIRTUAL_SERVICE):
        with pytest.raises(ApiError, match="404"):
            await scene.api.list_objects(kind, scene.namespace)
    await installed(scene)
    for kind in (PEER, VIRTUAL_SERVICE):
        assert (await scene.api.list_objects(kind, scene.namespace))[0] == []


async def steps_of(scene: Scene) -> tuple[list[str], Object]:
    """Installs a control plane; gives the steps that were seen, and what stands at their end."""
    seen: list[str | None] = []

    def collect(smcp: Object) -> bool:
        if (now := reason(smcp, "Reconciled")) != (seen[-1] if seen else None):
            seen.append(now)
        return reason(smcp) == "ComponentsReady"

    watching = asyncio.create_task(scene.until_one(SMCP, "fed", "control plane is Ready", collect))
    await installed(scene)
    return [step for step in seen if step], await watching


@operated
async def test_a_control_plane_is_installed_step_by_step(scene):
    seen, smcp = await steps_of(scene)
    # A watcher may miss a short step, never see one in another order.
    order = ["ResourceCreated", "PausingInstall", "InstallSuccessful"]
    assert seen == [step for step in order if step in seen]
    assert "PausingInstall" in seen
    assert (smcp["spec"]["version"], smcp["spec"]["profiles"]) == ("v2.1", ["default"])
    assert smcp["status"]["annotations"]["readyComponentCount"] == "6/6"
    assert smcp["status"]["observedGeneration"] == smcp["metadata"]["generation"]
    assert (await labels_of(scene, scene.namespace))["maistra.io/member-of"] == scene.namespace


@contextlib.asynccontextmanager
async def scene_without_kubelet(cluster: ClusterSettings) -> AsyncIterator[Scene]:
    """A scene with the operator, in which no pod becomes ready."""
    async with played_scene(cluster) as scene, ApiClient(cluster, "istio-operator") as api:
        task = asyncio.create_task(operator.run(api, cluster))
        try:
            await scene.until(CRD, "kinds", lambda items: ("", "servicemeshmembers.maistra.io") in items)
            yield scene
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@told_in(scene_without_kubelet)
async def test_gateways_wait_for_istiod(scene):
    await scene.api.create(SMCP, control_plane(scene))
    await plane_with(scene, "PausingInstall")
    deployments, _ = await scene.api.list_objects(DEPLOYMENT, scene.namespace)
    assert [each["metadata"]["name"] for each in deployments] == ["istiod-fed"]


@in_mesh
async def test_pods_that_stop_being_ready_show_and_recover(scene):
    pods = await scene.pods(4, lambda pod: pod["status"].get("podIP"))
    (gateway,) = [pod for pod in pods if pod["metadata"]["name"].startswith("istio-egress")]
    await scene.set_ready(gateway, gateway["status"]["podIP"], ready=False)
    smcp = await plane_with(scene, "ComponentsNotReady")
    assert find(smcp["status"]["conditions"], "Ready")["message"].endswith("[istio-egress]")
    assert smcp["status"]["annotations"]["readyComponentCount"] == "5/6"
    assert reason(smcp, "Reconciled") == "InstallSuccessful"
    await scene.set_ready(gateway, gateway["status"]["podIP"])
    await plane_with(scene, "ComponentsReady")


@in_mesh
async def test_a_scaled_gateway_stays_as_the_user_scaled_it(scene):
    await scene.api.merge(DEPLOYMENT, "istio-egressgateway", scene.namespace, {"spec": {"replicas": 0}})
    await scene.pods(3)
    deployment = await scene.api.get(DEPLOYMENT, "istio-egressgateway", scene.namespace)
    assert deployment["spec"]["replicas"] == 0


@operated
async def test_a_changed_spec_is_rolled_out_and_what_left_it_is_removed(scene):
    gateway = {"enabled": True, "service": {"ports": [{"name": "tls", "port": 15443, "targetPort": 15443}]}}
    await installed(scene, gateways={"additionalIngress": {"first": gateway}})
    change = {"spec": {"gateways": {"additionalIngress": {"first": None, "second": gateway}}}}
    await scene.api.merge(SMCP, "fed", scene.namespace, change)
    smcp = await plane_with(scene, "UpdateSuccessful", "Reconciled")
    message = find(smcp["status"]["conditions"], "Reconciled")["message"]
    assert message == "Successfully updated from version 2.1.6-1 to version 2.1.6-2"
    for kind in (DEPLOYMENT, SERVICE, ROUTE, NETWORK_POLICY):
        found = [await scene.api.find(kind, name, scene.namespace) is not None for name in ("first", "second")]
        assert found == [False, True], kind


async def node_ports(scene: Scene, name: str) -> dict[str, int]:
    """NodePorts of a Service by the names of its ports."""

    def found(items: dict[tuple[str, str], Object]) -> dict[str, int] | None:
        ports = items[scene.namespace, name]["spec"]["ports"]
        return {port["name"]: port["nodePort"] for port in ports} if all("nodePort" in port for port in ports) else None

    ports = await scene.until(SERVICE, f"NodePorts of {name}", found)
    assert ports
    return ports


@played
async def test_another_version_moves_the_node_ports_of_the_ingress_gateway_only(scene):
    """Captured (upgrade-2.1-to-2.2): http 30100 became 32153; the federation's ingress Services kept theirs."""
    outside = {"service": {"type": "NodePort"}}
    federation = {"type": "NodePort", "ports": [{"name": "tls", "port": 15443, "targetPort": 15443}]}
    gateways = {"ingress": outside, "additionalIngress": {"fed-ingress": {"enabled": True, "service": federation}}}
    async with operating(scene, "2.2.13"):
        await installed(scene, version="v2.1", gateways=gateways)
        before = [await node_ports(scene, name) for name in ("istio-ingressgateway", "fed-ingress")]
        await scene.api.merge(SMCP, "fed", scene.namespace, {"spec": {"version": "v2.2"}})
        await plane_with(scene, "UpdateSuccessful", "Reconciled")
        after = [await node_ports(scene, name) for name in ("istio-ingressgateway", "fed-ingress")]
    assert after[1] == before[1]
    assert after[0].keys() == {"status-port", "http2", "https"}
    assert not set(after[0].values()) & set(before[0].values())


@played
async def test_a_newer_operator_takes_over_what_an_older_one_installed(scene):
    async with operating(scene):
        await installed(scene)
    async with operating(scene, "2.2.13"):
        smcp = await scene.until_one(
            SMCP, "fed", "taken over", lambda smcp: smcp["status"].get("operatorVersion") == "2.2.13"
        )
    message = find(smcp["status"]["conditions"], "Reconciled")["message"]
    assert message == "Successfully updated from version 2.1.6-1 to version 2.2.13-1"
    assert (smcp["spec"]["version"], smcp["status"]["chartVersion"]) == ("v2.1", "2.1.6")


@contextlib.asynccontextmanager
async def newer_stuck_scene(cluster: ClusterSettings) -> AsyncIterator[Scene]:
    """A scene with a newer operator, whose control plane misses something until its spec is LEAN."""
    async with played_scene(cluster) as scene, operating(scene, "2.5.1"):
        await scene.api.create(SMCP, control_plane(scene, version="v2.5", tracing={"type": "Nowhere"}, addons={}))
        await plane_with(scene, "DependencyMissingError")
        yield scene


@told_in(newer_stuck_scene)
async def test_from_2_2_on_members_do_not_wait_for_the_control_plane(scene):
    bookinfo = await namespace(scene, "bookinfo")
    await scene.api.create(SMMR, member_roll(scene, bookinfo))
    await roll_with(scene, "Configured")
    await scene.api.merge(SMCP, "fed", scene.namespace, {"spec": LEAN})
    assert (await plane_with(scene, "ComponentsReady"))["status"]["annotations"]["readyComponentCount"] == "5/5"
    there = dataclasses.replace(scene, namespace=bookinfo)
    await there.until(NETWORK_POLICY, "policies follow", lambda items: (bookinfo, "istio-mesh-fed") in items)
    assert "maistra.io/ignore-namespace" not in await labels_of(scene, scene.namespace)


@in_mesh
async def test_a_member_that_is_not_there_is_waited_for(scene):
    bookinfo, later = await namespace(scene, "bookinfo"), f"{scene.namespace}-later"
    await scene.api.create(SMMR, member_roll(scene, bookinfo, later))
    joined = lambda roll: (roll.get("status") or {}).get("configuredMembers") == [bookinfo]  # noqa: E731
    roll = await scene.until_one(SMMR, "default", "one joined", joined)
    assert (roll["status"]["pendingMembers"], reason(roll)) == ([later], "ReconcileError")
    await namespace(scene, "later")
    roll = await roll_with(scene, "Configured")
    assert roll["status"]["configuredMembers"] == [bookinfo, later]
    assert roll["status"]["annotations"]["configuredMemberCount"] == "2/2"


@in_mesh
async def test_members_join_and_leave(scene):
    bookinfo, other = await namespace(scene, "bookinfo"), await namespace(scene, "other")
    await scene.api.create(SMMR, member_roll(scene, bookinfo, other))
    await roll_with(scene, "Configured")
    member = await scene.api.get(SMM, "default", bookinfo)
    assert member["metadata"]["annotations"] == {"maistra.io/created-by": "servicemeshmemberroll-controller"}
    assert await scene.api.find(NETWORK_POLICY, "istio-mesh-fed", bookinfo)
    await scene.api.merge(SMMR, "default", scene.namespace, {"spec": {"members": [other]}})
    await until_left(scene, bookinfo)
    assert await scene.api.find(NETWORK_POLICY, "istio-mesh-fed", bookinfo) is None
    assert (await labels_of(scene, other))["maistra.io/member-of"] == scene.namespace


@operated
async def test_a_roll_without_a_control_plane_says_so(scene):
    await scene.api.create(SMMR, member_roll(scene))
    await roll_with(scene, "ErrSMCPMissing")
    await installed(scene)
    await roll_with(scene, "Configured")


async def gone(scene: Scene, kind: Resource, name: str) -> None:
    """Deletes the only object of its kind and waits until it is away."""
    await scene.api.delete(kind, name, scene.namespace)
    await scene.until(kind, f"{name} is gone", lambda items: not items)


@in_mesh
async def test_deleting_roll_and_control_plane_leaves_nothing(scene):
    bookinfo = await namespace(scene, "bookinfo")
    await scene.api.create(SMMR, member_roll(scene, bookinfo))
    await roll_with(scene, "Configured")
    await gone(scene, SMMR, "default")
    await gone(scene, SMCP, "fed")
    for kind in (DEPLOYMENT, SERVICE, ROUTE, NETWORK_POLICY):
        assert (await scene.api.list_objects(kind, scene.namespace))[0] == []
    await scene.until(POD, "pods are gone", lambda items: not items)
    for name in (scene.namespace, bookinfo):
        assert not [label for label in await labels_of(scene, name) if label.startswith("maistra.io/")]


@contextlib.asynccontextmanager
async def foreign_kinds(scene: Scene) -> AsyncIterator[None]:
    """With the kinds that the operators of Jaeger and Kiali bring, until the block ends."""
    for kind in (JAEGER, KIALI):
        await scene.api.apply(CRD, foreign_kind(kind.kind, kind.plural, *kind.api_version.split("/")))
    yield
    for kind in (JAEGER, KIALI):
        await scene.api.delete(CRD, f"{kind.plural}.{kind.api_version.split('/')[0]}")


@operated
async def test_what_other_operators_must_bring_is_waited_for(scene):
    wanted = {"addons": {"grafana": {"enabled": False}}, "tracing": {"type": "Jaeger"}}
    await scene.api.create(SMCP, control_plane(scene, **wanted))
    message = find((await plane_with(scene, "DependencyMissingError"))["status"]["conditions"], "Reconciled")["message"]
    assert message.startswith('Dependency "Jaeger CRD" is missing')
    async with foreign_kinds(scene):
        smcp = await plane_with(scene, "ComponentsReady")
        assert smcp["status"]["annotations"]["readyComponentCount"] == "9/9"
        assert await scene.api.find(KIALI, "kiali", scene.namespace)


def foreign_kind(kind: str, plural: str, group: str, version: str) -> Object:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [served]}
    return {"metadata": {"name": f"{plural}.{group}"}, "spec": spec}


async def member_with_a_gateway(scene: Scene) -> str:
    """A member namespace with a Gateway `bookinfo-gateway`; gives its name."""
    bookinfo = await namespace(scene, "bookinfo")
    await scene.api.create(SMMR, member_roll(scene, bookinfo))
    meta = {"name": "bookinfo-gateway", "namespace": bookinfo}
    server = {"hosts": ["*"], "port": {"name": "http", "number": 80, "protocol": "HTTP"}}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
    await scene.api.apply(GATEWAY, {"metadata": meta, "spec": spec})
    return bookinfo


@in_mesh
async def test_a_gateway_of_a_user_gets_a_route_while_it_is_there(scene):
    bookinfo = await member_with_a_gateway(scene)

    def automatic(items: dict[tuple[str, str], Object]) -> list[Object]:
        return [each for (_, name), each in items.items() if name.startswith(f"{bookinfo}-bookinfo-gateway-")]

    (route,) = await scene.until(ROUTE, "route of the gateway", automatic)
    assert route["spec"]["to"]["name"] == "istio-ingressgateway"
    assert "status" not in route
    await scene.api.delete(GATEWAY, "bookinfo-gateway", bookinfo)
    await scene.until(ROUTE, "route is gone", lambda items: not automatic(items))
