"""The API client of the lab's controllers: list, watch, patch over HTTPS, objects as plain dicts.

Small on purpose: the generated asyncio client costs every controller process 0.6 s and 70 MB at its start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import orjson

from lab.resources import EVENT, Resource
from lab.settings import ClusterSettings

Object = dict[str, Any]
Key = tuple[str, str]
log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds


class ApiError(Exception):
    """An answer other than 2xx; `reason` is the Status reason (`NotFound`, `Conflict`, `AlreadyExists`, ...)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message = status, reason, message


def key_of(obj: Object) -> Key:
    """(namespace, name); the namespace of cluster-scoped objects is ''."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


class ApiClient:
    """One authenticated session with one API server; use as an async context manager."""

    def __init__(self, settings: ClusterSettings, manager: str) -> None:
        self.settings, self.manager = settings, manager
        self._session: aiohttp.ClientSession | None = None
        self._events: dict[tuple[str | None, ...], tuple[str, int]] = {}

    async def __aenter__(self) -> ApiClient:
        tls = ssl.create_default_context(cafile=str(self.settings.ca_file))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            headers={
                "Authorization": f"Bearer {self.settings.token}",
                "User-Agent": self.manager,
                "X-Lab-Component": self.manager,
            },
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **params: str
    ) -> Object:
        """One request; returns the decoded answer, raises ApiError otherwise."""
        assert self._session, "ApiClient is used outside its context"
        headers = {"Content-Type": content_type} if body is not None else {}
        data = orjson.dumps(body) if body is not None else None
        url = self.settings.server + path
        async with self._session.request(method, url, data=data, headers=headers, params=params) as answer:
            raw = await answer.read()
            if answer.status >= 400:
                try:
                    status = orjson.loads(raw)
                except ValueError:
                    status = {}
                raise ApiError(answer.status, status.get("reason", ""), status.get("message", raw.decode()[:300]))
            return orjson.loads(raw) if raw else {}

    async def get(self, kind: Resource, name: str, namespace: str | None = None) -> Object:
        return await self.request("GET", kind.path(namespace, name))

    async def find(self, kind: Resource, name: str, namespace: str | None = None) -> Object | None:
        """Like get, but None where the object is not there."""
        try:
            return await self.get(kind, name, namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    async def list_objects(
        self, kind: Resource, namespace: str | None = None, **params: str
    ) -> tuple[list[Object], str]:
        """All objects and the resource version they are from; params such as labelSelector."""
        answer = await self.request("GET", kind.path(namespace), **params)
        items = answer.get("items") or []
        for item in items:
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.kind)
        return items, answer["metadata"]["resourceVersion"]

    async def create(self, kind: Resource, obj: Object) -> Object:
        namespace = obj["metadata"].get("namespace")
        return await self.request("POST", kind.path(namespace), obj, fieldManager=self.manager)

    async def replace(self, kind: Resource, obj: Object, sub: str | None = None) -> Object:
        namespace, name = key_of(obj)
        return await self.request("PUT", kind.path(namespace, name, sub), obj, fieldManager=self.manager)

    async def merge(
        self, kind: Resource, name: str, namespace: str | None, patch: Object, sub: str | None = None
    ) -> Object:
        """JSON merge patch; `sub='status'` for statuses."""
        return await self.request(
            "PATCH", kind.path(namespace, name, sub), patch, "application/merge-patch+json", fieldManager=self.manager
        )

    async def apply(self, kind: Resource, obj: Object) -> Object:
        """Server-side apply, forced: what a controller says of its own objects holds."""
        namespace, name = key_of(obj)
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
        return await self.request(
            "PATCH",
            kind.path(namespace, name),
            body,
            "application/apply-patch+yaml",
            fieldManager=self.manager,
            force="true",
        )

    async def delete(self, kind: Resource, name: str, namespace: str | None = None, **params: str) -> None:
        """Deletes; an object that is not there is deleted already."""
        try:
            await self.request("DELETE", kind.path(namespace, name), **params)
        except ApiError as error:
            if error.status != 404:
                raise

    async def event(self, about: Object, kind: str, reason: str, message: str) -> None:
        """Records a Kubernetes Event (`kind` is Normal or Warning); losing one never stops a controller.

        What was said of this object before is counted in the Event it was said with.
        """
        namespace, name = key_of(about)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        said = (namespace, name, about["metadata"].get("uid"), reason, message)
        if said in self._events:
            event, count = self._events[said]
            with contextlib.suppress(ApiError, aiohttp.ClientError):
                await self.merge(EVENT, event, namespace or "default", {"count": count + 1, "lastTimestamp": now})
                self._events[said] = event, count + 1
                return
        obj = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{name}.", "namespace": namespace or "default"},
            "involvedObject": {
                "apiVersion": about.get("apiVersion"),
                "kind": about.get("kind"),
                "name": name,
                "namespace": namespace,
                "uid": about["metadata"].get("uid"),
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": self.manager},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with contextlib.suppress(ApiError, aiohttp.ClientError):
            made = await self.create(EVENT, obj)
            self._events[said] = made["metadata"]["name"], 1

    async def watch(self, kind: Resource, namespace: str | None, version: str) -> AsyncIterator[tuple[str, Object]]:
        """Events after `version` as (type, object) until the server ends the stream; ApiError 410 when too old."""
        assert self._session, "ApiClient is used outside its context"
        params = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        url = self.settings.server + kind.path(namespace)
        async with self._session.get(url, params=params) as answer:
            if answer.status >= 400:
                raise ApiError(answer.status, "", (await answer.text())[:300])
            buffer = b""
            async for chunk in answer.content.iter_any():
                buffer += chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    if not line:
                        continue
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                    yield event["type"], event["object"]


class Informer:
    """A local copy of all objects of one kind, kept current by list and watch.

    `items` maps (namespace, name) to objects (read only, never change them). `on_change(key, old, new)` callbacks
    run synchronously in the event loop; old is None for new objects, new is None for deleted ones.
    """

    def __init__(self, api: ApiClient, kind: Resource, namespace: str | None = None) -> None:
        self.api, self.kind, self.namespace = api, kind, namespace
        self.items: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        self._callbacks: list[Callable[[Key, Object | None, Object | None], None]] = []
        self._vain = -1  # watches in a row that ended at once with nothing; -1 before the first, and after news
        self._since = time.monotonic()

    def on_change(self, callback: Callable[[Key, Object | None, Object | None], None]) -> None:
        self._callbacks.append(callback)

    def _set(self, key: Key, new: Object | None) -> None:
        old = self.items.get(key)
        if new is None:
            self.items.pop(key, None)
        else:
            self.items[key] = new
        for callback in self._callbacks:
            callback(key, old, new)

    async def run(self) -> None:
        """Runs until cancelled; a kind that is not served yet (404) is asked for again every half second."""
        while True:
            try:
                await self._list_and_watch()
            except ApiError as error:
                # 410: the list is made anew at once, but not again and again by a server that has no version at all.
                await asyncio.sleep(self._pause() if error.status == 410 else 0.5)
            except (TimeoutError, aiohttp.ClientError, OSError):
                await asyncio.sleep(0.2)

    def _pause(self) -> float:
        """Seconds before the next watch: 0 after one that brought something or lived, growing while they do neither."""
        now = time.monotonic()
        self._vain = 0 if now - self._since > _LONGEST_PAUSE else self._vain + 1
        pause = min(_FIRST_PAUSE * 2 ** min(self._vain - 1, 10), _LONGEST_PAUSE) if self._vain else 0.0
        self._since = now + pause
        return pause

    async def _list_and_watch(self) -> None:
        items, version = await self.api.list_objects(self.kind, self.namespace)
        fresh = {key_of(item): item for item in items}
        for key in [key for key in self.items if key not in fresh]:
            self._set(key, None)
        for key, item in fresh.items():
            known = self.items.get(key)
            if known is None or known["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._set(key, item)
        self.synced.set()
        while True:
            await asyncio.sleep(self._pause())
            async for kind, obj in self.api.watch(self.kind, self.namespace, version):
                version = obj["metadata"]["resourceVersion"]
                if kind != "BOOKMARK":
                    self._vain = -1
                    self._set(key_of(obj), None if kind == "DELETED" else obj)


class Reconciler:
    """Runs `reconcile(key)` for keys that were queued, each key once at a time, failed ones again with back-off."""

    def __init__(self, name: str, reconcile: Callable[[Key], Awaitable[None]], workers: int = 8) -> None:
        self.name, self._reconcile, self._workers = name, reconcile, workers
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}

    def add(self, key: Key) -> None:
        """Queues a key; one that is being worked on is queued again when that is done."""
        if key in self._busy:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._queue.put_nowait(key)

    def add_after(self, delay: float, key: Key) -> None:
        """Queues a key `delay` seconds from now."""
        asyncio.get_running_loop().call_later(delay, self.add, key)

    async def run(self) -> None:
        await asyncio.gather(*(self._worker() for _ in range(self._workers)))

    async def _worker(self) -> None:
        while True:
            key = await self._queue.get()
            self._queued.discard(key)
            self._busy.add(key)
            try:
                await self._reconcile(key)
                self._failures.pop(key, None)
            except (TimeoutError, ApiError, aiohttp.ClientError, OSError) as error:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                if failures > 3:
                    log.warning("%s %s: %s", self.name, key, error)
                self.add_after(min(0.05 * 2**failures, 5) * random.uniform(0.5, 1), key)
            except Exception:
                log.exception("%s %s failed", self.name, key)
                self.add_after(2, key)
            finally:
                self._busy.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)
