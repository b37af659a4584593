"""The controllers of lab/kube in this process against a real lab.api process; tests play the kubelet themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lab.api.http.pki import create_cluster_files
from lab.client import ApiClient, Informer, Key, Object
from lab.kube import controllers
from lab.kube.objects import now
from lab.processes.blocks import take_block
from lab.processes.children import start, stop
from lab.resources import NAMESPACE, POD, Resource
from lab.settings import ClusterSettings
from selftests.support.stories import told_in

T = TypeVar("T")
PATIENCE = 60
_PROJECT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def api_server() -> Iterator[ClusterSettings]:
    """One API server of its own, without controllers or node."""
    block, lock = take_block()
    with lock, tempfile.TemporaryDirectory(prefix="ossm-lab-api-") as directory:
        settings = ClusterSettings(
            name="mesh2",
            octet=block.octet,
            directory=directory,
            server=f"https://{block.apiserver}:{random.randrange(20000, 30000)}",
            token=secrets.token_hex(16),
        )
        settings.save()
        create_cluster_files(settings)
        line = [sys.executable, "-m", "lab.api", "--cluster-dir", directory]
        child = start("mesh2", "api", line, dict(os.environ), settings.path / "api.log", _PROJECT)
        try:
            yield settings
        finally:
            stop([child], 1)


@dataclass
class Scene:
    """A namespace of its own in a cluster whose controllers run."""

    api: ApiClient
    settings: ClusterSettings
    namespace: str

    async def until(self, kind: Resource, what: str, found: Callable[[dict[Key, Object]], T]) -> T:
        """Waits until `found(objects of the namespace)` is truthy and returns that; follows a watch."""
        informer = Informer(self.api, kind, self.namespace if kind.namespaced else None)
        changed = asyncio.Event()
        informer.on_change(lambda *_: changed.set())
        task = asyncio.create_task(informer.run())
        try:
            async with asyncio.timeout(PATIENCE):
                await informer.synced.wait()
                while not (value := found(informer.items)):
                    changed.clear()
                    await changed.wait()
                return value
        except TimeoutError:
            raise AssertionError(f"{what}: not within {PATIENCE:.0f} s; last seen {informer.items}") from None
        finally:
            task.cancel()

    async def until_one(self, kind: Resource, name: str, what: str, good: Callable[[Object], object]) -> Object:
        """Waits until the object is there and `good`; returns it."""
        key = self.namespace if kind.namespaced else "", name

        def look(items: dict[Key, Object]) -> Object | None:
            return items[key] if key in items and good(items[key]) else None

        found = await self.until(kind, what, look)
        assert found is not None
        return found

    async def pods(self, count: int, good: Callable[[Object], object] = lambda _pod: True) -> list[Object]:
        """Waits until exactly `count` pods are there that are not going and are `good`."""

        def look(items: dict[Key, Object]) -> list[Object] | None:
            staying = [pod for pod in items.values() if "deletionTimestamp" not in pod["metadata"] and good(pod)]
            return [*staying, {}] if len(staying) == count else None

        found = await self.until(POD, f"{count} pods", look)
        assert found is not None
        return found[:-1]

    async def set_ready(self, pod: Object, ip: str, ready: bool = True) -> None:
        """What the kubelet says of a pod that runs."""
        answer = "True" if ready else "False"
        status = {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": kind, "status": answer, "lastTransitionTime": now()} for kind in ("Ready",)],
        }
        await self.api.merge(POD, pod["metadata"]["name"], self.namespace, {"status": status}, sub="status")

    async def kubelet(self) -> None:
        """Makes every pod ready at once, each with an address of its own, and lets go of those that are deleted."""
        seen: set[str] = set()
        queue: asyncio.Queue[Object] = asyncio.Queue()
        informer = Informer(self.api, POD, self.namespace)
        informer.on_change(lambda _key, _old, new: queue.put_nowait(new) if new else None)
        watching = asyncio.create_task(informer.run())
        try:
            while True:
                pod = await queue.get()
                if "deletionTimestamp" in pod["metadata"]:
                    await self.api.delete(POD, pod["metadata"]["name"], self.namespace, gracePeriodSeconds="0")
                elif pod["metadata"]["uid"] not in seen:
                    seen.add(pod["metadata"]["uid"])
                    await self.set_ready(pod, self.settings.block.pod(len(seen)))
        finally:
            watching.cancel()


@contextlib.asynccontextmanager
async def played_scene(
    cluster: ClusterSettings, mutate: Callable[[Object], Object] | None = None
) -> AsyncIterator[Scene]:
    """A scene with the controllers beside it; what they fail with, it fails with."""
    async with ApiClient(cluster, "selftest") as api:
        running = asyncio.create_task(controllers.run(api, cluster, mutate))
        try:
            await controllers.wait_until_served(api)
            namespace = f"test-{secrets.token_hex(4)}"
            await api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            yield Scene(api, cluster, namespace)
            if running.done():
                running.result()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


played = told_in(played_scene)
"""A test that is told in a scene of the module's `cluster`."""
