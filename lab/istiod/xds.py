"""Configuration for the mesh's Envoys, over REST: each asks with the version it has, and hears when there is another.

`POST /v3/discovery:{listeners,clusters,routes,secrets}` with a DiscoveryRequest as JSON; the answer comes when the
content differs from `version_info`, a hash of that content, so that what did not change wakes nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from lab.istiod.ca import CertificateAuthority, Workload
from lab.istiod.config.blocks import Block, typed
from lab.istiod.config.clusters import clusters
from lab.istiod.config.gateways import gateway_listeners, gateway_route
from lab.istiod.config.listeners import sidecar_listeners
from lab.istiod.config.routes import sidecar_routes
from lab.istiod.knobs import BUNDLES
from lab.istiod.registry import spiffe_id
from lab.istiod.state import MeshState
from lab.istiod.store import Mesh, Proxy

log = logging.getLogger("ads")
PORT = 15012
_HOLD = 3000.0
"""Seconds after which an unchanged answer is given all the same; Envoy waits for 3600."""
_AGAIN, _AGAIN_REFUSED = 0.25, 5.0
"""Seconds before the same content is offered again: to a proxy that has none (it was restarted), and to one that has
another, which refused it or never got the answer."""
_TYPES = "type.googleapis.com/envoy."
_OWN = "default"
"""The secret with the workload's own certificate; any other asked for is the one with the roots."""
KINDS: dict[str, tuple[str, str]] = {
    "listeners": ("LDS", _TYPES + "config.listener.v3.Listener"),
    "clusters": ("CDS", _TYPES + "config.cluster.v3.Cluster"),
    "routes": ("RDS", _TYPES + "config.route.v3.RouteConfiguration"),
    "secrets": ("SDS", _TYPES + "extensions.transport_sockets.tls.v3.Secret"),
}


def proxy_of(node: Mapping[str, Any]) -> Proxy:
    """The proxy that a request's node introduces; ValueError for a node id of another shape."""
    parts = str(node.get("id", "")).split("~")
    if len(parts) != 4 or parts[0] not in ("sidecar", "router"):
        raise ValueError(f"node id {node.get('id')!r} is not sidecar|router~ip~pod.namespace~domain")
    kind, address, workload, _ = parts
    name, _, namespace = workload.rpartition(".")
    metadata = node.get("metadata") or {}
    return Proxy(
        node_id=node["id"],
        kind=kind,
        ip=address,
        name=name,
        namespace=namespace,
        service_account=metadata.get("SERVICE_ACCOUNT") or "default",
        labels=metadata.get("LABELS") or {},
        network_view=frozenset(filter(None, (metadata.get("REQUESTED_NETWORK_VIEW") or "").split(","))),
        sni_dnat=metadata.get("ROUTER_MODE") == "sni-dnat",
        workload=metadata.get("WORKLOAD_NAME") or "",
        cluster=metadata.get("CLUSTER_ID") or "Kubernetes",
    )


def proxy_listeners(mesh: Mesh, proxy: Proxy) -> list[Block]:
    return gateway_listeners(mesh, proxy) if proxy.kind == "router" else sidecar_listeners(mesh, proxy)


def proxy_routes(mesh: Mesh, proxy: Proxy, names: list[str]) -> list[Block]:
    """The asked route configurations; one whose listener is going away is empty rather than missing."""
    found = []
    for name in names:
        if proxy.kind == "router":
            route = gateway_route(mesh, proxy, name) or {"name": name, "virtual_hosts": []}
        else:
            key = ("route", proxy.namespace, name)
            route = mesh.memo(key, lambda name=name: sidecar_routes(mesh, proxy.namespace, int(name)))  # type: ignore[misc]
        found.append(route)
    return found


@dataclass
class Connection:
    """What `/debug/syncz` says of one proxy: the version it has and the one it was sent, by CDS, LDS, RDS, SDS."""

    proxy: Proxy
    acknowledged: dict[str, str] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)


class ConfigServer:
    """Answers the long polls of all proxies of one mesh."""

    def __init__(self, state: MeshState, authority: CertificateAuthority) -> None:
        self._state, self._authority = state, authority
        self._bundles: dict[str, str] = {}
        self._certificates: dict[str, Workload] = {}
        self._sent: dict[tuple[str, ...], tuple[str, float]] = {}
        self._changed = asyncio.Event()
        self.connections: dict[str, Connection] = {}
        self._collect_bundles()
        state.on_publish(self._publish)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v3/discovery:{kind}", self._answer)]

    def _publish(self) -> None:
        self._collect_bundles()
        running = {(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in self._pods()}
        for node_id, connection in list(self.connections.items()):
            if (connection.proxy.namespace, connection.proxy.name) not in running:
                self._forget(node_id)
        self._changed.set()
        self._changed = asyncio.Event()

    def _pods(self) -> list[dict[str, Any]]:
        return list(self._state.informers.pods.items.values())

    def _forget(self, node_id: str) -> None:
        log.info('ADS: "%s" terminated', node_id)
        self.connections.pop(node_id, None)
        self._certificates.pop(node_id, None)
        for key in [key for key in self._sent if key[0] == node_id]:
            del self._sent[key]

    def _collect_bundles(self) -> None:
        """Roots of peers are added and never taken away (reference: product 3.3), unless a knob says so."""
        if BUNDLES in self._state.knobs:
            self._bundles.clear()
        for output in self._state.federation.values():
            self._bundles.update(output.bundles)
        self._bundles[self._state.trust_domain] = self._authority.root

    async def _answer(self, request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        if kind not in KINDS:
            return web.Response(status=404)
        body = orjson.loads(await request.read())
        try:
            proxy = proxy_of(body.get("node") or {})
        except ValueError as error:
            log.warning("ADS: refused: %s", error)
            return web.Response(status=400, text=str(error))
        short, type_url = KINDS[kind]
        names = sorted(body.get("resource_names") or ())
        known = body.get("version_info") or ""
        connection = self._connect(proxy)
        label = f"{short}:{','.join(names)}" if short in ("RDS", "SDS") else short
        connection.acknowledged[label] = known
        if rejected := body.get("error_detail"):
            log.warning("ADS:%s: ACK ERROR %s %s", short, proxy.node_id, rejected.get("message"))
        key = (proxy.node_id, kind, *names)
        version, resources = await self._wait(key, known, lambda version: self._content(kind, proxy, names, version))
        answer = orjson.dumps(
            {
                "version_info": version,
                "type_url": type_url,
                "resources": [{"@type": type_url, **resource} for resource in resources],
            }
        )
        self._sent[key] = version, time.monotonic()
        connection.sent[label] = version
        log.info(
            "%s: PUSH for node:%s.%s resources:%d size:%.1fkB",
            short, proxy.name, proxy.namespace, len(resources), len(answer) / 1024,
        )  # fmt: skip
        return web.Response(body=answer, content_type="application/json")

    def _connect(self, proxy: Proxy) -> Connection:
        known = self.connections.get(proxy.node_id)
        if known is None:
            log.info("ADS: new connection for node:%s", proxy.node_id)
            known = self.connections[proxy.node_id] = Connection(proxy)
        known.proxy = proxy
        return known

    async def _wait(
        self, key: tuple[str, ...], known: str, build: Callable[[str], tuple[str, list[Block]]]
    ) -> tuple[str, list[Block]]:
        """The content and its version as soon as it is another than the proxy's."""
        deadline = time.monotonic() + _HOLD
        while True:
            changed = self._changed
            version, resources = build(known)
            offered, since = self._sent.get(key, ("", 0.0))
            now = time.monotonic()
            refused = version == offered and version != known
            patience = since + (_AGAIN_REFUSED if known else _AGAIN) - now if refused else 0.0
            if version != known and patience <= 0:
                return version, resources
            if now >= deadline:
                return build("")
            wait = patience if refused else deadline - now
            try:
                await asyncio.wait_for(changed.wait(), wait)
            except TimeoutError:
                continue

    def _content(self, kind: str, proxy: Proxy, names: list[str], known: str) -> tuple[str, list[Block]]:
        if kind == "secrets" and names == [_OWN]:
            return self._own_certificate(proxy, known)
        resources = self._resources(kind, proxy, names)
        return _digest(orjson.dumps(resources)), resources

    def _own_certificate(self, proxy: Proxy, known: str) -> tuple[str, list[Block]]:
        """The workload certificate. Its version says whose it is and when to replace it.

        So a proxy keeps the one it has when istiod restarts or when another istiod of the mesh answers.
        """
        identity = spiffe_id(self._state.trust_domain, proxy.namespace, proxy.service_account)
        issuer = _digest(f"{identity} {self._authority.root}".encode())
        now = datetime.now(UTC)
        renew_at, _, by = known.partition(".")
        if by == issuer and renew_at.isdigit() and int(renew_at) > now.timestamp():
            return known, []
        certificate = self._certificates.get(proxy.node_id)
        if certificate is None or certificate.renew_at <= now:
            certificate = self._certificates[proxy.node_id] = self._authority.issue(identity)
        secret = {
            "certificate_chain": {"inline_string": certificate.chain},
            "private_key": {"inline_string": certificate.key},
        }
        version = f"{certificate.renew_at.timestamp():.0f}.{issuer}"
        return version, [{"name": _OWN, "tls_certificate": secret}]

    def _resources(self, kind: str, proxy: Proxy, names: list[str]) -> list[Block]:
        mesh = self._state.mesh()
        if kind == "listeners":
            return proxy_listeners(mesh, proxy)
        if kind == "clusters":
            return clusters(mesh, proxy)
        if kind == "routes":
            return proxy_routes(mesh, proxy, names)
        validator = {"custom_validator_config": self._validator()}
        return [{"name": name, "validation_context": validator} for name in names]

    def _validator(self) -> Block:
        return typed(
            "envoy.tls.cert_validator.spiffe",
            "extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            trust_domains=[
                {"name": domain, "trust_bundle": {"inline_string": self._bundles[domain]}}
                for domain in sorted(self._bundles)
            ],
        )


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
