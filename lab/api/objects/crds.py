"""From CustomResourceDefinitions to served kinds."""

from __future__ import annotations

from typing import Any

from lab.api.objects.metadata import now
from lab.api.objects.registry import Column, Kind, Registry, Version
from lab.api.objects.store import Collection
from lab.api.schema.errors import Cause, invalid_value, required, show
from lab.api.schema.schema import Node

Object = dict[str, Any]
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_AGE = Column("Age", ".metadata.creationTimestamp", "date")


_NUMBER = (int, float)
_KEYWORDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("type", "format", "pattern", "description", "title"), (str,)),
    **dict.fromkeys(("x-kubernetes-list-type", "x-kubernetes-map-type"), (str,)),
    **dict.fromkeys(("nullable", "uniqueItems", "exclusiveMinimum", "exclusiveMaximum"), (bool,)),
    **dict.fromkeys(("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"), (bool,)),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), (int,)),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), _NUMBER),
    **dict.fromkeys(("required", "enum", "allOf", "anyOf", "oneOf", "x-kubernetes-list-map-keys"), (list,)),
    **dict.fromkeys(("properties", "items", "not"), (dict,)),
    "additionalProperties": (dict, bool),
}
_TEXTS = ("required", "x-kubernetes-list-map-keys")


def _mistyped(field: str, value: Any, wanted: str) -> Cause:
    return Cause("FieldValueTypeInvalid", f"Invalid value: {show(value)}: must be {wanted}", field)


def _schema(schema: Any, path: str) -> list[Cause]:
    """Findings about the form of a schema and those inside it."""
    if not isinstance(schema, dict):
        return [_mistyped(path, schema, "a map")]
    causes: list[Cause] = []
    for name, value in schema.items():
        types = _KEYWORDS.get(name)
        if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            causes.append(_mistyped(f"{path}.{name}", value, " or ".join(t.__name__ for t in types)))
        elif name in _TEXTS and not all(isinstance(item, str) for item in value):
            causes.append(_mistyped(f"{path}.{name}", value, "a list of strings"))
        elif name == "properties":
            for inner, described in value.items():
                causes += _schema(described, f"{path}.properties[{inner}]")
        elif name in ("items", "not") or (name == "additionalProperties" and isinstance(value, dict)):
            causes += _schema(value, f"{path}.{name}")
        elif name in ("allOf", "anyOf", "oneOf"):
            for index, inner in enumerate(value):
                causes += _schema(inner, f"{path}.{name}[{index}]")
    return causes


def _names(names: Object) -> list[Cause]:
    causes = []
    for field, value in names.items():
        if field in ("shortNames", "categories"):
            fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        else:
            fits = isinstance(value, str)
        if not fits:
            causes.append(_mistyped(f"spec.names.{field}", value, "text"))
    return causes


def _columns(version: Object, path: str) -> list[Cause]:
    causes = []
    for index, column in enumerate(version.get("additionalPrinterColumns") or []):
        for field in ("name", "jsonPath"):
            if not isinstance(column.get(field), str):
                causes.append(required(f"{path}.additionalPrinterColumns[{index}].{field}"))
    return causes


def validate(crd: Object) -> list[Cause]:
    """Findings about a definition that would keep it from being served; TypeError or alike where it has no form."""
    spec = crd["spec"]
    names, versions = spec.get("names") or {}, spec.get("versions") or []
    causes = [required(f"spec.{field}") for field in ("group", "scope") if not spec.get(field)]
    causes += [required(f"spec.names.{field}") for field in ("plural", "kind") if not names.get(field)]
    causes += _names(names)
    if not isinstance(spec.get("group"), str):
        causes.append(_mistyped("spec.group", spec.get("group"), "text"))
    if causes:
        return causes
    wanted = f"{names['plural']}.{spec['group']}"
    if crd["metadata"]["name"] != wanted:
        causes.append(invalid_value("metadata.name", crd["metadata"]["name"], f'must be "{wanted}"'))
    if spec["scope"] not in ("Namespaced", "Cluster"):
        text = f'Unsupported value: {show(spec["scope"])}: supported values: "Cluster", "Namespaced"'
        causes.append(Cause("FieldValueNotSupported", text, "spec.scope"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        causes.append(invalid_value("spec.versions", "", "must have exactly one version marked as storage version"))
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        if not isinstance(version.get("name"), str) or not version["name"]:
            causes.append(required(f"{path}.name"))
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not schema:
            causes.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
            continue
        found = _schema(schema, f"{path}.schema.openAPIV3Schema")
        if not found and schema.get("type") != "object":
            found = [invalid_value(f"{path}.schema.openAPIV3Schema.type", schema.get("type"), "must be object")]
        causes += found + _columns(version, path)
        if not isinstance(version.get("subresources") or {}, dict):
            causes.append(_mistyped(f"{path}.subresources", version["subresources"], "a map"))
    return causes


def status(crd: Object) -> Object:
    """The status of a definition that is served."""
    spec, before = crd["spec"], crd.get("status") or {}
    stored = list(before.get("storedVersions") or [])
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    if storage not in stored:
        stored.append(storage)
    conditions = before.get("conditions") or [
        _condition("NamesAccepted", "NoConflicts", "no conflicts found"),
        _condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    return {**before, "conditions": conditions, "acceptedNames": spec["names"], "storedVersions": stored}


def terminating(crd: Object) -> Object:
    """The status of a definition whose objects are being removed."""
    condition = _condition("Terminating", "InstanceDeletionInProgress", "objects of this kind are being deleted")
    before = crd.get("status") or {}
    others = [c for c in before.get("conditions") or [] if c["type"] != "Terminating"]
    return {**before, "conditions": [*others, condition]}


def _condition(kind: str, reason: str, message: str) -> Object:
    return {"lastTransitionTime": now(), "message": message, "reason": reason, "status": "True", "type": kind}


def serve(crd: Object, registry: Registry) -> Kind:
    """Makes the registry serve a definition, or what changed in it; the kind's objects stay."""
    spec = crd["spec"]
    names = spec["names"]
    known = registry.get(spec["group"], names["plural"])
    kind = Kind(
        spec["group"],
        names["plural"],
        names["kind"],
        spec["scope"] == "Namespaced",
        {version["name"]: _version(version) for version in spec["versions"] if version.get("served")},
        next(version["name"] for version in spec["versions"] if version.get("storage")),
        known.collection if known else Collection(registry.clock),
        singular=names.get("singular", ""),
        list_kind=names.get("listKind", ""),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        custom=True,
        subresources=tuple(
            sub
            for sub in ("status", "scale")
            if any(sub in (version.get("subresources") or {}) for version in spec["versions"])
        ),
        terminating=bool(crd["metadata"].get("deletionTimestamp")),
    )
    registry.add(kind)
    return kind


def _version(version: Object) -> Version:
    schema = version["schema"]["openAPIV3Schema"]
    columns = [
        Column(
            column["name"],
            column["jsonPath"],
            column.get("type", "string"),
            column.get("priority", 0),
            column.get("description", ""),
        )
        for column in version.get("additionalPrinterColumns") or []
    ]
    subresources = version.get("subresources") or {}
    return Version(
        version["name"],
        Node(schema, root=True),
        status="status" in subresources,
        scale="scale" in subresources,
        columns=tuple(columns) or (_AGE,),
        schema=schema,
    )
