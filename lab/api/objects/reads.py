"""Answers to get, list and watch, in the form the client accepts."""

from __future__ import annotations

import base64
import random
import re
import time
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from lab.api.objects import selectors
from lab.api.objects.calls import Call, truth
from lab.api.objects.registry import Registry
from lab.api.objects.store import Entry, Event, event_line
from lab.api.objects.table import META, partial, table
from lab.api.schema import errors
from lab.api.schema.errors import StatusError, bad_request

Object = dict[str, Any]
_AS = re.compile(r"as=(Table|PartialObjectMetadata|PartialObjectMetadataList)")
_BOOKMARK_EVERY = 60.0
_SAVED = "k8s.io/initial-events-end"


def reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer; bytes are taken as they are."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return web.Response(body=data, status=status, content_type="application/json", headers=headers)


def wanted_form(accept: str) -> str:
    """`Table`, `PartialObjectMetadata` or '' for whole objects; the client's first choice that is JSON counts."""
    for option in accept.split(","):
        if "protobuf" in option:
            continue
        match = _AS.search(option)
        return match.group(1).removesuffix("List") if match else ""
    return ""


def _include(call: Call) -> str:
    return call.params.get("includeObject", "Metadata")


def one(call: Call, entry: Entry, accept: str, status: int = 200) -> web.Response:
    """A single object."""
    headers = warnings(call)
    match wanted_form(accept):
        case "Table":
            meta = {"resourceVersion": str(entry.version)}
            body: Any = table([entry.as_version(call.api_version)], call.kind, call.version, _include(call), meta)
        case "PartialObjectMetadata":
            body = partial(entry.obj)
        case _:
            body = entry.encoded(call.api_version)
    return reply(body, status, headers)


def warnings(call: Call) -> dict[str, str] | None:
    if not call.warnings:
        return None
    return {"Warning": ", ".join('299 - "' + text.replace('"', '\\"') + '"' for text in call.warnings)}


def _continue_token(entry: Entry, version: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps({"v": version, "k": entry.key})).decode()


def _after(call: Call) -> tuple[int, tuple[str, str]] | None:
    token = call.params.get("continue")
    if not token:
        return None
    try:
        content = orjson.loads(base64.urlsafe_b64decode(token))
        version, (namespace, name) = content["v"], content["k"]
    except (ValueError, KeyError, TypeError):
        raise bad_request("continue key is not valid") from None
    if version < call.kind.collection.floor:
        raise errors.expired("The provided continue parameter is too old, start the list without it")
    return version, (namespace, name)


def _number(call: Call, name: str) -> int:
    text = call.params.get(name) or "0"
    if not text.isdigit():
        raise bad_request(f"{name} must be a number: {text!r}")
    return int(text)


def selected(call: Call) -> list[Entry]:
    """All entries the call's selectors leave."""
    namespace = call.namespace if call.kind.namespaced and call.namespace else None
    predicate, name = _predicate(call)
    if name is not None and namespace is not None:
        entry = call.kind.collection.get((namespace, name))
        return [entry] if entry and (predicate is None or predicate(entry.obj)) else []
    entries = call.kind.collection.select(namespace)
    return [entry for entry in entries if predicate is None or predicate(entry.obj)]


def _predicate(call: Call) -> tuple[selectors.Predicate | None, str | None]:
    return selectors.compiled(
        call.params.get("labelSelector", ""), call.params.get("fieldSelector", ""), call.kind.kind
    )


def listing(call: Call, registry: Registry, accept: str) -> web.Response:
    """A list, in pages where the client limits them."""
    limit, after = _number(call, "limit"), _after(call)
    version = after[0] if after else registry.clock.now
    meta: Object = {"resourceVersion": str(version)}
    entries = selected(call)
    if after:
        entries = [entry for entry in entries if entry.key > after[1]]
    if limit and len(entries) > limit:
        if not call.params.get("labelSelector") and not call.params.get("fieldSelector"):
            meta["remainingItemCount"] = len(entries) - limit
        entries = entries[:limit]
        meta["continue"] = _continue_token(entries[-1], version)
    api_version = call.api_version
    form = wanted_form(accept)
    if form == "Table":
        objects = [entry.as_version(api_version) for entry in entries]
        return reply(table(objects, call.kind, call.version, _include(call), meta))
    if form == "PartialObjectMetadata":
        items = [partial(entry.obj) for entry in entries]
        return reply({"kind": "PartialObjectMetadataList", "apiVersion": META, "metadata": meta, "items": items})
    if call.kind.custom:
        encoded = [entry.encoded(api_version) for entry in entries]
    else:
        encoded = [entry.item() for entry in entries]
    head = orjson.dumps({"kind": call.kind.list_kind, "apiVersion": api_version, "metadata": meta})
    return reply(b"".join((head[:-1], b',"items":[', b",".join(encoded), b"]}")))


class Watch:
    """One watch stream; `ends` (asked before every wait) cuts it short, for faults."""

    def __init__(self, call: Call, registry: Registry, accept: str) -> None:
        self._call, self._registry = call, registry
        self._form = wanted_form(accept)
        self._namespace = call.namespace if call.kind.namespaced and call.namespace else None
        self._predicate, _ = _predicate(call)
        self._version = call.params.get("resourceVersion") or ""
        if self._version and not self._version.isdigit():
            raise errors.invalid(
                "ListOptions",
                "meta.k8s.io",
                "",
                [errors.invalid_value("resourceVersion", self._version, "not a number")],
            )
        if self._version.isdigit() and int(self._version) > registry.clock.now:
            text = f"Too large resource version: {self._version}, current: {registry.clock.now}"
            raise StatusError(
                504, "Timeout", text, {"causes": [{"reason": "ResourceVersionTooLarge", "message": text}]}
            )
        seconds = _number(call, "timeoutSeconds") or random.randint(1800, 3600)
        self._deadline = time.monotonic() + seconds
        self._bookmarks = truth(call.params.get("allowWatchBookmarks"))

    async def run(
        self, request: web.BaseRequest, expire: bool = False, limit: float | None = None
    ) -> web.StreamResponse:
        """Streams until the time is over; `expire` answers 410 instead, `limit` (seconds) ends it early."""
        if limit is not None:
            self._deadline = min(self._deadline, time.monotonic() + limit)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if expire:
            await response.write(self._too_old())
        else:
            await self._stream(response.write)
        await response.write_eof()
        return response

    def _too_old(self) -> bytes:
        text = f"too old resource version: {self._version or 0} ({self._call.kind.collection.floor + 1})"
        return event_line("ERROR", orjson.dumps(errors.expired(text).body()))

    async def _stream(self, write: Callable[[bytes], Any]) -> None:
        collection = self._call.kind.collection
        initial = truth(self._call.params.get("sendInitialEvents"))
        if self._version in ("", "0") or initial:
            cursor = collection.end
            version = self._registry.clock.now
            entries = collection.select(self._namespace)
            chosen = [e for e in entries if self._predicate is None or self._predicate(e.obj)]
            if lines := [self._encode("ADDED", entry) for entry in chosen]:
                await write(b"".join(lines))
            if initial:
                await write(self._bookmark(version, {_SAVED: "true"}))
        else:
            if int(self._version) < collection.floor:
                await write(self._too_old())
                return
            cursor = collection.cursor_after(int(self._version))
        await self._follow(cursor, write)

    async def _follow(self, cursor: int, write: Callable[[bytes], Any]) -> None:
        collection = self._call.kind.collection
        group, plural = self._call.kind.group, self._call.kind.plural
        bookmark_at = time.monotonic() + _BOOKMARK_EVERY
        while True:
            now = time.monotonic()
            if now >= self._deadline or self._registry.get(group, plural) is None:
                break
            if not await collection.changed(cursor, max(0.001, min(self._deadline, bookmark_at) - now)):
                if self._bookmarks and time.monotonic() >= bookmark_at:
                    await write(self._bookmark(self._registry.clock.now))
                    bookmark_at = time.monotonic() + _BOOKMARK_EVERY
                continue
            events = collection.events(cursor)
            if events is None:
                await write(self._too_old())
                return
            cursor += len(events)
            if lines := [line for event in events if (line := self._line(event))]:
                await write(b"".join(lines))
        if self._bookmarks:
            await write(self._bookmark(self._registry.clock.now))

    def _line(self, event: Event) -> bytes | None:
        """The event as this watcher sees it; None where it does not."""
        if self._namespace is not None and event.entry.key[0] != self._namespace:
            return None
        kind = event.type
        if self._predicate is not None:
            before = event.old is not None and self._predicate(event.old.obj)
            after = kind != "DELETED" and self._predicate(event.entry.obj)
            if not before and not after:
                return None
            if before and not after and kind == "MODIFIED" and event.old:
                return self._left(event.old, event.entry)
            kind = "ADDED" if not before else ("MODIFIED" if after else "DELETED")
        if self._form:
            return self._encode(kind, event.entry)
        return event.line(kind, self._call.api_version)

    def _left(self, old: Entry, new: Entry) -> bytes:
        """An object that a selector no longer matches: its last matching state under the new version."""
        obj = old.copy()
        obj["metadata"]["resourceVersion"] = str(new.version)
        return self._encode("DELETED", Entry(old.key, obj, new.version, old.managers))

    def _encode(self, kind: str, entry: Entry) -> bytes:
        call = self._call
        if self._form == "Table":
            obj, meta = entry.as_version(call.api_version), {"resourceVersion": str(entry.version)}
            body = orjson.dumps(table([obj], call.kind, call.version, _include(call), meta))
        elif self._form == "PartialObjectMetadata":
            body = orjson.dumps(partial(entry.obj))
        else:
            body = entry.encoded(call.api_version)
        return event_line(kind, body)

    def _bookmark(self, version: int, annotations: dict[str, str] | None = None) -> bytes:
        meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        kind, api_version = self._call.kind.kind, self._call.api_version
        if self._form == "Table":
            kind, api_version = "Table", META
        return event_line("BOOKMARK", orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": meta}))
