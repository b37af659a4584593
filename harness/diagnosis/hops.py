"""What access-log lines say of where a request stopped; pure functions, so that captures can be held against them.

The rule of thumb: the calling sidecar knows that it failed, a gateway knows whether it got further; who closed a
connection that was made (UC, reset, broken pipe) knows why, so the next hop is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.envoy import AccessLine, ClusterName

_NOT_MADE = re.compile(r"refused|no[_ ]route|unreachable|timeout|timed[_ ]out|connect_error", re.IGNORECASE)
_WE_REJECT = re.compile(r"certificate[_ ]verify[_ ]failed|verify[_ ]san|san[_ ]matcher", re.IGNORECASE)
_PEER_REJECTS = re.compile(
    r"alert[_ ](unknown[_ ]ca|certificate[_ ]unknown|bad[_ ]certificate|access[_ ]denied)", re.IGNORECASE
)


@dataclass(frozen=True)
class Stop:
    """Where requests stopped: a cause, the detail in the proxy's words, the address or host it is about, and how
    many lines say so."""

    cause: str
    detail: str
    about: str = ""
    count: int = 1


def _most(stops: Iterable[Stop]) -> Stop | None:
    counted = Counter(stops)
    if not counted:
        return None
    stop, count = counted.most_common(1)[0]
    return Stop(stop.cause, stop.detail, stop.about, count)


def flags(line: AccessLine) -> set[str]:
    return set(line.response_flags.split(",")) - {""}


def connection_failure(line: AccessLine) -> str:
    """Why an upstream connection was not made: `not-made`, `we-reject`, `peer-rejects`, or '' (made, or unclear)."""
    reason = f"{line.upstream_transport_failure_reason} {line.response_code_details}"
    if not flags(line) & {"UF", "URX", "UC"}:
        return ""
    if _PEER_REJECTS.search(reason):
        return "peer-rejects"
    if _WE_REJECT.search(reason):
        return "we-reject"
    return "not-made" if _NOT_MADE.search(reason) else ""


def reason_of(line: AccessLine) -> str:
    """The failure in the proxy's words."""
    return (line.upstream_transport_failure_reason or line.response_code_details or line.response_flags).strip(":|")


def discovery_stop(lines: Sequence[AccessLine]) -> Stop | None:
    """Why the last discovery request through an egress gateway failed; None where the last one went well."""
    asked = [line for line in lines if line.path.startswith("/v1/")]
    if not asked:
        return None
    line = asked[-1]
    if line.response_code == 200:
        return None
    kinds = {
        "we-reject": "peer-not-trusted",
        "peer-rejects": "not-trusted-by-peer",
        "not-made": "peer-refuses-connections",
    }
    if kind := kinds.get(connection_failure(line)):
        return Stop(kind, reason_of(line), line.upstream_host)
    if line.response_code_details == "via_upstream" and line.response_code == 403:
        return Stop("discovery-denied", "403", line.upstream_host)
    if line.response_code_details == "via_upstream":
        return Stop("peer-istiod-unreachable", str(line.response_code), line.upstream_host)
    return Stop("watch-not-connected", line.outcome, line.upstream_host)


def egress_stop(lines: Iterable[AccessLine], imports: str) -> Stop | None:
    """Why connections for imported services did not get beyond the egress gateway; `imports`: their names' ending."""
    stops = []
    for line in lines:
        if line.is_http or not line.requested_server_name.endswith(imports):
            continue
        host = _host(line.upstream_cluster)
        kind = connection_failure(line)
        if "UH" in flags(line):
            stops.append(Stop("egress-without-remote", "no_healthy_upstream", host))
        elif kind == "not-made":
            stops.append(Stop("data-path-blocked", reason_of(line), line.upstream_host))
        elif kind == "we-reject":
            stops.append(Stop("peer-not-trusted", reason_of(line), line.upstream_host))
        elif kind == "peer-rejects":
            stops.append(Stop("not-trusted-by-peer", reason_of(line), line.upstream_host))
    return _most(stops)


def ingress_stop(lines: Iterable[AccessLine], exports: str) -> Stop | None:
    """Why connections for exported services did not get beyond the ingress gateway; `exports`: their names' ending."""
    stops = []
    for line in lines:
        if line.is_http or not line.requested_server_name.endswith(exports):
            continue
        words = f"{line.connection_termination_details} {line.response_code_details}"
        if "rbac_access_denied" in words:
            stops.append(Stop("export-denied", "rbac_access_denied", line.requested_server_name))
        elif flags(line) & {"NR"} or "filter_chain_not_found" in words:
            stops.append(Stop("export-unknown", "filter_chain_not_found", line.requested_server_name))
        elif "UH" in flags(line):
            stops.append(Stop("backend-down", "no_healthy_upstream", _host(line.upstream_cluster)))
        elif "UF" in flags(line):
            stops.append(Stop("backend-unreachable", reason_of(line), line.upstream_host))
    return _most(stops)


def client_stop(lines: Iterable[AccessLine]) -> Stop | None:
    """Why ratings calls did not get beyond the calling sidecar."""
    stops = []
    for line in lines:
        host = _host(line.upstream_cluster)
        if flags(line) & {"NC", "NR"}:
            stops.append(Stop("unknown-host", line.response_code_details, host))
        elif "UH" in flags(line):
            stops.append(Stop("import-without-endpoints", line.response_code_details, host))
        elif connection_failure(line) == "not-made":
            stops.append(Stop("egress-endpoint-stale", reason_of(line), line.upstream_host))
    return _most(stops)


def application_stops(lines: Iterable[AccessLine]) -> dict[str, Stop]:
    """What services themselves answered but 2xx, by the host that was called."""
    found: dict[str, list[Stop]] = {}
    for line in lines:
        host = _host(line.upstream_cluster)
        if line.response_code_details != "via_upstream" or line.response_code < 400 or flags(line):
            continue
        cause = "denied-by-policy" if line.response_code == 403 else "backend-failing"
        found.setdefault(host, []).append(Stop(cause, f"{line.response_code}", line.upstream_host))
    most = {host: _most(Stop(stop.cause, stop.detail) for stop in stops) for host, stops in found.items()}
    return {host: stop for host, stop in most.items() if stop}


def _host(cluster: str) -> str:
    parsed = ClusterName.parse(cluster)
    return parsed.host if parsed else cluster
