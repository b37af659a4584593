"""What the operator's webhooks refuse, and what happens while they do not listen."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

import pytest

from lab.client import ApiClient, ApiError, Object
from lab.operator.conditions import find
from lab.resources import (
    DEPLOYMENT,
    ENDPOINTS,
    SMCP,
    SMM,
    SMMR,
)
from selftests.support.controllers import Scene, api_server, played
from selftests.support.operated import (
    control_plane,
    in_mesh,
    member_roll,
    operating,
    plane_with,
)


@pytest.fixture(scope="module")
def cluster():
    with api_server() as settings:
        yield settings


@in_mesh
async def test_a_second_control_plane_is_refused_in_the_webhooks_words(scene):
    with pytest.raises(ApiError) as refusal:
        await scene.api.create(SMCP, control_plane(scene, name="second"))
    assert refusal.value.status == 400
    assert refusal.value.message == (
        'admission webhook "smcp.validation.maistra.io" denied the request: '
        "only one service mesh may be installed per project/namespace"
    )


@in_mesh
async def test_the_api_refuses_what_the_webhooks_refuse(scene):
    with pytest.raises(ApiError, match="mesh project/namespace cannot be listed as a member"):
        await scene.api.create(SMMR, member_roll(scene, scene.namespace))
    with pytest.raises(ApiError, match=r"supported versions are: \[v1.0 v1.1 v2.0 v2.1\]"):
        await scene.api.merge(SMCP, "fed", scene.namespace, {"spec": {"version": "v2.7"}})


@contextlib.asynccontextmanager
async def guest_in(scene: Scene) -> AsyncIterator[ApiClient]:
    """The client of somebody without rights in the namespace `closed`, and for no control plane."""
    deny = [
        {"verbs": ["update"], "resources": ["pods"], "namespaces": ["closed"]},
        {"verbs": ["use"], "resources": ["servicemeshcontrolplanes"]},
    ]
    await scene.api.request("POST", "/lab/users", {"token": "guest", "name": "guest", "deny": deny})
    async with ApiClient(dataclasses.replace(scene.settings, token="guest"), "selftest") as guest:
        yield guest


def member_of(scene: Scene) -> Object:
    """A ServiceMeshMember of the control plane `fed`."""
    meta = {"name": "default", "namespace": scene.namespace}
    plane = {"name": "fed", "namespace": scene.namespace}
    return {"apiVersion": SMM.api_version, "kind": SMM.kind, "metadata": meta, "spec": {"controlPlaneRef": plane}}


@in_mesh
async def test_a_mesh_takes_in_namespaces_only_of_who_has_rights_there(scene):
    async with guest_in(scene) as guest:
        with pytest.raises(ApiError, match=r"user 'guest' does not have .* access namespace\(s\): \[closed\]") as roll:
            await guest.create(SMMR, member_roll(scene, "open", "closed"))
        assert (roll.value.status, roll.value.reason) == (403, "Forbidden")
        await scene.api.create(SMMR, member_roll(scene, "closed"))
        # Only what is added is asked about.
        await guest.merge(SMMR, "default", scene.namespace, {"spec": {"members": ["closed", "open"]}})
        with pytest.raises(ApiError, match=f"to use ServiceMeshControlPlane {scene.namespace}/fed") as use:
            await guest.create(SMM, member_of(scene))
        assert use.value.status == 403


@played
async def test_without_the_operator_nothing_is_let_through_unchecked(scene):
    async with operating(scene):
        pass
    with pytest.raises(ApiError, match=r"failed calling webhook .smcp\.mutation\.maistra\.io") as refusal:
        await scene.api.create(SMCP, control_plane(scene))
    assert refusal.value.status == 500


def is_available(deployment: Object) -> bool:
    return find((deployment.get("status") or {}).get("conditions"), "Available").get("status") == "True"


@contextlib.asynccontextmanager
async def operating_late(scene: Scene, seconds: float) -> AsyncIterator[None]:
    """The operator is Available, and its webhooks listen so many seconds later."""
    home = dataclasses.replace(scene, namespace="openshift-operators")
    kubelet = asyncio.create_task(home.kubelet())
    async with operating(scene, webhook_seconds=seconds):
        await home.until_one(DEPLOYMENT, "istio-operator", "Available", is_available)
        yield
    kubelet.cancel()


@played
async def test_an_operator_that_is_available_need_not_listen_yet(scene):
    """Captured: the Service has its endpoint some 20 s before the webhooks listen; no write of a kind passes."""
    service = "maistra-admission-controller"
    writes = (
        (SMCP, control_plane(scene), "smcp.mutation", "mutate-smcp"),
        (SMMR, member_roll(scene), "smmr.validation", "validate-smmr"),
        (SMM, member_of(scene), "smm.validation", "validate-smm"),
    )
    async with operating_late(scene, 3600):
        (subset,) = (await scene.api.get(ENDPOINTS, service, "openshift-operators"))["subsets"]
        target = f"{subset['addresses'][0]['ip']}:{subset['ports'][0]['port']}"
        for kind, obj, hook, path in writes:
            with pytest.raises(ApiError) as refusal:
                await scene.api.create(kind, obj)
            assert (refusal.value.status, refusal.value.message) == (
                500,
                f'Internal error occurred: failed calling webhook "{hook}.maistra.io": failed to call webhook: '
                f'Post "https://{service}.openshift-operators.svc:443/{path}?timeout=10s": '
                f"dial tcp {target}: connect: connection refused",
            )


@played
async def test_webhooks_that_listen_late_listen_at_last(scene):
    async with operating_late(scene, 0.1), asyncio.timeout(60):
        while not await accepted(scene):
            await asyncio.sleep(0.05)
        await plane_with(scene, "ComponentsReady")


async def accepted(scene: Scene) -> bool:
    """Whether a control plane can be created; what refuses it is nothing but webhooks that do not listen."""
    try:
        await scene.api.create(SMCP, control_plane(scene))
    except ApiError as error:
        if "connect: connection refused" not in error.message:
            raise
        return False
    return True
