"""Kubernetes Services, Endpoints and Pods as services of the mesh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lab.client import Key, Object
from lab.istiod.model import Endpoint, Port, Service

CLUSTER_DOMAIN = "cluster.local"
_PROTOCOLS = {
    "http": "HTTP",
    "http2": "HTTP2",
    "grpc": "GRPC",
    "https": "HTTPS",
    "tls": "TLS",
    "tcp": "TCP",
    "mongo": "Mongo",
    "mysql": "MySQL",
    "redis": "Redis",
}


def protocol_of(port: Mapping[str, Any]) -> str:
    """The protocol of a Service port: `appProtocol`, else the port name up to the first dash, else TCP.

    OSSM turns protocol sniffing off, so a port without a telling name is TCP (reference: failure 29).
    """
    word = str(port.get("appProtocol") or port.get("name") or "").lower().partition("-")[0]
    return _PROTOCOLS.get(word, "TCP")


def hostname_of(name: str, namespace: str) -> str:
    return f"{name}.{namespace}.svc.{CLUSTER_DOMAIN}"


def spiffe_id(trust_domain: str, namespace: str, account: str) -> str:
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account or 'default'}"


def kubernetes_services(
    services: Iterable[Object],
    endpoints: Mapping[Key, Object],
    pods: Mapping[Key, Object],
    trust_domain: str,
) -> list[Service]:
    """One `Service` per Kubernetes Service, sorted by host name; not ready addresses are left out."""
    found = []
    for service in services:
        meta, spec = service["metadata"], service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            continue
        namespace = meta.get("namespace", "")
        ports = tuple(
            Port(port.get("name") or f"port-{port['port']}", port["port"], protocol_of(port))
            for port in spec.get("ports") or ()
        )
        behind = _endpoints(endpoints.get((namespace, meta["name"])) or {}, pods, trust_domain, ports)
        cluster_ip = spec.get("clusterIP") or ""
        found.append(
            Service(
                hostname=hostname_of(meta["name"], namespace),
                name=meta["name"],
                namespace=namespace,
                ports=ports,
                cluster_ip="" if cluster_ip == "None" else cluster_ip,
                endpoints=behind,
                identities=tuple(sorted({endpoint.identity for endpoint in behind if endpoint.identity})),
            )
        )
    return sorted(found, key=lambda service: service.hostname)


def _endpoints(
    endpoints: Object, pods: Mapping[Key, Object], trust_domain: str, ports: tuple[Port, ...]
) -> tuple[Endpoint, ...]:
    only_port = ports[0].name if len(ports) == 1 else ""
    found: list[Endpoint] = []
    for subset in endpoints.get("subsets") or ():
        for address in subset.get("addresses") or ():
            target = address.get("targetRef") or {}
            pod = pods.get((target.get("namespace", ""), target.get("name", "")))
            labels = dict(pod["metadata"].get("labels") or {}) if pod else {}
            account = pod["spec"].get("serviceAccountName", "") if pod else ""
            found.extend(
                Endpoint(
                    address=address["ip"],
                    port=port["port"],
                    port_name=port.get("name") or only_port,
                    tls=labels.get("security.istio.io/tlsMode") == "istio",
                    identity=spiffe_id(trust_domain, target["namespace"], account) if pod else "",
                    labels=tuple(sorted(labels.items())),
                )
                for port in subset.get("ports") or ()
            )
    return tuple(sorted(found, key=lambda endpoint: (endpoint.port_name, endpoint.address)))
