"""What a proxy says of itself: access-log lines in Istio's default format, routes, endpoints; all typed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from harness.cluster.addresses import netloc
from harness.product.names import SIDECAR

if TYPE_CHECKING:
    from harness.cluster.cluster import Cluster

Json = dict[str, Any]
_SPIFFE = "spiffe://"


@dataclass(frozen=True)
class AccessLine:
    """One line of an access log: one HTTP request, or one TCP connection at its close (`method` is empty then).

    Text that Envoy left out (`-`) is empty; `duration` is in milliseconds, `upstream_service_time` too (None when no
    answer came from upstream); bytes are of the body, or of the connection. `response_flags` are Envoy's short names
    (UF, NR, ...) joined by commas. Format: Istio 1.9 to 1.16, the same in OSSM 2.1 to 2.5.
    """

    start_time: datetime
    method: str
    path: str
    protocol: str
    response_code: int
    response_flags: str
    response_code_details: str
    connection_termination_details: str
    upstream_transport_failure_reason: str
    bytes_received: int
    bytes_sent: int
    duration: int
    upstream_service_time: int | None
    x_forwarded_for: str
    user_agent: str
    request_id: str
    authority: str
    upstream_host: str
    upstream_cluster: str
    upstream_local_address: str
    downstream_local_address: str
    downstream_remote_address: str
    requested_server_name: str
    route_name: str

    @property
    def is_http(self) -> bool:
        return bool(self.method)

    @property
    def succeeded(self) -> bool:
        """An answer of 2xx."""
        return 200 <= self.response_code < 300

    @property
    def outcome(self) -> str:
        """Status, flags and reasons in a few words, as an explanation of a failure."""
        parts = [self.response_code or "", self.response_flags, self.response_code_details]
        if self.response_code_details == "via_upstream":
            parts.append(f"from {self.upstream_host}")
        for reason in (self.connection_termination_details, self.upstream_transport_failure_reason):
            # Newer proxies repeat the reason in the details.
            parts += [reason] if reason not in self.response_code_details else []
        return " ".join(str(part) for part in parts if part)


# Between flags and the failure reason, proxies older than 1.9 write no details.
_LINE = re.compile(
    r"\[(?P<start_time>[0-9TZ:.+-]+)\] "
    r'"(?P<method>\S+) (?P<path>.*?) (?P<protocol>\S+)" '
    r"(?P<response_code>\d+) (?P<response_flags>\S+) "
    r'(?:(?P<response_code_details>[^\s"]\S*) (?P<connection_termination_details>[^"]+?) )?'
    r'"(?P<upstream_transport_failure_reason>.*?)" '
    r"(?P<bytes_received>\d+) (?P<bytes_sent>\d+) (?P<duration>\d+|-) (?P<upstream_service_time>\d+|-) "
    r'"(?P<x_forwarded_for>.*?)" "(?P<user_agent>.*?)" "(?P<request_id>.*?)" "(?P<authority>.*?)" '
    r'"(?P<upstream_host>.*?)" (?P<upstream_cluster>\S+) (?P<upstream_local_address>\S+) '
    r"(?P<downstream_local_address>\S+) (?P<downstream_remote_address>\S+) (?P<requested_server_name>\S+)"
    r"(?: (?P<route_name>\S+))?\s*"
)
_FIELDS = tuple(field.name for field in fields(AccessLine))


def parse_access_line(line: str) -> AccessLine | None:
    """The line in Istio's default format, as text or JSON; None for anything else a proxy writes to its log."""
    if line.startswith("{"):
        return _from_json(line)
    match = _LINE.fullmatch(line)
    return _access_line(match.groupdict()) if match else None


def _from_json(line: str) -> AccessLine | None:
    try:
        return _access_line(json.loads(line))
    except (ValueError, KeyError):
        return None


def _access_line(found: Mapping[str, Any]) -> AccessLine | None:
    """None where a field does not hold what it should."""
    text = {name: "" if found.get(name) in (None, "-") else str(found[name]) for name in _FIELDS}
    try:
        number = {name: int(text[name] or 0) for name in ("response_code", "bytes_received", "bytes_sent", "duration")}
        elapsed = int(text["upstream_service_time"]) if text["upstream_service_time"] else None
        start = datetime.fromisoformat(text["start_time"])
    except ValueError:
        return None
    typed: Json = {**text, **number, "upstream_service_time": elapsed, "start_time": start}
    return AccessLine(**typed)


@dataclass(frozen=True)
class ClusterName:
    """Istio's name of an Envoy cluster, `direction|port|subset|host`."""

    direction: str
    port: int
    subset: str
    host: str

    @classmethod
    def parse(cls, name: str) -> ClusterName | None:
        """None for clusters that are not named so (`BlackHoleCluster`, `prometheus_stats`, ...)."""
        parts = name.split("|")
        if len(parts) != 4 or not parts[1].isdigit():
            return None
        return cls(parts[0], int(parts[1]), parts[2], parts[3])


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of a cluster; `failing` names the health checks it fails (`failed_eds_health`, ...)."""

    address: str
    port: int
    failing: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        return not self.failing

    def __str__(self) -> str:
        return netloc(self.address, self.port) + (f" ({', '.join(self.failing)})" if self.failing else "")


def endpoints_of(clusters: Json) -> dict[str, tuple[Endpoint, ...]]:
    """Endpoints per cluster, from the answer of `/clusters?format=json`."""
    return {
        cluster["name"]: tuple(map(_endpoint, cluster.get("host_statuses", [])))
        for cluster in clusters.get("cluster_statuses", [])
    }


def connections_of(clusters: Json, counter: str = "cx_active") -> dict[str, int]:
    """Connections to all endpoints that a cluster has now, from the answer of `/clusters?format=json`.

    counter: `cx_active` for those that are open, `cx_total` for all that were made.
    """
    return {
        cluster["name"]: sum(
            int(stat.get("value", 0))
            for host in cluster.get("host_statuses", [])
            for stat in host.get("stats", [])
            if stat.get("name") == counter
        )
        for cluster in clusters.get("cluster_statuses", [])
    }


def _endpoint(host: Json) -> Endpoint:
    where = host["address"].get("socket_address", {})
    health = host.get("health_status", {})
    failing = [name for name, value in health.items() if value is True]
    if health.get("eds_health_status", "HEALTHY") != "HEALTHY":
        failing.append(f"eds_health_status {health['eds_health_status']}")
    return Endpoint(where.get("address", ""), where.get("port_value", 0), tuple(failing))


def _route_configs(dump: Json) -> Iterator[Json]:
    """Route configurations in a whole config dump, or in one asked for by resource."""
    for config in dump.get("configs", []):
        if "route_config" in config:
            yield config["route_config"]
        for key in ("dynamic_route_configs", "static_route_configs"):
            for entry in config.get(key, []):
                yield entry.get("route_config", {})


def route_weights(dump: Json, authority: str) -> dict[str, int] | None:
    """Weight per Envoy cluster of the first route for `authority` (such as `ratings:9080`), from a config dump.

    Clusters of weight 0 are left out, as istiod does; a route to one cluster weighs 100. None where no route
    configuration of the proxy knows the authority.
    """
    for config in _route_configs(dump):
        for host in config.get("virtual_hosts", []):
            if authority not in host.get("domains", []):
                continue
            action: Json = next((route["route"] for route in host.get("routes", []) if "route" in route), {})
            if "cluster" in action:
                return {action["cluster"]: 100}
            clusters = action.get("weighted_clusters", {}).get("clusters", [])
            return {cluster["name"]: cluster["weight"] for cluster in clusters if cluster.get("weight")}
    return None


def access_log_paths(dump: Json) -> set[str]:
    """Where the connection managers of all listeners write their access logs, from a config dump."""
    return set(_log_paths(dump))


def _log_paths(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "http_filters" in node:
            for log in node.get("access_log", []):
                if path := log.get("typed_config", {}).get("path"):
                    yield path
        for value in node.values():
            yield from _log_paths(value)
    elif isinstance(node, list):
        for value in node:
            yield from _log_paths(value)


def identities_of(certs: Json) -> set[str]:
    """SPIFFE ids, without their scheme, of the certificates a proxy holds for itself, from the answer of `/certs`."""
    chains = [entry for held in certs.get("certificates", []) for entry in held.get("cert_chain", [])]
    names = {name.get("uri", "") for entry in chains for name in entry.get("subject_alt_names", [])}
    return {name.removeprefix(_SPIFFE) for name in names if name.startswith(_SPIFFE)}


@dataclass(frozen=True)
class Proxy:
    """One Envoy behind `pilot-agent request`, by exec in its pod. Every call may raise ClusterError."""

    cluster: Cluster
    namespace: str
    pod: str
    container: str = SIDECAR

    def request(self, method: str, path: str, timeout: float = 30) -> str:
        """The answer of Envoy's admin interface; `path` has no leading slash."""
        argv = ["pilot-agent", "request", method, path]
        return self.cluster.exec(self.namespace, self.pod, self.container, argv, timeout=timeout)

    def config_dump(self, resource: str = "") -> Json:
        """The whole configuration, or one `resource` such as `dynamic_route_configs`."""
        return json.loads(self.request("GET", f"config_dump?resource={resource}" if resource else "config_dump"))

    def route_weights(self, authority: str) -> dict[str, int] | None:
        """See the function of this name."""
        return route_weights(self.config_dump("dynamic_route_configs"), authority)

    def endpoints(self) -> dict[str, tuple[Endpoint, ...]]:
        """Endpoints per cluster, with their health."""
        return endpoints_of(json.loads(self.request("GET", "clusters?format=json")))

    def connections(self, counter: str = "cx_active") -> dict[str, int]:
        """Connections that the proxy has open now, by cluster; or has made (`cx_total`)."""
        return connections_of(json.loads(self.request("GET", "clusters?format=json")), counter)

    def identities(self) -> set[str]:
        """Who the proxy can prove to be now, `<trust domain>/ns/<namespace>/sa/<service account>`."""
        return identities_of(json.loads(self.request("GET", "certs")))

    def write_logs(self) -> None:
        """Makes Envoy write its buffered access log at once instead of within 10 s."""
        self.request("POST", "reopen_logs", timeout=10)

    def statistics(self) -> str:
        """All counters in Prometheus' text format."""
        return self.request("GET", "stats/prometheus")
