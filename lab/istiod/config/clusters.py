"""Clusters: one for each service port and subset a proxy may call, and the workload's own inbound ones."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from lab.addresses import inside
from lab.istiod.config.blocks import RAW_BUFFER, Block, address, upstream_mutual_tls, upstream_simple_tls
from lab.istiod.model import Endpoint, Port, Service
from lab.istiod.store import Config, Mesh, Proxy, matches_labels

PASSTHROUGH = "PassthroughCluster"
_UNLIMITED = 4294967295
_CIRCUIT_BREAKERS = {
    "thresholds": [
        {
            "max_connections": _UNLIMITED,
            "max_pending_requests": _UNLIMITED,
            "max_requests": _UNLIMITED,
            "max_retries": _UNLIMITED,
        }
    ]
}
_LB_POLICIES = {
    "ROUND_ROBIN": "ROUND_ROBIN",
    "LEAST_CONN": "LEAST_REQUEST",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "RANDOM": "RANDOM",
    "PASSTHROUGH": "ROUND_ROBIN",
}


def cluster_name(port: int, subset: str, host: str) -> str:
    return f"outbound|{port}|{subset}|{host}"


def sni_name(port: int, subset: str, host: str) -> str:
    """What mutual TLS says as server name, and what a router in sni-dnat mode calls its clusters."""
    return f"outbound_.{port}_.{subset}_.{host}"


def inbound_name(port: int) -> str:
    return f"inbound|{port}||"


def inbound_by_destination(mesh: Mesh) -> bool:
    """Whether inbound clusters have no host of their own but go where connections were to go: since 2.2."""
    return mesh.version >= (2, 2)


def clusters(mesh: Mesh, proxy: Proxy) -> list[Block]:
    """All clusters of one proxy, sorted by name."""
    dnat = proxy.sni_dnat and proxy.kind == "router"
    view = proxy.network_view if mesh.version < (2, 3) else frozenset()
    key = ("outbound", proxy.namespace, dnat, view)
    found = list(mesh.memo(key, lambda: _outbound(mesh, proxy.namespace, dnat, view)))
    if proxy.kind == "sidecar" and found:
        found += _inbound(mesh, proxy)
        found.append({"name": PASSTHROUGH, "type": "STATIC", "connect_timeout": "10s"})
    return sorted(found, key=lambda cluster: str(cluster["name"]))


def _inbound(mesh: Mesh, proxy: Proxy) -> list[Block]:
    by_port: dict[int, list[Service]] = {}
    for binding in mesh.bindings(proxy):
        by_port.setdefault(binding.target, []).append(binding.service)
    return [
        {
            "name": inbound_name(port),
            "connect_timeout": "10s",
            "circuit_breakers": _CIRCUIT_BREAKERS,
            "metadata": _metadata({"services": [_reference(service) for service in services]}),
            **_inbound_hosts(mesh, proxy, port),
        }
        for port, services in by_port.items()
    ]


def _inbound_hosts(mesh: Mesh, proxy: Proxy, port: int) -> Block:
    if inbound_by_destination(mesh):
        return {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    endpoint = {"endpoint": {"address": address(inside(proxy.ip), port)}}
    assignment = {"cluster_name": inbound_name(port), "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {"type": "STATIC", "load_assignment": assignment}


def _outbound(mesh: Mesh, namespace: str, dnat: bool, view: frozenset[str]) -> list[Block]:
    found = []
    for service in mesh.visible(namespace):
        rule = mesh.destination_rule(service.hostname, namespace)
        subsets = {"": {}, **{subset["name"]: subset for subset in (rule.spec.get("subsets") or () if rule else ())}}
        for port in service.ports:
            for name, subset in subsets.items():
                base = _base(mesh, service, port, name, subset, rule, view)
                found.append({**base, **_client_tls(mesh, service, port, name, subset, rule)})
                if dnat and service.resolution != "DNS":
                    sni = sni_name(port.number, name, service.hostname)
                    assignment = {**base["load_assignment"], "cluster_name": sni}
                    found.append({**base, "name": sni, "load_assignment": assignment})
    return found


def _base(
    mesh: Mesh,
    service: Service,
    port: Port,
    subset_name: str,
    subset: Mapping[str, Any],
    rule: Config | None,
    view: frozenset[str],
) -> Block:
    name = cluster_name(port.number, subset_name, service.hostname)
    about: Block = {"default_original_port": port.number, "services": [_reference(service)]}
    if rule:
        about["config"] = rule.path
    if subset_name:
        about["subset"] = subset_name
    hidden = bool(view) and service.private and service.resolution != "DNS" and f"network-{service.source}" not in view
    endpoints = [
        _endpoint(endpoint, mesh.cluster_ips.get(endpoint.address, endpoint.address))
        for endpoint in service.endpoints
        if endpoint.port_name == port.name
        and matches_labels(subset.get("labels"), dict(endpoint.labels))
        and not hidden
    ]
    policies = _policies(subset, rule, port)
    cluster: Block = {
        "name": name,
        "type": "STRICT_DNS" if service.resolution == "DNS" else "STATIC",
        "connect_timeout": _first(policies, "connectionPool", "tcp", "connectTimeout") or "10s",
        "lb_policy": _LB_POLICIES[_first(policies, "loadBalancer", "simple") or _default_balancer(mesh)],
        "circuit_breakers": _CIRCUIT_BREAKERS,
        "metadata": _metadata(about),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}] if endpoints else []},
    }
    if service.resolution == "DNS":
        cluster["dns_lookup_family"] = "V4_ONLY"
        if not all(map(_is_address, (endpoint.address for endpoint in service.endpoints))):
            # While a name takes its time not to resolve, the cluster before it would go on being used.
            cluster["wait_for_warm_on_init"] = False
    if port.protocol in ("GRPC", "HTTP2"):
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    if outlier := _first(policies, "outlierDetection"):
        cluster["outlier_detection"] = _outlier_detection(outlier)
    return cluster


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _default_balancer(mesh: Mesh) -> str:
    """Istio balances by least requests since 1.14, which is OSSM 2.3."""
    return "LEAST_REQUEST" if mesh.version >= (2, 3) else "ROUND_ROBIN"


def _policies(subset: Mapping[str, Any], rule: Config | None, port: Port) -> list[Mapping[str, Any]]:
    """The traffic policies that hold for a port, the narrowest first."""
    found: list[Mapping[str, Any]] = []
    for policy in (subset.get("trafficPolicy"), rule.spec.get("trafficPolicy") if rule else None):
        if not policy:
            continue
        by_port = policy.get("portLevelSettings") or ()
        found += [entry for entry in by_port if (entry.get("port") or {}).get("number") == port.number]
        found.append(policy)
    return found


def _first(policies: list[Mapping[str, Any]], *path: str) -> Any:
    for policy in policies:
        value: Any = policy
        for step in path:
            value = (value or {}).get(step)
        if value:
            return value
    return None


def _client_tls(
    mesh: Mesh, service: Service, port: Port, subset_name: str, subset: Mapping[str, Any], rule: Config | None
) -> Block:
    """How clients secure connections: as the DestinationRule says, else mutual TLS to those that speak it."""
    settings = _first(_policies(subset, rule, port), "tls") or {}
    mode = settings.get("mode")
    sni = settings.get("sni") or ""
    if mode == "ISTIO_MUTUAL":
        accepted = tuple(settings.get("subjectAltNames") or service.identities)
        own = sni or sni_name(port.number, subset_name, service.hostname)
        return {"transport_socket": upstream_mutual_tls(own, accepted)}
    if mode == "SIMPLE":
        return {"transport_socket": upstream_simple_tls(sni)}
    if mode == "DISABLE" or service.source == "External":
        return {}
    if mesh.mtls_mode(service.namespace) == "DISABLE":
        return {}
    own = sni_name(port.number, subset_name, service.hostname)
    return {
        "transport_socket_matches": [
            {
                "name": "tlsMode-istio",
                "match": {"tlsMode": "istio"},
                "transport_socket": upstream_mutual_tls(own, service.identities),
            },
            {"name": "tlsMode-disabled", "match": {}, "transport_socket": RAW_BUFFER},
        ]
    }


def _endpoint(endpoint: Endpoint, host: str) -> Block:
    block: Block = {"endpoint": {"address": address(host, endpoint.port)}, "load_balancing_weight": 1}
    if endpoint.tls:
        block["metadata"] = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}}
    return block


def _outlier_detection(spec: Mapping[str, Any]) -> Block:
    names = {
        "consecutive5xxErrors": "consecutive_5xx",
        "consecutiveErrors": "consecutive_gateway_failure",
        "consecutiveGatewayErrors": "consecutive_gateway_failure",
        "interval": "interval",
        "baseEjectionTime": "base_ejection_time",
        "maxEjectionPercent": "max_ejection_percent",
    }
    return {names[name]: value for name, value in spec.items() if name in names}


def _reference(service: Service) -> Block:
    return {"host": service.hostname, "name": service.name, "namespace": service.namespace}


def _metadata(about: Block) -> Block:
    return {"filter_metadata": {"istio": about}}
