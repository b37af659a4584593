"""The controllers of plain Kubernetes, started together: what a kube-controller-manager does for the lab."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lab.client import ApiClient, Object
from lab.kube.bootstrap import bootstrap, node_name, persistently, wait_until_served
from lab.kube.cache import Cache, Kinds
from lab.kube.deployments import DeploymentController
from lab.kube.endpoints import EndpointsController
from lab.kube.garbage import GarbageCollector
from lab.kube.namespaces import NamespaceController
from lab.kube.pods import Scheduler
from lab.kube.replicasets import ReplicaSetController
from lab.kube.services import ServiceController
from lab.settings import ClusterSettings


async def run(api: ApiClient, settings: ClusterSettings, mutate_pod: Callable[[Object], Object] | None) -> None:
    """Waits for the API, creates what every cluster has, and runs all controllers until cancelled.

    mutate_pod: changes pods of ReplicaSets before they are created (sidecar injection); ApiError refuses one.
    """
    await wait_until_served(api)
    async with asyncio.TaskGroup() as tasks:
        cache = Cache(api, tasks)
        kinds = Kinds(cache)
        namespaces = NamespaceController(cache, kinds, settings)
        GarbageCollector(cache, kinds, tasks, deleted=namespaces.content_deleted)
        node = node_name(settings)
        parts = (
            namespaces,
            ServiceController(cache, settings),
            EndpointsController(cache),
            DeploymentController(cache),
            ReplicaSetController(cache, node, mutate_pod),
            Scheduler(cache, node),
        )
        tasks.create_task(persistently(kinds.run))
        for part in parts:
            tasks.create_task(part.run())
        await persistently(lambda: bootstrap(api, settings))
