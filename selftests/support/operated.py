"""Scenes with the operator in them: control planes, rolls, and what they are waited for."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from lab import operator
from lab.client import ApiClient, Object
from lab.operator.conditions import find
from lab.resources import (
    CRD,
    SMCP,
    SMMR,
)
from lab.settings import ClusterSettings
from selftests.support.controllers import Scene, played_scene
from selftests.support.stories import told_in

LEAN = {
    "addons": {name: {"enabled": False} for name in ("prometheus", "grafana", "kiali")},
    "tracing": {"type": "None"},
}


def control_plane(scene: Scene, name: str = "fed", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": scene.namespace}
    return {"apiVersion": SMCP.api_version, "kind": SMCP.kind, "metadata": metadata, "spec": {**LEAN, **spec}}


def member_roll(scene: Scene, *members: str) -> Object:
    metadata = {"name": "default", "namespace": scene.namespace}
    return {"apiVersion": SMMR.api_version, "kind": SMMR.kind, "metadata": metadata, "spec": {"members": list(members)}}


def reason(obj: Object, kind: str = "Ready") -> str | None:
    return find((obj.get("status") or {}).get("conditions"), kind).get("reason")


@contextlib.asynccontextmanager
async def operating(scene: Scene, release: str = "2.1.6", **knobs: float) -> AsyncIterator[None]:
    """The operator runs, and every pod of the scene's namespace becomes ready at once."""
    settings = dataclasses.replace(scene.settings, ossm_version=release, **knobs)
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


@contextlib.asynccontextmanager
async def operated_scene(cluster: ClusterSettings) -> AsyncIterator[Scene]:
    """A scene with the operator."""
    async with played_scene(cluster) as scene, operating(scene):
        yield scene


@contextlib.asynccontextmanager
async def installed_scene(cluster: ClusterSettings) -> AsyncIterator[Scene]:
    """A scene with the operator and a control plane `fed` that is Ready."""
    async with operated_scene(cluster) as scene:
        await installed(scene)
        yield scene


operated = told_in(operated_scene)
in_mesh = told_in(installed_scene)


async def plane_with(scene: Scene, wanted: str, kind: str = "Ready") -> Object:
    """The control plane as soon as this condition has the wanted reason."""
    return await scene.until_one(SMCP, "fed", f"{kind}: {wanted}", lambda smcp: reason(smcp, kind) == wanted)


async def installed(scene: Scene, **spec: Any) -> Object:
    await scene.api.create(SMCP, control_plane(scene, **spec))
    return await plane_with(scene, "ComponentsReady")


async def roll_with(scene: Scene, wanted: str) -> Object:
    """The member roll as soon as it is Ready, or not, for the wanted reason."""
    return await scene.until_one(SMMR, "default", wanted, lambda roll: reason(roll) == wanted)
