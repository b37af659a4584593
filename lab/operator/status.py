"""The status of a ServiceMeshControlPlane, phase by phase, as pure functions of what is known.

Conditions always come as Installed, Reconciled, Ready. While it installs, Ready says what Reconciled says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.operator.conditions import Condition, condition, find, stamped
from lab.operator.plane import ControlPlane

Status = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """How far the components are: `wanted` in installation order, `installed` so far, `unready` of those.

    `always` names the components without Deployments, which nothing can make unready.
    """

    wanted: Sequence[str]
    installed: Sequence[str] = ()
    unready: Sequence[str] = ()
    always: Sequence[str] = ()

    @property
    def ready(self) -> list[str]:
        return sorted(set(self.installed) - set(self.unready))


def created(plane: ControlPlane) -> list[Condition]:
    message = f"Installing mesh generation {plane.generation}"
    return [condition(kind, "False", "ResourceCreated", message) for kind in ("Installed", "Reconciled", "Ready")]


def updating(plane: ControlPlane, old: Status) -> list[Condition]:
    """A changed spec, or an operator of another version, is rolled out over an installed mesh."""
    if old.get("observedGeneration") == plane.generation:
        message = f"Upgrading mesh to operator version {plane.release.version}"
        return _not_reconciled(old, "OperatorUpdated", message)
    message = f"Updating mesh from generation {old.get('observedGeneration', 0)} to generation {plane.generation}"
    return _not_reconciled(old, "SpecUpdated", message)


def pausing(old: Status, waiting_for: Iterable[str]) -> list[Condition]:
    listed = " ".join(sorted(waiting_for))
    return _not_reconciled(old, "PausingInstall", f"Paused until the following components become ready: [{listed}]")


def failed(old: Status, reason: str, message: str) -> list[Condition]:
    """ValidationError, DependencyMissingError, ReconcileError, Deleting."""
    return _not_reconciled(old, reason, message)


def done(plane: ControlPlane, old: Status, unready: Sequence[str]) -> list[Condition]:
    """Everything is applied; whether this was the first installation is read from the old status."""
    before = f"{old.get('operatorVersion', '')}-{old.get('observedGeneration', 0)}"
    installed = find(old.get("conditions"), "Installed")
    if installed.get("status") == "True" and old.get("observedGeneration"):
        reconciled = condition(
            "Reconciled",
            "True",
            "UpdateSuccessful",
            f"Successfully updated from version {before} to version {plane.mesh_version}",
        )
    else:
        message = f"Successfully installed version {plane.mesh_version}"
        reconciled = condition("Reconciled", "True", "InstallSuccessful", message)
        installed = condition("Installed", "True", "InstallSuccessful", "Successfully installed all mesh components")
    return [_bare(installed), reconciled, readiness(unready)]


def readiness(unready: Sequence[str]) -> Condition:
    if unready:
        listed = " ".join(sorted(unready))
        message = f"The following components are not fully available: [{listed}]"
        return condition("Ready", "False", "ComponentsNotReady", message)
    return condition("Ready", "True", "ComponentsReady", "All component deployments are Available")


def with_readiness(old: Status, unready: Sequence[str]) -> list[Condition]:
    """An installed mesh whose pods come or go: only Ready changes."""
    kept = [_bare(find(old.get("conditions"), kind)) for kind in ("Installed", "Reconciled")]
    return [*kept, readiness(unready)]


def build(
    plane: ControlPlane, old: Status, conditions: list[Condition], progress: Progress, observed: bool = False
) -> Status:
    """The whole status; `observed` says that the current generation has been dealt with."""
    known = {entry["resource"]: entry["conditions"] for entry in old.get("components", [])}
    successful = [
        condition(kind, "True", "InstallSuccessful", "Component installed successfully")
        for kind in ("Reconciled", "Installed")
    ]
    status: Status = {
        "annotations": {
            "alwaysReadyComponents": ",".join(sorted(progress.always)),
            "readyComponentCount": f"{len(progress.ready)}/{len(progress.wanted)}",
        },
        "appliedSpec": {"profiles": plane.get("profiles", default=["default"]), "version": plane.version},
        "chartVersion": plane.chart,
        "components": [
            {"resource": name, "conditions": stamped(known.get(name), successful)} for name in progress.installed
        ],
        "conditions": stamped(old.get("conditions"), conditions),
        "operatorVersion": plane.release.version,
        "readiness": {
            "components": {
                "pending": sorted(set(progress.wanted) - set(progress.installed)),
                "ready": progress.ready,
                "unready": sorted(progress.unready),
            }
        },
    }
    if observed:
        status["observedGeneration"] = plane.generation
    elif "observedGeneration" in old:
        status |= {"observedGeneration": old["observedGeneration"], "operatorVersion": old["operatorVersion"]}
    return status


def _not_reconciled(old: Status, reason: str, message: str) -> list[Condition]:
    installed = _bare(find(old.get("conditions"), "Installed"))
    if installed.get("status") != "True":
        installed = condition("Installed", "False", reason, message)
    return [installed, condition("Reconciled", "False", reason, message), condition("Ready", "False", reason, message)]


def _bare(entry: Condition) -> Condition:
    return {key: value for key, value in entry.items() if key != "lastTransitionTime"}
