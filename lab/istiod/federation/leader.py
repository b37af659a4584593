"""Leader election among the istiod pods of one mesh: a record in ConfigMap `servicemesh-federation`, as captured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from lab.client import ApiClient, ApiError, Object
from lab.istiod.federation.logs import ComponentLog
from lab.resources import CONFIG_MAP

log = ComponentLog("federation")
CONFIG_MAP_NAME = "servicemesh-federation"
ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
_LEASE = timedelta(seconds=30)
_RENEW = 7.5
_TRY = 2.0


class Leader:
    """Whether this pod leads, or follows another one that does; `elected` is called when it begins to lead.

    `decided` is set as soon as one of the two is known.
    """

    def __init__(self, api: ApiClient, namespace: str, pod: str, elected: Callable[[], None]) -> None:
        self._api, self._namespace, self._pod, self._elected = api, namespace, pod, elected
        self.leading = self.follows = False
        self.decided = asyncio.Event()

    async def run(self) -> None:
        """Takes part until cancelled, then lets another pod follow at once."""
        try:
            while True:
                await asyncio.sleep(await self._step())
        finally:
            await self._release()

    async def _step(self) -> float:
        try:
            leading = await self._acquire()
        except (ApiError, aiohttp.ClientError, OSError) as error:
            log.warning("leader election: %s", error)
            return _TRY
        began = leading and not self.leading
        self.leading = leading
        self.decided.set()
        if began:
            self._elected()
        return _RENEW if leading else _TRY

    async def _acquire(self) -> bool:
        now = datetime.now(UTC)
        found = await self._api.find(CONFIG_MAP, CONFIG_MAP_NAME, self._namespace)
        record = _record(found)
        holder = record.get("holderIdentity")
        self.follows = bool(holder) and holder != self._pod and _time(record["renewTime"]) + _LEASE > now
        if self.follows:
            return False
        mine = holder == self._pod
        transitions = int(record.get("leaderTransitions", 0)) + (0 if mine or not record else 1)
        acquired = record["acquireTime"] if mine else _text(now)
        return await self._write(found, self._pod, acquired, now, transitions)

    async def _release(self) -> None:
        if not self.leading:
            return
        self.leading = False
        try:
            found = await self._api.find(CONFIG_MAP, CONFIG_MAP_NAME, self._namespace)
            record = _record(found)
            if record.get("holderIdentity") == self._pod:
                now = datetime.now(UTC)
                await self._write(found, "", _text(now), now, int(record.get("leaderTransitions", 0)))
        except (ApiError, aiohttp.ClientError, OSError, RuntimeError) as error:
            log.warning("leader election: lock not released: %s", error)

    async def _write(self, found: Object | None, holder: str, acquired: str, now: datetime, transitions: int) -> bool:
        record = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(_LEASE.total_seconds()),
            "acquireTime": acquired,
            "renewTime": _text(now),
            "leaderTransitions": transitions,
        }
        annotations = {ANNOTATION: json.dumps(record, separators=(",", ":"))}
        try:
            if found is None:
                metadata = {"name": CONFIG_MAP_NAME, "namespace": self._namespace, "annotations": annotations}
                await self._api.create(CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
            else:
                version = found["metadata"].get("resourceVersion")
                patch = {"metadata": {"resourceVersion": version, "annotations": annotations}}
                await self._api.merge(CONFIG_MAP, CONFIG_MAP_NAME, self._namespace, patch)
        except ApiError as error:
            if error.status != 409:
                raise
            return False
        return True


def _record(found: Object | None) -> dict[str, Any]:
    annotations = ((found or {}).get("metadata") or {}).get("annotations") or {}
    record = json.loads(annotations.get(ANNOTATION) or "{}")
    return record if isinstance(record, dict) else {}


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
