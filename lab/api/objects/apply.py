"""Server-side apply: merges a configuration into an object and keeps account of who owns what."""

from __future__ import annotations

import copy
from typing import Any

import orjson

from lab.api.schema.errors import Cause, StatusError
from lab.api.schema.fieldsets import (
    UNOWNED,
    Manager,
    Managers,
    Path,
    compare,
    element,
    item_key,
    leaves,
    readable,
    set_key,
)
from lab.api.schema.schema import UNKNOWN, Node

Object = dict[str, Any]


def apply(
    live: Object, config: Object, node: Node, managers: Managers, manager: Manager, force: bool
) -> tuple[Object, Managers]:
    """The merged object and its managers; 409 Conflict with every field that another manager owns differently.

    Fields that this manager applied before, applies no longer and nobody else owns are removed.
    """
    applied: set[Path] = set()
    leaves(config, node, (), applied)
    applied -= UNOWNED
    merged = _merge(live, config, node) if live else copy.deepcopy(config)
    changed: set[Path] = set()
    if live:
        compare(live, merged, node, (), changed, set())
    result = Managers(managers)
    contested = {
        other: owned.paths & changed
        for other, owned in managers.items()
        if other != manager and not owned.paths.isdisjoint(changed)
    }
    if contested and not force:
        raise _conflict(contested)
    for other, paths in contested.items():
        result.own(other, managers[other].paths - paths, managers[other].time)
    last = managers[manager].paths if manager in managers else frozenset()
    kept = {path for other, owned in result.items() if other != manager for path in owned.paths}
    gone = _removable(last - applied, kept, applied)
    for path in gone:
        _remove(merged, path, node, kept | applied)
    if applied != last or changed or gone:
        result.own(manager, applied)
    return merged, result


def _removable(dropped: frozenset[Path] | set[Path], kept: set[Path], applied: set[Path]) -> list[Path]:
    """Dropped paths without anything below them that is still owned; outer ones first."""
    held = {path[:length] for path in kept | applied for length in range(1, len(path) + 1)}
    return sorted((path for path in dropped if path not in held), key=len)


def _merge(live: Any, config: Any, node: Node) -> Any:
    if isinstance(live, dict) and isinstance(config, dict) and not node.atomic:
        merged = dict(live)
        for name, value in config.items():
            merged[name] = _merge(live[name], value, node.child(name)) if name in live else value
        return merged
    if isinstance(live, list) and isinstance(config, list) and node.list_type in ("map", "set"):
        new = {element(item, node): item for item in config}
        merged_list = []
        for item in live:
            key = element(item, node)
            if key in new and node.list_type == "map":
                merged_list.append(_merge(item, new.pop(key), node.items))
            else:
                new.pop(key, None)
                merged_list.append(item)
        return merged_list + list(new.values())
    return config


def _remove(container: Any, path: Path, node: Node, kept: set[Path]) -> None:
    """Removes one path, in place, and maps that become empty by it and belong to nobody."""
    trail: list[tuple[Any, str]] = []
    current: Any = container
    for part in path[:-1]:
        following, inner = _step(current, part, node)
        if following is None:
            return
        if isinstance(current, dict):
            current[part[2:]] = following = copy.copy(following)
        else:
            index = current.index(following)
            current[index] = following = copy.copy(following)
        trail.append((current, part))
        current, node = following, inner
    _drop(current, path[-1], node)
    for depth in range(len(trail) - 1, -1, -1):
        parent, part = trail[depth]
        if current or path[: depth + 1] in kept or not isinstance(parent, dict) or part == "f:metadata":
            return
        del parent[part[2:]]
        current = parent


def _step(current: Any, part: str, node: Node) -> tuple[Any, Node]:
    if isinstance(current, dict) and part.startswith("f:"):
        return current.get(part[2:]), node.child(part[2:])
    if isinstance(current, list) and part.startswith("k:"):
        return next((item for item in current if item_key(item, node) == part), None), node.items
    return None, UNKNOWN


def _drop(current: Any, part: str, node: Node) -> None:
    if isinstance(current, dict) and part.startswith("f:"):
        current.pop(part[2:], None)
    elif isinstance(current, list):
        wanted = item_key if part.startswith("k:") else None
        current[:] = [i for i in current if (wanted(i, node) if wanted else set_key(i)) != part]


def _conflict(contested: dict[Manager, frozenset[Path]]) -> StatusError:
    causes, texts = [], []
    for other, paths in contested.items():
        using = f'"{other.name}"' + (f' with subresource "{other.subresource}"' if other.subresource else "")
        using += f" using {other.api_version}" if other.operation == "Update" else ""
        fields = sorted(readable(path) for path in paths)
        causes += [Cause("FieldManagerConflict", f"conflict with {using}", field) for field in fields]
        noun = "conflict" if len(fields) == 1 else "conflicts"
        texts.append(f"{noun} with {using}: {fields[0]}" if len(fields) == 1 else _listed(noun, using, fields))
    total = len(causes)
    message = f"Apply failed with {total} conflict{'s' if total != 1 else ''}: " + "\n".join(texts)
    return StatusError(409, "Conflict", message, {"causes": [cause._asdict() for cause in causes]})


def _listed(noun: str, using: str, fields: list[str]) -> str:
    return f"{noun} with {using}:\n" + "\n".join(f"- {field}" for field in fields)


def undeclared(config: Object, node: Node) -> list[str]:
    """Fields of a configuration that the schema does not declare; apply refuses those."""
    found: list[str] = []
    _undeclared(config, node, "", found)
    return found


def _undeclared(value: Any, node: Node, path: str, found: list[str]) -> None:
    if node is UNKNOWN:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            if node.knows(name):
                _undeclared(inner, node.child(name), f"{path}.{name}", found)
            elif not node.open:
                found.append(f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            key = f"[{orjson.dumps(item).decode()}]" if node.list_type == "atomic" else readable((element(item, node),))
            _undeclared(item, node.items, path + key, found)


def keyless(config: Object, node: Node) -> str:
    """What an API server says of an item of a keyed list that lacks a key, where no schema gives it a default; ''
    where there is none. So it is for `protocol` of ports before Kubernetes 1.21."""
    return _keyless(config, node, "")


def _keyless(value: Any, node: Node, path: str) -> str:
    if node is UNKNOWN:
        return ""
    if isinstance(value, dict):
        return next((text for name in value if (text := _keyless(value[name], node.child(name), f"{path}.{name}"))), "")
    if isinstance(value, list):
        for index, item in enumerate(value):
            for key in node.keys if isinstance(item, dict) else ():
                if key not in item:
                    omitted = f'omits key field "{key}" (and doesn\'t have default value)'
                    return f"{path}: element {index}: associative list with keys has an element that {omitted}"
            if text := _keyless(item, node.items, f"{path}[{index}]"):
                return text
    return ""
