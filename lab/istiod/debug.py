"""What istiod tells people about itself: readiness, what it knows (`/debug/...`) and a few metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from lab.istiod.state import MeshState
from lab.istiod.store import Config
from lab.istiod.xds import ConfigServer

HTTP_PORT, MONITORING_PORT = 8080, 15014
_KINDS = ("DestinationRule", "Gateway", "ServiceEntry", "VirtualService", "AuthorizationPolicy", "PeerAuthentication")


class DebugServer:
    """Handlers of ports 8080 and 15014; `server` is None until the authority and the first sync are there."""

    def __init__(self, state: MeshState) -> None:
        self._state = state
        self.server: ConfigServer | None = None

    def http_routes(self) -> list[web.RouteDef]:
        return [web.get("/ready", self._ready), *self._debug_routes()]

    def monitoring_routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._metrics), *self._debug_routes()]

    def _debug_routes(self) -> list[web.RouteDef]:
        pages: dict[str, Callable[[], Any]] = {
            "configz": self._configz,
            "registryz": self._registryz,
            "endpointz": self._endpointz,
            "syncz": self._syncz,
        }
        return [web.get(f"/debug/{name}", _page(build)) for name, build in pages.items()]

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.server else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        mesh = self._state.mesh()
        lines = [
            f'istio_build{{component="pilot",tag="{self._state.settings.ossm_version}"}} 1',
            f"pilot_services {len(mesh.services)}",
            f"pilot_virt_services {len(mesh.configs('VirtualService'))}",
            f'pilot_xds{{version="{self._state.settings.ossm_version}"}} {len(self._connections())}',
        ]
        return web.Response(text="\n".join(lines) + "\n")

    def _connections(self) -> list[Any]:
        return list(self.server.connections.values()) if self.server else []

    def _configz(self) -> list[dict[str, Any]]:
        mesh = self._state.mesh()
        return [_shown(config) for kind in _KINDS for config in mesh.configs(kind)]

    def _registryz(self) -> list[dict[str, Any]]:
        return [
            {
                "hostname": service.hostname,
                "clusterVIPs": service.cluster_ip,
                "ports": [
                    {"name": port.name, "port": port.number, "protocol": port.protocol} for port in service.ports
                ],
                "serviceAccounts": list(service.identities),
                "attributes": {"name": service.name, "namespace": service.namespace, "registry": service.source},
            }
            for service in self._state.mesh().services
        ]

    def _endpointz(self) -> list[dict[str, Any]]:
        return [
            {
                "svc": f"{service.hostname}:{port.name}",
                "ep": [
                    {"address": endpoint.address, "port": endpoint.port, "serviceAccount": endpoint.identity}
                    for endpoint in service.endpoints
                    if endpoint.port_name == port.name
                ],
            }
            for service in self._state.mesh().services
            for port in service.ports
        ]

    def _syncz(self) -> list[dict[str, Any]]:
        return [
            {
                "proxy": f"{connection.proxy.name}.{connection.proxy.namespace}",
                "sent": connection.sent,
                "acknowledged": connection.acknowledged,
            }
            for connection in self._connections()
        ]


def _page(build: Callable[[], Any]) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        body = orjson.dumps(build(), option=orjson.OPT_INDENT_2)
        return web.Response(body=body, content_type="application/json")

    return answer


def _shown(config: Config) -> dict[str, Any]:
    return {"kind": config.kind, "name": config.name, "namespace": config.namespace, "spec": config.spec}
