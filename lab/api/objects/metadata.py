"""Rules for the metadata that every object has."""

from __future__ import annotations

import random
import re
import time
import uuid
from typing import Any

from lab.api.objects.registry import Kind
from lab.api.schema import errors
from lab.api.schema.errors import Cause, bad_request, invalid_value

Object = dict[str, Any]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_ANNOTATIONS_LIMIT = 262144
_FREE_NAMES = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
_MAPS = ("labels", "annotations")


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def shape(obj: Object) -> Object:
    """The object's metadata, made a map; 400 where it or one of its maps and lists is something else."""
    meta = obj.get("metadata")
    if meta is None:
        meta = obj["metadata"] = {}
    if not isinstance(meta, dict):
        raise bad_request("metadata must be a map")
    for name in _MAPS:
        value = meta.get(name)
        if value is None or value == {}:
            meta.pop(name, None)
        elif not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise bad_request(f"metadata.{name} must be a map of strings: got {value!r}")
    for name, kind in (("finalizers", str), ("ownerReferences", dict)):
        value = meta.get(name)
        if not value:
            meta.pop(name, None)
        elif not isinstance(value, list) or not all(isinstance(v, kind) for v in value):
            raise bad_request(f"metadata.{name} must be a list of {'strings' if kind is str else 'maps'}")
    for name in ("name", "generateName", "namespace", "resourceVersion", "uid"):
        if name in meta and not isinstance(meta[name], str):
            raise bad_request(f"metadata.{name} must be a string: got {meta[name]!r}")
    return meta


def prepare_create(obj: Object, kind: Kind, namespace: str) -> Object:
    """Name, namespace, uid and time of a new object; `obj` is changed."""
    meta = shape(obj)
    settle_namespace(meta, kind, namespace)
    if meta.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    if not meta.get("name"):
        prefix = meta.get("generateName")
        if not prefix:
            text = "name or generateName is required"
            raise errors.invalid(kind.kind, kind.group, "", [errors.required("metadata.name", text)])
        meta["name"] = prefix[:58] + "".join(random.choices(_SUFFIX, k=5))
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"):
        meta.pop(name, None)
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = now()
    if kind.custom or kind.generation:
        meta["generation"] = 1
    return meta


def settle_namespace(meta: Object, kind: Kind, namespace: str) -> None:
    """The path decides the namespace; an object that names another one is refused."""
    if not kind.namespaced:
        meta.pop("namespace", None)
    elif meta.get("namespace", namespace) != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request "
            f"({meta['namespace']} and {namespace})"
        )
    else:
        meta["namespace"] = namespace


def carry_over(new: Object, old: Object) -> None:
    """What an update cannot change; `new` is changed."""
    meta, before = new["metadata"], old["metadata"]
    for name in (
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "generateName",
        "managedFields",
    ):
        if name in before:
            meta[name] = before[name]
        else:
            meta.pop(name, None)


def validate(obj: Object, old: Object | None, kind: Kind) -> list[Cause]:
    """Findings about names, labels, annotations and finalizers."""
    meta = obj["metadata"]
    causes = _name(meta["name"], kind) if old is None else []
    for key, value in (meta.get("labels") or {}).items():
        if not _LABEL_KEY.fullmatch(key):
            causes.append(invalid_value("metadata.labels", key, "not a label name"))
        if not _LABEL_VALUE.fullmatch(value):
            why = (
                "a valid label has up to 63 letters, digits, '-', '_' or '.' and begins and ends with a letter or digit"
            )
            causes.append(invalid_value("metadata.labels", value, why))
    annotations = meta.get("annotations") or {}
    if sum(len(k) + len(v) for k, v in annotations.items()) > _ANNOTATIONS_LIMIT:
        why = f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes"
        causes.append(Cause("FieldValueTooLong", why, "metadata.annotations"))
    if old is not None and old["metadata"].get("deletionTimestamp"):
        before = old["metadata"].get("finalizers") or []
        if added := [name for name in meta.get("finalizers") or [] if name not in before]:
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers {added}"
            causes.append(errors.forbidden_value("metadata.finalizers", why))
    return causes


def _name(name: str, kind: Kind) -> list[Cause]:
    if kind.kind in _FREE_NAMES:
        fits, what = "/" not in name and name not in (".", ".."), "name without '/'"
    elif kind.kind == "Namespace":
        fits, what = bool(_LABEL.fullmatch(name)), "lowercase RFC 1123 label"
    elif kind.kind == "Service" and not kind.group:
        fits, what = bool(_SERVICE.fullmatch(name)), "DNS-1035 label"
    else:
        fits, what = len(name) <= 253 and bool(_SUBDOMAIN.fullmatch(name)), "lowercase RFC 1123 subdomain"
    return [] if fits else [invalid_value("metadata.name", name, f"must be a {what}")]
