"""Namespaces: what each one has from its start, and how a terminating one is emptied."""

from __future__ import annotations

import asyncio

from lab.client import ApiClient, ApiError, Key, Object, Reconciler
from lab.kube.bootstrap import create_missing
from lab.kube.cache import Cache, Kinds
from lab.kube.objects import now, terminating
from lab.resources import CONFIG_MAP, NAMESPACE, SERVICE_ACCOUNT, Resource
from lab.settings import ClusterSettings

_FINALIZER = "kubernetes"
# Deletions wake the controller; the clock only covers objects of kinds that are not watched.
_LOOK_AGAIN = 1.0


class NamespaceController:
    """Gives namespaces their default ServiceAccount and root CA, and empties and finalizes terminating ones."""

    def __init__(self, cache: Cache, kinds: Kinds, settings: ClusterSettings) -> None:
        self._api: ApiClient = cache.api
        self._cache, self._kinds = cache, kinds
        self._root = settings.ca_file.read_text()
        self._namespaces = cache.informer(NAMESPACE)
        self._reconciler = Reconciler("namespace", self._reconcile)
        self._namespaces.on_change(self._namespace_changed)
        for kind in (SERVICE_ACCOUNT, CONFIG_MAP):
            cache.informer(kind).on_change(self._content_changed)

    async def run(self) -> None:
        await self._reconciler.run()

    def _namespace_changed(self, key: Key, _old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._reconciler.add(key)

    def _content_changed(self, key: Key, _old: Object | None, new: Object | None) -> None:
        if new is None:
            self._reconciler.add(("", key[0]))

    def content_deleted(self, namespace: str) -> None:
        """An object of this namespace is gone; told by the garbage collector, which watches all kinds."""
        owner = self._namespaces.items.get(("", namespace))
        if owner is not None and terminating(owner) and not self._remaining(namespace):
            self._reconciler.add(("", namespace))

    def _remaining(self, namespace: str) -> int:
        return sum(1 for informer in self._cache.informers() for key in informer.items if key[0] == namespace)

    async def _reconcile(self, key: Key) -> None:
        namespace = self._namespaces.items.get(key)
        if namespace is None:
            return
        name = key[1]
        if terminating(namespace):
            await self._empty(name, namespace)
            return
        account: Object = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
        }
        roots: Object = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kube-root-ca.crt", "namespace": name},
            "data": {"ca.crt": self._root},
        }
        for kind, obj in ((SERVICE_ACCOUNT, account), (CONFIG_MAP, roots)):
            if (name, obj["metadata"]["name"]) not in self._cache.informer(kind).items:
                try:
                    await create_missing(self._api, kind, obj)
                except ApiError as error:
                    if error.status not in (403, 404):  # the namespace began to go meanwhile
                        raise

    async def _empty(self, name: str, namespace: Object) -> None:
        await self._kinds.known.wait()
        kinds = [kind for kind in self._kinds.current if kind.namespaced]
        left = await asyncio.gather(*(self._delete_all(kind, name) for kind in kinds))
        if not any(left):
            left = await asyncio.gather(*(self._delete_all(kind, name) for kind in kinds))
        objects = [obj for items in left for obj in items]
        if objects:
            await self._say_what_remains(name, kinds, left)
            self._reconciler.add_after(_LOOK_AGAIN, ("", name))
            return
        finalizers = [item for item in namespace.get("spec", {}).get("finalizers") or () if item != _FINALIZER]
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            # The version read: by now this may be another namespace of the same name.
            "metadata": {"name": name, "resourceVersion": namespace["metadata"]["resourceVersion"]},
            "spec": {**namespace.get("spec", {}), "finalizers": finalizers},
        }
        try:
            await self._api.request("PUT", NAMESPACE.path(None, name, "finalize"), body)
        except ApiError as error:
            if error.status not in (404, 409):  # a newer version is looked at as soon as it is known
                raise

    async def _delete_all(self, kind: Resource, namespace: str) -> list[Object]:
        """Asks for the deletion of all that is not going yet; returns what was there."""
        try:
            items, _ = await self._api.list_objects(kind, namespace)
        except ApiError as error:
            if error.status == 404:  # the kind itself went meanwhile
                return []
            raise
        await asyncio.gather(
            *(
                self._api.delete(kind, obj["metadata"]["name"], namespace, propagationPolicy="Background")
                for obj in items
                if not terminating(obj)
            )
        )
        return items

    async def _say_what_remains(self, name: str, kinds: list[Resource], left: list[list[Object]]) -> None:
        counts = [f"{kind.plural} has {len(items)}" for kind, items in zip(kinds, left, strict=True) if items]
        waiting: dict[str, int] = {}
        for items in left:
            for obj in items:
                for finalizer in obj["metadata"].get("finalizers") or ():
                    waiting[finalizer] = waiting.get(finalizer, 0) + 1
        finalizers = [f"{finalizer} in {count} objects" for finalizer, count in sorted(waiting.items())]
        current = self._namespaces.items.get(("", name), {}).get("status", {}).get("conditions") or []
        conditions = [
            _remaining_condition(current, "NamespaceContentRemaining", "SomeResourcesRemain", counts),
            _remaining_condition(current, "NamespaceFinalizersRemaining", "SomeFinalizersRemain", finalizers),
        ]
        if conditions != current:
            patch = {"status": {"conditions": conditions}}
            try:
                await self._api.merge(NAMESPACE, name, None, patch, sub="status")
            except ApiError as error:
                if error.status != 404:
                    raise


def _remaining_condition(current: list[Object], kind: str, reason: str, what: list[str]) -> Object:
    status = "True" if what else "False"
    known = next((item for item in current if item["type"] == kind and item["status"] == status), None)
    return {
        "type": kind,
        "status": status,
        "reason": reason if what else "ContentRemoved",
        "message": f"Still in the namespace: {', '.join(what)}" if what else "Nothing of this kind remains",
        "lastTransitionTime": known["lastTransitionTime"] if known else now(),
    }
