"""The federation discovery request, made the way istiod makes it: through the mesh's own egress gateway.

Positive control of refusals at the discovery port: a stranger is refused, this request over the same path is answered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness.envoy import Json, Proxy
from harness.forwarded import get
from harness.mesh import DISCOVERY_PORT, Mesh
from harness.peering import CLUSTER_DOMAIN
from harness.transport import ClusterError

_SHOWN = 120  # characters of an answer, for people


@dataclass(frozen=True)
class DiscoveryAnswer:
    """What came back: HTTP status and the host names offered ([] for any other status than 200)."""

    status: int
    hosts: tuple[str, ...]
    body: str

    def __str__(self) -> str:
        return f"HTTP {self.status} ({self.body[:_SHOWN].strip() or 'empty'})"


def ask_peer(mesh: Mesh) -> DiscoveryAnswer:
    """Asks the peer of `mesh` for its services, through a port-forward to the mesh's own egress gateway.

    The two headers the gateway routes by (`discovery-service`, `remote`) are read from its own route, since only
    istiod knows how `remote` is made. Raises ClusterError where there is no gateway, no route or no answer.
    """
    pods = mesh.gateway_pods(mesh.egress_gateway)
    if not pods:
        raise ClusterError(mesh.name, f"ask {mesh.peer} for its services", f"{mesh.egress_gateway} has no running pod")
    pod = pods[0]["metadata"]["name"]
    dump = Proxy(mesh.cluster, mesh.system_namespace, pod).config_dump("dynamic_route_configs")
    headers = route_headers(dump)
    if not headers:
        detail = f"{mesh.egress_gateway} has no route for it: istiod has not configured the peer {mesh.peer}"
        raise ClusterError(mesh.name, f"ask {mesh.peer} for its services", detail)
    return _request(mesh, pod, headers)


def route_headers(dump: Json) -> dict[str, str]:
    """The exact header matches of the first discovery route in a config dump of the egress gateway."""
    for config in dump.get("configs", []):
        for host in config.get("route_config", {}).get("virtual_hosts", []):
            for route in host.get("routes", []):
                found = {match["name"]: _exact(match) for match in route.get("match", {}).get("headers", [])}
                if found.keys() >= {"discovery-service", "remote"}:
                    return found
    return {}


def _exact(match: Json) -> str:
    # exact_match up to Envoy 1.21, string_match since.
    return match.get("exact_match") or match.get("string_match", {}).get("exact", "")


def _request(mesh: Mesh, pod: str, headers: dict[str, str]) -> DiscoveryAnswer:
    host = f"{mesh.egress_gateway}.{mesh.system_namespace}.svc.{CLUSTER_DOMAIN}:{DISCOVERY_PORT}"
    what = f"ask {mesh.peer} for its services through {pod}"
    answer = get(
        mesh.cluster, mesh.system_namespace, pod, DISCOVERY_PORT, "/v1/services/", what, {"Host": host, **headers}
    )
    services = json.loads(answer.body).get("services", []) if answer.status == 200 else []
    return DiscoveryAnswer(answer.status, tuple(service["hostname"] for service in services), answer.body[:300])
