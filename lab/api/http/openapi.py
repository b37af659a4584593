"""OpenAPI v3 as kubectl reads it: which kinds take `fieldValidation`, and schemas for `kubectl explain`."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from lab.api.objects.registry import Kind, Registry, Version

Object = dict[str, Any]
_STRING = {"type": "string"}
_META = "ObjectMeta"
_OPERATIONS = {"get": "get", "put": "update", "patch": "patch", "delete": "delete"}


class Documents:
    """One document for each served group version, made when asked for."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def index(self) -> Object:
        paths = {}
        for group, versions in self._registry.groups().items():
            for version in versions:
                name = f"apis/{group}/{version}" if group else f"api/{version}"
                content = orjson.dumps(self.document(name), option=orjson.OPT_SORT_KEYS)
                digest = hashlib.sha256(content).hexdigest().upper()
                paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
        return {"paths": paths}

    def document(self, name: str) -> Object | None:
        """The document of `api/v1` or `apis/<group>/<version>`; None where that is not served."""
        parts = name.split("/")
        group, version = ("", parts[1]) if parts[0] == "api" and len(parts) == 2 else ("", "")
        if parts[0] == "apis" and len(parts) == 3:
            group, version = parts[1], parts[2]
        if version not in self._registry.groups().get(group, []):
            return None
        paths: Object = {}
        schemas: Object = {
            _META: {
                "type": "object",
                "description": "Name, labels and what else every object has.",
                "properties": {
                    "name": _STRING,
                    "namespace": _STRING,
                    "labels": {"type": "object", "additionalProperties": _STRING},
                    "annotations": {"type": "object", "additionalProperties": _STRING},
                },
            }
        }
        for kind in self._registry.kinds_of(group, version):
            schemas[f"{version}.{kind.kind}"] = _schema(kind, kind.versions[version])
            paths |= _paths(kind, version, f"/{name}")
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "lab"},
            "paths": paths,
            "components": {"schemas": schemas},
        }


def _gvk(kind: Kind, version: str) -> Object:
    return {"group": kind.group, "version": version, "kind": kind.kind}


def _schema(kind: Kind, version: Version) -> Object:
    if version.schema:
        schema: Object = {**version.schema}
        properties: Object = dict(version.schema.get("properties") or {})  # type: ignore[call-overload]
    else:
        schema = {"type": "object", "description": f"{kind.kind} of the lab; its fields are those of Kubernetes."}
        properties = {"spec": {"type": "object"}, "status": {"type": "object"}}
    properties = {
        "apiVersion": _STRING,
        "kind": _STRING,
        **properties,
        "metadata": {"$ref": f"#/components/schemas/{_META}"},
    }
    return {**schema, "properties": properties, "x-kubernetes-group-version-kind": [_gvk(kind, version.name)]}


def _paths(kind: Kind, version: str, prefix: str) -> Object:
    base = f"{prefix}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{prefix}/{kind.plural}"
    reference = {"$ref": f"#/components/schemas/{version}.{kind.kind}"}
    answer = {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}}

    def operation(action: str, *parameters: str) -> Object:
        found: Object = {
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _gvk(kind, version),
            "parameters": [{"name": name, "in": "query", "schema": _STRING} for name in parameters],
            "responses": answer,
        }
        return found

    writes = ("dryRun", "fieldManager", "fieldValidation")
    item = {
        method: operation(action, *(writes if method in ("put", "patch") else ()))
        for method, action in _OPERATIONS.items()
    }
    types = ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]
    item["patch"]["requestBody"] = {"content": {name: {"schema": {"type": "object"}} for name in types}}
    collection = {"get": operation("list"), "post": operation("post", *writes)}
    return {base: collection, f"{base}/{{name}}": item}
