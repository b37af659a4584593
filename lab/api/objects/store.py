"""Objects in memory, one resource version for all of them, and the log that watches read.

Objects are immutable once stored: each version keeps its JSON, and an event's line is encoded once for all watchers.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Iterator
from typing import Any

import orjson

from lab.api.schema.fieldsets import Managers

Object = dict[str, Any]
Key = tuple[str, str]
LOG_LENGTH = 2000


class Entry:
    """One version of one object; `head` is how many bytes of `json` precede the first field after `kind`."""

    __slots__ = ("head", "json", "key", "managers", "obj", "version")

    def __init__(self, key: Key, obj: Object, version: int, managers: Managers) -> None:
        self.key, self.obj, self.version, self.managers = key, obj, version, managers
        self.json = orjson.dumps(obj)
        self.head = len(orjson.dumps({"apiVersion": obj["apiVersion"], "kind": obj["kind"]})) - 1

    def item(self) -> bytes:
        """JSON without apiVersion and kind, as items of built-in lists are."""
        return b"{" + self.json[self.head + 1 :]

    def copy(self) -> Object:
        return orjson.loads(self.json)

    def as_version(self, api_version: str) -> Object:
        """The object as read under another version of its group (conversion strategy None)."""
        if self.obj["apiVersion"] == api_version:
            return self.obj
        return {**self.obj, "apiVersion": api_version}

    def encoded(self, api_version: str) -> bytes:
        if self.obj["apiVersion"] == api_version:
            return self.json
        return orjson.dumps({**self.obj, "apiVersion": api_version})


class Event:
    """One change; `old` is the version before it, needed where a selector decides what a watcher sees."""

    __slots__ = ("_lines", "entry", "old", "type")

    def __init__(self, kind: str, entry: Entry, old: Entry | None) -> None:
        self.type, self.entry, self.old = kind, entry, old
        self._lines: dict[tuple[str, str], bytes] = {}

    def line(self, kind: str, api_version: str) -> bytes:
        """The event as watchers get it, under the type a watcher's selector makes of it."""
        found = self._lines.get((kind, api_version))
        if found is None:
            found = self._lines[kind, api_version] = event_line(kind, self.entry.encoded(api_version))
        return found


def event_line(kind: str, encoded: bytes) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + encoded + b"}\n"


class Collection:
    """All objects of one kind."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.items: dict[Key, Entry] = {}
        self._keys: list[Key] = []
        self.log: list[Event] = []
        self.dropped = 0
        self.floor = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def get(self, key: Key) -> Entry | None:
        return self.items.get(key)

    def select(self, namespace: str | None, after: Key | None = None) -> Iterator[Entry]:
        """Entries in order of namespace and name, of one namespace (None: all), after a key."""
        keys = self._keys
        start = bisect.bisect_right(keys, after) if after else 0
        if namespace is not None:
            start = max(start, bisect.bisect_left(keys, (namespace, "")))
            end = bisect.bisect_left(keys, (namespace + "\0", ""))
        else:
            end = len(keys)
        return (self.items[key] for key in keys[start:end])

    def put(self, key: Key, obj: Object, managers: Managers) -> Entry:
        """Stores a version; sets its resourceVersion and its managedFields."""
        version = self._clock.tick()
        meta = obj["metadata"]
        meta["resourceVersion"] = str(version)
        meta.pop("managedFields", None)
        if managers:
            meta["managedFields"] = managers.encoded()
        entry = Entry(key, obj, version, managers)
        old = self.items.get(key)
        if old is None:
            bisect.insort(self._keys, key)
        self.items[key] = entry
        self._record(Event("MODIFIED" if old else "ADDED", entry, old))
        return entry

    def remove(self, key: Key, last: Object | None = None) -> Entry:
        """Removes an object; its last state (or `last`) goes to the watchers under a newer resource version."""
        old = self.items.pop(key)
        del self._keys[bisect.bisect_left(self._keys, key)]
        version = self._clock.tick()
        final = orjson.loads(orjson.dumps(last)) if last is not None else old.copy()
        final["metadata"]["resourceVersion"] = str(version)
        entry = Entry(key, final, version, old.managers)
        self._record(Event("DELETED", entry, old))
        return entry

    def _record(self, event: Event) -> None:
        self.log.append(event)
        if len(self.log) > 2 * LOG_LENGTH:
            self.forget(LOG_LENGTH)
        self.wake()

    def forget(self, count: int) -> None:
        """Drops the oldest events; watches that still need them get 410."""
        count = min(count, len(self.log))
        if count:
            self.floor = self.log[count - 1].entry.version
            del self.log[:count]
            self.dropped += count

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def changed(self, cursor: int, timeout: float) -> bool:
        """Waits until there are events after the cursor; False where the time is over."""
        if cursor < self.dropped + len(self.log):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True

    def cursor_after(self, version: int) -> int:
        """Where a watch from this resource version begins to read."""
        index = bisect.bisect_right(self.log, version, key=lambda event: event.entry.version)
        return self.dropped + index

    @property
    def end(self) -> int:
        return self.dropped + len(self.log)

    def events(self, cursor: int) -> list[Event] | None:
        """Events from the cursor on; None where they are no longer kept."""
        if cursor < self.dropped:
            return None
        return self.log[cursor - self.dropped :]


class Clock:
    """The resource version, shared by all kinds."""

    def __init__(self) -> None:
        self.now = 1

    def tick(self) -> int:
        self.now += 1
        return self.now
