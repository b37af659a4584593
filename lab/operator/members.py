"""Member rolls and members: which namespaces belong to a mesh."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from lab.client import ApiClient, ApiError, Informer, Key, Object, Reconciler, key_of
from lab.operator.conditions import Condition, available, condition, find, stamped
from lab.operator.plane import CREATED_BY, FINALIZER, MEMBER_OF, OWNER, OWNER_NAME, dig
from lab.operator.versions import Release
from lab.resources import DEPLOYMENT, NAMESPACE, NETWORK_POLICY, ROLE_BINDING, SMM, SMMR, Resource

ROLL_CONTROLLER = "servicemeshmemberroll-controller"
MEMBER_CONTROLLER = "servicemeshmember-controller"


_SYSTEM = re.compile(r"kube-.*|openshift-.*|default|kube|openshift")


def wanted_members(roll: Object, namespaces: dict[Key, Object]) -> set[str]:
    """The namespaces a member roll asks for: by name, `*` for all but system ones, or by label (from 2.4 on)."""
    home = key_of(roll)[0]
    named = set(dig(roll, "spec", "members", default=[]))
    selectors = dig(roll, "spec", "memberSelectors", default=[])
    found = {
        name
        for (_, name), namespace in namespaces.items()
        if name != home
        and not _SYSTEM.fullmatch(name)
        and (
            "*" in named or any(_selects(each, dig(namespace, "metadata", "labels", default={})) for each in selectors)
        )
    }
    return (named - {"*"}) | found


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    for rule in selector.get("matchExpressions") or []:
        present = rule["key"] in labels
        fits = {
            "In": present and labels.get(rule["key"]) in rule.get("values", []),
            "NotIn": labels.get(rule["key"]) not in rule.get("values", []),
            "Exists": present,
            "DoesNotExist": not present,
        }
        if not fits.get(rule["operator"], False):
            return False
    return True


def roll_status(roll: Object, smcp: Object, members: list[Object], namespaces: dict[Key, Object]) -> dict[str, Any]:
    """The status of a member roll from its control plane, the ServiceMeshMembers it made or found, and the namespaces.

    `members` are ServiceMeshMembers of the listed namespaces, whichever control plane they refer to.
    """
    by_namespace = {key_of(member)[0]: member for member in members}
    reference = {"name": key_of(smcp)[1], "namespace": key_of(smcp)[0]}
    listed = sorted(wanted_members(roll, namespaces) | set(by_namespace))
    configured, pending, terminating, statuses = [], [], [], []
    for name in listed:
        member = by_namespace.get(name)
        namespace = namespaces.get(("", name))
        if namespace is None:
            state = condition("Reconciled", "False", "NamespaceNotExists", f"Namespace {name} does not exist")
        elif namespace["metadata"].get("deletionTimestamp"):
            state = condition("Reconciled", "False", "Terminating", f"Namespace {name} is terminating")
            terminating.append(name)
        elif member is not None and member["spec"]["controlPlaneRef"] != reference:
            other = "{namespace}/{name}".format(**member["spec"]["controlPlaneRef"])
            message = f"Namespace {name} is a member of control plane {other}"
            state = condition("Reconciled", "False", "ReferencesDifferentControlPlane", message)
        elif find(dig(member, "status", "conditions"), "Ready").get("status") == "True":
            state = condition("Reconciled", "True")
            configured.append(name)
        else:
            found = find(dig(member, "status", "conditions"), "Reconciled")
            state = condition("Reconciled", "False", found.get("reason", ""), found.get("message", ""))
        if name not in configured and name not in terminating:
            pending.append(name)
        statuses.append((name, state))
    if pending or terminating:
        unready = " ".join(sorted([*pending, *terminating]))
        ready = condition(
            "Ready", "False", "ReconcileError", f"The following namespaces are not yet configured: [{unready}]"
        )
    else:
        ready = condition("Ready", "True", "Configured", "All namespaces have been configured successfully")
    old = {entry["namespace"]: entry["conditions"] for entry in dig(roll, "status", "memberStatuses", default=[])}
    return {
        **_mesh_fields(smcp),
        "annotations": {"configuredMemberCount": f"{len(configured)}/{len(listed)}"},
        "conditions": stamped(dig(roll, "status", "conditions"), [ready]),
        "configuredMembers": configured,
        "memberStatuses": [
            {"namespace": name, "conditions": stamped(old.get(name), [state])} for name, state in statuses
        ],
        "members": listed,
        "observedGeneration": roll["metadata"]["generation"],
        "pendingMembers": pending,
        "terminatingMembers": terminating,
    }


def _mesh_fields(smcp: Object) -> dict[str, Any]:
    generation = dig(smcp, "status", "observedGeneration", default=0)
    version = dig(smcp, "status", "operatorVersion", default="")
    return {"meshGeneration": generation, "meshReconciledVersion": f"{version}-{generation}" if version else ""}


def not_installed(smcp: Object) -> str | None:
    """Why a 2.1 operator does not look at members yet; None where the control plane is installed."""
    if not dig(smcp, "status", "observedGeneration"):
        return "Initial service mesh installation has not completed"
    if find(dig(smcp, "status", "conditions"), "Reconciled").get("status") != "True":
        return "Service mesh installation is not in a known good state"
    return None


class Members:
    """The controllers of ServiceMeshMemberRolls and ServiceMeshMembers."""

    def __init__(self, api: ApiClient, release: Release, smcps: Informer) -> None:
        self.api, self.release, self.smcps = api, release, smcps
        self.rolls, self.members = Informer(api, SMMR), Informer(api, SMM)
        self.namespaces = Informer(api, NAMESPACE)
        self.roll_queue = Reconciler("member roll", self.reconcile_roll, workers=2)
        self.member_queue = Reconciler("member", self.reconcile_member, workers=4)
        smcps.on_change(self._smcp_changed)
        self.rolls.on_change(lambda key, _old, _new: self.roll_queue.add(key))
        self.members.on_change(self._member_changed)
        self.namespaces.on_change(self._namespace_changed)

    async def run(self) -> None:
        informers = (self.namespaces, self.members, self.rolls)
        async with asyncio.TaskGroup() as tasks:
            for informer in informers:
                tasks.create_task(informer.run())
            for informer in (*informers, self.smcps):
                await informer.synced.wait()
            tasks.create_task(self.roll_queue.run())
            tasks.create_task(self.member_queue.run())

    def _smcp_changed(self, key: Key, _old: Object | None, _new: Object | None) -> None:
        self.roll_queue.add((key[0], "default"))
        for name, member in self.members.items.items():
            if member["spec"]["controlPlaneRef"]["namespace"] == key[0]:
                self.member_queue.add(name)

    def _member_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        self.member_queue.add(key)
        for member in (old, new):
            if member:
                self.roll_queue.add((member["spec"]["controlPlaneRef"]["namespace"], "default"))
        for name, roll in self.rolls.items.items():
            if key[0] in dig(roll, "spec", "members", default=[]):
                self.roll_queue.add(name)

    def _namespace_changed(self, key: Key, _old: Object | None, _new: Object | None) -> None:
        for name, roll in self.rolls.items.items():
            members = dig(roll, "spec", "members", default=[])
            if key[1] in members or "*" in members or dig(roll, "spec", "memberSelectors"):
                self.roll_queue.add(name)
        self.member_queue.add((key[1], "default"))

    def _control_planes(self, namespace: str) -> list[Object]:
        return [smcp for (where, _), smcp in self.smcps.items.items() if where == namespace]

    async def reconcile_roll(self, key: Key) -> None:
        roll = self.rolls.items.get(key)
        if roll is None:
            return
        finalizers = roll["metadata"].get("finalizers") or []
        if roll["metadata"].get("deletionTimestamp"):
            if not await self._delete_members(key[0], keep=set()) and FINALIZER in finalizers:
                kept = [name for name in finalizers if name != FINALIZER]
                await self.api.merge(SMMR, key[1], key[0], {"metadata": {"finalizers": kept}})
            return
        if FINALIZER not in finalizers:
            await self.api.merge(SMMR, key[1], key[0], {"metadata": {"finalizers": [*finalizers, FINALIZER]}})
            return
        planes = self._control_planes(key[0])
        if len(planes) != 1:
            reason, message = ("ErrSMCPMissing", "No ServiceMeshControlPlane exists in the namespace")
            if planes:
                reason, message = ("ErrMultipleSMCPs", "Multiple ServiceMeshControlPlanes exist in the namespace")
            await self._not_ready(roll, reason, message)
            return
        if self.release.roll_waits_for_control_plane and (why := not_installed(planes[0])):
            await self._not_ready(roll, "SMCPReconciling", why)
            return
        wanted = wanted_members(roll, self.namespaces.items)
        await self._delete_members(key[0], keep=wanted)
        for name in sorted(wanted):
            await self._make_member(name, planes[0])
        members = [
            member
            for (where, _), member in self.members.items.items()
            if (where in wanted or member["spec"]["controlPlaneRef"]["namespace"] == key[0])
            and not member["metadata"].get("deletionTimestamp")
        ]
        await self._write(SMMR, roll, roll_status(roll, planes[0], members, self.namespaces.items))

    async def _not_ready(self, roll: Object, reason: str, message: str) -> None:
        old = roll.get("status") or {}
        listed = sorted(wanted_members(roll, self.namespaces.items))
        configured = old.get("configuredMembers") or []
        ready = condition("Ready", "False", reason, message)
        status = {
            "annotations": {"configuredMemberCount": f"{len(configured)}/{len(listed)}"},
            "conditions": stamped(old.get("conditions"), [ready]),
            "configuredMembers": configured,
            "members": listed,
            "observedGeneration": roll["metadata"]["generation"],
            "pendingMembers": [name for name in listed if name not in configured],
            "terminatingMembers": old.get("terminatingMembers") or [],
        }
        await self._write(SMMR, roll, status)

    async def _make_member(self, namespace: str, smcp: Object) -> None:
        found = self.namespaces.items.get(("", namespace))
        if found is None or found["metadata"].get("deletionTimestamp") or (namespace, "default") in self.members.items:
            return
        member = {
            "apiVersion": SMM.api_version,
            "kind": SMM.kind,
            "metadata": {"name": "default", "namespace": namespace, "annotations": {CREATED_BY: ROLL_CONTROLLER}},
            "spec": {"controlPlaneRef": {"name": key_of(smcp)[1], "namespace": key_of(smcp)[0]}},
        }
        try:
            await self.api.create(SMM, member)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _delete_members(self, control_plane: str, keep: set[str]) -> bool:
        """Deletes the roll's own members other than `keep`; True while any of them is still there."""
        found = False
        for (namespace, name), member in list(self.members.items.items()):
            ours = dig(member, "metadata", "annotations", CREATED_BY) == ROLL_CONTROLLER
            refers = member["spec"]["controlPlaneRef"]["namespace"] == control_plane
            if ours and refers and namespace not in keep:
                found = True
                if not member["metadata"].get("deletionTimestamp"):
                    await self.api.delete(SMM, name, namespace)
        return found

    async def reconcile_member(self, key: Key) -> None:
        member = self.members.items.get(key)
        if member is None:
            return
        reference = member["spec"]["controlPlaneRef"]
        finalizers = member["metadata"].get("finalizers") or []
        if member["metadata"].get("deletionTimestamp"):
            if FINALIZER in finalizers:
                await self._release(key[0], reference["namespace"])
                kept = [name for name in finalizers if name != FINALIZER]
                await self.api.merge(SMM, key[1], key[0], {"metadata": {"finalizers": kept}})
            return
        if FINALIZER not in finalizers:
            await self.api.merge(SMM, key[1], key[0], {"metadata": {"finalizers": [*finalizers, FINALIZER]}})
            return
        smcp = self.smcps.items.get((reference["namespace"], reference["name"]))
        where = "{namespace}/{name}".format(**reference)
        problem = None
        if smcp is None:
            problem = ("ErrorControlPlaneMissing", f"The control plane {where} does not exist")
        elif self.release.roll_waits_for_control_plane and (why := not_installed(smcp)):
            problem = ("ErrorControlPlaneNotReconciled", why)
        else:
            await self._make_roll(reference["namespace"])
            await self._take(key[0], smcp, rights=await self._gives_rights(member, smcp))
        conditions: list[Condition] = []
        for kind in ("Reconciled", "Ready"):
            conditions.append(condition(kind, "False", *problem) if problem else condition(kind, "True"))
        status = {
            **(_mesh_fields(smcp) if smcp else {}),
            "annotations": {"controlPlaneRef": where},
            "conditions": stamped(dig(member, "status", "conditions"), conditions),
            "observedGeneration": member["metadata"]["generation"],
        }
        await self._write(SMM, member, status)

    async def _make_roll(self, namespace: str) -> None:
        if (namespace, "default") in self.rolls.items:
            return
        roll = {
            "apiVersion": SMMR.api_version,
            "kind": SMMR.kind,
            "metadata": {"name": "default", "namespace": namespace, "annotations": {CREATED_BY: MEMBER_CONTROLLER}},
            "spec": {},
        }
        try:
            await self.api.create(SMMR, roll)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _take(self, namespace: str, smcp: Object, rights: bool) -> None:
        """Makes a namespace part of the mesh: its label, the mesh's NetworkPolicies and istiod's `rights` in it."""
        home, name = key_of(smcp)
        found = self.namespaces.items.get(("", namespace))
        if found is None or found["metadata"].get("deletionTimestamp"):
            return
        if dig(found, "metadata", "labels", MEMBER_OF) != home:
            await self.api.merge(NAMESPACE, namespace, None, {"metadata": {"labels": {MEMBER_OF: home}}})
        if rights:
            await self._copy(ROLE_BINDING, f"istiod-{name}", home, namespace)
        for policy in (f"istio-mesh-{name}", f"istio-expose-route-{name}"):
            await self._copy(NETWORK_POLICY, policy, home, namespace)

    async def _gives_rights(self, member: Object, smcp: Object) -> bool:
        """Whether istiod gets its rights in a member now.

        Captured: a member that is listed before istiod is there gets them seconds later, when istiod has tried to write
        there already. The product loses that race now and then, the lab always: when all is installed it is too late.
        """
        if not_installed(smcp) is None:
            return True
        listed = find(dig(member, "status", "conditions"), "Ready").get("status") == "True"
        home, name = key_of(smcp)
        return not listed and available(await self.api.find(DEPLOYMENT, f"istiod-{name}", home), 0)

    async def _copy(self, kind: Resource, name: str, home: str, namespace: str) -> None:
        """Has an object of the control plane in a member too, where it is there."""
        original = await self.api.find(kind, name, home)
        if original:
            meta = original["metadata"]
            kept = {key: value for key, value in meta["labels"].items() if key not in (OWNER, OWNER_NAME)}
            content = {key: value for key, value in original.items() if key in ("spec", "roleRef", "subjects")}
            copied = {"name": name, "namespace": namespace, "labels": {**kept, MEMBER_OF: home}}
            await self.api.apply(kind, {"metadata": copied, **content})

    async def _release(self, namespace: str, home: str) -> None:
        """Takes a namespace out of the mesh; its label goes last, so that who waits for it finds nothing left."""
        for kind in (NETWORK_POLICY, ROLE_BINDING):
            copies, _ = await self.api.list_objects(kind, namespace, labelSelector=f"{MEMBER_OF}={home}")
            for copied in copies:
                await self.api.delete(kind, copied["metadata"]["name"], namespace)
        found = self.namespaces.items.get(("", namespace))
        if dig(found, "metadata", "labels", MEMBER_OF) == home:
            await self.api.merge(NAMESPACE, namespace, None, {"metadata": {"labels": {MEMBER_OF: None}}})

    async def _write(self, kind: Any, obj: Object, status: dict[str, Any]) -> None:
        old = obj.get("status") or {}
        if any(old.get(field) != value for field, value in status.items()):
            namespace, name = key_of(obj)
            await self.api.merge(kind, name, namespace, {"status": status}, "status")
