"""Writes statuses to the API: every pod its own entry of the peers, the leader also those of the sets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from lab.client import ApiError, Key, Reconciler
from lab.istiod.federation.logs import ComponentLog
from lab.istiod.federation.status import Object, PeerStatus, discovery_status
from lab.istiod.state import MeshState
from lab.resources import EXPORTS, IMPORTS, PEER, Resource

log = ComponentLog("federation-status")
_GATHER = 0.02
"""Seconds that changes of one peer are gathered before they are written."""
_TRIES = 3


class Reported(Protocol):
    """What the writer needs of a peer; None for a set that nothing is known about yet."""

    @property
    def uid(self) -> str | None: ...

    @property
    def status(self) -> PeerStatus: ...

    def exported(self) -> list[Object] | None: ...

    def imported(self) -> list[Object] | None: ...


class StatusWriter:
    """Writes what changed; `find` gives the peer of a name, `leading` says whether this pod leads.

    doubles: whether a pod that is new in front of others is listed twice at first.
    """

    def __init__(
        self, state: MeshState, find: Callable[[str], Reported | None], leading: Callable[[], bool], doubles: bool
    ) -> None:
        self._state, self._find, self._leading, self._doubles = state, find, leading, doubles
        self._waiting: set[str] = set()
        self._began = time.monotonic()
        self._gone: dict[str, float] = {}
        self._reconciler = Reconciler("federation-status", self._write, workers=2)

    async def run(self) -> None:
        self._state.informers.pods.on_change(self._pod_changed)
        self._look_again()
        await self._reconciler.run()

    def _pod_changed(self, key: Key, _: Object | None, new: Object | None) -> None:
        if new is None and key[0] == self._state.namespace:
            self._gone[key[1]] = time.monotonic()
            self._look_again()

    def _look_again(self) -> None:
        """Once who is gone is to be listed no more."""
        asyncio.get_running_loop().call_later(self._state.settings.stale_seconds + _GATHER, self._touch_all)

    def _touch_all(self) -> None:
        for _, name in self._state.informers.peers.items:
            self.touch(name)

    def touch(self, peer: str) -> None:
        """Has the statuses of a peer and its sets written soon, if they differ."""
        if peer not in self._waiting:
            self._waiting.add(peer)
            asyncio.get_running_loop().call_later(_GATHER, self._queue, peer)

    def _queue(self, peer: str) -> None:
        self._waiting.discard(peer)
        self._reconciler.add((self._state.namespace, peer))

    async def _write(self, key: Key) -> None:
        peer = self._find(key[1])
        if peer is None:
            return
        await self._write_one(PEER, key, lambda now: {"discoveryStatus": self._discovery(peer, now)}, peer.uid)
        if self._leading():
            await self._write_set(EXPORTS, key, "exportedServices", peer.exported())
            await self._write_set(IMPORTS, key, "importedServices", peer.imported())

    async def _write_set(self, kind: Resource, key: Key, field: str, services: list[Object] | None) -> None:
        if services is not None:
            await self._write_one(kind, key, lambda _: {field: services})

    def _discovery(self, peer: Reported, current: Object) -> Object:
        return discovery_status(
            current, peer.status.render(), self._listed() if self._leading() else None, self._doubles
        )

    def _listed(self) -> frozenset[str] | None:
        """The pods that may stand in a status: those that are there or have left only now; None for all."""
        oldest = time.monotonic() - self._state.settings.stale_seconds
        if self._began > oldest:
            return None  # who left before this istiod began is not known to it
        self._gone = {name: left for name, left in self._gone.items() if left > oldest}
        namespace = self._state.namespace
        pods = {name for home, name in self._state.informers.pods.items if home == namespace}
        return frozenset(pods | self._gone.keys() | {self._state.pod_name})

    async def _write_one(
        self, kind: Resource, key: Key, status: Callable[[Object], Object], uid: str | None = None
    ) -> None:
        """With `uid`, only to that object: one created anew under the same name has its own status."""
        namespace, name = key
        for attempt in range(_TRIES):
            found = await self._state.api.find(kind, name, namespace)
            if found is None or (uid and found["metadata"].get("uid") != uid):
                return
            current = found.get("status") or {}
            new = status(current)
            if _same(current, new):
                return
            patch = {"metadata": {"resourceVersion": found["metadata"].get("resourceVersion")}, "status": new}
            try:
                await self._state.api.merge(kind, name, namespace, patch, sub="status")
                return
            except ApiError as error:
                if error.status == 404:
                    return
                if error.status != 409 or attempt == _TRIES - 1:
                    log.error("error updating status for %s %s/%s: %s", kind.kind, namespace, name, error.message)
                    raise


def _same(current: Object, new: Object) -> bool:
    """Whether a merge patch with `new` would change nothing."""
    for key, value in new.items():
        if isinstance(value, dict):
            if not _same(current.get(key) or {}, value):
                return False
        elif current.get(key) != value:
            return False
    return True
