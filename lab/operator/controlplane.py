"""Installs, updates, watches and removes control planes."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from lab.client import ApiClient, ApiError, Informer, Key, Object, Reconciler
from lab.operator import addons, crds, status
from lab.operator.components import stages
from lab.operator.conditions import Condition, available, find
from lab.operator.plane import (
    FINALIZER,
    GENERATION,
    IGNORE,
    MEMBER_OF,
    OWNER,
    OWNER_NAME,
    ControlPlane,
    Rendered,
    typed,
)
from lab.operator.status import Progress
from lab.operator.validation import reconcile_error
from lab.operator.versions import Release
from lab.resources import (
    CONFIG_MAP,
    CRD,
    DEPLOYMENT,
    DESTINATION_RULE,
    NAMESPACE,
    NETWORK_POLICY,
    PEER_AUTHENTICATION,
    ROLE_BINDING,
    ROUTE,
    SERVICE,
    SERVICE_ACCOUNT,
    SMCP,
)

log = logging.getLogger(__name__)

_OWNED = (
    DEPLOYMENT,
    SERVICE,
    ROUTE,
    CONFIG_MAP,
    DESTINATION_RULE,
    PEER_AUTHENTICATION,
    NETWORK_POLICY,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
)


@dataclass
class Installation:
    """What has been applied of one generation of one control plane; lost with the operator, then applied again."""

    uid: str
    version: str
    plan: list[dict[str, list[Rendered]]]
    applied: dict[str, dict[Key, int]] = field(default_factory=dict)

    @property
    def wanted(self) -> list[str]:
        return [name for stage in self.plan for name in stage]

    @property
    def always(self) -> list[str]:
        """Components without Deployments."""
        return [
            name
            for stage in self.plan
            for name, objects in stage.items()
            if all(kind is not DEPLOYMENT for kind, _ in objects)
        ]


class ControlPlanes:
    """The controller of ServiceMeshControlPlanes; `smcps` is its local copy of them, for others to read too."""

    def __init__(self, api: ApiClient, release: Release) -> None:
        self.api, self.release = api, release
        self.smcps = Informer(api, SMCP)
        self.deployments = Informer(api, DEPLOYMENT)
        self.queue = Reconciler("control plane", self.reconcile, workers=2)
        self._installations: dict[Key, Installation] = {}
        self._mesh_kinds_served = False
        self.smcps.on_change(lambda key, _old, _new: self.queue.add(key))
        self.deployments.on_change(self._deployment_changed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.smcps.run())
            tasks.create_task(self.deployments.run())
            await self.deployments.synced.wait()
            tasks.create_task(self.queue.run())

    def _deployment_changed(self, _key: Key, old: Object | None, new: Object | None) -> None:
        labels = ((new or old) or {}).get("metadata", {}).get("labels") or {}
        if OWNER in labels and OWNER_NAME in labels:
            self.queue.add((labels[OWNER], labels[OWNER_NAME]))

    async def reconcile(self, key: Key) -> None:
        smcp = self.smcps.items.get(key)
        if smcp is None:
            self._installations.pop(key, None)
            return
        plane = ControlPlane(smcp, self.release)
        if smcp["metadata"].get("deletionTimestamp"):
            await self._remove(plane)
            return
        finalizers = smcp["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            written = {"metadata": {"finalizers": [*finalizers, FINALIZER]}, "spec": typed(smcp.get("spec") or {})}
            written["metadata"]["resourceVersion"] = smcp["metadata"]["resourceVersion"]
            await self.api.merge(SMCP, plane.name, plane.namespace, written)
            return
        old = smcp.get("status") or {}
        if self._up_to_date(plane, old):
            await self._watch_readiness(plane, old)
        else:
            await self._install(plane, old)

    def _up_to_date(self, plane: ControlPlane, old: status.Status) -> bool:
        return (
            old.get("observedGeneration") == plane.generation
            and old.get("operatorVersion") == self.release.version
            and find(old.get("conditions"), "Reconciled").get("status") == "True"
        )

    def _installation(self, plane: ControlPlane) -> Installation:
        key = (plane.namespace, plane.name)
        known = self._installations.get(key)
        uid = plane.smcp["metadata"]["uid"]
        if known is None or known.uid != uid or known.version != plane.mesh_version:
            plan = [{name: template(plane) for name, template in stage.items()} for stage in stages(plane)]
            known = self._installations[key] = Installation(uid, plane.mesh_version, plan)
        return known

    async def _install(self, plane: ControlPlane, old: status.Status) -> None:
        if problem := await self._obstacle(plane):
            reason, message = problem
            await self._write(plane, old, status.failed(old, reason, message), Progress(()), True)
            if reason == "DependencyMissingError":
                self.queue.add_after(1, (plane.namespace, plane.name))
            return
        if not old:
            old = await self._write(plane, old, status.created(plane), Progress(()))
        installation = self._installation(plane)
        if not installation.applied and find(old["conditions"], "Installed").get("status") == "True":
            old = await self._write(plane, old, status.updating(plane, old), self._progress(installation))
        if not self._mesh_kinds_served:
            await crds.install(self.api, self.release, crds.MESH)
            self._mesh_kinds_served = True
        await self._label_namespace(plane)
        for stage in installation.plan:
            for name, objects in stage.items():
                if name not in installation.applied:
                    await self._apply(plane, old, installation, name, objects)
            if waiting := self._unready(installation, stage):
                await self._write(plane, old, status.pausing(old, waiting), self._progress(installation))
                return
        if old.get("observedGeneration"):
            await self._delete_owned(plane, all_but=plane.mesh_version)
        progress = self._progress(installation)
        await self._write(plane, old, status.done(plane, old, progress.unready), progress, True)

    async def _obstacle(self, plane: ControlPlane) -> tuple[str, str] | None:
        if problem := reconcile_error(plane):
            return "ValidationError", f"Spec is invalid: error: {problem}"
        for what, name in addons.dependencies(plane):
            if await self.api.find(CRD, name) is None:
                message = f'Dependency "{what}" is missing: error: customresourcedefinitions "{name}" not found'
                return "DependencyMissingError", message
        return None

    async def _apply(
        self, plane: ControlPlane, old: status.Status, installation: Installation, name: str, objects: list[Rendered]
    ) -> None:
        try:
            await asyncio.gather(*(self._replace_ports(obj) for kind, obj in objects if kind is SERVICE))
            made = await asyncio.gather(*(self.api.apply(kind, obj) for kind, obj in objects))
        except ApiError as error:
            if error.status == 429 or error.status >= 500:  # passes by itself
                raise
            message = f"Error processing component {name}: error: {error.message}"
            await self._write(plane, old, status.failed(old, "ReconcileError", message), self._progress(installation))
            raise
        installation.applied[name] = {
            (obj["metadata"]["namespace"], obj["metadata"]["name"]): obj["metadata"].get("generation", 1)
            for (kind, _), obj in zip(objects, made, strict=True)
            if kind is DEPLOYMENT
        }

    async def _replace_ports(self, service: Object) -> None:
        """Takes the NodePorts of a Service that gets other ports, so that it is given new ones.

        Captured: a 2.1 that becomes a 2.2 moves those of its ingress gateway and leaves the federation's alone.
        """
        meta = service["metadata"]
        found = await self.api.find(SERVICE, meta["name"], meta["namespace"])
        wanted = service["spec"]["ports"]
        if found and _shapes(found["spec"].get("ports")) != _shapes(wanted):
            inside = {"type": "ClusterIP", "externalTrafficPolicy": None, "ports": wanted}
            await self.api.merge(SERVICE, meta["name"], meta["namespace"], {"spec": inside})

    def _unready(self, installation: Installation, names: dict[str, Any] | list[str]) -> list[str]:
        return [
            name
            for name in names
            if not all(
                available(self.deployments.items.get(key), generation)
                for key, generation in installation.applied.get(name, {}).items()
            )
        ]

    def _progress(self, installation: Installation) -> Progress:
        installed = [name for name in installation.wanted if name in installation.applied]
        return Progress(installation.wanted, installed, self._unready(installation, installed), installation.always)

    async def _watch_readiness(self, plane: ControlPlane, old: status.Status) -> None:
        installation = self._installation(plane)
        if not installation.applied:
            for stage in installation.plan:
                for name, objects in stage.items():
                    installation.applied[name] = {
                        (obj["metadata"]["namespace"], obj["metadata"]["name"]): 0
                        for kind, obj in objects
                        if kind is DEPLOYMENT
                    }
        progress = self._progress(installation)
        await self._write(plane, old, status.with_readiness(old, progress.unready), progress, True)

    async def _write(
        self,
        plane: ControlPlane,
        old: status.Status,
        conditions: list[Condition],
        progress: Progress,
        observed: bool = False,
    ) -> status.Status:
        made = status.build(plane, old, conditions, progress, observed)
        if any(old.get(field) != value for field, value in made.items()):
            await self.api.merge(SMCP, plane.name, plane.namespace, {"status": made}, "status")
            reconciled, before = find(conditions, "Reconciled"), find(old.get("conditions"), "Reconciled")
            if reconciled.get("message") != before.get("message"):
                kind = "Normal" if reconciled["status"] == "True" or "Error" not in reconciled["reason"] else "Warning"
                await self.api.event(plane.smcp, kind, reconciled["reason"], reconciled["message"])
        return made

    async def _label_namespace(self, plane: ControlPlane) -> None:
        labels = {MEMBER_OF: plane.namespace}
        if self.release.marks_namespace_ignored:
            labels[IGNORE] = "ignore"
        await self.api.merge(NAMESPACE, plane.namespace, None, {"metadata": {"labels": labels}})

    async def _delete_owned(self, plane: ControlPlane, all_but: str = "") -> None:
        """Deletes what the labels say belongs to this control plane, other than what carries version `all_but`."""
        selector = f"{OWNER}={plane.namespace},{OWNER_NAME}={plane.name}"
        for kind in _OWNED:
            try:
                items, _ = await self.api.list_objects(kind, labelSelector=selector)
            except ApiError as error:
                if error.status != 404:
                    raise
                continue
            for obj in items:
                meta = obj["metadata"]
                if (meta.get("annotations") or {}).get(GENERATION) != all_but:
                    await self.api.delete(kind, meta["name"], meta["namespace"])

    async def _remove(self, plane: ControlPlane) -> None:
        finalizers = plane.smcp["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        old = plane.smcp.get("status") or {}
        await self._write(plane, old, status.failed(old, "Deleting", "Deleting service mesh"), Progress(()))
        await self._delete_owned(plane)
        unlabelled = {"metadata": {"labels": {MEMBER_OF: None, IGNORE: None}}}
        await self.api.merge(NAMESPACE, plane.namespace, None, unlabelled)
        kept = [name for name in finalizers if name != FINALIZER]
        await self.api.merge(SMCP, plane.name, plane.namespace, {"metadata": {"finalizers": kept}})


def _shapes(ports: list[Object] | None) -> list[Object]:
    """Ports without what the cluster gave them."""
    return [{key: value for key, value in port.items() if key != "nodePort"} for port in ports or ()]
