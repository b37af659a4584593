"""The scale subresource of workloads."""

from __future__ import annotations

from typing import Any

from lab.api.objects.calls import Call
from lab.api.objects.objects import Objects
from lab.api.objects.patch import JSON_PATCH, MERGE_PATCH, json_patch, merge_patch
from lab.api.objects.store import Entry
from lab.api.schema.errors import bad_request

Object = dict[str, Any]


class Scales:
    """Reads and changes `spec.replicas` through autoscaling/v1 Scale."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def get(self, call: Call) -> Object:
        return _scale(self._objects.find(call))

    async def change(self, call: Call, media_type: str, body: Any) -> Object:
        """PUT of a Scale, or a patch to one."""
        before = self.get(call)
        after = json_patch(before, body) if media_type == JSON_PATCH else merge_patch(before, body)
        replicas = (after.get("spec") or {}).get("replicas", 0) if isinstance(after, dict) else None
        if not isinstance(replicas, int):
            raise bad_request("spec.replicas must be a number")
        main = Call(call.kind, call.version, call.namespace, call.name, "", call.params, call.user, call.agent)
        patch: Object = {"spec": {"replicas": replicas}}
        if version := after["metadata"].get("resourceVersion"):
            patch["metadata"] = {"resourceVersion": version}
        entry, _ = await self._objects.patch(main, MERGE_PATCH, patch)
        return _scale(entry)


def _scale(entry: Entry) -> Object:
    meta, spec = entry.obj["metadata"], entry.obj["spec"]
    labels = ((spec.get("selector") or {}).get("matchLabels") or {}).items()
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            name: meta[name]
            for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if name in meta
        },
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": {
            "replicas": entry.obj.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels),
        },
    }
