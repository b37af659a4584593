"""What the controllers ask of objects: owners, selectors, readiness, times, names."""

from __future__ import annotations

import hashlib
import random
import time
from typing import Any

import orjson

from lab.client import Object

_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def now() -> str:
    """The time as the API writes it: RFC 3339, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def random_suffix(length: int = 5) -> str:
    """Letters and digits that spell no words, as generated names end in."""
    return "".join(random.choices(_NAME_ALPHABET, k=length))


def content_hash(value: Any) -> str:
    """A short name part that depends on nothing but the value, such as a pod template."""
    digest = hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()
    return "".join(_NAME_ALPHABET[byte % len(_NAME_ALPHABET)] for byte in digest[:10])


def controller_of(obj: Object) -> Object | None:
    """The ownerReference that is marked as the controller, if any."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return reference
    return None


def owned_by(obj: Object, owner: Object) -> bool:
    """Whether `owner` is the controller of `obj`."""
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == owner["metadata"]["uid"]


def controller_reference(owner: Object, api_version: str, kind: str) -> Object:
    meta = owner["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def terminating(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def selects(selector: dict[str, str] | None, obj: Object) -> bool:
    """Whether a Service's selector matches; an empty selector matches nothing."""
    labels = obj["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in (selector or {}).items())


def condition(obj: Object, kind: str) -> Object | None:
    """The status condition of this type, if it is there."""
    for item in obj.get("status", {}).get("conditions") or ():
        if item["type"] == kind:
            return item
    return None


def ready(pod: Object) -> bool:
    found = condition(pod, "Ready")
    return found is not None and found["status"] == "True"


def active(pod: Object) -> bool:
    """Whether the pod counts as one of its ReplicaSet's: neither finished nor on its way out."""
    return not terminating(pod) and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
