"""The objects of the scenario: plain YAML from `manifests/`, values set in Python, every object labelled."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from harness.cluster.kinds import JAEGER, KIALI, ROUTE, Kind
from harness.product.mesh import IngressAddress, MeshNames
from harness.product.names import CLUSTER_DOMAIN, DISCOVERY_PORT, ROOT_KEY, SERVICE_PORT

Object = dict[str, Any]
DIRECTORY = Path(__file__).resolve().parents[2] / "manifests"
OWNER = "ossm-federation-conformance"
RUN_LABEL = "federation-conformance/run-id"
OWNER_LABEL = "federation-conformance/owner"
KEPT_LABEL = "federation-conformance/kept"  # on what --federation-keep left on purpose
ADDON_KINDS = (KIALI, JAEGER, ROUTE)
# What others refer to comes first.
_ORDER = ("Namespace", "ServiceMeshControlPlane", "ConfigMap", "ServiceAccount", "Service", "Deployment")


def load(folder: str) -> list[Object]:
    """The objects of one folder below `manifests/`, what others refer to first."""
    objects = [yaml.safe_load(path.read_text()) for path in sorted((DIRECTORY / folder).glob("*.yaml"))]
    return sorted(objects, key=lambda obj: _ORDER.index(obj["kind"]) if obj["kind"] in _ORDER else len(_ORDER))


def labelled(obj: Object, run_id: str) -> Object:
    """A copy with the labels that say whose it is."""
    obj = copy.deepcopy(obj)
    obj["metadata"].setdefault("labels", {}).update({OWNER_LABEL: OWNER, RUN_LABEL: run_id})
    return obj


def control_plane(mesh: MeshNames, version: str | None, served: set[Kind], istiods: int = 1) -> list[Object]:
    """Namespaces, control plane and member roll.

    version: `spec.version`, None for the operator's newest; served: which of ADDON_KINDS the cluster serves;
    istiods: how many pods istiod gets.
    """
    objects = load(f"{mesh.name}/control-plane")
    spec = next(obj["spec"] for obj in objects if obj["kind"] == "ServiceMeshControlPlane")
    if version:
        spec["version"] = version
    if istiods > 1:
        components = spec.setdefault("runtime", {}).setdefault("components", {})
        components["pilot"] = {"deployment": {"replicas": istiods}}
    _enable_addons(spec, served)
    return objects


def _enable_addons(spec: Object, served: set[Kind]) -> None:
    # Prometheus and Grafana have no CRDs of their own, but their pods need OpenShift's Routes and OAuth.
    if ROUTE not in served:
        return
    if KIALI in served:
        for addon in ("prometheus", "grafana", "kiali"):
            spec["addons"][addon] = {"enabled": True}
    if JAEGER in served:
        spec["tracing"] = {"type": "Jaeger", "sampling": 10000}
        spec["addons"]["jaeger"] = {"name": "jaeger", "install": {"storage": {"type": "Memory"}}}


def federation(mesh: MeshNames, peer_ingress: IngressAddress, peer_root: str) -> list[Object]:
    """The peer's root, the peer and the sets; `peer_root` is PEM."""
    root = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": mesh.root_config_map, "namespace": mesh.system_namespace},
        "data": {ROOT_KEY: peer_root},
    }
    objects = [root, *load(f"{mesh.name}/federation")]
    for obj in objects:
        if obj["kind"] == "ServiceMeshPeer":
            obj["spec"]["remote"] = {
                "addresses": list(peer_ingress.hosts),
                "discoveryPort": peer_ingress.discovery_port,
                "servicePort": peer_ingress.service_port,
            }
    return objects


def bookinfo(mesh: MeshNames) -> list[Object]:
    """The application: what both meshes have, and what only this one has."""
    common = load("bookinfo")
    for obj in common:
        obj["metadata"]["namespace"] = mesh.app_namespace
    objects = [*common, *load(f"{mesh.name}/bookinfo")]
    return sorted(objects, key=lambda obj: _ORDER.index(obj["kind"]) if obj["kind"] in _ORDER else len(_ORDER))


def cluster_local(mesh: MeshNames) -> IngressAddress:
    """Where the other mesh finds this one's ingress when both are in one cluster."""
    host = f"{mesh.ingress_gateway}.{mesh.system_namespace}.svc.{CLUSTER_DOMAIN}"
    return IngressAddress((host,), DISCOVERY_PORT, SERVICE_PORT, "Service in the same cluster")


def scenario(mesh: MeshNames) -> list[Object]:
    """Every object of one mesh's scenario by name, with placeholder address and root."""
    nowhere = cluster_local(mesh)
    return [
        *control_plane(mesh, None, set()),
        *federation(mesh, nowhere, ""),
        *bookinfo(mesh),
    ]
