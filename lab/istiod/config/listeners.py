"""A sidecar's listeners: one for all ports its workload serves, and one for each port it may call.

The product redirects a pod's traffic to two listeners; without a network namespace there is no redirect, so the
lab's listeners bind what would be redirected: `virtualInbound` the pod's address with every port the workload serves,
the outbound ones the pod's way out (docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.addresses import inside, outbound
from lab.istiod.config import authorization
from lab.istiod.config.blocks import (
    CORS,
    FAULT,
    ROUTER,
    TLS_INSPECTOR,
    Block,
    address,
    downstream_mutual_tls,
    http_connection_manager,
    listener_access_log,
    rds,
    san_matchers,
    tcp_proxy,
)
from lab.istiod.config.clusters import cluster_name, inbound_by_destination, inbound_name
from lab.istiod.config.metrics import requests_total
from lab.istiod.config.routes import HTTP_PROTOCOLS, virtual_address, weighted
from lab.istiod.model import Port, Service
from lab.istiod.store import MESH, Binding, Config, Mesh, Proxy, resolve

PRIVILEGED = 1024
"""Ports below need rights that neither the product's gateway pods nor the lab's processes have."""
_ISTIO_ALPN = ["istio-peer-exchange", "istio"]
_ISTIO_HTTP_ALPN = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"]


def sidecar_listeners(mesh: Mesh, proxy: Proxy) -> list[Block]:
    """All listeners of a sidecar, the outbound ones first, by port."""
    found = _outbound(mesh, proxy)
    bindings = {binding.target: binding for binding in mesh.bindings(proxy)}
    if bindings:
        found.append(_virtual_inbound(mesh, proxy, [bindings[port] for port in sorted(bindings)]))
    return found


def _virtual_inbound(mesh: Mesh, proxy: Proxy, bindings: list[Binding]) -> Block:
    chains = [chain for binding in bindings for chain in _inbound_chains(mesh, proxy, binding)]
    first, *others = [address(proxy.ip, binding.target) for binding in bindings]
    listener: Block = {
        "name": "virtualInbound",
        "address": first,
        "filter_chains": chains,
        "listener_filters": [TLS_INSPECTOR],
        "listener_filters_timeout": "0s",
        "continue_on_listener_filters_timeout": True,
        "traffic_direction": "INBOUND",
        "access_log": listener_access_log(mesh),
    }
    if others:
        listener["additional_addresses"] = [{"address": other} for other in others]
    return listener


def _inbound_chains(mesh: Mesh, proxy: Proxy, binding: Binding) -> list[Block]:
    http = binding.port.protocol in HTTP_PROTOCOLS
    alpn = ["h2", "http/1.1"] if http else ["istio-peer-exchange", "h2", "http/1.1"]
    own_domain = san_matchers(prefix=f"spiffe://{mesh.trust_domain}/")
    mode = mesh.mtls_mode(proxy.namespace, proxy.labels, binding.target)
    chains: list[tuple[Block, Block | None]] = []
    if mode != "DISABLE":
        match: Block = {"destination_port": binding.target, "transport_protocol": "tls"}
        if mode == "PERMISSIVE":
            match["application_protocols"] = _ISTIO_HTTP_ALPN if http else _ISTIO_ALPN
        chains.append((match, downstream_mutual_tls(alpn, own_domain)))
    if mode != "STRICT":
        match = {"destination_port": binding.target}
        if mode == "PERMISSIVE":
            match["transport_protocol"] = "raw_buffer"
        chains.append((match, None))
    return [
        {
            "name": f"0.0.0.0_{binding.target}",
            "filter_chain_match": match,
            "filters": [
                *_original_destination(mesh, proxy, binding.target),
                *(
                    _inbound_http(mesh, proxy, binding, socket is not None)
                    if http
                    else _inbound_tcp(mesh, proxy, binding)
                ),
            ],
            **({"transport_socket": socket} if socket else {}),
        }
        for match, socket in chains
    ]


def _original_destination(mesh: Mesh, proxy: Proxy, port: int) -> list[Block]:
    """Says for a connection where it was to go, which iptables would know: clusters that ask have no other host."""
    if not inbound_by_destination(mesh):
        return []
    destination = {
        "object_key": "envoy.network.transport_socket.original_dst_address",
        "format_string": {"text_format_source": {"inline_string": f"{inside(proxy.ip)}:{port}"}},
    }
    config = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
        "on_new_connection": [destination],
    }
    return [{"name": "envoy.filters.network.set_filter_state", "typed_config": config}]


def _inbound_http(mesh: Mesh, proxy: Proxy, binding: Binding, mutual_tls: bool) -> list[Block]:
    cluster = inbound_name(binding.target)
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": cluster, "timeout": "0s", "max_stream_duration": {"max_stream_duration": "0s"}},
        "decorator": {"operation": f"{binding.service.hostname}:{binding.port.number}/*"},
        "name": "default",
    }
    host = {"name": f"inbound|http|{binding.port.number}", "domains": ["*"], "routes": [route]}
    return [
        http_connection_manager(
            mesh,
            f"inbound_0.0.0.0_{binding.target}",
            requests_total(mesh, proxy, binding, mutual_tls),
            route_config={"name": cluster, "virtual_hosts": [host], "validate_clusters": False},
            http_filters=[*authorization.http_filters(mesh, proxy), CORS, FAULT, ROUTER],
            server_name="istio-envoy",
            use_remote_address=False,
            forward_client_cert_details="APPEND_FORWARD",
            set_current_client_cert_details={"subject": True, "dns": True, "uri": True},
        )
    ]


def _inbound_tcp(mesh: Mesh, proxy: Proxy, binding: Binding) -> list[Block]:
    cluster = inbound_name(binding.target)
    return [*authorization.network_filters(mesh, proxy), tcp_proxy(mesh, cluster, {"cluster": cluster})]


def _outbound(mesh: Mesh, proxy: Proxy) -> list[Block]:
    visible = mesh.visible(proxy.namespace)
    served = [(service, port) for service in visible for port in service.ports if port.number >= PRIVILEGED]
    by_port: dict[int, Block] = {}
    for number in sorted({port.number for _, port in served if port.protocol in HTTP_PROTOCOLS}):
        by_port[number] = _outbound_http(mesh, proxy, number)
    # one address stands for all ClusterIPs here, so of several TCP services on a port the nearest one is served
    for service, port in sorted(served, key=lambda pair: _distance(proxy, pair[0])):
        if port.number not in by_port:
            by_port[port.number] = _outbound_tcp(mesh, proxy, service, port)
    return [by_port[number] for number in sorted(by_port)]


def _distance(proxy: Proxy, service: Service) -> tuple[bool, bool, str]:
    return (service.namespace != proxy.namespace, service.source != "Kubernetes", service.hostname)


def _listener(mesh: Mesh, name: str, proxy: Proxy, port: int, network_filter: Block) -> Block:
    return {
        "name": name,
        "address": address(outbound(proxy.ip), port),
        "filter_chains": [{"filters": [network_filter]}],
        "traffic_direction": "OUTBOUND",
        "access_log": listener_access_log(mesh),
    }


def _outbound_http(mesh: Mesh, proxy: Proxy, port: int) -> Block:
    manager = http_connection_manager(
        mesh,
        f"outbound_0.0.0.0_{port}",
        rds=rds(str(port)),
        http_filters=[CORS, FAULT, ROUTER],
        use_remote_address=False,
    )
    return _listener(mesh, f"0.0.0.0_{port}", proxy, port, manager)


def _outbound_tcp(mesh: Mesh, proxy: Proxy, service: Service, port: Port) -> Block:
    name = cluster_name(port.number, "", service.hostname)
    target: Block = {"cluster": name}
    if chosen := _tcp_route(mesh, proxy, service.hostname, port.number):
        rule, route = chosen
        target = weighted(mesh, rule.namespace, route.get("route") or (), port.number)
    stat_prefix = target.get("cluster", name)
    bound = virtual_address(mesh, service) or "0.0.0.0"
    return _listener(mesh, f"{bound}_{port.number}", proxy, port.number, tcp_proxy(mesh, stat_prefix, target))


def _tcp_route(mesh: Mesh, proxy: Proxy, hostname: str, port: int) -> tuple[Config, Mapping[str, Any]] | None:
    """The TCP route that a VirtualService of the mesh has for a host and port."""
    for rule in mesh.virtual_services(MESH, proxy.namespace):
        if hostname not in [resolve(host, rule.namespace) for host in rule.spec.get("hosts") or ()]:
            continue
        for route in rule.spec.get("tcp") or ():
            matches = route.get("match")
            if not matches or any(match.get("port") in (None, port) for match in matches):
                return rule, route
    return None
