"""JSON patch, JSON merge patch and strategic merge patch; each returns a new object and leaves its inputs alone."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import jsonpointer

from lab.api.schema.errors import StatusError, bad_request
from lab.api.schema.schema import Node

Object = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


def json_patch(obj: Object, operations: Any) -> Object:
    """RFC 6902; a failing test or missing path is 422, nonsense is 400."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    try:
        return jsonpatch.apply_patch(obj, operations)
    except (jsonpatch.JsonPatchTestFailed, jsonpatch.JsonPatchConflict, jsonpointer.JsonPointerException) as error:
        text = f"the server rejected our request due to an error in our request: {error}"
        raise StatusError(422, "Invalid", text, {}) from None
    except (jsonpatch.JsonPatchException, KeyError, TypeError, ValueError) as error:
        raise bad_request(f"invalid JSON patch: {error}") from None


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def strategic_patch(target: Object, patch: Object, node: Node) -> Object:
    """Merge patch that knows keyed lists and the directives `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/..`
    and `$setElementOrder/..`."""
    return _merge_map(target, patch, node)


def _merge_map(target: Any, patch: Object, node: Node) -> Object:
    directive = patch.get("$patch")
    if directive == "replace":
        return _clean({name: value for name, value in patch.items() if name != "$patch"})
    if directive == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        result = {name: value for name, value in result.items() if name in patch["$retainKeys"]}
    orders: dict[str, list[Any]] = {}
    for name, value in patch.items():
        if name in ("$patch", "$retainKeys"):
            continue
        if name.startswith("$setElementOrder/"):
            orders[name.partition("/")[2]] = value
        elif name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            result[field] = [item for item in result.get(field) or [] if item not in value]
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = _merge_value(result.get(name), value, node.child(name))
    for name, order in orders.items():
        if isinstance(result.get(name), list):
            result[name] = _ordered(result[name], order, node.child(name))
    return result


def _merge_value(target: Any, value: Any, node: Node) -> Any:
    if isinstance(value, dict):
        return _merge_map(target, value, node)
    if isinstance(value, list):
        return _merge_list(target if isinstance(target, list) else [], value, node)
    return value


def _merge_list(target: list[Any], patch: list[Any], node: Node) -> list[Any]:
    if node.merges_values:
        return [*target, *(item for item in patch if item not in target)]
    key = node.merge_key
    if key is None or not all(isinstance(item, dict) for item in patch):
        return _clean(patch)
    if any(item.get("$patch") == "replace" for item in patch):
        return _clean([item for item in patch if item.get("$patch") != "replace"])
    result = list(target)
    for item in patch:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        index = next((i for i, found in enumerate(result) if found.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [found for found in result if found.get(key) != item[key]]
        elif index is None:
            result.append(_merge_map({}, item, node.items))
        else:
            result[index] = _merge_map(result[index], item, node.items)
    return result


def _ordered(items: list[Any], order: list[Any], node: Node) -> list[Any]:
    """Items named in `order` first, in that order; items it does not name keep their place after them."""
    key = node.merge_key

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [identity(item) for item in order]
    named = sorted((i for i in items if identity(i) in wanted), key=lambda item: wanted.index(identity(item)))
    return named + [item for item in items if identity(item) not in wanted]


def _clean(value: Any) -> Any:
    """A deep copy without patch directives and nulls."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items() if not k.startswith("$") and v is not None}
    if isinstance(value, list):
        return [_clean(item) for item in value if not (isinstance(item, dict) and item.get("$patch") == "delete")]
    return copy.copy(value)
