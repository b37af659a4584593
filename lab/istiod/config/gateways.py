"""A gateway's listeners and routes, from the Gateways that select it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lab.istiod.config import authorization
from lab.istiod.config.blocks import (
    CORS,
    FAULT,
    ROUTER,
    TLS_INSPECTOR,
    Block,
    address,
    downstream_mutual_tls,
    downstream_tls_for_anyone,
    http_connection_manager,
    listener_access_log,
    rds,
    tcp_proxy,
)
from lab.istiod.config.listeners import PRIVILEGED
from lab.istiod.config.routes import gateway_routes, weighted
from lab.istiod.knobs import CLIENTS, PLAINTEXT
from lab.istiod.store import Config, Mesh, Proxy, gateways_of, resolve

_TLS_PROTOCOLS = ("HTTPS", "TLS")


class Server(NamedTuple):
    """One server of a Gateway, and the port the gateway's pods listen on for it."""

    gateway: Config
    spec: Mapping[str, Any]
    target: int

    @property
    def number(self) -> int:
        return int(self.spec["port"]["number"])

    @property
    def protocol(self) -> str:
        return str(self.spec["port"].get("protocol", "")).upper()

    @property
    def tls_mode(self) -> str:
        return str((self.spec.get("tls") or {}).get("mode") or "")

    @property
    def name(self) -> str:
        return str(self.spec.get("name") or "")

    @property
    def is_http(self) -> bool:
        """Whether the gateway reads the requests itself; an HTTPS server that passes TLS through does not."""
        return self.protocol in ("HTTP", "HTTP2", "GRPC") or (
            self.protocol == "HTTPS" and self.tls_mode != "PASSTHROUGH"
        )

    @property
    def route_name(self) -> str:
        if self.protocol != "HTTPS":
            return f"http.{self.number}"
        return f"https.{self.number}.{self.spec['port']['name']}.{self.gateway.name}.{self.gateway.namespace}"


def gateway_listeners(mesh: Mesh, proxy: Proxy) -> list[Block]:
    """All listeners of a gateway proxy, by port. A port nothing is configured for is not listened on."""
    by_port: dict[int, list[Server]] = {}
    for server in _servers(mesh, proxy):
        by_port.setdefault(server.target, []).append(server)
    found = []
    for port, servers in sorted(by_port.items()):
        chains = _chains(mesh, proxy, servers)
        if chains:
            found.append(_listener(mesh, proxy, port, chains))
    return found


def gateway_route(mesh: Mesh, proxy: Proxy, name: str) -> Block | None:
    """The route configuration a gateway's listener asks for by name; None if no server has it (any more)."""
    servers = [server for server in _servers(mesh, proxy) if server.is_http and server.route_name == name]
    return gateway_routes(mesh, proxy, name, [(server.gateway, server.spec) for server in servers]) if servers else None


def _servers(mesh: Mesh, proxy: Proxy) -> list[Server]:
    targets = {binding.port.number: binding.target for binding in mesh.bindings(proxy)}
    found = []
    for gateway in mesh.gateways(proxy):
        for spec in gateway.spec.get("servers") or ():
            number = spec["port"]["number"]
            server = Server(gateway, spec, targets.get(number, number))
            # secrets of users are not served, so servers with a certificate of their own are left out
            if server.target >= PRIVILEGED and server.tls_mode not in ("SIMPLE", "MUTUAL"):
                found.append(server)
    return found


def _listener(mesh: Mesh, proxy: Proxy, port: int, chains: list[Block]) -> Block:
    listener: Block = {
        "name": f"0.0.0.0_{port}",
        "address": address(proxy.ip, port),
        "filter_chains": chains,
        "traffic_direction": "OUTBOUND",
        "access_log": listener_access_log(mesh),
    }
    if any("transport_socket" in chain or "filter_chain_match" in chain for chain in chains):
        listener["listener_filters"] = [TLS_INSPECTOR]
    return listener


def _chains(mesh: Mesh, proxy: Proxy, servers: list[Server]) -> list[Block]:
    """The filter chains of one port; no two may match the same server names, so the first Gateway wins."""
    plain = [server for server in servers if server.is_http and server.protocol not in _TLS_PROTOCOLS]
    if plain:
        # all plain HTTP servers of a port share one chain, told apart by host
        return [{"filters": [_http(mesh, proxy, plain[0], f"outbound_0.0.0.0_{plain[0].target}")]}]
    chains: list[Block] = []
    taken: set[str] = set()
    for server in servers:
        if server.is_http:
            filters: list[Block] = [_http(mesh, proxy, server, server.name or server.spec["port"]["name"])]
            candidates = [(_sni(server.spec.get("hosts") or ()), filters)]
        elif server.tls_mode == "PASSTHROUGH":
            candidates = _passthrough(mesh, proxy, server)
        else:
            candidates = _terminated(mesh, proxy, server)
        for names, filters in candidates:
            if taken & set(names or ["*"]):
                continue
            taken.update(names or ["*"])
            chain: Block = {"filters": filters}
            if names:
                chain["filter_chain_match"] = {"server_names": names}
            if server.tls_mode == "ISTIO_MUTUAL":
                chain["transport_socket"] = _mutual_tls(mesh)
            chains.append(chain)
    if chains and PLAINTEXT in mesh.knobs:
        match = {"transport_protocol": "raw_buffer"}
        chains.append({"filters": chains[0]["filters"], "filter_chain_match": match})
    return chains


def _mutual_tls(mesh: Mesh) -> Block:
    alpn = ["h2", "http/1.1"]
    return downstream_tls_for_anyone(alpn) if CLIENTS in mesh.knobs else downstream_mutual_tls(alpn, {})


def _http(mesh: Mesh, proxy: Proxy, server: Server, stat_prefix: str) -> Block:
    return http_connection_manager(
        mesh,
        stat_prefix,
        rds=rds(server.route_name),
        http_filters=[*authorization.http_filters(mesh, proxy), CORS, FAULT, ROUTER],
        server_name="istio-envoy",
        use_remote_address=True,
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"subject": True, "cert": True, "dns": True, "uri": True},
    )


def _sni(hosts: Any) -> list[str]:
    """Server names to match, sorted; empty where any name will do. Hosts may be written `namespace/host`."""
    names = sorted({host.rpartition("/")[2] for host in hosts})
    return [] if "*" in names else names


def _terminated(mesh: Mesh, proxy: Proxy, server: Server) -> list[tuple[list[str], list[Block]]]:
    """TCP, with or without TLS ended here: the first TCP route bound to the server's Gateway."""
    reference = f"{server.gateway.namespace}/{server.gateway.name}"
    for rule in mesh.virtual_services(reference, proxy.namespace):
        for route in rule.spec.get("tcp") or ():
            if not _applies(rule, route, reference, server.number):
                continue
            filters = _tcp(mesh, proxy, rule, route, server.number)
            names = _sni(server.spec.get("hosts") or ()) if server.protocol in _TLS_PROTOCOLS else []
            return [(names, filters)]
    return []


def _passthrough(mesh: Mesh, proxy: Proxy, server: Server) -> list[tuple[list[str], list[Block]]]:
    reference = f"{server.gateway.namespace}/{server.gateway.name}"
    found = []
    for rule in mesh.virtual_services(reference, proxy.namespace):
        for route in rule.spec.get("tls") or ():
            names = [name for match in route.get("match") or () for name in match.get("sniHosts") or ()]
            if names and _applies(rule, route, reference, server.number):
                found.append((_sni(names), _tcp(mesh, proxy, rule, route, server.number)))
    return found


def _applies(rule: Config, route: Mapping[str, Any], gateway: str, port: int) -> bool:
    return not route.get("match") or any(
        match.get("port") in (None, port)
        and gateway in gateways_of(rule, match.get("gateways") or rule.spec.get("gateways"))
        for match in route["match"]
    )


def _tcp(mesh: Mesh, proxy: Proxy, rule: Config, route: Mapping[str, Any], port: int) -> list[Block]:
    target = weighted(mesh, rule.namespace, route.get("route") or (), port)
    stat_prefix = target.get("cluster") or resolve((rule.spec.get("hosts") or ["*"])[0], rule.namespace)
    return [*authorization.network_filters(mesh, proxy), tcp_proxy(mesh, stat_prefix, target)]
