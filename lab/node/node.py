"""The node: all pods of one cluster that are bound to it."""

from __future__ import annotations

import asyncio
import logging
import shlex
import sys
from pathlib import Path

import aiohttp

from lab.client import ApiClient, ApiError, Informer, Key, Object, key_of
from lab.node.images import ROOT, PodContext
from lab.node.pod import PodRunner
from lab.node.services import ServiceNetwork
from lab.resources import ENDPOINTS, POD, SERVICE
from lab.settings import ClusterSettings

log = logging.getLogger(__name__)

TOOLS = {"curl": "curl.py", "pilot-agent": "pilot_agent.py"}
MOST_PODS = 16_000


def node_name(settings: ClusterSettings) -> str:
    """`node1` for cluster mesh1, `node2` for mesh2."""
    return "node" + settings.name.removeprefix("mesh")


def write_tools(directory: Path) -> None:
    """Puts the commands that the product's images have into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, script in TOOLS.items():
        target = directory / name
        source = ROOT / "lab" / "node" / "bin" / script
        target.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {shlex.quote(str(source))} "$@"\n')
        target.chmod(0o755)


class Node:
    """Watches pods and runs those of this node."""

    def __init__(self, api: ApiClient, settings: ClusterSettings) -> None:
        self.api, self.settings = api, settings
        self.name = node_name(settings)
        self.address = settings.block.node
        self.pods = Informer(api, POD)
        self.services = Informer(api, SERVICE)
        self.endpoints = Informer(api, ENDPOINTS)
        self.network = ServiceNetwork(self.services, self.endpoints, self.address, settings.path / "hosts")
        self.runners: dict[str, PodRunner] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[PodRunner] = set()
        self._next = 0
        self.pods.on_change(self._pod_changed)

    def runner(self, namespace: str, name: str) -> PodRunner | None:
        """The runner of a pod by its name."""
        for runner in self.runners.values():
            if (runner.namespace, runner.name) == (namespace, name):
                return runner
        return None

    def _address_for(self, pod: Object) -> str:
        """A pod's address: the one it has (from before a restart of the node) or one not used for long."""
        if known := pod.get("status", {}).get("podIP"):
            return str(known)
        taken = {runner.context.ip for runner in self.runners.values()}
        taken |= {item.get("status", {}).get("podIP") for item in self.pods.items.values()}
        while True:
            address = self.settings.block.pod(self._next % MOST_PODS)
            self._next += 1
            if address not in taken:
                return address

    def _pod_changed(self, _key: Key, old: Object | None, new: Object | None) -> None:
        if old and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            self._end(old, and_delete=False)
            self._ending.pop(old["metadata"]["uid"], None)
        if new is None or new["spec"].get("nodeName") != self.name:
            return
        if new["metadata"].get("deletionTimestamp"):
            self._end(new, and_delete=True)
        elif new["metadata"]["uid"] not in self.runners and new.get("status", {}).get("phase") in (
            None,
            "Pending",
            "Running",
        ):
            self._start(new)

    def _start(self, pod: Object) -> None:
        namespace, name = key_of(pod)
        uid = pod["metadata"]["uid"]
        context = PodContext(
            pod=pod,
            ip=self._address_for(pod),
            directory=self.settings.path / "pods" / f"{namespace}_{name}_{uid}",
            hosts_file=self.network.hosts_file(namespace),
            tools=self.settings.path / "tools",
            cluster_directory=self.settings.path,
            drain_seconds=self.settings.drain_seconds,
        )
        runner = self.runners[uid] = PodRunner(self.api, self.network, context, self.address)
        runner.start()

    def _end(self, pod: Object, and_delete: bool) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._ending:
            self._ending[uid] = asyncio.ensure_future(self._end_pod(pod, and_delete))

    async def _end_pod(self, pod: Object, and_delete: bool) -> None:
        namespace, name = key_of(pod)
        if runner := self.runners.pop(pod["metadata"]["uid"], None):
            self._stopping.add(runner)
            await runner.stop()
            self._stopping.discard(runner)
        while and_delete:
            try:
                await self.api.delete(POD, name, namespace, gracePeriodSeconds="0")
                return
            except (ApiError, OSError, TimeoutError, aiohttp.ClientError) as error:
                log.warning("pod %s/%s cannot be deleted: %s", namespace, name, error)
                await asyncio.sleep(0.5)

    async def run(self) -> None:
        """Runs until cancelled; kills every process it started."""
        write_tools(self.settings.path / "tools")
        try:
            async with asyncio.TaskGroup() as tasks:
                for informer in (self.services, self.endpoints, self.pods):
                    tasks.create_task(informer.run())
                tasks.create_task(self.network.run())
        finally:
            for runner in [*self.runners.values(), *self._stopping]:
                runner.kill()
