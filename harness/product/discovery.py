"""The federation discovery request, made the way istiod makes it: through the mesh's own egress gateway.

Positive control of refusals at the discovery port: a stranger is refused, this request over the same path is answered.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from harness.cluster.addresses import netloc
from harness.cluster.forwarded import Answer, get
from harness.cluster.transport import ClusterError
from harness.product.envoy import Json, Proxy
from harness.product.mesh import Mesh, MeshNames
from harness.product.names import CLUSTER_DOMAIN, DISCOVERY_PORT

_SHOWN = 120  # characters of an answer, for people
SERVICES_PATH, WATCH_PATH = "/v1/services/", "/v1/watch"
_NOWHERE = "/"  # no route of an ingress gateway has it: its istiod never hears of it
_TRIES, _EVICTIONS = 10, 4  # idle connections of every worker of the gateway are to be used up


class Announced(NamedTuple):
    """One gateway that a discovery answer tells its reader to call besides those of its own peer object."""

    host: str
    port: int

    def __str__(self) -> str:
        return netloc(self.host, self.port)


@dataclass(frozen=True)
class DiscoveryAnswer:
    """What came back: HTTP status, the host names offered and the gateways announced (both empty but for 200)."""

    status: int
    hosts: tuple[str, ...]
    body: str
    gateways: tuple[Announced, ...] = ()

    def __str__(self) -> str:
        return f"HTTP {self.status} ({self.body[:_SHOWN].strip() or 'empty'})"

    @classmethod
    def of(cls, answer: Answer) -> DiscoveryAnswer:
        """Raises ValueError where an answer of 200 is not what discovery answers."""
        found = json.loads(answer.body) if answer.status == 200 else {}
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        hosts = tuple(service["hostname"] for service in found.get("services") or ())
        gateways = [Announced(end["hostname"], end["port"]) for end in found.get("networkGatewayEndpoints") or ()]
        return cls(answer.status, hosts, answer.body[:300], tuple(dict.fromkeys(gateways)))

    def foreign(self, own: Collection[Announced]) -> list[Announced]:
        """Announced gateways that are none of the answering mesh's `own` ways in."""
        return [gateway for gateway in self.gateways if gateway not in own]


def ask_peer(mesh: Mesh) -> DiscoveryAnswer:
    """As `ask_through`, by the first pod of the mesh's egress gateway; raises ClusterError where there is none."""
    pods = mesh.gateway_pods(mesh.egress_gateway)
    if not pods:
        raise ClusterError(mesh.name, f"ask {mesh.peer} for its services", f"{mesh.egress_gateway} has no running pod")
    proxy = Proxy(mesh.cluster, mesh.system_namespace, pods[0]["metadata"]["name"])
    return ask_through(proxy, mesh, mesh.egress_gateway)


def ask_through(proxy: Proxy, mesh: MeshNames, gateway: str) -> DiscoveryAnswer:
    """Asks the peer of `mesh` for its services, by a port-forward to a pod of its own egress gateway.

    An answer of 200 came over a connection that the gateway made for it: those it had are used up before, since a
    peer that no longer admits the gateway serves these until they are drained (45 s).
    The two headers the gateway routes by (`discovery-service`, `remote`) are read from its own route, since only
    istiod knows how `remote` is made. Raises ClusterError where there is no route, no answer or no new connection.
    """
    what = f"ask {mesh.peer} for its services through {proxy.pod}"
    route = discovery_route(proxy.config_dump("dynamic_route_configs"))
    if route is None:
        detail = f"{gateway} has no route for it: istiod has not configured the peer {mesh.peer}"
        raise ClusterError(mesh.name, what, detail)
    host = f"{gateway}.{mesh.system_namespace}.svc.{CLUSTER_DOMAIN}:{DISCOVERY_PORT}"
    headers = {"Host": host, **route.headers}

    def send(path: str, more: Mapping[str, str]) -> Answer:
        return get(proxy.cluster, proxy.namespace, proxy.pod, DISCOVERY_PORT, path, what, {**headers, **more})

    for _ in range(_TRIES):
        before = proxy.connections("cx_total").get(route.cluster, 0)
        answer = _read(send(SERVICES_PATH, {}), mesh, what)
        if answer.status != 200 or proxy.connections("cx_total").get(route.cluster, 0) > before:
            return answer
        for _ in range(_EVICTIONS):
            # Answered before it is complete: Envoy closes the connection that it took.
            send(_NOWHERE, {"Content-Length": "1"})
    raise ClusterError(mesh.name, what, f"unknown: {gateway} made no new connection for it, and old ones prove nothing")


def _read(answer: Answer, mesh: MeshNames, what: str) -> DiscoveryAnswer:
    try:
        return DiscoveryAnswer.of(answer)
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(mesh.name, what, f"unreadable: {answer.body[:_SHOWN] or 'empty'}") from error


class Route(NamedTuple):
    """The egress gateway's discovery route: the exact headers it matches, and the Envoy cluster behind it."""

    headers: dict[str, str]
    cluster: str


def discovery_route(dump: Json) -> Route | None:
    """The first discovery route in a config dump of the egress gateway; None where it has none."""
    for config in dump.get("configs", []):
        for host in config.get("route_config", {}).get("virtual_hosts", []):
            for route in host.get("routes", []):
                found = {match["name"]: _exact(match) for match in route.get("match", {}).get("headers", [])}
                if found.keys() >= {"discovery-service", "remote"}:
                    return Route(found, route.get("route", {}).get("cluster", ""))
    return None


def _exact(match: Json) -> str:
    # exact_match up to Envoy 1.21, string_match since.
    return match.get("exact_match") or match.get("string_match", {}).get("exact", "")
