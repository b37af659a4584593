"""Tables: what `kubectl get` prints, and metadata-only answers."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

from lab.api.objects.registry import Column, Kind, Version

Object = dict[str, Any]
META = "meta.k8s.io/v1"
_STEP = re.compile(
    r"\.((?:[A-Za-z0-9_/-]|\\\.)+)|\[(-?\d+|\*)\]|\[\?\(@\.([\w.]+)\s*==\s*[\"']([^\"']*)[\"']\)\]|\['([^']+)'\]"
)


def jsonpath(obj: Any, path: str) -> list[Any]:
    """The values a simple JSONPath (fields, indexes, `[*]`, one equality filter) finds."""
    found = [obj]
    for field, index, key, wanted, quoted in _STEP.findall(path if path.startswith((".", "[")) else f".{path}"):
        name = quoted or field.replace("\\.", ".")
        following: list[Any] = []
        for value in found:
            if name:
                if isinstance(value, dict) and name in value:
                    following.append(value[name])
            elif not isinstance(value, list):
                continue
            elif key:
                following += [item for item in value if wanted in [str(v) for v in jsonpath(item, key)]]
            elif index == "*":
                following += value
            elif -len(value) <= int(index) < len(value):
                following.append(value[int(index)])
        found = following
    return found


def age(timestamp: str | None) -> str:
    """How long ago, in the two largest units, as kubectl prints it."""
    if not timestamp:
        return "<unknown>"
    then = datetime.datetime.fromisoformat(timestamp)
    seconds = max(0, int((datetime.datetime.now(datetime.UTC) - then).total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, rest = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{hours // 24}d"


def _cell(obj: Object, column: Column) -> Any:
    values = jsonpath(obj, column.path)
    if not values:
        return "" if column.type == "string" else None
    if column.type == "date":
        return age(values[0])
    if column.type in ("integer", "number", "boolean"):
        return values[0]
    value = values[0] if len(values) == 1 else ",".join(str(v) for v in values)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _pod(obj: Object) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    statuses = status.get("containerStatuses") or []
    shown = status.get("reason") or status.get("phase", "Unknown")
    for container in statuses:
        state = container.get("state") or {}
        for name in ("waiting", "terminated"):
            shown = (state.get(name) or {}).get("reason") or shown
    if obj["metadata"].get("deletionTimestamp"):
        shown = "Terminating"
    ready = sum(bool(container.get("ready")) for container in statuses)
    restarts = sum(container.get("restartCount", 0) for container in statuses)
    wide = [status.get("podIP") or "<none>", spec.get("nodeName") or "<none>"]
    return [
        f"{ready}/{len(spec['containers'])}",
        shown,
        str(restarts),
        age(obj["metadata"]["creationTimestamp"]),
        *wide,
    ]


def _service(obj: Object) -> list[Any]:
    spec = obj["spec"]
    ingress = (obj.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    external = ",".join(item.get("ip") or item.get("hostname", "") for item in ingress)
    if not external:
        external = "<pending>" if spec["type"] == "LoadBalancer" else spec.get("externalName", "<none>")
    ports = [
        f"{p['port']}:{p['nodePort']}/{p['protocol']}" if p.get("nodePort") else f"{p['port']}/{p['protocol']}"
        for p in spec.get("ports") or []
    ]
    selector = ",".join(f"{k}={v}" for k, v in (spec.get("selector") or {}).items()) or "<none>"
    created = age(obj["metadata"]["creationTimestamp"])
    return [spec["type"], spec.get("clusterIP", "<none>"), external, ",".join(ports) or "<none>", created, selector]


def _deployment(obj: Object) -> list[Any]:
    status = obj.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{obj['spec']['replicas']}"
    created = age(obj["metadata"]["creationTimestamp"])
    return [ready, status.get("updatedReplicas", 0), status.get("availableReplicas", 0), created]


def _replica_set(obj: Object) -> list[Any]:
    status = obj.get("status", {})
    counts = [obj["spec"]["replicas"], status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [*counts, age(obj["metadata"]["creationTimestamp"])]


def _namespace(obj: Object) -> list[Any]:
    return [obj.get("status", {}).get("phase", ""), age(obj["metadata"]["creationTimestamp"])]


def _node(obj: Object) -> list[Any]:
    conditions = {c["type"]: c["status"] for c in obj.get("status", {}).get("conditions") or []}
    status = "Ready" if conditions.get("Ready") == "True" else "NotReady"
    version = (obj.get("status", {}).get("nodeInfo") or {}).get("kubeletVersion", "")
    return [status, "<none>", age(obj["metadata"]["creationTimestamp"]), version]


def _data(obj: Object) -> list[Any]:
    return [len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj["metadata"]["creationTimestamp"])]


def _secret(obj: Object) -> list[Any]:
    return [obj.get("type", ""), *_data(obj)]


def _event(obj: Object) -> list[Any]:
    about = obj.get("involvedObject") or {}
    seen = age(obj.get("lastTimestamp") or obj["metadata"]["creationTimestamp"])
    subject = f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"
    return [seen, obj.get("type", ""), obj.get("reason", ""), subject, obj.get("message", "")]


def _endpoints(obj: Object) -> list[Any]:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or []
        for address in subset.get("addresses") or []
        for port in subset.get("ports") or []
    ]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return [",".join(found[:3]) + more or "<none>", age(obj["metadata"]["creationTimestamp"])]


_BUILT_IN: dict[str, tuple[str, Any]] = {
    "Pod": ("Ready,Status,Restarts,Age,+IP,+Node", _pod),
    "Service": ("Type,Cluster-IP,External-IP,Port(s),Age,+Selector", _service),
    "Deployment": ("Ready,Up-to-date,Available,Age", _deployment),
    "ReplicaSet": ("Desired,Current,Ready,Age", _replica_set),
    "Namespace": ("Status,Age", _namespace),
    "Node": ("Status,Roles,Age,Version", _node),
    "ConfigMap": ("Data,Age", _data),
    "Secret": ("Type,Data,Age", _secret),
    "Event": ("Last Seen,Type,Reason,Object,Message", _event),
    "Endpoints": ("Endpoints,Age", _endpoints),
}


def _definitions(kind: Kind, version: Version) -> list[Object]:
    name = {"name": "Name", "type": "string", "format": "name", "description": "Name of the object", "priority": 0}
    if kind.kind in _BUILT_IN and not kind.custom:
        names = _BUILT_IN[kind.kind][0].split(",")
        columns = [Column(n.removeprefix("+"), "", priority=int(n.startswith("+"))) for n in names]
    else:
        columns = list(version.columns)
    return [
        name,
        *(
            {"name": c.name, "type": c.type, "format": "", "description": c.description, "priority": c.priority}
            for c in columns
        ),
    ]


def _cells(obj: Object, kind: Kind, version: Version) -> list[Any]:
    """What follows the name; nothing readable in an object whose parts are not what its kind says."""
    try:
        if kind.kind in _BUILT_IN and not kind.custom:
            return list(_BUILT_IN[kind.kind][1](obj))
        return [_cell(obj, column) for column in version.columns]
    except (AttributeError, TypeError, KeyError, ValueError, IndexError):
        return ["<unreadable>"] * (len(_definitions(kind, version)) - 1)


def partial(obj: Object) -> Object:
    """The metadata of an object alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": obj["metadata"]}


def table(
    objects: list[Object], kind: Kind, version: Version, include: str, meta: Object, header: bool = True
) -> Object:
    """A Table of objects; `include` is what each row carries: None, Metadata or Object."""
    rows = []
    for obj in objects:
        row: Object = {"cells": [obj["metadata"]["name"], *_cells(obj, kind, version)]}
        if include != "None":
            row["object"] = obj if include == "Object" else partial(obj)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": META,
        "metadata": meta,
        "columnDefinitions": _definitions(kind, version) if header else None,
        "rows": rows,
    }
