"""Slices of a proxy's configuration: where it sends, whom it lets in, what it shows and what it expects to be shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.product.envoy import Json, Proxy
from harness.product.names import DISCOVERY_PORT, SERVICE_PORT

_SERVICES = ("ratings", "mongodb", "discovery", "reviews", "productpage")
_PORTS = (DISCOVERY_PORT, SERVICE_PORT)
# Said once elsewhere, or to nobody's use; key and chain of the proxy itself come by SDS and are not in these parts.
_LEFT_OUT = {
    "access_log",
    "tracing",
    "sds_config",
    "config_source",
    "tls_certificates",
    "private_key",
    "http_protocol_options",
    "metadata",
}


def slices(proxy: Proxy) -> dict[str, Any]:
    """What is worth reading of one proxy, as plain data; raises ClusterError and ValueError."""
    routes = [entry.get("route_config", {}) for entry in _configs(proxy, "dynamic_route_configs")]
    return {
        "endpoints": {name: [str(end) for end in ends] for name, ends in sorted(proxy.endpoints().items())},
        "routes": {route.get("name", ""): _relevant(route) for route in routes},
        "listeners": proxy.request("GET", "listeners").splitlines(),
        "federation_listeners": federation_listeners(_configs(proxy, "dynamic_listeners")),
        "tls_to": tls_to(_configs(proxy, "dynamic_active_clusters")),
        "certificates": json.loads(proxy.request("GET", "certs")).get("certificates", []),
    }


def _configs(proxy: Proxy, resource: str) -> list[Json]:
    return proxy.config_dump(resource).get("configs", [])


def federation_listeners(configs: list[Json]) -> list[Json]:
    """The listeners of the federation ports, from a dump of `dynamic_listeners`: for which names (SNI), with which
    client certificates, for which principals, and where to.
    """
    found = [entry.get("active_state", {}).get("listener", {}) for entry in configs]
    return [
        {key: _pruned(listener[key]) for key in ("name", "address", "filter_chains") if key in listener}
        for listener in found
        if listener.get("address", {}).get("socket_address", {}).get("port_value") in _PORTS
    ]


def tls_to(configs: list[Json]) -> dict[str, Any]:
    """Cluster -> its TLS context, from a dump of `dynamic_active_clusters`: names expected of the other side, SNI and
    which root. Clusters of other services, and those without TLS, are left out.
    """
    found = {}
    for entry in configs:
        cluster = entry.get("cluster", {})
        keys = cluster.keys() & {"transport_socket", "transport_socket_matches"}
        if keys and any(word in cluster.get("name", "") for word in _SERVICES):
            found[cluster["name"]] = {key: _pruned(cluster[key]) for key in sorted(keys)}
    return found


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _pruned(entry) for key, entry in value.items() if key not in _LEFT_OUT}
    return [_pruned(entry) for entry in value] if isinstance(value, list) else value


def _relevant(route: Mapping[str, Any]) -> list[Any]:
    """The virtual hosts of a route configuration that the scenario is about, by their domains or where they lead to."""
    return [
        host
        for host in route.get("virtual_hosts", [])
        if any(word in name for name in (*host.get("domains", []), *_targets(host)) for word in _SERVICES)
    ]


def _targets(host: Mapping[str, Any]) -> list[str]:
    # A gateway's hosts are called `*`.
    return [entry.get("route", {}).get("cluster", "") for entry in host.get("routes", [])]
