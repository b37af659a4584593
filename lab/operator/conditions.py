"""Kubernetes conditions as the operator writes and reads them."""

from __future__ import annotations

import time
from typing import Any

from lab.client import Object

Condition = dict[str, Any]


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Condition:
    """One condition without its time; an empty reason or message is left out, as the product does."""
    made: Condition = {"type": kind, "status": status}
    if reason:
        made["reason"] = reason
    if message:
        made["message"] = message
    return made


def stamped(old: list[Condition] | None, new: list[Condition]) -> list[Condition]:
    """`new` with lastTransitionTime: kept from `old` where the status is the same, otherwise now."""
    before = {entry["type"]: entry for entry in old or []}
    stamp = now()
    made = []
    for entry in new:
        known = before.get(entry["type"], {})
        same = known.get("status") == entry["status"]
        made.append({**entry, "lastTransitionTime": known.get("lastTransitionTime", stamp) if same else stamp})
    return made


def find(conditions: list[Condition] | None, kind: str) -> Condition:
    """The condition of that type, empty where there is none."""
    return next((entry for entry in conditions or [] if entry["type"] == kind), {})


def available(deployment: Object | None, generation: int) -> bool:
    """Whether a Deployment of at least that generation has all its pods, of its present template and available."""
    if deployment is None or deployment["metadata"].get("generation", 1) < generation:
        return False
    seen = deployment.get("status") or {}
    if seen.get("observedGeneration", 0) < deployment["metadata"].get("generation", 1):
        return False
    wanted = deployment["spec"].get("replicas", 1)
    return (
        find(seen.get("conditions"), "Available").get("status") == "True"
        and seen.get("updatedReplicas", 0) >= wanted
        and not seen.get("unavailableReplicas")
    )
