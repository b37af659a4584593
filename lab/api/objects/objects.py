"""What happens to objects: create, replace, patch and apply, from the request's body to the store."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

from lab.api.objects import builtins, crds, metadata
from lab.api.objects.apply import apply, keyless, undeclared
from lab.api.objects.calls import Call, truth
from lab.api.objects.deletion import Deletion
from lab.api.objects.patch import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    json_patch,
    merge_patch,
    strategic_patch,
)
from lab.api.objects.registry import Kind, Registry
from lab.api.objects.store import Entry
from lab.api.objects.webhooks import Webhooks
from lab.api.schema import errors, validation
from lab.api.schema.errors import Cause, StatusError, bad_request
from lab.api.schema.fieldsets import Manager, Managers, track_update
from lab.api.schema.schema import apply_defaults, drop_nulls, prune

Object = dict[str, Any]
_ATTEMPTS = 8


@contextlib.contextmanager
def _well_formed(kind: Kind) -> Iterator[None]:
    """400 where a built-in object has something else than its rules look for, such as a list for a map."""
    try:
        yield
    except (AttributeError, TypeError, KeyError, ValueError, IndexError) as error:
        raise bad_request(f"{kind.kind} is not well-formed: {error!r}") from None


class Objects:
    """All writes; every method returns the entry that is the answer (not stored where the call is a dry run)."""

    def __init__(self, registry: Registry, webhooks: Webhooks, strict: bool = True) -> None:
        """`strict`: from 1.21 on server-side apply knows the default of a port's protocol, and what is to be unique in
        the status of a custom resource is."""
        self.registry, self.webhooks, self.strict = registry, webhooks, strict
        self.deletion = Deletion(registry)

    def find(self, call: Call) -> Entry:
        """404 where it is not there."""
        entry = call.kind.collection.get(call.key)
        if entry is None:
            raise errors.not_found(call.kind.plural, call.kind.group, call.name)
        return entry

    async def create(self, call: Call, obj: Object) -> Entry:
        self._check_type(call, obj)
        kind = call.kind
        if kind.terminating:
            raise StatusError(
                405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating"
            )
        meta = metadata.prepare_create(obj, kind, call.namespace)
        if call.name and call.name != meta["name"]:
            raise bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({call.name})"
            )
        self._check_namespace(call, meta["name"])
        if call.version.status and kind.kind not in ("Node", "Namespace"):
            obj.pop("status", None)
        self._decode(call, obj)
        obj = await self.webhooks.mutate(call, "CREATE", obj, None)
        self._decode(call, obj, quiet=True)
        self._validate(call, obj, None)
        await self.webhooks.validate(call, "CREATE", obj, None)
        key = (meta.get("namespace", ""), meta["name"])
        if kind.collection.get(key) is not None:
            if meta.get("generateName"):
                text = "the server was not able to generate a unique name for the object"
                raise StatusError(409, "AlreadyExists", text)
            raise errors.already_exists(kind.plural, kind.group, meta["name"])
        managers = track_update(Managers(), self._manager(call, "Update"), {}, obj, call.version.node)
        return self._commit(call, key, obj, managers)

    async def replace(self, call: Call, obj: Object) -> Entry:
        """PUT, also of `status` and `finalize`."""
        self._check_type(call, obj)
        meta = metadata.shape(obj)
        if meta.get("name", call.name) != call.name:
            raise bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({call.name})"
            )
        meta["name"] = call.name
        metadata.settle_namespace(meta, call.kind, call.namespace)
        old = self.find(call)
        given = meta.get("resourceVersion")
        if not given and call.kind.custom:
            why = errors.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise errors.invalid(call.kind.kind, call.kind.group, call.name, [why])

        def change(current: Entry) -> tuple[Object, Managers | None]:
            self._check_version(call, given, meta.get("uid"), current)
            return copy.deepcopy(obj), None

        return await self._update(call, old, change)

    async def patch(self, call: Call, media_type: str, body: Any) -> tuple[Entry, bool]:
        """The entry, and whether it was created (apply only)."""
        if media_type == APPLY_PATCH:
            return await self._apply(call, body)
        if media_type == STRATEGIC_PATCH and call.kind.custom:
            kinds = f"{JSON_PATCH}, {MERGE_PATCH}, {APPLY_PATCH}"
            raise errors.unsupported_media(
                f"the body of the request was in an unknown format - accepted media types include: {kinds}"
            )
        if media_type != JSON_PATCH and not isinstance(body, dict):
            raise bad_request("a merge patch is a JSON object")

        def change(current: Entry) -> tuple[Object, Managers | None]:
            before = current.copy()
            before["apiVersion"] = call.api_version
            if media_type == JSON_PATCH:
                after = json_patch(before, body)
            elif media_type == MERGE_PATCH:
                after = merge_patch(before, body)
            else:
                after = strategic_patch(before, body, call.version.node)
            if not isinstance(after, dict):
                raise bad_request("the patched object is no JSON object")
            meta = metadata.shape(after)
            if meta.get("name") != call.name:
                raise bad_request("the name of the object cannot be changed")
            metadata.settle_namespace(meta, call.kind, call.namespace)
            self._check_version(call, meta.get("resourceVersion"), meta.get("uid"), current)
            return after, None

        return await self._update(call, self.find(call), change), False

    async def _apply(self, call: Call, config: Any) -> tuple[Entry, bool]:
        if not isinstance(config, dict):
            raise bad_request("an applied configuration is an object")
        if not call.params.get("fieldManager"):
            field = errors.required("fieldManager", "is required for apply patch")
            raise errors.invalid("PatchOptions", "meta.k8s.io", "", [field])
        self._check_type(call, config)
        meta = metadata.shape(config)
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if meta.get("name", call.name) != call.name:
            raise bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({call.name})"
            )
        meta["name"] = call.name
        metadata.settle_namespace(meta, call.kind, call.namespace)
        if not call.kind.custom:
            builtins.strip_nulls(config)
        if unknown := undeclared(config, call.version.node):
            place = f"{call.namespace}/{call.name}" if call.namespace else f"/{call.name}"
            what = f"{place}; {call.api_version}, Kind={call.kind.kind}"
            listed = "; ".join(f"{field}: field not declared in schema" for field in unknown)
            raise StatusError(500, "", f"failed to create typed patch object ({what}): {listed}")
        if not self.strict and (text := keyless(config, call.version.node)):
            raise StatusError(500, "", f"failed to create typed patch object: {text}")
        if call.sub == "status":
            config = {k: v for k, v in config.items() if k in ("apiVersion", "kind", "metadata", "status")}
        elif call.version.status:
            config.pop("status", None)
        manager, force = self._manager(call, "Apply"), truth(call.params.get("force"))
        given, uid = meta.pop("resourceVersion", None), meta.pop("uid", None)
        for attempt in range(_ATTEMPTS):
            existing = call.kind.collection.get(call.key)
            if existing is not None:
                break
            if call.sub or uid:
                raise errors.not_found(call.kind.plural, call.kind.group, call.name)
            try:
                return await self._create_applied(call, config, manager), True
            except StatusError as error:
                if error.reason != "AlreadyExists" or attempt == _ATTEMPTS - 1:
                    raise
        assert existing is not None

        def change(current: Entry) -> tuple[Object, Managers | None]:
            self._check_version(call, given, uid, current)
            live = current.copy()
            live["apiVersion"] = call.api_version
            return apply(live, copy.deepcopy(config), call.version.node, current.managers, manager, force)

        return await self._update(call, existing, change), False

    async def _create_applied(self, call: Call, config: Object, manager: Manager) -> Entry:
        obj, managers = apply({}, config, call.version.node, Managers(), manager, False)
        metadata.prepare_create(obj, call.kind, call.namespace)
        if call.kind.terminating:
            raise StatusError(
                405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating"
            )
        self._check_namespace(call, call.name)
        self._decode(call, obj)
        obj = await self.webhooks.mutate(call, "CREATE", obj, None)
        self._decode(call, obj, quiet=True)
        self._validate(call, obj, None)
        await self.webhooks.validate(call, "CREATE", obj, None)
        if call.kind.collection.get(call.key) is not None:
            raise errors.already_exists(call.kind.plural, call.kind.group, call.name)
        return self._commit(call, call.key, obj, managers)

    async def _update(self, call: Call, old: Entry, change: Callable[[Entry], tuple[Object, Managers | None]]) -> Entry:
        """Runs one change until nobody else changed the object meanwhile (webhooks take time)."""
        for _ in range(_ATTEMPTS):
            new, managers = change(old)
            new = self._settle(call, new, old)
            if not call.sub:
                admitted = await self.webhooks.mutate(call, "UPDATE", new, old.obj)
                if admitted is not new:
                    new = self._settle(call, admitted, old)
            self._set_generation(call, new, old.obj)
            self._validate(call, new, old.obj)
            if not call.sub:
                await self.webhooks.validate(call, "UPDATE", new, old.obj)
            current = call.kind.collection.get(call.key)
            if current is old:
                if managers is None:
                    managers = self._tracked(call, new, old)
                if new == old.obj and managers == old.managers:
                    return old
                return self._commit(call, call.key, new, managers)
            if current is None:
                raise errors.not_found(call.kind.plural, call.kind.group, call.name)
            old = current
        raise errors.conflict(call.kind.plural, call.kind.group, call.name)

    def _tracked(self, call: Call, new: Object, old: Entry) -> Managers:
        return track_update(old.managers, self._manager(call, "Update"), old.obj, new, call.version.node)

    def _settle(self, call: Call, new: Object, old: Entry) -> Object:
        """The next version, with everything this call may not touch taken from the one before."""
        kind = call.kind
        metadata.shape(new)
        if call.sub:
            whole = old.copy()
            if call.sub == "finalize":
                whole.setdefault("spec", {})["finalizers"] = (new.get("spec") or {}).get("finalizers") or []
            elif "status" in new:
                whole["status"] = new["status"]
            else:
                whole.pop("status", None)
            new = whole
        elif call.version.status:
            new.pop("status", None)
            if "status" in old.obj:
                new["status"] = old.copy()["status"]
        metadata.carry_over(new, old.obj)
        if kind.kind == "Namespace" and call.sub != "finalize":
            new["spec"] = old.copy().get("spec", {})
        if not kind.custom and not call.sub and "spec" in old.obj:
            new.setdefault("spec", {})
        self._decode(call, new)
        if not call.sub:
            with _well_formed(kind):
                builtins.keep_allocated(new, old.obj, kind)
        return new

    def _check_type(self, call: Call, obj: Object) -> None:
        given, wanted = obj.get("apiVersion"), call.api_version
        if given is None and obj.get("kind") is None and not call.kind.custom:
            obj["apiVersion"], obj["kind"] = wanted, call.kind.kind
        elif given != wanted:
            raise bad_request(
                f"the API version in the data ({given}) does not match the expected API version ({wanted})"
            )
        elif obj.get("kind") != call.kind.kind:
            raise bad_request(
                f"the kind in the data ({obj.get('kind')}) does not match the expected kind ({call.kind.kind})"
            )

    def _check_namespace(self, call: Call, name: str) -> None:
        if not call.kind.namespaced:
            return
        namespaces = self.registry.get("", "namespaces")
        namespace = namespaces.collection.get(("", call.namespace)) if namespaces else None
        if namespace is None:
            raise errors.not_found("namespaces", "", call.namespace)
        if namespace.obj["metadata"].get("deletionTimestamp"):
            why = f"namespace {call.namespace} is being terminated"
            text = f"unable to create new content in namespace {call.namespace} because it is being terminated"
            cause = Cause("NamespaceTerminating", why, "metadata.namespace")
            raise errors.forbidden(call.kind.plural, call.kind.group, name, text, [cause])

    def _check_version(self, call: Call, given: str | None, uid: str | None, current: Entry) -> None:
        if uid and uid != current.obj["metadata"]["uid"]:
            why = (
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current.obj['metadata']['uid']}"
            )
            raise errors.conflict(call.kind.plural, call.kind.group, call.name, why)
        if given and given != "0" and given != current.obj["metadata"]["resourceVersion"]:
            raise errors.conflict(call.kind.plural, call.kind.group, call.name)

    def _decode(self, call: Call, obj: Object, quiet: bool = False) -> None:
        """Unknown fields, defaults and the order of the first fields; `obj` is changed."""
        kind, node = call.kind, call.version.node
        metadata.shape(obj)
        gone = prune(obj, node)
        if gone and not quiet:
            self._report_unknown(call, gone)
        if kind.custom:
            apply_defaults(obj, node)
            drop_nulls(obj, node)
        else:
            builtins.strip_nulls(obj)
            with _well_formed(kind):
                builtins.defaults(obj, kind)
        ordered = {"apiVersion": kind.api_version(kind.storage), "kind": kind.kind, **obj}
        ordered["apiVersion"], ordered["kind"] = kind.api_version(kind.storage), kind.kind
        obj.clear()
        obj.update(ordered)

    def _report_unknown(self, call: Call, gone: list[str]) -> None:
        mode = call.field_validation
        texts = [f'unknown field "{field}"' for field in gone]
        if mode == "Strict":
            kind, version = call.kind.kind, call.version.name
            raise bad_request(
                f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: '
                + ", ".join(texts)
            )
        if mode == "Warn":
            call.warnings += [text for text in texts if text not in call.warnings]

    def _validate(self, call: Call, obj: Object, old: Object | None) -> None:
        kind = call.kind
        causes = metadata.validate(obj, old, kind)
        if kind.custom:
            found = validation.validate(obj, call.version.node)
            causes += [cause for cause in found if self.strict or not _doubles_in_status(cause)]
        else:
            with _well_formed(kind):
                causes += builtins.validate(obj, old, kind)
                if kind.kind == "CustomResourceDefinition":
                    causes += crds.validate(obj)
        if causes:
            raise errors.invalid(kind.kind, kind.group, obj["metadata"]["name"], causes)

    def _set_generation(self, call: Call, new: Object, old: Object) -> None:
        before = old["metadata"].get("generation")
        if before is None:
            return
        ignored = {"metadata", "apiVersion", "kind"} | ({"status"} if call.version.status else set())
        touched = any(new.get(k) != old.get(k) for k in (new.keys() | old.keys()) - ignored)
        new["metadata"]["generation"] = before + touched

    def _manager(self, call: Call, operation: str) -> Manager:
        sub = call.sub if call.sub in ("status", "scale") else ""
        return Manager(call.manager, operation, call.api_version, sub)

    def _commit(self, call: Call, key: tuple[str, str], obj: Object, managers: Managers) -> Entry:
        """Stores, and does what follows from it: an object whose last finalizer is gone goes, CRDs are served."""
        kind = call.kind
        if call.dry_run:
            known = kind.collection.get(key)
            if managers:
                obj["metadata"]["managedFields"] = managers.encoded()
            return Entry(key, obj, known.version if known else 0, managers)
        meta = obj["metadata"]
        if kind.kind == "CustomResourceDefinition" and not kind.custom and not meta.get("deletionTimestamp"):
            obj["status"] = crds.status(obj)
        entry = kind.collection.put(key, obj, managers)
        if self.deletion.is_over(kind, entry.obj):
            self.deletion.remove(kind, entry)
        elif kind.kind == "CustomResourceDefinition" and not kind.custom:
            crds.serve(entry.copy(), self.registry)
        self._forget_webhooks(kind)
        return entry

    def _forget_webhooks(self, kind: Kind) -> None:
        if kind.group == "admissionregistration.k8s.io":
            self.webhooks.forget()

    async def delete(self, call: Call, options: Object) -> tuple[Object, bool]:
        """The answer's body, and whether the object is gone; options as in DeleteOptions."""
        entry = self.find(call)
        await self.webhooks.validate(call, "DELETE", None, entry.obj)
        entry = self.find(call)
        result = self.deletion.delete(call.kind, entry, options, call.dry_run)
        self._forget_webhooks(call.kind)
        return result


def _doubles_in_status(cause: Cause) -> bool:
    return cause.reason == "FieldValueDuplicate" and cause.field.startswith("status.")
