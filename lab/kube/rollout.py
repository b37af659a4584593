"""How many pods each ReplicaSet of a Deployment may have now, and what the Deployment's status says of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lab.client import Object
from lab.kube.objects import condition, now

_DEFAULT_SHARE = "25%"


@dataclass(frozen=True)
class Limits:
    """How far a rolling update may go above and below the wanted number of pods."""

    surge: int
    unavailable: int


def limits(deployment: Object) -> Limits:
    """From spec.strategy, with Kubernetes' defaults and rounding; never both zero."""
    wanted = deployment["spec"].get("replicas", 1)
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Limits(0, wanted)
    rolling = strategy.get("rollingUpdate") or {}
    surge = _resolve(rolling.get("maxSurge", _DEFAULT_SHARE), wanted, math.ceil)
    unavailable = _resolve(rolling.get("maxUnavailable", _DEFAULT_SHARE), wanted, math.floor)
    return Limits(surge, unavailable if surge or unavailable else 1)


def _resolve(value: int | str, wanted: int, rounded: Callable[[float], int]) -> int:
    return value if isinstance(value, int) else rounded(int(value.rstrip("%")) * wanted / 100)


def replicas(item: Object) -> int:
    return int(item["spec"].get("replicas", 1))


def told(item: Object, field: str) -> int:
    """A number of the status; absent means 0."""
    return int((item.get("status") or {}).get(field) or 0)


def plan(deployment: Object, current: Object, olds: list[Object]) -> dict[str, int]:
    """The number of pods each ReplicaSet should be set to now, by name; those that stay as they are are left out.

    `current` is the ReplicaSet of today's template (one not created yet has 0 replicas), `olds` all others.
    """
    wanted = replicas(deployment)
    sizes = {item["metadata"]["name"]: replicas(item) for item in [current, *olds]}
    before = dict(sizes)
    name = current["metadata"]["name"]
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        for old in olds:
            sizes[old["metadata"]["name"]] = 0
        if not any(told(old, "replicas") for old in olds):
            sizes[name] = wanted
    else:
        _grow(deployment, sizes, name, wanted)
        _shrink(deployment, sizes, current, olds, wanted)
    return {item: size for item, size in sizes.items() if size != before[item]}


def _grow(deployment: Object, sizes: dict[str, int], name: str, wanted: int) -> None:
    if sizes[name] > wanted:
        sizes[name] = wanted
    elif sizes[name] < wanted:
        room = wanted + limits(deployment).surge - sum(sizes.values())
        sizes[name] = min(wanted, sizes[name] + max(0, room))


def _shrink(deployment: Object, sizes: dict[str, int], current: Object, olds: list[Object], wanted: int) -> None:
    least = wanted - limits(deployment).unavailable
    name = current["metadata"]["name"]
    coming = sizes[name] - min(sizes[name], told(current, "availableReplicas"))
    spare = sum(sizes.values()) - least - coming
    for old in sorted(olds, key=lambda item: item["metadata"]["creationTimestamp"]):
        # Pods that serve nobody go first; they cost no availability.
        old_name = old["metadata"]["name"]
        broken = max(0, sizes[old_name] - told(old, "availableReplicas"))
        cut = max(0, min(broken, spare))
        sizes[old_name] -= cut
        spare -= cut
    serving = sum(min(sizes[item["metadata"]["name"]], told(item, "availableReplicas")) for item in [current, *olds])
    spare = min(spare, serving - least)
    for old in olds:
        old_name = old["metadata"]["name"]
        cut = max(0, min(sizes[old_name], spare))
        sizes[old_name] -= cut
        spare -= cut


def status_of(deployment: Object, current: Object | None, olds: list[Object]) -> Object:
    """The Deployment's status as a merge patch: numbers that are 0 are null."""
    everything = [*olds, *([current] if current else [])]
    available = sum(told(item, "availableReplicas") for item in everything)
    numbers = {
        "replicas": sum(told(item, "replicas") for item in everything),
        "updatedReplicas": told(current, "replicas") if current else 0,
        "readyReplicas": sum(told(item, "readyReplicas") for item in everything),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(replicas(item) for item in everything) - available),
    }
    conditions = [_available(deployment, available), _progressing(deployment, current, numbers)]
    failure = next((found for item in everything if (found := condition(item, "ReplicaFailure"))), None)
    if failure:
        conditions.append(_stamped(deployment, "ReplicaFailure", "True", failure["reason"], failure["message"]))
    return {
        **{name: number or None for name, number in numbers.items()},
        "observedGeneration": deployment["metadata"].get("generation", 1),
        "conditions": conditions,
    }


def _available(deployment: Object, available: int) -> Object:
    if available >= replicas(deployment) - limits(deployment).unavailable:
        reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
        return _stamped(deployment, "Available", "True", reason, message)
    reason, message = "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    return _stamped(deployment, "Available", "False", reason, message)


def _progressing(deployment: Object, current: Object | None, numbers: dict[str, int]) -> Object:
    known = condition(deployment, "Progressing")
    if deployment["spec"].get("paused"):
        return _stamped(deployment, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    if current is None:
        return known or _stamped(deployment, "Progressing", "True", "NewReplicaSetCreated", "Created new replica set")
    quoted = f'ReplicaSet "{current["metadata"]["name"]}"'
    done = f"{quoted} has successfully progressed."
    wanted = replicas(deployment)
    complete = all(numbers[name] == wanted for name in ("replicas", "updatedReplicas", "availableReplicas"))
    # A finished rollout stays finished: pods that break later show in Available, not here.
    finished = known and known["reason"] == "NewReplicaSetAvailable" and known["message"] == done
    if complete or finished:
        return _stamped(deployment, "Progressing", "True", "NewReplicaSetAvailable", done)
    return _stamped(deployment, "Progressing", "True", "ReplicaSetUpdated", f"{quoted} is progressing.")


def _stamped(deployment: Object, kind: str, status: str, reason: str, message: str) -> Object:
    known = condition(deployment, kind)
    wanted = {"type": kind, "status": status, "reason": reason, "message": message}
    if known and all(known.get(key) == value for key, value in wanted.items()):
        return known
    time = now()
    moved = known["lastTransitionTime"] if known and known["status"] == status else time
    return {"lastTransitionTime": moved, "lastUpdateTime": time, **wanted}
