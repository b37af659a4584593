"""Scheduling: pods that were created without a node get the only one there is."""

from __future__ import annotations

from lab.client import ApiClient, ApiError, Key, Object, Reconciler
from lab.kube.cache import Cache
from lab.kube.objects import terminating
from lab.resources import POD


class Scheduler:
    """Binds pods that users create themselves; pods of ReplicaSets are born bound."""

    def __init__(self, cache: Cache, node: str) -> None:
        self._api: ApiClient = cache.api
        self._node = node
        self._pods = cache.informer(POD)
        self._pods.on_change(self._changed)
        self._reconciler = Reconciler("scheduler", self._reconcile, workers=1)

    async def run(self) -> None:
        await self._reconciler.run()

    def _changed(self, key: Key, _old: Object | None, new: Object | None) -> None:
        if new is not None and not new["spec"].get("nodeName"):
            self._reconciler.add(key)

    async def _reconcile(self, key: Key) -> None:
        pod = self._pods.items.get(key)
        if pod is None or terminating(pod) or pod["spec"].get("nodeName"):
            return
        try:
            await self._api.merge(POD, key[1], key[0], {"spec": {"nodeName": self._node}})
        except ApiError as error:
            if error.status != 404:
                raise
