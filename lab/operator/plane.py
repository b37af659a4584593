"""One control plane as the components' templates see it: names, labels, owner, and what the spec asks for."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lab.client import Object
from lab.operator import versions
from lab.operator.versions import Release
from lab.resources import Resource

Rendered = tuple[Resource, Object]

PILOT_IMAGE = "quay.io/maistra/pilot-ubi8"
PROXY_IMAGE = "quay.io/maistra/proxyv2-ubi8"
GENERATION = "maistra.io/mesh-generation"
OWNER = "maistra.io/owner"
OWNER_NAME = "maistra.io/owner-name"
MEMBER_OF = "maistra.io/member-of"
IGNORE = "maistra.io/ignore-namespace"
CREATED_BY = "maistra.io/created-by"
FINALIZER = "maistra.io/istio-operator"
ROOT_VOLUME = {"name": "istiod-ca-cert", "configMap": {"defaultMode": 420, "name": "istio-ca-root-cert"}}
ROOT_MOUNT = {"mountPath": "/var/run/secrets/istio", "name": ROOT_VOLUME["name"]}
"""The mesh's root, without which no proxy of the product starts."""


def dig(value: Any, *path: str, default: Any = None) -> Any:
    """The value at a path of keys; the default where any part of it is absent or null."""
    for key in path:
        if not isinstance(value, dict) or value.get(key) is None:
            return default
        value = value[key]
    return value


def typed(spec: Object) -> Object:
    """The spec as the operator's Go structs write it back: a Service port's targetPort is no pointer, so it is 0
    where nothing was said. Pointers and omitempty keep everything else as it was asked for (captured: healthy,
    healthy-2.2)."""
    spec = copy.deepcopy(spec)
    asked = spec.get("gateways") or {}
    entries = [asked.get(key) for key in ("ingress", "egress")]
    entries += [entry for key in ("additionalIngress", "additionalEgress") for entry in (asked.get(key) or {}).values()]
    for entry in entries:
        for port in dig(entry, "service", "ports", default=[]):
            port.setdefault("targetPort", 0)
    return spec


@dataclass(frozen=True)
class ControlPlane:
    """A ServiceMeshControlPlane object together with the operator release that installs it."""

    smcp: Object
    release: Release

    @property
    def name(self) -> str:
        return self.smcp["metadata"]["name"]

    @property
    def namespace(self) -> str:
        return self.smcp["metadata"]["namespace"]

    @property
    def generation(self) -> int:
        return self.smcp["metadata"]["generation"]

    @property
    def version(self) -> str:
        return self.get("version") or self.release.newest

    @property
    def chart(self) -> str:
        return self.release.chart(self.version)

    @property
    def mesh_version(self) -> str:
        """What labels and conditions call the installed version, such as `2.1.6-1`."""
        return f"{self.release.version}-{self.generation}"

    @property
    def trust_domain(self) -> str:
        return self.get("security", "trust", "domain", default="cluster.local")

    @property
    def istiod(self) -> str:
        return f"istiod-{self.name}"

    @property
    def discovery_address(self) -> str:
        return f"{self.istiod}.{self.namespace}.svc:15012"

    def get(self, *path: str, default: Any = None) -> Any:
        return dig(self.smcp.get("spec") or {}, *path, default=default)

    def labels(self, component: str, **extra: str) -> dict[str, str]:
        """The labels every object of a component carries, and `extra`."""
        return {
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/instance": self.namespace,
            "app.kubernetes.io/managed-by": "maistra-istio-operator",
            "app.kubernetes.io/name": component,
            "app.kubernetes.io/part-of": "istio",
            "app.kubernetes.io/version": self.mesh_version,
            "maistra-version": self.chart,
            OWNER: self.namespace,
            OWNER_NAME: self.name,
            "release": "istio",
            **extra,
        }

    def object(
        self,
        name: str,
        labels: dict[str, str],
        namespace: str | None = None,
        annotations: dict[str, str] | None = None,
        **content: Any,
    ) -> Object:
        """An object owned by this control plane; elsewhere than in its namespace only labels say so."""
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": namespace or self.namespace,
            "labels": labels,
            "annotations": {**(annotations or {}), GENERATION: self.mesh_version},
        }
        if metadata["namespace"] == self.namespace:
            metadata["ownerReferences"] = [
                {
                    "apiVersion": "maistra.io/v2",
                    "kind": "ServiceMeshControlPlane",
                    "name": self.name,
                    "uid": self.smcp["metadata"]["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ]
        return {"metadata": metadata, **content}


def environment(values: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Environment entries, one per name (the last wins); a value `@path` refers to the pod's field."""
    entries = []
    for name, value in dict(values).items():
        if value.startswith("@"):
            entries.append({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": value[1:]}}})
        else:
            entries.append({"name": name, "value": value})
    return entries


def deployment_spec(
    plane: ControlPlane,
    selector: dict[str, str],
    labels: dict[str, str],
    annotations: dict[str, str],
    service_account: str,
    container: dict[str, Any],
    runtime: dict[str, Any],
) -> dict[str, Any]:
    """The spec of a component's Deployment; `runtime` is the component's own part of the SMCP.

    Replicas, resources, pull policy, pod labels and annotations come from `runtime`, else from spec.runtime.defaults.
    """
    defaults = plane.get("runtime", "defaults", default={})
    scaling = dig(runtime, "deployment", "autoScaling", default={})
    replicas = dig(runtime, "deployment", "replicas", default=scaling.get("minReplicas") or 1)
    resources = dig(runtime, "container", "resources", default=dig(defaults, "container", "resources"))
    policy = dig(runtime, "container", "imagePullPolicy", default=dig(defaults, "container", "imagePullPolicy"))
    pod = dig(runtime, "pod", "metadata", default={})
    container = {
        **container,
        "imagePullPolicy": policy or "Always",
        "resources": resources or {"requests": {"cpu": "10m", "memory": "128Mi"}},
    }
    return {
        "replicas": replicas,
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {
            "metadata": {
                "labels": {**labels, **pod.get("labels", {})},
                "annotations": {"sidecar.istio.io/inject": "false", **annotations, **pod.get("annotations", {})},
            },
            "spec": {"serviceAccountName": service_account, "containers": [container]},
        },
    }


def has_wasm_cacher(plane: ControlPlane) -> bool:
    return versions.has_wasm_cacher(plane.version)
