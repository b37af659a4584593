"""What access-log lines say of where a request stopped; pure functions, so that captures can be held against them.

The rule of thumb: the calling sidecar knows that it failed, a gateway knows whether it got further; who closed a
connection that was made (UC, reset, broken pipe) knows why, so the next hop is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from harness.diagnosis.envoy_failures import (
    Failure,
    Stop,
    connection_failure,
    denial,
    flags,
    host_of,
    most,
    reason_of,
    unanswered,
    without_answer,
)
from harness.product.envoy import AccessLine
from harness.product.names import SERVICE_PORT

_FEDERATION_POLICY = "federation-exports-"
_SILENCE = 1000  # ms; a database that answers does so sooner, and no client gives up before
_TLS_FAILURES = {Failure.OUR_REFUSAL, Failure.OTHER_NAME, Failure.THEIR_REFUSAL}

_DISCOVERY = {
    Failure.OUR_REFUSAL: "peer-not-trusted",
    Failure.OTHER_NAME: "peer-identity-differs",
    Failure.THEIR_REFUSAL: "not-trusted-by-peer",
    Failure.NO_TLS: "peer-without-tls",
    Failure.NOT_MADE: "peer-refuses-connections",
}
# What the peer answered: 400 comes from its istiod, the others from its gateway, 5xx because istiod is not there.
_ANSWERS = {400: "peer-object-unknown", 403: "discovery-denied", 404: "discovery-without-route"}


def answered(code: int) -> str:
    """Cause behind what the peer answered to a discovery request; '' for an answer that names none."""
    return "peer-istiod-unreachable" if code >= 500 else _ANSWERS.get(code, "")


def discovery_stop(lines: Sequence[AccessLine]) -> Stop | None:
    """Why the last discovery request through an egress gateway failed; None where the last one went well."""
    asked = [line for line in lines if line.path.startswith("/v1/")]
    if not asked:
        return None
    line = asked[-1]
    if line.response_code == 200:
        return None
    failure = connection_failure(line)
    if failure in _DISCOVERY:
        return Stop(_DISCOVERY[failure], reason_of(line), line.upstream_host)
    if line.response_code_details == "via_upstream" and (cause := answered(line.response_code)):
        return Stop(cause, str(line.response_code), line.upstream_host)
    if flags(line) & {"NR"}:
        return Stop("egress-without-discovery-route", line.outcome)
    if flags(line) & {"UH"}:
        return Stop("peer-address-unknown", line.outcome)
    return Stop("watch-not-connected", line.outcome, line.upstream_host)


_EGRESS = {
    Failure.NOT_MADE: "data-path-blocked",
    Failure.OUR_REFUSAL: "peer-not-trusted",
    Failure.OTHER_NAME: "peer-identity-differs",
    Failure.THEIR_REFUSAL: "not-trusted-by-peer",
    Failure.NO_TLS: "peer-without-tls",
}


def egress_stop(lines: Iterable[AccessLine], imports: str) -> Stop | None:
    """Why connections for imported services did not get beyond the egress gateway; `imports`: their names' ending."""
    return most(stop for line in lines if not line.is_http and (stop := _egress_stop(line, imports)))


def _egress_stop(line: AccessLine, imports: str) -> Stop | None:
    if not line.requested_server_name:
        # Its listener takes TLS only: who comes without has it turned off.
        ours = line.downstream_local_address.endswith(f":{SERVICE_PORT}")
        return Stop("egress-refuses-plaintext", "filter_chain_not_found") if ours and "NR" in flags(line) else None
    if not line.requested_server_name.endswith(imports):
        return None
    if flags(line) & {"NR", "NC"}:
        return Stop("egress-without-route", _words(line), _server_name_host(line))
    if "UH" in flags(line):
        return Stop("egress-without-remote", "no_healthy_upstream", host_of(line.upstream_cluster))
    if (policy := denial(line)) is not None:
        return Stop("gateway-denies", policy, _server_name_host(line))
    failure = connection_failure(line)
    # Who closed it (LOST) is the ingress gateway, which knows why.
    return Stop(_EGRESS[failure], reason_of(line), line.upstream_host) if failure in _EGRESS else None


def ingress_stop(lines: Iterable[AccessLine], exports: str) -> Stop | None:
    """Why connections for exported services did not get beyond the ingress gateway; `exports`: their names' ending."""
    return most(stop for line in lines if not line.is_http and (stop := _ingress_stop(line, exports)))


def _ingress_stop(line: AccessLine, exports: str) -> Stop | None:
    if not line.requested_server_name.endswith(exports):
        return None
    if (policy := denial(line)) is not None:
        # The policies that federation makes are no objects of the API; a user's may stand beside them.
        ours = not policy or policy.rpartition("/")[2].startswith(_FEDERATION_POLICY)
        return Stop("export-denied" if ours else "gateway-denies", policy, line.requested_server_name)
    if flags(line) & {"NR", "NC"}:
        return Stop("export-unknown", _words(line), line.requested_server_name)
    return _backend_stop(line)


def _backend_stop(line: AccessLine) -> Stop | None:
    """Why a workload was not reached by the proxy before it."""
    host = host_of(line.upstream_cluster)
    if "UH" in flags(line):
        return Stop("backend-down", "no_healthy_upstream", host)
    failure = connection_failure(line)
    if failure is Failure.NO_TLS:
        return Stop("backend-without-tls", reason_of(line), line.upstream_host)
    if failure in {*_TLS_FAILURES, Failure.LOST}:  # there is no hop behind it that could be asked
        return Stop("tls-failing", reason_of(line), line.upstream_host)
    return Stop("backend-unreachable", reason_of(line), line.upstream_host) if failure is Failure.NOT_MADE else None


def client_stop(
    lines: Iterable[AccessLine], imports: str, egress: Collection[str], unknown_cluster: Collection[str]
) -> Stop | None:
    """Why ratings calls did not get beyond the calling sidecar.

    imports: ending of imported hosts' names, any other host is served in the calling mesh itself; egress: addresses of
    the pods of its egress gateway now; unknown_cluster: the version's flags for a route to a cluster that is not there.
    """
    return most(stop for line in lines if (stop := _client_stop(line, imports, egress, unknown_cluster)))


def _client_stop(
    line: AccessLine, imports: str, egress: Collection[str], unknown_cluster: Collection[str]
) -> Stop | None:
    host = host_of(line.upstream_cluster)
    # 2.1 flags both alike; the details tell them apart.
    if flags(line) & set(unknown_cluster) and line.response_code_details != "route_not_found":
        return Stop("unknown-host", _words(line), host)
    if flags(line) & {"NR", "NC"}:
        return Stop("call-without-route", _words(line), line.authority)
    if not host.endswith(imports):
        return _backend_stop(line)
    if "UH" in flags(line):
        return Stop("import-without-endpoints", _words(line), host)
    failure = connection_failure(line)
    if failure is Failure.NOT_MADE:
        there = line.upstream_host.rpartition(":")[0] in egress
        return Stop(
            "egress-data-path-blocked" if there else "egress-endpoint-stale", reason_of(line), line.upstream_host
        )
    if failure in {*_TLS_FAILURES, Failure.NO_TLS}:
        return Stop("tls-failing", reason_of(line), line.upstream_host)
    return None


def mongodb_stop(lines: Iterable[AccessLine]) -> Stop | None:
    """Why connections did not get beyond mongodb's own sidecar; a denial is about the caller's address."""
    return most(stop for line in lines if not line.is_http and (stop := _mongodb_stop(line)))


def _mongodb_stop(line: AccessLine) -> Stop | None:
    if (policy := denial(line)) is not None:
        return Stop("denied-by-policy", policy, line.downstream_remote_address.rpartition(":")[0])
    return _backend_stop(line)


def silent(lines: Iterable[AccessLine]) -> int:
    """How many connections waited for an answer in vain; who closes one without a word does so at once."""
    return sum(without_answer(line) and denial(line) is None and line.duration >= _SILENCE for line in lines)


def application_stops(lines: Iterable[AccessLine]) -> dict[str, Stop]:
    """What services themselves answered but 2xx, or that they did not answer in time, by the host that was called."""
    found: dict[str, list[Stop]] = {}
    for line in lines:
        if unanswered(line):
            stop = Stop("backend-silent", "no answer")
            found.setdefault(host_of(line.upstream_cluster), []).append(stop)
        if line.response_code_details != "via_upstream" or line.response_code < 400 or flags(line):
            continue
        cause = "denied-by-policy" if line.response_code == 403 else "backend-failing"
        found.setdefault(host_of(line.upstream_cluster), []).append(Stop(cause, f"{line.response_code}"))
    told = {host: most(stops) for host, stops in found.items()}
    return {host: stop for host, stop in told.items() if stop}


def _words(line: AccessLine) -> str:
    return line.response_code_details or line.connection_termination_details or line.response_flags


def _server_name_host(line: AccessLine) -> str:
    """The host in an SNI such as `outbound_.9080_._.HOST`."""
    return line.requested_server_name.rpartition("_._.")[2]
