"""Environment variables of containers."""

from __future__ import annotations

import re
from typing import Any

from lab.client import Object

_LOOKUP = re.compile(r"metadata\.(\w+)\['([^']+)'\]")
_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def field_value(pod: Object, path: str, pod_ip: str, node_ip: str) -> str:
    """Value of a `fieldRef`, e.g. `metadata.labels['app']`; ValueError for one that pods do not have."""
    if path in ("status.podIP", "status.podIPs"):
        return pod_ip
    if path in ("status.hostIP", "status.hostIPs"):
        return node_ip
    if path == "spec.serviceAccountName":
        return str(pod["spec"].get("serviceAccountName", "default"))
    if found := _LOOKUP.fullmatch(path):
        return str(pod["metadata"].get(found[1], {}).get(found[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"fieldRef {path} is not a field of a pod")
    return value


def container_environment(pod: Object, container: Object, pod_ip: str, node_ip: str) -> dict[str, str]:
    """The variables of a container, references `$(NAME)` to earlier ones resolved.

    Raises ValueError for sources the lab has none of (ConfigMaps, Secrets, resource fields), unless optional.
    """
    values: dict[str, str] = {}
    for entry in container.get("env") or []:
        source = entry.get("valueFrom") or {}
        if "fieldRef" in source:
            values[entry["name"]] = field_value(pod, source["fieldRef"]["fieldPath"], pod_ip, node_ip)
        elif "resourceFieldRef" in source:
            values[entry["name"]] = "1"
        elif source:
            if not next(iter(source.values())).get("optional"):
                raise ValueError(f"environment variable {entry['name']} comes from {', '.join(source)}")
        else:
            text = entry.get("value", "")
            values[entry["name"]] = _REFERENCE.sub(lambda found: values.get(found[1], found[0]), text)
    return values
