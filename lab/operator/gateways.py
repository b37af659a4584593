"""The gateways of a control plane: istio-ingress (all ingress gateways) and istio-egress (all egress gateways)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.client import Object
from lab.operator import versions
from lab.operator.istiod import service_port
from lab.operator.plane import (
    PROXY_IMAGE,
    ROOT_MOUNT,
    ROOT_VOLUME,
    ControlPlane,
    Rendered,
    deployment_spec,
    dig,
    environment,
)
from lab.resources import DEPLOYMENT, NETWORK_POLICY, ROUTE, SERVICE, SERVICE_ACCOUNT

INGRESS, EGRESS = "istio-ingressgateway", "istio-egressgateway"
_PASSED_ON = (
    "externalIPs",
    "externalTrafficPolicy",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "publishNotReadyAddresses",
    "sessionAffinity",
)


@dataclass(frozen=True)
class GatewaySpec:
    """One gateway of the SMCP: its name, its entry there, and whether traffic enters or leaves by it."""

    name: str
    entry: dict[str, Any]
    ingress: bool

    @property
    def component(self) -> str:
        return "istio-ingress" if self.ingress else "istio-egress"


def gateways(plane: ControlPlane) -> Iterator[GatewaySpec]:
    """Every gateway that is rendered; additional ones only where `enabled` is true."""
    if plane.get("gateways", "enabled", default=True) is False:
        return
    for name, key in ((INGRESS, "ingress"), (EGRESS, "egress")):
        entry = plane.get("gateways", key, default={})
        if entry.get("enabled") is not False:
            yield GatewaySpec(name, entry, key == "ingress")
    for key in ("additionalIngress", "additionalEgress"):
        for name, entry in sorted(plane.get("gateways", key, default={}).items()):
            if entry.get("enabled"):
                yield GatewaySpec(name, entry, key == "additionalIngress")


def ingress(plane: ControlPlane) -> list[Rendered]:
    return [each for gateway in gateways(plane) if gateway.ingress for each in _objects(plane, gateway)]


def egress(plane: ControlPlane) -> list[Rendered]:
    return [each for gateway in gateways(plane) if not gateway.ingress for each in _objects(plane, gateway)]


def _objects(plane: ControlPlane, gateway: GatewaySpec) -> list[Rendered]:
    namespace = gateway.entry.get("namespace") or plane.namespace
    own = dig(gateway.entry, "service", "metadata", default={})
    selector = {
        "app": gateway.name,
        "istio": "ingressgateway" if gateway.ingress else "egressgateway",
        **own.get("labels", {}),
    }
    labels = plane.labels(gateway.component, **selector)
    revised = {**labels, "istio.io/rev": plane.name}
    account = f"{gateway.name}-service-account"
    pod = {
        **selector,
        "istio.io/rev": plane.name,
        "maistra-control-plane": plane.namespace,
        "maistra.io/gateway": f"{gateway.name}.{namespace}",
        "service.istio.io/canonical-name": gateway.name,
        "service.istio.io/canonical-revision": plane.name,
        "sidecar.istio.io/inject": "false",
    }
    scraped = {"prometheus.io/path": "/stats/prometheus", "prometheus.io/port": "15020", "prometheus.io/scrape": "true"}
    deployment = deployment_spec(
        plane,
        selector,
        pod,
        scraped,
        account,
        _container(plane, gateway, namespace),
        gateway.entry.get("runtime") or {},
    )
    deployment["template"]["spec"]["volumes"] = [ROOT_VOLUME]
    service = {
        **{key: gateway.entry["service"][key] for key in _PASSED_ON if dig(gateway.entry, "service", key)},
        "type": dig(gateway.entry, "service", "type", default="ClusterIP"),
        "selector": selector,
        "ports": _service_ports(plane, gateway),
    }

    def made(content: dict[str, str], **rest: Any) -> Object:
        return plane.object(gateway.name, content, namespace, **rest)

    objects: list[Rendered] = [
        (SERVICE_ACCOUNT, plane.object(account, labels, namespace)),
        (SERVICE, made(revised, annotations=own.get("annotations"), spec=service)),
        (DEPLOYMENT, made({**revised, "maistra.io/gateway": f"{gateway.name}.{namespace}"}, spec=deployment)),
    ]
    if gateway.ingress:
        everyone = {"podSelector": {"matchLabels": selector}, "ingress": [{}], "policyTypes": ["Ingress"]}
        if plane.get("security", "manageNetworkPolicy", default=True):
            objects.append((NETWORK_POLICY, made(labels, spec=everyone)))
        if dig(gateway.entry, "routeConfig", "enabled", default=True):
            to_service = {"port": {"targetPort": 8080}, "to": {"kind": "Service", "name": gateway.name}}
            objects.append((ROUTE, made(labels, spec=to_service)))
    return objects


def _service_ports(plane: ControlPlane, gateway: GatewaySpec) -> list[dict[str, Any]]:
    asked = dig(gateway.entry, "service", "ports", default=[])
    if not asked:
        standard = [("status-port", 15021, 15021)] if gateway.ingress else []
        standard += [("http2", 80, 8080), ("https", 443, 8443)]
        if not versions.at_least(plane.version, "v2.2"):
            standard.append(("tls", 15443, 15443))
        return [service_port(*port) for port in standard]
    ports = []
    for entry in asked:
        port = service_port(entry.get("name", ""), entry["port"], entry.get("targetPort") or entry["port"])
        port["protocol"] = entry.get("protocol") or "TCP"
        if not port["name"]:
            del port["name"]
        if entry.get("nodePort"):
            port["nodePort"] = entry["nodePort"]
        ports.append(port)
    return ports


def _container(plane: ControlPlane, gateway: GatewaySpec, namespace: str) -> dict[str, Any]:
    ports = []
    for port in _service_ports(plane, gateway):
        number = port["targetPort"] if isinstance(port["targetPort"], int) else port["port"]
        ports.append({"containerPort": number, "protocol": "TCP", **({"name": port["name"]} if "name" in port else {})})
    ports.append({"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"})
    wanted = {
        **proxy_environment(plane.discovery_address, plane.trust_domain),
        "ISTIO_META_CLUSTER_ID": plane.get("cluster", "name", default="Kubernetes"),
        "ISTIO_META_ROUTER_MODE": gateway.entry.get("routerMode") or "standard",
        "ISTIO_META_WORKLOAD_NAME": gateway.name,
        "ISTIO_META_OWNER": f"kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{gateway.name}",
    }
    if view := gateway.entry.get("requestedNetworkView"):
        wanted["ISTIO_META_REQUESTED_NETWORK_VIEW"] = ",".join(view)
    if network := plane.get("cluster", "network"):
        wanted["ISTIO_META_NETWORK"] = network
    return {
        "name": "istio-proxy",
        "image": f"{PROXY_IMAGE}:{plane.chart}",
        "args": ["proxy", "router", "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--serviceCluster", gateway.name],
        "ports": ports,
        "env": environment({**wanted, **dig(gateway.entry, "runtime", "container", "env", default={})}.items()),
        "volumeMounts": [ROOT_MOUNT],
    }


def proxy_environment(discovery_address: str, trust_domain: str) -> dict[str, str]:
    """What every istio-proxy container is told, gateways and sidecars alike."""
    return {
        "PILOT_CERT_PROVIDER": "istiod",
        "CA_ADDR": discovery_address,
        "TRUST_DOMAIN": trust_domain,
        "NODE_NAME": "@spec.nodeName",
        "POD_NAME": "@metadata.name",
        "POD_NAMESPACE": "@metadata.namespace",
        "INSTANCE_IP": "@status.podIP",
        "HOST_IP": "@status.hostIP",
        "SERVICE_ACCOUNT": "@spec.serviceAccountName",
        "ISTIO_META_MESH_ID": trust_domain,
        "ISTIO_META_DNS_CAPTURE": "true",
        "ISTIO_META_DNS_AUTO_ALLOCATE": "true",
        "ISTIO_META_INTERCEPTION_MODE": "REDIRECT",
    }
