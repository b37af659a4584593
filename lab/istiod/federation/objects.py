"""The Istio objects one ServiceMeshPeer adds in istiod's memory: `{"kind", "name", "namespace", "spec"}`.

Shapes and names are those of `/debug/configz` of a real federation. None of them exists in the Kubernetes API.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lab.istiod.federation.names import (
    DISCOVERY_PORT,
    LOCAL_SUFFIX,
    SERVICE_PORT,
    checksum,
    discovery_host,
    export_name,
    import_name,
)
from lab.istiod.federation.rules import ServiceKey

Object = dict[str, Any]
_CANONICAL_NAME = "service.istio.io/canonical-name"
_HERE_ONLY = ["."]


@dataclass(frozen=True)
class PeerSpec:
    """The parts of a ServiceMeshPeer that objects are made from; ports are those in effect."""

    name: str
    namespace: str
    ingress: str
    egress: str
    addresses: tuple[str, ...]
    discovery_port: int
    service_port: int
    remote_checksum: str
    trust_domain: str
    client_id: str

    @classmethod
    def of(cls, peer: Object) -> PeerSpec:
        """Reads a ServiceMeshPeer; what is not given is empty, ports 0 or not given are the defaults."""
        spec = peer.get("spec") or {}
        remote, gateways, security = (spec.get(part) or {} for part in ("remote", "gateways", "security"))
        return cls(
            name=peer["metadata"]["name"],
            namespace=peer["metadata"]["namespace"],
            ingress=(gateways.get("ingress") or {}).get("name") or "",
            egress=(gateways.get("egress") or {}).get("name") or "",
            addresses=tuple(remote.get("addresses") or ()),
            discovery_port=remote.get("discoveryPort") or DISCOVERY_PORT,
            service_port=remote.get("servicePort") or SERVICE_PORT,
            remote_checksum=str(checksum(remote)),
            trust_domain=security.get("trustDomain") or "",
            client_id=security.get("clientID") or "",
        )

    @property
    def egress_host(self) -> str:
        return f"{self.egress}.{self.namespace}.{LOCAL_SUFFIX}"

    @property
    def discovery_host(self) -> str:
        return discovery_host(self.namespace, self.name)


def discovery_objects(peer: PeerSpec, istiod_host: str) -> list[Object]:
    """What carries discovery both ways: out through the egress gateway, in through the ingress gateway to istiod."""
    base = f"federation-discovery-{peer.name}"
    egress, ingress = f"{base}-egress", f"{base}-ingress"
    return [
        _object(peer, "ServiceEntry", base, _remote_entry(peer)),
        _object(peer, "DestinationRule", egress, _remote_rule(peer, egress)),
        _object(
            peer, "Gateway", egress, _gateway(peer.egress, egress, [peer.egress_host], _PLAIN_DISCOVERY, tls=False)
        ),
        _object(peer, "VirtualService", egress, _egress_routes(peer, egress)),
        _object(peer, "Gateway", ingress, _gateway(peer.ingress, ingress, ["*"], _TLS_DISCOVERY, tls=True)),
        _object(peer, "VirtualService", ingress, _ingress_routes(peer, ingress, istiod_host)),
        _object(peer, "AuthorizationPolicy", base, _policy(peer, {"ports": [str(DISCOVERY_PORT)]})),
    ]


def export_objects(peer: PeerSpec, exports: Iterable[tuple[ServiceKey, ServiceKey]], *, short: bool) -> list[Object]:
    """What lets exported services in: per pair (local, exported) a Gateway and a VirtualService, and one policy."""
    pairs = sorted(exports, key=lambda pair: pair[1].hostname)
    found = []
    for local, exported in pairs:
        name = export_name(peer.name, local.name, local.namespace, short=short)
        hosts = [exported.hostname, f"*.{exported.hostname}"]
        found.append(_object(peer, "Gateway", name, _gateway(peer.ingress, name, hosts, _FEDERATION, tls=True)))
        routes = _tcp_routes(peer, name, [exported.hostname], local.hostname)
        found.append(_object(peer, "VirtualService", name, routes))
    if pairs and peer.client_id:
        operation = {"notHosts": [exported.hostname for _, exported in pairs], "ports": [str(SERVICE_PORT)]}
        found.append(_object(peer, "AuthorizationPolicy", f"federation-exports-{peer.name}", _policy(peer, operation)))
    return found


def import_objects(peer: PeerSpec, imports: Iterable[tuple[ServiceKey, ServiceKey]], *, short: bool) -> list[Object]:
    """What leads to imported services: per pair (exported, local) a Gateway and a VirtualService at the egress."""
    found = []
    for exported, local in sorted(imports, key=lambda pair: pair[0].hostname):
        name = import_name(peer.name, exported.name, exported.namespace, short=short)
        hosts = [local.hostname, f"*.{local.hostname}"]
        found.append(_object(peer, "Gateway", name, _gateway(peer.egress, name, hosts, _FEDERATION, tls=True)))
        found.append(_object(peer, "VirtualService", name, _tcp_routes(peer, name, hosts, exported.hostname)))
    return found


_PLAIN_DISCOVERY: Object = {"name": "http-discovery", "number": DISCOVERY_PORT, "protocol": "HTTP"}
_TLS_DISCOVERY: Object = {"name": "https-discovery", "number": DISCOVERY_PORT, "protocol": "HTTPS"}
_FEDERATION: Object = {"name": "tls-federation", "number": SERVICE_PORT, "protocol": "TLS"}


def _object(peer: PeerSpec, kind: str, name: str, spec: Object) -> Object:
    return {"kind": kind, "name": name, "namespace": peer.namespace, "spec": spec}


def _gateway(workload: str, name: str, hosts: list[str], port: Object, *, tls: bool) -> Object:
    server: Object = {"hosts": hosts, "name": name, "port": dict(port)}
    if tls:
        server["tls"] = {"mode": "ISTIO_MUTUAL"}
    return {"selector": {_CANONICAL_NAME: workload}, "servers": [server]}


def _remote_entry(peer: PeerSpec) -> Object:
    port = {"name": "https-discovery", "number": peer.discovery_port, "protocol": "HTTPS"}
    return {
        "endpoints": [
            {"address": address, "ports": {"https-discovery": peer.discovery_port}} for address in peer.addresses
        ],
        "exportTo": _HERE_ONLY,
        "hosts": [peer.discovery_host],
        "ports": [{**port, "targetPort": peer.discovery_port}],
        "resolution": "DNS",
    }


def _remote_rule(peer: PeerSpec, subset: str) -> Object:
    tls = {"mode": "ISTIO_MUTUAL", "sni": peer.discovery_host}
    settings = [{"port": {"number": peer.discovery_port}, "tls": tls}]
    return {
        "exportTo": _HERE_ONLY,
        "host": peer.discovery_host,
        "subsets": [{"name": subset, "trafficPolicy": {"portLevelSettings": settings}}],
    }


def _egress_routes(peer: PeerSpec, name: str) -> Object:
    headers = {"discovery-service": {"exact": peer.discovery_host}, "remote": {"exact": peer.remote_checksum}}
    destination = {"host": peer.discovery_host, "port": {"number": peer.discovery_port}, "subset": name}
    route = {
        "match": [{"headers": headers, "port": DISCOVERY_PORT}],
        "name": name,
        "rewrite": {"authority": peer.discovery_host},
        "route": [{"destination": destination}],
    }
    return _virtual_service(peer, name, [peer.egress_host], {"http": [route]})


def _ingress_routes(peer: PeerSpec, name: str, istiod_host: str) -> Object:
    def route(path: str, suffix: str, served: str) -> Object:
        match = {"gateways": [f"{peer.namespace}/{name}"], "port": DISCOVERY_PORT, "uri": {"exact": path}}
        return {
            "match": [match],
            "name": f"{name}-ingress-{suffix}",
            "rewrite": {"authority": istiod_host, "uri": f"{served}/{peer.name}"},
            "route": [{"destination": {"host": istiod_host, "port": {"number": DISCOVERY_PORT}}}],
        }

    routes = [route("/v1/services/", "services", "/v1/services"), route("/v1/watch", "watch", "/v1/watch")]
    return _virtual_service(peer, name, ["*"], {"http": routes})


def _tcp_routes(peer: PeerSpec, name: str, hosts: list[str], destination: str) -> Object:
    # Without a port a destination is only good for services with one port, as in the product.
    route = {
        "match": [{"gateways": [f"{peer.namespace}/{name}"]}],
        "route": [{"destination": {"host": destination}}],
    }
    return _virtual_service(peer, name, hosts, {"tcp": [route]})


def _virtual_service(peer: PeerSpec, name: str, hosts: list[str], routes: Object) -> Object:
    return {"exportTo": _HERE_ONLY, "gateways": [f"{peer.namespace}/{name}"], "hosts": hosts, **routes}


def _policy(peer: PeerSpec, operation: Object) -> Object:
    rule = {"from": [{"source": {"notPrincipals": [peer.client_id]}}], "to": [{"operation": operation}]}
    return {"action": "DENY", "rules": [rule], "selector": {"matchLabels": {_CANONICAL_NAME: peer.ingress}}}
