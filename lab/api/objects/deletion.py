"""How objects go: finalizers, grace periods, namespaces and definitions that wait until they are empty."""

from __future__ import annotations

import datetime
from typing import Any

from lab.api.objects import crds, metadata
from lab.api.objects.registry import Kind, Registry
from lab.api.objects.store import Entry
from lab.api.schema import errors

Object = dict[str, Any]
_ANSWERED_WITH_OBJECT = {"Pod", "Service", "Namespace", "ServiceAccount"}


class Deletion:
    """Deletes objects of any kind."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def delete(self, kind: Kind, entry: Entry, options: Object, dry_run: bool = False) -> tuple[Object, bool]:
        """The answer's body and whether the object is gone; 409 where a precondition does not hold."""
        self._check(kind, entry, options.get("preconditions") or {})
        meta = entry.obj["metadata"]
        if dry_run:
            return self._success(kind, entry.obj), True
        if options.get("propagationPolicy") == "Orphan" or options.get("orphanDependents") is True:
            self._orphan(meta["uid"])
        definition = kind.kind == "CustomResourceDefinition" and not kind.custom
        if definition and self._empty_definition(entry):
            return self._success(kind, entry.obj), True
        if definition:
            entry = kind.collection.items[entry.key]
            meta = entry.obj["metadata"]
        grace = self._grace(kind, entry.obj, options)
        pending = bool(meta.get("finalizers")) or grace > 0 or self._held_namespace(kind, entry.obj)
        if not pending:
            self.remove(kind, entry)
            body = entry.obj if not kind.custom and kind.kind in _ANSWERED_WITH_OBJECT else None
            return body or self._success(kind, entry.obj), True
        known = meta.get("deletionGracePeriodSeconds")
        if meta.get("deletionTimestamp") and (known is None or grace >= known):
            return entry.obj, False
        obj = entry.copy()
        self._mark(kind, obj, grace)
        entry = kind.collection.put(entry.key, obj, entry.managers)
        if self.is_over(kind, obj):
            self.remove(kind, entry)
        return entry.obj, False

    def _check(self, kind: Kind, entry: Entry, preconditions: Object) -> None:
        meta = entry.obj["metadata"]
        for field, name, what in (("uid", "uid", "UID"), ("resourceVersion", "resourceVersion", "ResourceVersion")):
            wanted = preconditions.get(field)
            if wanted and wanted != meta[name]:
                why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {meta[name]}"
                raise errors.conflict(kind.plural, kind.group, meta["name"], why)

    def _grace(self, kind: Kind, obj: Object, options: Object) -> int:
        """Seconds a pod has to end; everything else has none, and neither has a pod that runs nowhere."""
        if kind.kind != "Pod" or kind.group:
            return 0
        spec, phase = obj["spec"], obj.get("status", {}).get("phase")
        if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
            return 0
        asked = options.get("gracePeriodSeconds")
        return int(spec.get("terminationGracePeriodSeconds", 30) if asked is None else asked)

    def _held_namespace(self, kind: Kind, obj: Object) -> bool:
        return kind.kind == "Namespace" and not kind.group and bool(obj.get("spec", {}).get("finalizers"))

    def _mark(self, kind: Kind, obj: Object, grace: int) -> None:
        meta = obj["metadata"]
        now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=grace)
        meta["deletionTimestamp"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        if kind.kind != "Namespace" or kind.group:
            meta["deletionGracePeriodSeconds"] = grace
        if "generation" in meta:
            meta["generation"] += 1
        if kind.kind == "Namespace" and not kind.group:
            obj.setdefault("status", {})["phase"] = "Terminating"

    def is_over(self, kind: Kind, obj: Object) -> bool:
        """Whether a stored object was only waiting for what is no longer there."""
        meta = obj["metadata"]
        return bool(
            meta.get("deletionTimestamp")
            and not meta.get("finalizers")
            and not meta.get("deletionGracePeriodSeconds")
            and not self._held_namespace(kind, obj)
        )

    def remove(self, kind: Kind, entry: Entry) -> None:
        """Takes an object out of the store, with what follows from it for definitions."""
        kind.collection.remove(entry.key)
        if kind.kind == "CustomResourceDefinition" and not kind.custom:
            served = self._kind_of(entry.obj)
            if served is not None:
                self._registry.remove(served)
                served.collection.wake()
        elif kind.custom and kind.terminating and not kind.collection.items:
            self._definition_is_empty(kind)

    def _kind_of(self, crd: Object) -> Kind | None:
        return self._registry.get(crd["spec"]["group"], crd["spec"]["names"]["plural"])

    def _empty_definition(self, entry: Entry) -> bool:
        """Deletes all objects of a definition; True where nothing held them and the definition is gone with them."""
        kind = self._registry.get("apiextensions.k8s.io", "customresourcedefinitions")
        served = self._kind_of(entry.obj)
        assert kind is not None
        if served is not None:
            for item in list(served.collection.items.values()):
                self.delete(served, item, {})
            if served.collection.items and not served.terminating:
                served.terminating = True
                obj = entry.copy()
                finalizers = obj["metadata"].setdefault("finalizers", [])
                if crds.CLEANUP not in finalizers:
                    finalizers.append(crds.CLEANUP)
                obj["status"] = crds.terminating(obj)
                kind.collection.put(entry.key, obj, entry.managers)
        if (served is None or not served.collection.items) and not entry.obj["metadata"].get("finalizers"):
            self.remove(kind, entry)
            return True
        return False

    def _definition_is_empty(self, served: Kind) -> None:
        kind = self._registry.get("apiextensions.k8s.io", "customresourcedefinitions")
        entry = kind.collection.get(("", served.qualified)) if kind else None
        if kind is None or entry is None:
            return
        obj = entry.copy()
        obj["metadata"]["finalizers"] = [f for f in obj["metadata"].get("finalizers", ()) if f != crds.CLEANUP]
        entry = kind.collection.put(entry.key, obj, entry.managers)
        if self.is_over(kind, entry.obj):
            self.remove(kind, entry)

    def _orphan(self, uid: str) -> None:
        """Takes an owner out of its dependents, so that garbage collection leaves them alone."""
        for kind in self._registry:
            for entry in list(kind.collection.items.values()):
                owners = entry.obj["metadata"].get("ownerReferences") or []
                if any(owner.get("uid") == uid for owner in owners):
                    obj = entry.copy()
                    metadata.shape(obj)["ownerReferences"] = [o for o in owners if o.get("uid") != uid]
                    metadata.shape(obj)
                    kind.collection.put(entry.key, obj, entry.managers)

    def _success(self, kind: Kind, obj: Object) -> Object:
        details = {"name": obj["metadata"]["name"], "group": kind.group, "kind": kind.plural}
        details["uid"] = obj["metadata"]["uid"]
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {name: value for name, value in details.items() if value},
        }
