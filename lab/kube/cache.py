"""One Informer per kind for all controllers of a process, and which kinds the cluster serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from lab.client import ApiClient, Informer, Object
from lab.kube.objects import condition
from lab.resources import CRD, Resource

# Watching these would cost more than it could ever find: nothing owns them and they own nothing.
_UNWATCHED = {("v1", "events"), ("coordination.k8s.io/v1", "leases")}
_NEEDED_VERBS = {"list", "watch", "delete"}


class Cache:
    """Informers by kind, each started at its first use in the given task group."""

    def __init__(self, api: ApiClient, tasks: asyncio.TaskGroup) -> None:
        self.api = api
        self._tasks = tasks
        self._informers: dict[Resource, tuple[Informer, asyncio.Task[None]]] = {}

    def informer(self, kind: Resource) -> Informer:
        """The informer of this kind; callbacks added before the next await miss nothing."""
        if kind not in self._informers:
            informer = Informer(self.api, kind)
            self._informers[kind] = informer, self._tasks.create_task(informer.run())
        return self._informers[kind][0]

    def drop(self, kind: Resource) -> None:
        """Stops watching a kind that is served no more."""
        if kind in self._informers:
            self._informers.pop(kind)[1].cancel()

    def informers(self) -> Iterable[Informer]:
        return [informer for informer, _ in self._informers.values()]


async def served_kinds(api: ApiClient) -> list[Resource]:
    """All kinds that can be listed and deleted, each once, in its group's preferred version that has it."""
    group_versions = [["v1"]]
    for group in (await api.request("GET", "/apis")).get("groups") or ():
        versions = [version["groupVersion"] for version in group["versions"]]
        preferred = group["preferredVersion"]["groupVersion"]
        group_versions.append([preferred, *(version for version in versions if version != preferred)])
    found: list[Resource] = []
    for versions in group_versions:
        seen: set[str] = set()
        for version in versions:
            prefix = "/api/" if "/" not in version else "/apis/"
            for entry in (await api.request("GET", prefix + version)).get("resources") or ():
                plural = entry["name"]
                if "/" in plural or plural in seen or not set(entry["verbs"]) >= _NEEDED_VERBS:
                    continue
                seen.add(plural)
                found.append(Resource(version, plural, entry["kind"], bool(entry["namespaced"])))
    return found


def watched(kind: Resource) -> bool:
    """Whether objects of this kind can own others or be owned, so that they are worth a watch."""
    return (kind.api_version, kind.plural) not in _UNWATCHED


class Kinds:
    """The kinds the cluster serves now: the built-in ones by discovery, others by their definitions."""

    def __init__(self, cache: Cache) -> None:
        self.api = cache.api
        self.current: set[Resource] = set()
        self.known = asyncio.Event()
        self._built_in: set[Resource] = set()
        self._callbacks: list[Callable[[set[Resource], set[Resource]], None]] = []
        self._definitions = cache.informer(CRD)
        self._definitions.on_change(lambda *_: self._publish())

    def on_change(self, callback: Callable[[set[Resource], set[Resource]], None]) -> None:
        """`callback(added, removed)` runs in the event loop."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Returns when all kinds are known; changes are followed from then on."""
        await self._definitions.synced.wait()
        custom = {definition["spec"]["group"] for definition in self._definitions.items.values()}
        found = await served_kinds(self.api)
        self._built_in = {kind for kind in found if kind.api_version.rpartition("/")[0] not in custom}
        self.known.set()
        self._publish()

    def _publish(self) -> None:
        if not self.known.is_set():
            return
        definitions = self._definitions.items.values()
        found = self._built_in | {_defined(definition) for definition in definitions if _established(definition)}
        added, removed = found - self.current, self.current - found
        self.current = found
        if added or removed:
            for callback in self._callbacks:
                callback(added, removed)


def _established(definition: Object) -> bool:
    found = condition(definition, "Established")
    return found is not None and found["status"] == "True"


def _defined(definition: Object) -> Resource:
    """The kind of a CustomResourceDefinition, in its storage version where that is served."""
    spec = definition["spec"]
    served = [version for version in spec["versions"] if version["served"]]
    version = next((version for version in served if version["storage"]), served[0])
    group, names = spec["group"], spec["names"]
    return Resource(f"{group}/{version['name']}", names["plural"], names["kind"], spec["scope"] == "Namespaced")
