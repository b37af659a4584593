"""Schemas as trees of nodes: what merging, pruning, defaulting and ownership ask of a field.

One class serves both CRDs (structural OpenAPI schemas) and built-in kinds (`hints`: only what merging needs).
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

Schema = dict[str, Any]

META_FIELDS = (
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "managedFields",
    "selfLink",
)
_META: Schema = {
    "type": "object",
    "properties": {
        "ownerReferences": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"]},
        "finalizers": {"x-kubernetes-list-type": "set", "x-lab-patch-merge": True},
        **{name: {} for name in META_FIELDS},
    },
}


class Node:
    """One place in an object's tree.

    `open`: unknown fields are kept (`x-kubernetes-preserve-unknown-fields`, or nothing is said about fields);
    `atomic`: the value changes as a whole; `list_type`: `atomic`, `set` or `map`, with `keys` for the last.
    """

    def __init__(self, schema: Schema, root: bool = False) -> None:
        self.schema = schema
        properties = schema.get("properties")
        self._properties: dict[str, Schema] = dict(properties or {})
        extra = schema.get("additionalProperties")
        self._extra: Schema | None = extra if isinstance(extra, dict) else ({} if extra is True else None)
        self.embedded = root or bool(schema.get("x-kubernetes-embedded-resource"))
        if self.embedded:
            self._properties = {
                **self._properties,
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": _META,
            }
        preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        self.open = preserve or not (
            self._properties or self._extra is not None or schema.get("type") in ("object", "array")
        )
        self.atomic = schema.get("x-kubernetes-map-type") == "atomic"
        self.list_type: str = schema.get("x-kubernetes-list-type", "atomic")
        self.keys: list[str] = schema.get("x-kubernetes-list-map-keys") or []
        self._children: dict[str, Node] = {}

    def child(self, name: str) -> Node:
        """Node of a field; of a field nobody described: one that merges maps and replaces lists."""
        found = self._children.get(name)
        if found is None:
            schema = self._properties.get(name, self._extra)
            found = self._children[name] = Node(schema) if schema else UNKNOWN
        return found

    def knows(self, name: str) -> bool:
        return name in self._properties or self._extra is not None

    @property
    def properties(self) -> dict[str, Schema]:
        return self._properties

    @cached_property
    def items(self) -> Node:
        schema = self.schema.get("items")
        return Node(schema) if schema else UNKNOWN

    @property
    def merge_key(self) -> str | None:
        """Strategic merge: the field that tells items of this list apart."""
        return self.keys[0] if self.list_type == "map" and self.keys else None

    @property
    def merges_values(self) -> bool:
        """Strategic merge: a list of plain values that is united, not replaced."""
        return bool(self.schema.get("x-lab-patch-merge"))

    def key_default(self, name: str) -> Any:
        schema = self.items.schema.get("properties", {}).get(name, {})
        return schema.get("default", "TCP" if name == "protocol" else None)


UNKNOWN = Node({"x-kubernetes-preserve-unknown-fields": True})


def hints(table: dict[str, str]) -> Node:
    """Root node of a built-in kind: paths such as `spec.containers[].ports` with their merge behaviour.

    The value is `{}` (map that changes as a whole), `#` (set) or the comma-separated keys of a keyed list.
    """
    root: Schema = {"properties": {}, "x-kubernetes-preserve-unknown-fields": True}
    for path, behaviour in table.items():
        current = root
        for part in path.split("."):
            name = part.removesuffix("[]")
            current = current.setdefault("properties", {}).setdefault(
                name, {"x-kubernetes-preserve-unknown-fields": True}
            )
            if part.endswith("[]"):
                current = current.setdefault("items", {"x-kubernetes-preserve-unknown-fields": True})
        if behaviour == "{}":
            current["x-kubernetes-map-type"] = "atomic"
        elif behaviour == "#":
            current["x-kubernetes-list-type"] = "set"
        else:
            current["x-kubernetes-list-type"] = "map"
            current["x-kubernetes-list-map-keys"] = behaviour.split(",")
    return Node(root, root=True)


def prune(value: Any, node: Node, path: str = "") -> list[str]:
    """Removes, in place, fields the schema does not know; returns their paths as error texts name them."""
    gone: list[str] = []
    _prune(value, node, path, gone)
    return gone


def _prune(value: Any, node: Node, path: str, gone: list[str]) -> None:
    if isinstance(value, dict):
        described = node is not UNKNOWN
        for name in list(value):
            here = f"{path}.{name}" if path else name
            if node.knows(name):
                _prune(value[name], node.child(name), here, gone)
            elif described and not node.open:
                del value[name]
                gone.append(here)
    elif isinstance(value, list):
        inner = node.items
        if inner is not UNKNOWN:
            for index, item in enumerate(value):
                _prune(item, inner, f"{path}[{index}]", gone)


def apply_defaults(value: Any, node: Node) -> None:
    """Fills in defaults, in place; a null where null is not allowed gives way to the default."""
    if isinstance(value, dict):
        for name, schema in node.properties.items():
            if name in value:
                if value[name] is None and not schema.get("nullable") and "default" in schema:
                    value[name] = copy.deepcopy(schema["default"])
            elif "default" in schema:
                value[name] = copy.deepcopy(schema["default"])
        for name, inner in value.items():
            if isinstance(inner, dict | list) and node.knows(name):
                apply_defaults(inner, node.child(name))
    elif isinstance(value, list):
        for item in value:
            apply_defaults(item, node.items)


def drop_nulls(value: Any, node: Node) -> None:
    """Removes, in place, null fields that are not nullable, as a decoded object would lose them."""
    if isinstance(value, dict):
        for name in [n for n, v in value.items() if v is None]:
            schema = node.properties.get(name)
            if schema is not None and not schema.get("nullable"):
                del value[name]
        for name, inner in value.items():
            if isinstance(inner, dict | list) and node.knows(name):
                drop_nulls(inner, node.child(name))
    elif isinstance(value, list):
        for item in value:
            drop_nulls(item, node.items)
