"""Garbage collection: objects whose owners are all gone are deleted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from lab.client import ApiClient, ApiError, Informer, Key, Object, Reconciler, key_of
from lab.kube.cache import Cache, Kinds, watched
from lab.kube.objects import terminating
from lab.resources import Resource


class _Watched:
    """One kind under collection."""

    def __init__(self, informer: Informer, reconciler: Reconciler, task: asyncio.Task[None]) -> None:
        self.informer, self.reconciler, self.task = informer, reconciler, task
        self.active = True


class GarbageCollector:
    """Follows ownerReferences among all kinds; `deleted(namespace)` is told of every object that goes."""

    def __init__(
        self, cache: Cache, kinds: Kinds, tasks: asyncio.TaskGroup, deleted: Callable[[str], None] | None = None
    ) -> None:
        self._api: ApiClient = cache.api
        self._cache, self._kinds, self._tasks = cache, kinds, tasks
        self._deleted = deleted
        self._watched: dict[Resource, _Watched] = {}
        self._places: dict[str, tuple[Resource, Key]] = {}
        self._dependents: defaultdict[str, set[tuple[Resource, Key]]] = defaultdict(set)
        kinds.on_change(self._kinds_changed)

    def _kinds_changed(self, added: set[Resource], removed: set[Resource]) -> None:
        for kind in removed & self._watched.keys():
            gone = self._watched.pop(kind)
            gone.active = False
            gone.task.cancel()
            self._cache.drop(kind)
            for key, obj in list(gone.informer.items.items()):
                self._object_changed(kind, key, obj, None)
        for kind in added:
            if watched(kind):
                self._watch(kind)

    def _watch(self, kind: Resource) -> None:
        async def reconcile(key: Key) -> None:
            await self._reconcile(kind, key)

        def changed(key: Key, old: Object | None, new: Object | None) -> None:
            if entry.active:
                self._object_changed(kind, key, old, new)

        informer = self._cache.informer(kind)
        reconciler = Reconciler(f"garbage {kind.plural}", reconcile, workers=2)
        entry = _Watched(informer, reconciler, self._tasks.create_task(reconciler.run()))
        self._watched[kind] = entry
        informer.on_change(changed)
        for key, obj in informer.items.items():
            self._object_changed(kind, key, None, obj)

    def _object_changed(self, kind: Resource, key: Key, old: Object | None, new: Object | None) -> None:
        place = kind, key
        if old is not None and (new is None or old["metadata"]["uid"] != new["metadata"]["uid"]):
            self._forget(place, old)
        if new is None:
            return
        self._places[new["metadata"]["uid"]] = place
        before = _owner_uids(old) if old is not None else set()
        owners = _owner_uids(new)
        for uid in before - owners:
            self._dependents[uid].discard(place)
        for uid in owners:
            self._dependents[uid].add(place)
        if owners - before:
            self._add(place)

    def _forget(self, place: tuple[Resource, Key], obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        self._places.pop(uid, None)
        for owner in _owner_uids(obj):
            self._dependents[owner].discard(place)
        for dependent in self._dependents.pop(uid, ()):
            self._add(dependent)
        if self._deleted is not None:
            self._deleted(place[1][0])

    def _add(self, place: tuple[Resource, Key]) -> None:
        if place[0] in self._watched:
            self._watched[place[0]].reconciler.add(place[1])

    def _object(self, place: tuple[Resource, Key]) -> Object | None:
        entry = self._watched.get(place[0])
        return entry.informer.items.get(place[1]) if entry else None

    async def _reconcile(self, kind: Resource, key: Key) -> None:
        obj = self._object((kind, key))
        if obj is None or terminating(obj):
            return
        references = obj["metadata"].get("ownerReferences") or []
        if not references:
            return
        for reference in references:
            if await self._exists(reference, key[0]):
                return
        await self._delete(kind, obj)

    async def _exists(self, reference: Object, namespace: str) -> bool:
        """Whether an owner is there; asks the API before it says no, since caches lag."""
        uid = reference["uid"]
        if uid in self._places:
            return True
        await self._kinds.known.wait()
        group = reference["apiVersion"].rpartition("/")[0]
        for kind in self._kinds.current:
            if kind.kind == reference["kind"] and kind.api_version.rpartition("/")[0] == group:
                owner = await self._api.find(kind, reference["name"], namespace if kind.namespaced else None)
                return owner is not None and owner["metadata"]["uid"] == uid
        return True  # a kind that nobody serves cannot be looked at: when in doubt keep the object

    async def _delete(self, kind: Resource, obj: Object) -> None:
        namespace, name = key_of(obj)
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": obj["metadata"]["uid"]},
        }
        try:
            await self._api.request("DELETE", kind.path(namespace, name), options)
        except ApiError as error:
            if error.status not in (404, 409):  # gone, or another object has the name now
                raise


def _owner_uids(obj: Object) -> set[str]:
    return {reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ()}
