"""From CustomResourceDefinitions to served kinds."""

from __future__ import annotations

from typing import Any

from lab.api.errors import Cause, invalid_value, required
from lab.api.metadata import now
from lab.api.registry import Column, Kind, Registry, Version
from lab.api.schema import Node
from lab.api.store import Collection

Object = dict[str, Any]
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_AGE = Column("Age", ".metadata.creationTimestamp", "date")


def validate(crd: Object) -> list[Cause]:
    """Findings about a definition that would keep it from being served."""
    spec = crd["spec"]
    names, versions = spec.get("names") or {}, spec.get("versions") or []
    causes = [required(f"spec.{field}") for field in ("group", "scope") if not spec.get(field)]
    causes += [required(f"spec.names.{field}") for field in ("plural", "kind") if not names.get(field)]
    if causes:
        return causes
    wanted = f"{names['plural']}.{spec['group']}"
    if crd["metadata"]["name"] != wanted:
        causes.append(invalid_value("metadata.name", crd["metadata"]["name"], f'must be "{wanted}"'))
    if spec["scope"] not in ("Namespaced", "Cluster"):
        text = f'Unsupported value: "{spec["scope"]}": supported values: "Cluster", "Namespaced"'
        causes.append(Cause("FieldValueNotSupported", text, "spec.scope"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        causes.append(invalid_value("spec.versions", "", "must have exactly one version marked as storage version"))
    for index, version in enumerate(versions):
        if not version.get("name"):
            causes.append(required(f"spec.versions[{index}].name"))
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            causes.append(required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required"))
        elif version["schema"]["openAPIV3Schema"].get("type") != "object":
            field = f"spec.versions[{index}].schema.openAPIV3Schema.type"
            causes.append(invalid_value(field, version["schema"]["openAPIV3Schema"].get("type"), "must be object"))
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
