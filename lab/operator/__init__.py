"""The OSSM operator of the lab: control planes, member rolls, gateways and their Routes, sidecar injection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import aiohttp

from lab.client import ApiClient, ApiError, Informer, Key, Object
from lab.operator import crds
from lab.operator.conditions import available
from lab.operator.controlplane import ControlPlanes
from lab.operator.members import Members
from lab.operator.routes import Routes
from lab.operator.versions import Release
from lab.operator.webhooks import NAMESPACE as OPERATOR_NAMESPACE
from lab.operator.webhooks import Webhooks
from lab.resources import DEPLOYMENT, NAMESPACE
from lab.settings import ClusterSettings

__all__ = ["run"]

log = logging.getLogger(__name__)
_NAME = "istio-operator"


async def run(api: ApiClient, settings: ClusterSettings) -> None:
    """Runs the operator of one cluster until cancelled.

    Its webhooks are served before its kinds are, or late: some time after its Deployment is Available.
    """
    release = Release(settings.ossm_version)
    webhooks = Webhooks(api, settings, release)
    async with contextlib.AsyncExitStack() as stack:
        if not settings.webhook_seconds:
            await stack.enter_async_context(webhooks.served())
        await _until_done(lambda: api.apply(NAMESPACE, {"metadata": {"name": OPERATOR_NAMESPACE}}))
        await _until_done(webhooks.register)
        await _until_done(lambda: crds.install(api, release, crds.OWN))
        await _until_done(lambda: _announce(api, release))
        planes = ControlPlanes(api, release)
        members = Members(api, release, planes.smcps)
        routes = Routes(api, release, planes.smcps, members.namespaces)
        announced = _available(planes.deployments)
        async with asyncio.TaskGroup() as tasks:
            for controller in (planes, members, routes):
                tasks.create_task(controller.run())
            if settings.webhook_seconds:
                await announced.wait()
                await asyncio.sleep(settings.webhook_seconds)
                await stack.enter_async_context(webhooks.served())


def _available(deployments: Informer) -> asyncio.Event:
    """Set as soon as the operator's own Deployment is Available."""
    there = asyncio.Event()

    def look(key: Key, _old: Object | None, new: Object | None) -> None:
        if key == (OPERATOR_NAMESPACE, _NAME) and available(new, 0):
            there.set()

    deployments.on_change(look)
    return there


async def _until_done(step: Callable[[], Awaitable[object]]) -> None:
    """Repeats a step of the start until the API lets it through."""
    while True:
        try:
            await step()
            return
        except (TimeoutError, ApiError, aiohttp.ClientError, OSError) as error:
            log.info("waiting for the API: %s", error)
            await asyncio.sleep(0.05)


async def _announce(api: ApiClient, release: Release) -> None:
    """The operator's own Deployment, where users look for it and its version."""
    labels = {"name": _NAME}
    container = {
        "name": _NAME,
        "image": f"quay.io/maistra/istio-ubi8-operator:{release.version}",
        "env": [{"name": "OPERATOR_NAME", "value": _NAME}],
    }
    await api.apply(
        DEPLOYMENT,
        {
            "metadata": {
                "name": _NAME,
                "namespace": OPERATOR_NAMESPACE,
                "labels": {"maistra-version": release.version},
            },
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
    )
