"""Label and field selectors, compiled to predicates over objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lab.api.schema.errors import bad_request

Predicate = Callable[[dict[str, Any]], bool]

_KEY = r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"
_SET = re.compile(rf"\s*({_KEY})\s+(in|notin)\s*\(([^)]*)\)\s*")
_EQUAL = re.compile(rf"\s*({_KEY})\s*(==|=|!=)\s*({_VALUE})\s*")
_EXISTS = re.compile(rf"\s*(!?)\s*({_KEY})\s*")
_FIELD = re.compile(r"\s*([A-Za-z0-9_.\[\]-]+)\s*(==|=|!=)\s*(.*?)\s*")


def _split(text: str) -> list[str]:
    """Splits at commas outside parentheses."""
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def labels(text: str) -> Callable[[dict[str, str]], bool]:
    """Predicate over a label map; 400 BadRequest for text that is no selector."""
    tests = [_requirement(part, text) for part in _split(text)]
    return lambda found: all(test(found) for test in tests)


def _requirement(part: str, whole: str) -> Callable[[dict[str, str]], bool]:
    if match := _SET.fullmatch(part):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda found: found.get(key) in values
        return lambda found: found.get(key) not in values
    if match := _EQUAL.fullmatch(part):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda found: found.get(key) != value
        return lambda found: found.get(key) == value
    if match := _EXISTS.fullmatch(part):
        negated, key = match.groups()
        if negated:
            return lambda found: key not in found
        return lambda found: key in found
    raise bad_request(f"unable to parse requirement: {part.strip()!r} in label selector {whole!r}")


def label_selector_object(selector: dict[str, Any] | None) -> Callable[[dict[str, str]], bool]:
    """Predicate of a LabelSelector object (matchLabels, matchExpressions); an empty one matches everything."""
    equal = (selector or {}).get("matchLabels") or {}
    expressions = (selector or {}).get("matchExpressions") or []

    def matches(found: dict[str, str]) -> bool:
        return all(found.get(k) == v for k, v in equal.items()) and all(_expression(e, found) for e in expressions)

    return matches


def _expression(expression: dict[str, Any], found: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return key in found and found[key] in values
        case "NotIn":
            return found.get(key) not in values
        case "Exists":
            return key in found
        case _:
            return key not in found


# Beyond metadata.name and metadata.namespace, which every kind has.
_FIELDS: dict[str, frozenset[str]] = {
    "Pod": frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    "Event": frozenset(
        {f"involvedObject.{f}" for f in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")}
        | {"involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"}
    ),
    "Namespace": frozenset({"status.phase"}),
    "Secret": frozenset({"type"}),
    "Node": frozenset({"spec.unschedulable"}),
    "ReplicaSet": frozenset({"status.replicas"}),
    "Service": frozenset({"spec.clusterIP", "spec.type"}),
}


def fields(text: str, kind: str) -> tuple[Predicate, str | None]:
    """Predicate over objects, and the name it pins (`metadata.name=x`) if any; 400 for fields the kind has not."""
    tests: list[tuple[str, bool, str]] = []
    name: str | None = None
    for part in _split(text):
        match = _FIELD.fullmatch(part)
        if not match:
            raise bad_request(f"invalid field selector: {text!r}; can't understand {part.strip()!r}")
        path, operator, value = match.groups()
        if path not in ("metadata.name", "metadata.namespace") and path not in _FIELDS.get(kind, ()):
            raise bad_request(f'"{path}" is not a known field selector: field label not supported: {path}')
        if path == "metadata.name" and operator != "!=":
            name = value
        tests.append((path, operator != "!=", value))

    def matches(obj: dict[str, Any]) -> bool:
        return all((_value(obj, path) == value) is wanted for path, wanted, value in tests)

    return matches, name


def _value(obj: dict[str, Any], path: str) -> str:
    current: Any = obj
    if path == "source":
        path = "source.component"
    for part in path.split("."):
        current = current.get(part) if isinstance(current, dict) else None
    if current is None:
        return ""
    if isinstance(current, bool):
        return "true" if current else "false"
    return str(current)


def compiled(label_text: str, field_text: str, kind: str) -> tuple[Predicate | None, str | None]:
    """Both selectors as one predicate over objects (None: everything matches), and the pinned name if any."""
    by_label = labels(label_text) if label_text.strip() else None
    by_field, name = fields(field_text, kind) if field_text.strip() else (None, None)
    if by_label is None and by_field is None:
        return None, None

    def matches(obj: dict[str, Any]) -> bool:
        if by_label and not by_label(obj["metadata"].get("labels") or {}):
            return False
        return by_field is None or by_field(obj)

    return matches, name
