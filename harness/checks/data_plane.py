"""What the proxies on the path have and have done: endpoints of imports, requests received, strangers refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from harness.checks.compared import Compared
from harness.checks.installation import trust_domain
from harness.checks.live_exports import at_a_live_export
from harness.cluster.addresses import netloc
from harness.cluster.transport import ClusterError
from harness.product.envoy import Endpoint, Proxy
from harness.product.mesh import Mesh
from harness.product.names import (
    CLUSTER_DOMAIN,
    SERVICE_PORT,
    imported_host,
)
from harness.product.trust import Refusal, answers_plaintext, refusal, spiffe_id

APP_PORT = 9080
_COUNTED = "inbound.*rq_total"
_BY_LISTENER = re.compile(r"^http\.inbound_[^:]*\.downstream_rq_total: (\d+)$", re.MULTILINE)
_BY_CLUSTER = re.compile(r"^cluster\.inbound\|[^:]*\.upstream_rq_total: (\d+)$", re.MULTILINE)


def app_proxies(mesh: Mesh, selector: str) -> list[Proxy]:
    """The sidecars of running application pods; raises ClusterError when there is none."""
    pods = mesh.running_pods(mesh.app_namespace, selector)
    if not pods:
        raise ClusterError(mesh.name, f"find pods {selector} in {mesh.app_namespace}", "none is running")
    return [Proxy(mesh.cluster, mesh.app_namespace, pod["metadata"]["name"]) for pod in pods]


@dataclass(frozen=True)
class ImportedEndpoints:
    """Where a client's sidecar would send requests for an imported service, and where the egress gateway is.

    `found` is None where the sidecar does not know the imported service at all.
    """

    cluster: str
    found: tuple[Endpoint, ...] | None
    egress: frozenset[str]

    @property
    def compared(self) -> Compared:
        """Its endpoints, beside those of them that are healthy and a pod of the egress gateway on 15443."""
        if self.found is None:
            return _no_endpoint(f"the sidecar has no cluster {self.cluster}: the import never reached it")
        if not self.found:
            return _no_endpoint(f"{self.cluster} has no endpoint: istiod knows no pod of the egress gateway")
        gateways = {netloc(address, SERVICE_PORT) for address in self.egress}
        running = ", ".join(sorted(gateways)) or "none runs"
        sick = {endpoint for endpoint in self.found if not endpoint.healthy}
        stale = {endpoint for endpoint in self.found if netloc(endpoint.address, endpoint.port) not in gateways}
        problems = [f"{self.cluster}: {endpoint} is not healthy" for endpoint in self.found if endpoint in sick]
        problems += [
            f"{self.cluster}: {endpoint} is no pod of the egress gateway ({running})"
            for endpoint in self.found
            if endpoint in stale
        ]
        return Compared(set(self.found), set(self.found) - sick - stale, problems)


def _no_endpoint(problem: str) -> Compared:
    return Compared({"at least one endpoint"}, set(), [problem])


def imported_endpoints(mesh: Mesh, service: str) -> ImportedEndpoints:
    """Endpoints of an imported service in the sidecar of reviews, the one that calls ratings."""
    cluster = f"outbound|{APP_PORT}||{imported_host(service, mesh.app_namespace, mesh.peer)}"
    proxy = app_proxies(mesh, "app=reviews,version=v3")[0]
    egress = frozenset(pod["status"]["podIP"] for pod in mesh.gateway_pods(mesh.egress_gateway))
    return ImportedEndpoints(cluster, proxy.endpoints().get(cluster), egress)


def requests_received(mesh: Mesh, app: str) -> int:
    """Requests that the sidecars of an application received since they started (Envoy's counters).

    Raises ClusterError where one of them has no counter: then nobody knows.
    """
    return sum(_received(mesh, proxy) for proxy in app_proxies(mesh, f"app={app}"))


def _received(mesh: Mesh, proxy: Proxy) -> int:
    """By counters of listeners or clusters; by those of hosts only where the proxy's bootstrap leaves these out.

    Hosts of ORIGINAL_DST clusters (2.2 and later) come with the first request and go after a while.
    """
    counted = inbound_requests(proxy.request("GET", f"stats?filter={_COUNTED}"))
    if counted is None:
        counted = _by_hosts(proxy.request("GET", "clusters?format=json"))
    if counted is None:
        detail = "unknown: its proxy has no counter of inbound requests, by listener, cluster or host"
        raise ClusterError(mesh.name, f"count the requests that {proxy.pod} received", detail)
    return counted


def inbound_requests(statistics: str) -> int | None:
    """Requests by the counters of inbound listeners, else of inbound clusters, in Envoy's `/stats`; None without."""
    for pattern in (_BY_LISTENER, _BY_CLUSTER):
        if found := pattern.findall(statistics):
            return sum(map(int, found))
    return None


def _by_hosts(clusters: str) -> int | None:
    statuses = json.loads(clusters).get("cluster_statuses", [])
    inbound = [status for status in statuses if status["name"].startswith("inbound|")]
    stats = [stat for status in inbound for host in status.get("host_statuses", []) for stat in host.get("stats", [])]
    counters = [int(stat.get("value", 0)) for stat in stats if stat["name"] == "rq_total"]
    return sum(counters) if counters else None


@dataclass(frozen=True)
class Stranger:
    """How one gateway port treats a client without a certificate.

    gateway: the SPIFFE id of who is to be there; `refused` is what the server did, None if it let the stranger in;
    `plaintext`: it answered one without TLS too.
    """

    where: str
    gateway: str
    refused: Refusal | None
    plaintext: bool


def stranger_at(mesh: Mesh, port: int) -> Stranger:
    """Knocks at `mesh`'s federation ingress without a certificate. Ports: 8188 discovery, 15443 services.

    Raises ClusterError where no TLS server answers: then nobody was refused; it is Unjudged where that is no matter of
    the gateway.
    """
    where = f"{mesh.name} {mesh.ingress_gateway} port {port} at {mesh.ingress.hosts[0]}"
    connect = mesh.connector(port)
    try:
        refused = at_a_live_export(mesh, port, lambda name: refusal(connect, name))
        plaintext = answers_plaintext(connect)
    except OSError as error:
        what = f"knock at {mesh.ingress_gateway} port {port} at {mesh.ingress.hosts[0]} without a certificate"
        detail = f"no TLS server answers, so nobody was refused: {error}"
        raise ClusterError(mesh.name, what, detail) from error
    return Stranger(where, ingress_identity(mesh), refused, plaintext)


def ingress_identity(mesh: Mesh) -> str:
    """The SPIFFE id of the mesh's federation ingress, by the trust domain its control plane is set to."""
    domain = trust_domain(mesh) or CLUSTER_DOMAIN
    return spiffe_id(domain, mesh.system_namespace, mesh.service_account(mesh.ingress_gateway))
