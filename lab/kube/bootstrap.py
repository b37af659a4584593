"""What a cluster has before anyone asks for anything: its namespaces and its node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aiohttp

from lab.client import ApiClient, ApiError, Object
from lab.kube.objects import now
from lab.resources import NAMESPACE, NODE, Resource
from lab.settings import ClusterSettings

log = logging.getLogger(__name__)
BASE_NAMESPACES = ("default", "kube-system", "kube-public", "openshift-operators")
KUBELET_PORT = 10250


def ordinal(settings: ClusterSettings) -> str:
    """The number in the cluster's name: `1` for mesh1."""
    return "".join(char for char in settings.name if char.isdigit())


def node_name(settings: ClusterSettings) -> str:
    """The cluster's only node, named after its number as in the captures."""
    return f"node{ordinal(settings)}"


async def wait_until_served(api: ApiClient) -> None:
    """Returns when the API server answers (/readyz would do, but answers in plain text)."""
    while True:
        try:
            await api.request("GET", "/version")
            return
        except (ApiError, aiohttp.ClientError, OSError):
            await asyncio.sleep(0.02)


async def persistently(step: Callable[[], Awaitable[None]]) -> None:
    """Does a step of the start again and again until the API lets it through; the step must be repeatable."""
    while True:
        try:
            return await step()
        except (ApiError, aiohttp.ClientError, OSError) as error:
            log.warning("trying again: %s", error)
            await asyncio.sleep(0.2)


async def create_missing(api: ApiClient, kind: Resource, obj: Object) -> None:
    """Creates an object unless it is there already."""
    try:
        await api.create(kind, obj)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


async def bootstrap(api: ApiClient, settings: ClusterSettings) -> None:
    """Creates the base namespaces and the Ready node; does nothing where they exist."""
    for name in BASE_NAMESPACES:
        obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await create_missing(api, NAMESPACE, obj)
    node = _node(settings)
    await create_missing(api, NODE, {key: value for key, value in node.items() if key != "status"})
    await api.merge(NODE, node["metadata"]["name"], None, {"status": node["status"]}, sub="status")


def _node(settings: ClusterSettings) -> Object:
    name, address, number = node_name(settings), settings.block.node, ordinal(settings)
    time = now()
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/region": f"region{number}",
                "topology.kubernetes.io/zone": f"zone{number}",
            },
        },
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": address}],
            "capacity": {"pods": "250"},
            "allocatable": {"pods": "250"},
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "message": "the lab's node runs pods as processes",
                    "lastHeartbeatTime": time,
                    "lastTransitionTime": time,
                }
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "kubeletVersion": settings.kubernetes_version,
            },
        },
    }
