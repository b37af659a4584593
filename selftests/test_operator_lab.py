"""The operator against a real API server, with the controllers of Kubernetes beside it; the test plays the kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

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
)
from lab.settings import ClusterSettings
from selftests.support.controllers import Scene, api_server, play

Story = Callable[[Scene], Awaitable[None]]
LEAN = {
    "addons": {name: {"enabled": False} for name in ("prometheus", "grafana", "kiali")},
    "tracing": {"type": "None"},
}


@pytest.fixture(scope="module")
def server():
    with api_server() as settings:
        yield settings


def control_plane(scene: Scene, name: str = "fed", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": scene.namespace}
    return {"apiVersion": SMCP.api_version, "kind": SMCP.kind, "metadata": metadata, "spec": {**LEAN, **spec}}


def member_roll(scene: Scene, *members: str) -> Object:
    metadata = {"name": "default", "namespace": scene.namespace}
    return {"apiVersion": SMMR.api_version, "kind": SMMR.kind, "metadata": metadata, "spec": {"members": list(members)}}


def reason(obj: Object, kind: str = "Ready") -> str | None:
    return find((obj.get("status") or {}).get("conditions"), kind).get("reason")


@contextlib.asynccontextmanager
async def operating(scene: Scene, release: str = "2.1.6") -> AsyncIterator[None]:
    """The operator runs, and every pod of the scene's namespace becomes ready at once."""
    settings = dataclasses.replace(scene.settings, ossm_version=release)
    async with ApiClient(settings, "istio-operator") as api:
        tasks = [asyncio.create_task(operator.run(api, settings)), asyncio.create_task(scene.kubelet())]
        try:
            await scene.until(CRD, "the operator's kinds", lambda items: ("", "servicemeshmembers.maistra.io") in items)
            yield
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome


def tell(settings: ClusterSettings, story: Story) -> None:
    async def run(scene: Scene) -> None:
        async with operating(scene):
            await story(scene)

    play(settings, run)


async def installed(scene: Scene, **spec: Any) -> Object:
    await scene.api.create(SMCP, control_plane(scene, **spec))
    return await scene.until_one(SMCP, "fed", "control plane is Ready", lambda smcp: reason(smcp) == "ComponentsReady")


async def namespace(scene: Scene, suffix: str) -> str:
    name = f"{scene.namespace}-{suffix}"
    await scene.api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def labels_of(items: dict[tuple[str, str], Object], name: str) -> dict[str, str]:
    return items["", name]["metadata"].get("labels") or {}


def test_the_kinds_of_the_mesh_come_with_the_first_control_plane():
    async def story(scene: Scene) -> None:
        for kind in (PEER, VIRTUAL_SERVICE):
            with pytest.raises(ApiError, match="404"):
                await scene.api.list_objects(kind, scene.namespace)
        await installed(scene)
        for kind in (PEER, VIRTUAL_SERVICE):
            assert (await scene.api.list_objects(kind, scene.namespace))[0] == []

    with api_server() as settings:
        tell(settings, story)


def test_a_control_plane_is_installed_step_by_step(server):
    async def story(scene: Scene) -> None:
        seen: list[str | None] = []

        def collect(smcp: Object) -> bool:
            if (now := reason(smcp, "Reconciled")) != (seen[-1] if seen else None):
                seen.append(now)
            return reason(smcp) == "ComponentsReady"

        watching = asyncio.create_task(scene.until_one(SMCP, "fed", "control plane is Ready", collect))
        await installed(scene)
        smcp = await watching
        # A watcher may miss a short step, never see one in another order.
        order = ["ResourceCreated", "PausingInstall", "InstallSuccessful"]
        assert [step for step in seen if step] == [step for step in order if step in seen]
        assert "PausingInstall" in seen
        assert smcp["spec"]["version"] == "v2.1"
        assert smcp["spec"]["profiles"] == ["default"]
        assert smcp["status"]["annotations"]["readyComponentCount"] == "6/6"
        assert smcp["status"]["observedGeneration"] == smcp["metadata"]["generation"]
        home = await scene.api.get(NAMESPACE, scene.namespace)
        assert home["metadata"]["labels"]["maistra.io/member-of"] == scene.namespace

    tell(server, story)


def test_gateways_wait_for_istiod(server):
    async def story(scene: Scene) -> None:
        await scene.api.create(SMCP, control_plane(scene))
        await scene.until_one(SMCP, "fed", "waits for istiod", lambda smcp: reason(smcp) == "PausingInstall")
        deployments, _ = await scene.api.list_objects(DEPLOYMENT, scene.namespace)
        assert [each["metadata"]["name"] for each in deployments] == ["istiod-fed"]

    async def without_kubelet(scene: Scene) -> None:
        async with ApiClient(scene.settings, "istio-operator") as api:
            task = asyncio.create_task(operator.run(api, scene.settings))
            try:
                await scene.until(CRD, "kinds", lambda items: ("", "servicemeshmembers.maistra.io") in items)
                await story(scene)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    play(server, without_kubelet)


def test_pods_that_stop_being_ready_show_and_recover(server):
    async def story(scene: Scene) -> None:
        await installed(scene)
        pods = await scene.pods(4, lambda pod: pod["status"].get("podIP"))
        (gateway,) = [pod for pod in pods if pod["metadata"]["name"].startswith("istio-egress")]
        await scene.set_ready(gateway, gateway["status"]["podIP"], ready=False)
        smcp = await scene.until_one(
            SMCP, "fed", "gateway is missed", lambda smcp: reason(smcp) == "ComponentsNotReady"
        )
        assert find(smcp["status"]["conditions"], "Ready")["message"].endswith("[istio-egress]")
        assert smcp["status"]["annotations"]["readyComponentCount"] == "5/6"
        assert reason(smcp, "Reconciled") == "InstallSuccessful"
        await scene.set_ready(gateway, gateway["status"]["podIP"])
        await scene.until_one(SMCP, "fed", "gateway is back", lambda smcp: reason(smcp) == "ComponentsReady")

    tell(server, story)


def test_a_scaled_gateway_stays_as_the_user_scaled_it(server):
    async def story(scene: Scene) -> None:
        await installed(scene)
        await scene.api.merge(DEPLOYMENT, "istio-egressgateway", scene.namespace, {"spec": {"replicas": 0}})
        await scene.pods(3)
        deployment = await scene.api.get(DEPLOYMENT, "istio-egressgateway", scene.namespace)
        assert deployment["spec"]["replicas"] == 0

    tell(server, story)


def test_a_changed_spec_is_rolled_out_and_what_left_it_is_removed(server):
    async def story(scene: Scene) -> None:
        gateway = {"enabled": True, "service": {"ports": [{"name": "tls", "port": 15443}]}}
        await installed(scene, gateways={"additionalIngress": {"first": gateway}})
        change = {"spec": {"gateways": {"additionalIngress": {"first": None, "second": gateway}}}}
        await scene.api.merge(SMCP, "fed", scene.namespace, change)
        smcp = await scene.until_one(
            SMCP, "fed", "change is rolled out", lambda smcp: reason(smcp, "Reconciled") == "UpdateSuccessful"
        )
        message = find(smcp["status"]["conditions"], "Reconciled")["message"]
        assert message == "Successfully updated from version 2.1.6-1 to version 2.1.6-2"
        for kind in (DEPLOYMENT, SERVICE, ROUTE, NETWORK_POLICY):
            assert await scene.api.find(kind, "first", scene.namespace) is None
            assert await scene.api.find(kind, "second", scene.namespace) is not None

    tell(server, story)


def test_a_newer_operator_takes_over_what_an_older_one_installed(server):
    async def story(scene: Scene) -> None:
        async with operating(scene):
            await installed(scene)
        async with operating(scene, "2.2.13"):
            smcp = await scene.until_one(
                SMCP, "fed", "taken over", lambda smcp: smcp["status"].get("operatorVersion") == "2.2.13"
            )
        message = find(smcp["status"]["conditions"], "Reconciled")["message"]
        assert message == "Successfully updated from version 2.1.6-1 to version 2.2.13-1"
        assert (smcp["spec"]["version"], smcp["status"]["chartVersion"]) == ("v2.1", "2.1.6")

    play(server, story)


def test_from_2_2_on_members_do_not_wait_for_the_control_plane(server):
    async def story(scene: Scene) -> None:
        bookinfo = await namespace(scene, "bookinfo")
        async with operating(scene, "2.5.1"):
            await scene.api.create(SMCP, control_plane(scene, version="v2.5", tracing={"type": "Nowhere"}, addons={}))
            await scene.until_one(SMCP, "fed", "stuck", lambda smcp: reason(smcp) == "DependencyMissingError")
            await scene.api.create(SMMR, member_roll(scene, bookinfo))
            await scene.until_one(SMMR, "default", "joined all the same", lambda roll: reason(roll) == "Configured")
            await scene.api.merge(SMCP, "fed", scene.namespace, {"spec": LEAN})
            smcp = await scene.until_one(SMCP, "fed", "installed", lambda smcp: reason(smcp) == "ComponentsReady")
            assert smcp["status"]["annotations"]["readyComponentCount"] == "5/5"
            there = dataclasses.replace(scene, namespace=bookinfo)
            await there.until(NETWORK_POLICY, "policies follow", lambda items: (bookinfo, "istio-mesh-fed") in items)
            home = await scene.api.get(NAMESPACE, scene.namespace)
            assert "maistra.io/ignore-namespace" not in home["metadata"]["labels"]

    play(server, story)


def test_members_join_and_leave(server):
    async def story(scene: Scene) -> None:
        bookinfo, later = await namespace(scene, "bookinfo"), f"{scene.namespace}-later"
        await installed(scene)
        await scene.api.create(SMMR, member_roll(scene, bookinfo, later))
        roll = await scene.until_one(
            SMMR,
            "default",
            "one joined",
            lambda roll: (roll.get("status") or {}).get("configuredMembers") == [bookinfo],
        )
        assert roll["status"]["pendingMembers"] == [later]
        assert reason(roll) == "ReconcileError"
        await namespace(scene, "later")
        roll = await scene.until_one(SMMR, "default", "both joined", lambda roll: reason(roll) == "Configured")
        assert roll["status"]["configuredMembers"] == [bookinfo, later]
        assert roll["status"]["annotations"]["configuredMemberCount"] == "2/2"
        member = await scene.api.get(SMM, "default", bookinfo)
        assert member["metadata"]["annotations"] == {"maistra.io/created-by": "servicemeshmemberroll-controller"}
        assert await scene.api.find(NETWORK_POLICY, "istio-mesh-fed", bookinfo)
        await scene.api.merge(SMMR, "default", scene.namespace, {"spec": {"members": [later]}})
        await scene.until(NAMESPACE, "one left", lambda items: "maistra.io/member-of" not in labels_of(items, bookinfo))
        assert await scene.api.find(NETWORK_POLICY, "istio-mesh-fed", bookinfo) is None
        assert (await scene.api.get(NAMESPACE, later))["metadata"]["labels"]["maistra.io/member-of"] == scene.namespace

    tell(server, story)


def test_a_roll_without_a_control_plane_says_so(server):
    async def story(scene: Scene) -> None:
        await scene.api.create(SMMR, member_roll(scene))
        await scene.until_one(SMMR, "default", "nothing there", lambda roll: reason(roll) == "ErrSMCPMissing")
        await installed(scene)
        await scene.until_one(SMMR, "default", "mesh is there", lambda roll: reason(roll) == "Configured")

    tell(server, story)


def test_deleting_roll_and_control_plane_leaves_nothing(server):
    async def story(scene: Scene) -> None:
        bookinfo = await namespace(scene, "bookinfo")
        await installed(scene)
        await scene.api.create(SMMR, member_roll(scene, bookinfo))
        await scene.until_one(SMMR, "default", "member joined", lambda roll: reason(roll) == "Configured")
        await scene.api.delete(SMMR, "default", scene.namespace)
        await scene.until(SMMR, "roll is gone", lambda items: not items)
        await scene.api.delete(SMCP, "fed", scene.namespace)
        await scene.until(SMCP, "control plane is gone", lambda items: not items)
        for kind in (DEPLOYMENT, SERVICE, ROUTE, NETWORK_POLICY):
            assert (await scene.api.list_objects(kind, scene.namespace))[0] == []
        await scene.until(POD, "pods are gone", lambda items: not items)
        for name in (scene.namespace, bookinfo):
            labels = (await scene.api.get(NAMESPACE, name))["metadata"].get("labels") or {}
            assert not [label for label in labels if label.startswith("maistra.io/")]

    tell(server, story)


def test_what_other_operators_must_bring_is_waited_for(server):
    async def story(scene: Scene) -> None:
        wanted = {"addons": {"grafana": {"enabled": False}}, "tracing": {"type": "Jaeger"}}
        await scene.api.create(SMCP, control_plane(scene, **wanted))
        smcp = await scene.until_one(
            SMCP, "fed", "Jaeger is missed", lambda smcp: reason(smcp) == "DependencyMissingError"
        )
        assert find(smcp["status"]["conditions"], "Reconciled")["message"].startswith(
            'Dependency "Jaeger CRD" is missing'
        )
        for kind in (JAEGER, KIALI):
            await scene.api.apply(CRD, foreign_kind(kind.kind, kind.plural, *kind.api_version.split("/")))
        smcp = await scene.until_one(SMCP, "fed", "mesh is Ready", lambda smcp: reason(smcp) == "ComponentsReady")
        assert smcp["status"]["annotations"]["readyComponentCount"] == "9/9"
        assert await scene.api.find(KIALI, "kiali", scene.namespace)
        for kind in (JAEGER, KIALI):
            await scene.api.delete(CRD, f"{kind.plural}.{kind.api_version.split('/')[0]}")

    tell(server, story)


def foreign_kind(kind: str, plural: str, group: str, version: str) -> Object:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [served]}
    return {"metadata": {"name": f"{plural}.{group}"}, "spec": spec}


def test_the_api_refuses_what_the_webhooks_refuse(server):
    async def story(scene: Scene) -> None:
        await installed(scene)
        with pytest.raises(ApiError) as refusal:
            await scene.api.create(SMCP, control_plane(scene, name="second"))
        assert refusal.value.status == 400
        assert refusal.value.message == (
            'admission webhook "smcp.validation.maistra.io" denied the request: '
            "only one service mesh may be installed per project/namespace"
        )
        roll = member_roll(scene, scene.namespace)
        with pytest.raises(ApiError, match="mesh project/namespace cannot be listed as a member"):
            await scene.api.create(SMMR, roll)
        with pytest.raises(ApiError, match=r"supported versions are: \[v1.0 v1.1 v2.0 v2.1\]"):
            await scene.api.merge(SMCP, "fed", scene.namespace, {"spec": {"version": "v2.7"}})

    tell(server, story)


def test_a_mesh_takes_in_namespaces_only_of_who_has_rights_there(server):
    async def story(scene: Scene) -> None:
        await installed(scene)
        deny = [
            {"verbs": ["update"], "resources": ["pods"], "namespaces": ["closed"]},
            {"verbs": ["use"], "resources": ["servicemeshcontrolplanes"]},
        ]
        await scene.api.request("POST", "/lab/users", {"token": "guest", "name": "guest", "deny": deny})
        async with ApiClient(dataclasses.replace(scene.settings, token="guest"), "selftest") as guest:
            with pytest.raises(
                ApiError, match=r"user 'guest' does not have .* access namespace\(s\): \[closed\]"
            ) as roll:
                await guest.create(SMMR, member_roll(scene, "open", "closed"))
            assert (roll.value.status, roll.value.reason) == (403, "Forbidden")
            await scene.api.create(SMMR, member_roll(scene, "closed"))
            # Only what is added is asked about.
            members = {"spec": {"members": ["closed", "open"]}}
            await guest.merge(SMMR, "default", scene.namespace, members)
            plane = {"name": "fed", "namespace": scene.namespace}
            meta = {"name": "default", "namespace": scene.namespace}
            member = {"apiVersion": SMM.api_version, "kind": SMM.kind, "metadata": meta}
            with pytest.raises(ApiError, match=f"to use ServiceMeshControlPlane {scene.namespace}/fed") as use:
                await guest.create(SMM, {**member, "spec": {"controlPlaneRef": plane}})
            assert use.value.status == 403

    tell(server, story)


def test_without_the_operator_nothing_is_let_through_unchecked(server):
    async def story(scene: Scene) -> None:
        async with operating(scene):
            pass
        with pytest.raises(ApiError, match=r"failed calling webhook .smcp\.mutation\.maistra\.io") as refusal:
            await scene.api.create(SMCP, control_plane(scene))
        assert refusal.value.status == 500

    play(server, story)


def test_a_gateway_of_a_user_gets_a_route_while_it_is_there(server):
    async def story(scene: Scene) -> None:
        bookinfo = await namespace(scene, "bookinfo")
        await installed(scene)
        await scene.api.create(SMMR, member_roll(scene, bookinfo))
        server = {"hosts": ["*"], "port": {"name": "http", "number": 80, "protocol": "HTTP"}}
        gateway = {
            "metadata": {"name": "bookinfo-gateway", "namespace": bookinfo},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
        }
        await scene.api.apply(GATEWAY, gateway)

        def automatic(items: dict[tuple[str, str], Object]) -> list[Object]:
            return [each for (_, name), each in items.items() if name.startswith(f"{bookinfo}-bookinfo-gateway-")]

        (route,) = await scene.until(ROUTE, "route of the gateway", automatic)
        assert route["spec"]["to"]["name"] == "istio-ingressgateway"
        assert "status" not in route
        await scene.api.delete(GATEWAY, "bookinfo-gateway", bookinfo)
        await scene.until(ROUTE, "route is gone", lambda items: not automatic(items))

    tell(server, story)
