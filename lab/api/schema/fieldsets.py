"""Who owns which fields: sets of field paths, and the `managedFields` they are written as.

A path is a tuple of elements: `f:name` (field), `k:{"name":"a"}` (item of a keyed list), `v:"a"` (item of a set).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from lab.api.schema.schema import Node

Path = tuple[str, ...]
Paths = frozenset[Path]

_SYSTEM_META = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generateName",
)
UNOWNED = {("f:apiVersion",), ("f:kind",), ("f:metadata",), *(("f:metadata", f"f:{name}") for name in _SYSTEM_META)}


class Manager(NamedTuple):
    """Identity of one entry of managedFields."""

    name: str
    operation: str
    api_version: str
    subresource: str


@dataclass(frozen=True)
class Owned:
    """What one manager owns; `fields` is the nested form that managedFields shows."""

    paths: Paths
    time: str
    fields: dict[str, Any] = field(compare=False)


class Managers(dict[Manager, Owned]):
    """All managers of one object; never changed once stored."""

    def own(self, manager: Manager, paths: Iterable[Path], when: str | None = None) -> None:
        """Sets what a manager owns; without paths it is no longer one."""
        paths = frozenset(paths) - UNOWNED
        if paths:
            self[manager] = Owned(paths, when or now(), nested(paths))
        else:
            self.pop(manager, None)

    def encoded(self) -> list[dict[str, Any]]:
        """The value of metadata.managedFields; Apply entries first, then by time."""
        entries = []
        for manager, owned in sorted(self.items(), key=lambda item: (item[0].operation, item[1].time)):
            entry = {
                "manager": manager.name,
                "operation": manager.operation,
                "apiVersion": manager.api_version,
                "time": owned.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": owned.fields,
            }
            if manager.subresource:
                entry["subresource"] = manager.subresource
            entries.append(entry)
        return entries


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def nested(paths: Iterable[Path]) -> dict[str, Any]:
    """FieldsV1: a leaf is `{}`; a member with members below it holds `.`."""
    root: dict[str, Any] = {}
    for path in sorted(paths, key=len):
        current = root
        for element in path[:-1]:
            following = current.get(element)
            if following is None:
                following = current[element] = {}
            elif not following:
                following["."] = {}
            current = following
        current.setdefault(path[-1], {})
    return root


def item_key(item: Any, node: Node) -> str:
    """Element of one item of a keyed list; absent keys count with their defaults."""
    found = item if isinstance(item, dict) else {}
    key = {name: found[name] if name in found else node.key_default(name) for name in node.keys}
    return "k:" + orjson.dumps({k: v for k, v in key.items() if v is not None}, option=orjson.OPT_SORT_KEYS).decode()


def set_key(item: Any) -> str:
    return "v:" + orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode()


def element(item: Any, node: Node) -> str:
    return item_key(item, node) if node.list_type == "map" else set_key(item)


def leaves(value: Any, node: Node, path: Path, out: set[Path]) -> None:
    """Adds what an applied configuration claims: leaves, items of keyed lists, empty containers."""
    if isinstance(value, dict) and not node.atomic:
        if not value and path:
            out.add(path)
        for name, inner in value.items():
            leaves(inner, node.child(name), (*path, f"f:{name}"), out)
    elif isinstance(value, list) and node.list_type in ("map", "set"):
        if not value:
            out.add(path)
        for item in value:
            here = (*path, element(item, node))
            out.add(here)
            if node.list_type == "map":
                leaves(item, node.items, here, out)
    else:
        out.add(path)


def everything(value: Any, node: Node, path: Path, out: set[Path]) -> None:
    """Adds a value that came or went as a whole: its containers too."""
    if path:
        out.add(path)
    if isinstance(value, dict) and not node.atomic:
        for name, inner in value.items():
            everything(inner, node.child(name), (*path, f"f:{name}"), out)
    elif isinstance(value, list) and node.list_type in ("map", "set"):
        for item in value:
            here = (*path, element(item, node))
            out.add(here)
            if node.list_type == "map":
                everything(item, node.items, here, out)


def compare(old: Any, new: Any, node: Node, path: Path, changed: set[Path], removed: set[Path]) -> None:
    """Adds the paths that differ between two values: changed or new ones, and removed ones."""
    if old == new and type(old) is type(new):
        return
    if isinstance(old, dict) and isinstance(new, dict) and not node.atomic:
        for name, inner in new.items():
            here = (*path, f"f:{name}")
            if name in old:
                compare(old[name], inner, node.child(name), here, changed, removed)
            else:
                everything(inner, node.child(name), here, changed)
        for name in old.keys() - new.keys():
            everything(old[name], node.child(name), (*path, f"f:{name}"), removed)
    elif isinstance(old, list) and isinstance(new, list) and node.list_type in ("map", "set"):
        before = {element(item, node): item for item in old}
        after = {element(item, node): item for item in new}
        for key, item in after.items():
            here = (*path, key)
            if key in before:
                if node.list_type == "map":
                    compare(before[key], item, node.items, here, changed, removed)
            else:
                everything(item, node.items, here, changed)
        for key in before.keys() - after.keys():
            everything(before[key], node.items, (*path, key), removed)
    else:
        changed.add(path)


def track_update(
    managers: Managers, manager: Manager, old: dict[str, Any], new: dict[str, Any], node: Node
) -> Managers:
    """Ownership after a create, update or patch that is no apply: the manager owns what it changed."""
    changed: set[Path] = set()
    removed: set[Path] = set()
    compare(_plain(old), _plain(new), node, (), changed, removed)
    changed -= UNOWNED
    removed -= UNOWNED
    if not changed and not removed:
        return managers
    result = Managers(managers)
    lost = changed | removed
    for other, owned in managers.items():
        if other != manager and not owned.paths.isdisjoint(lost):
            result.own(other, owned.paths - lost, owned.time)
    mine = managers[manager].paths if manager in managers else frozenset()
    result.own(manager, (mine | changed) - removed)
    return result


def _plain(obj: dict[str, Any]) -> dict[str, Any]:
    """The object without what nobody owns, so that it costs nothing to compare."""
    if not obj:
        return obj
    meta = {name: value for name, value in obj.get("metadata", {}).items() if name not in _SYSTEM_META}
    return {**{k: v for k, v in obj.items() if k not in ("apiVersion", "kind")}, "metadata": meta}


def readable(path: Path) -> str:
    """A path as conflict texts show it: `.spec.ports[port=80,protocol="TCP"].name`."""
    text = ""
    for part in path:
        kind, rest = part[:2], part[2:]
        if kind == "f:":
            text += f".{rest}"
        elif kind == "v:":
            text += f"[={rest}]"
        else:
            key = orjson.loads(rest)
            text += "[" + ",".join(f"{k}={orjson.dumps(v).decode()}" for k, v in key.items()) + "]"
    return text
