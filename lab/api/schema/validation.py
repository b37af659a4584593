"""Validates objects against structural OpenAPI schemas; findings are causes as the API names them."""

from __future__ import annotations

import datetime
import functools
import re
from typing import Any

from lab.api.schema.errors import Cause, invalid_value, required, show
from lab.api.schema.fieldsets import element
from lab.api.schema.schema import Node

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}


def validate(value: Any, node: Node, path: str = "") -> list[Cause]:
    """All findings about a value."""
    causes: list[Cause] = []
    _validate(value, node, path, causes)
    return causes


def _validate(value: Any, node: Node, path: str, causes: list[Cause]) -> None:
    schema = node.schema
    if value is None:
        if not schema.get("nullable") and not node.open and schema.get("type"):
            causes.append(_mistyped(path, value, schema["type"]))
        return
    if not _type_fits(value, schema):
        causes.append(_mistyped(path, value, schema.get("type") or "int-or-string"))
        return
    if isinstance(value, dict):
        _object(value, node, path, causes)
    elif isinstance(value, list):
        _array(value, node, path, causes)
    _rules(value, schema, path, causes)
    _combinations(value, schema, path, causes)


def _type_fits(value: Any, schema: dict[str, Any]) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, int | str) and not isinstance(value, bool)
    wanted = schema.get("type")
    if wanted is None:
        return True
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(wanted, (object,)))


def _mistyped(path: str, value: Any, wanted: str) -> Cause:
    found = "null" if value is None else _NAMES.get(type(value), type(value).__name__)
    why = f'{path} in body must be of type {wanted}: "{found}"'
    return Cause("FieldValueTypeInvalid", f'Invalid value: "{found}": {why}', path)


def _object(value: dict[str, Any], node: Node, path: str, causes: list[Cause]) -> None:
    schema = node.schema
    for name in schema.get("required", ()):
        if name not in value:
            causes.append(required(f"{path}.{name}" if path else name))
    for name, inner in value.items():
        if node.embedded and name in ("metadata", "apiVersion", "kind"):
            continue
        if node.knows(name):
            _validate(inner, node.child(name), f"{path}.{name}" if path else name, causes)
    if len(value) < schema.get("minProperties", 0):
        causes.append(_bound(path, value, f"should have at least {schema['minProperties']} properties"))
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        causes.append(_too_many(path, len(value), schema["maxProperties"]))


def _array(value: list[Any], node: Node, path: str, causes: list[Cause]) -> None:
    schema = node.schema
    if node.list_type in ("map", "set"):
        seen: set[str] = set()
        for index, item in enumerate(value):
            here = f"{path}[{index}]"
            if node.list_type == "map" and isinstance(item, dict):
                for key in node.keys:
                    if key not in item and node.key_default(key) is None:
                        causes.append(required(f"{here}.{key}"))
            identity = element(item, node)
            if identity in seen:
                shown = {key: item.get(key) for key in node.keys} if node.list_type == "map" else item
                causes.append(Cause("FieldValueDuplicate", f"Duplicate value: {show(shown)}", here))
            seen.add(identity)
    for index, item in enumerate(value):
        _validate(item, node.items, f"{path}[{index}]", causes)
    if len(value) < schema.get("minItems", 0):
        causes.append(_bound(path, len(value), f"should have at least {schema['minItems']} items"))
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        causes.append(_too_many(path, len(value), schema["maxItems"]))
    if schema.get("uniqueItems") and any(item in value[:index] for index, item in enumerate(value)):
        causes.append(_bound(path, value, "shouldn't contain duplicates"))


@functools.cache
def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text.replace("\\z", "\\Z"))
    except re.error:
        return None


def _rules(value: Any, schema: dict[str, Any], path: str, causes: list[Cause]) -> None:
    allowed = schema.get("enum")
    if allowed is not None and value not in allowed:
        supported = ", ".join(show(item) for item in allowed)
        text = f"Unsupported value: {show(value)}: supported values: {supported}"
        causes.append(Cause("FieldValueNotSupported", text, path))
    if isinstance(value, str):
        _text_rules(value, schema, path, causes)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
            than = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
            causes.append(_bound(path, value, f"should be {than} {low}"))
        if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
            than = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
            causes.append(_bound(path, value, f"should be {than} {high}"))
        if "multipleOf" in schema and value % schema["multipleOf"]:
            causes.append(_bound(path, value, f"should be a multiple of {schema['multipleOf']}"))
        if schema.get("format") == "int32" and not -(2**31) <= value < 2**31:
            causes.append(_bound(path, value, "should be a 32 bit integer"))


def _text_rules(value: str, schema: dict[str, Any], path: str, causes: list[Cause]) -> None:
    if len(value) < schema.get("minLength", 0):
        causes.append(_bound(path, value, f"should be at least {schema['minLength']} chars long"))
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        causes.append(Cause("FieldValueTooLong", f"Too long: may not be longer than {schema['maxLength']}", path))
    if "pattern" in schema:
        pattern = _pattern(schema["pattern"])
        if pattern and not pattern.search(value):
            causes.append(_bound(path, value, f"should match '{schema['pattern']}'"))
    if schema.get("format") == "date-time":
        try:
            datetime.datetime.fromisoformat(value)
        except ValueError:
            causes.append(_bound(path, value, f"must be of type date-time: {show(value)}"))


def _combinations(value: Any, schema: dict[str, Any], path: str, causes: list[Cause]) -> None:
    for inner in schema.get("allOf", ()):
        causes.extend(_junction(value, inner, path))
    if schema.get("x-kubernetes-int-or-string"):
        return
    options = schema.get("anyOf")
    if options and all(_junction(value, inner, path) for inner in options):
        causes.append(_bound(path, value, "must validate at least one schema (anyOf)"))
    options = schema.get("oneOf")
    if options and sum(not _junction(value, inner, path) for inner in options) != 1:
        causes.append(_bound(path, value, "must validate one and only one schema (oneOf)"))
    if "not" in schema and not _junction(value, schema["not"], path):
        causes.append(_bound(path, value, "must not validate the schema (not)"))


def _junction(value: Any, schema: dict[str, Any], path: str) -> list[Cause]:
    """Findings of a schema inside allOf, anyOf, oneOf or not, which only restricts what is described elsewhere."""
    return validate(value, Node({"x-kubernetes-preserve-unknown-fields": True, **schema}), path)


def _bound(path: str, value: Any, why: str) -> Cause:
    return invalid_value(path, value, f"{path} in body {why}")


def _too_many(path: str, found: int, allowed: int) -> Cause:
    return Cause("FieldValueTooMany", f"Too many: {found}: must have at most {allowed} items", path)
