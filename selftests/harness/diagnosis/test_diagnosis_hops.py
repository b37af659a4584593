"""Where requests stopped, told from log lines and statuses that a real federation left behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.diagnosis.envoy_failures import NO_POLICY, Failure, Stop, connection_failure, denial
from harness.diagnosis.hop_failures import application_stops, client_stop, discovery_stop, egress_stop, ingress_stop
from harness.diagnosis.model import Diagnosis, Look, State
from harness.diagnosis.request_links import blocked
from harness.diagnosis.watch_links import watch_stop
from harness.product.envoy import AccessLine, parse_access_line
from harness.product.versions import behaviour

Load = Callable[[str], Any]
IMPORTS, EXPORTS = ".mesh1-imports.local", ".mesh2-exports.local"
SSL, DENIED = "SSL_routines:OPENSSL_internal", "rbac_access_denied_matched_policy"
IMPORTED = "ratings.mesh2-bookinfo.svc.mesh1-imports.local"
LOCAL = "ratings.mesh2-bookinfo.svc.cluster.local"
BOUND = timedelta(minutes=7)
NC = behaviour("2.1.6").unknown_cluster  # whose captures have the newer flag
EGRESS = "10.202.0.18"  # its pod's address in most captures


def lines(text: str) -> list[AccessLine]:
    """Lines of a capture; those of reviews were kept without their times."""
    whole = [line if line.startswith("[") else f"[2026-11-22T07:40:00.000Z] {line}" for line in text.splitlines()]
    found = [parse_access_line(line) for line in whole if line.strip()]
    assert all(found), "the capture has a line that is none"
    return [line for line in found if line]


def peer_of(observed: Load, path: str) -> Any:
    """A captured peer, as the API server has it."""
    return {"metadata": {"name": "peer"}, **observed(path)}


def captured(observed: Load, fault: str, what: str) -> list[AccessLine]:
    return lines(observed(f"faults/{fault}/{what}.log"))


def test_a_healthy_path_stops_nowhere(observed: Load) -> None:
    egress = lines(observed("healthy/access-logs/mesh2-mesh1-egress.log"))
    ingress = lines(observed("healthy/access-logs/mesh1-mesh2-ingress.log"))
    calls = lines(observed("healthy/access-logs/mesh2-reviews-v3.log"))
    assert all((egress, ingress, calls)), "nothing captured proves nothing"
    assert egress_stop(egress, IMPORTS) is None
    assert ingress_stop(ingress, EXPORTS) is None
    assert client_stop(calls, IMPORTS, [EGRESS], NC) is None
    assert application_stops(calls) == {}


@pytest.mark.parametrize("fault", ["split-unknown-host", "import-rule-nomatch"])
def test_a_route_to_a_host_that_no_proxy_knows(observed: Load, fault: str) -> None:
    stop = client_stop(captured(observed, fault, "reviews-outbound"), IMPORTS, [EGRESS], NC)
    assert stop
    assert (stop.cause, stop.detail) == ("unknown-host", "cluster_not_found")


@pytest.mark.parametrize(
    ("version", "flag", "details", "cause"),
    [
        ("2.1.6", "NR", "cluster_not_found", "unknown-host"),
        ("2.1.6", "NR", "route_not_found", "call-without-route"),
        ("2.4.7", "NC", "cluster_not_found", "unknown-host"),
        ("2.4.7", "NR", "route_not_found", "call-without-route"),
    ],
)
def test_no_route_and_a_route_to_nowhere_are_told_apart_in_every_version(version, flag, details, cause) -> None:
    line = AccessLine(**{**call(LOCAL, flag, "", "-").__dict__, "response_code_details": details})
    stop = client_stop([line], IMPORTS, [EGRESS], behaviour(version).unknown_cluster)
    assert stop
    assert stop.cause == cause


def test_an_egress_gateway_that_is_gone_is_noticed_by_the_calling_sidecar(observed: Load) -> None:
    calls = captured(observed, "egress-down-import", "reviews-outbound")
    stop = client_stop(calls, IMPORTS, [], NC)
    assert stop
    assert (stop.cause, stop.about) == ("egress-endpoint-stale", "10.202.0.8:15443")
    # The same lines while a pod of the gateway is at that address: something is in between.
    there = client_stop(calls, IMPORTS, ["10.202.0.8"], NC)
    assert there
    assert (there.cause, there.about) == ("egress-data-path-blocked", "10.202.0.8:15443")


@pytest.mark.parametrize(
    ("fault", "address"),
    [("wrong-service-port-import", "10.200.0.11:15444"), ("ingress-down-export", "10.200.0.11:15443")],
)
def test_a_connection_that_the_other_mesh_refuses_is_told_by_the_egress_gateway(
    observed: Load, fault: str, address: str
) -> None:
    assert client_stop(captured(observed, fault, "reviews-outbound"), IMPORTS, [EGRESS], NC) is None, (
        "reviews only sees a closed connection"
    )
    stop = egress_stop(captured(observed, fault, "mesh2-egress"), IMPORTS)
    assert stop
    assert (stop.cause, stop.about) == ("data-path-blocked", address)
    assert "refused" in stop.detail


def test_a_backend_that_is_gone_is_told_by_the_ingress_gateway_and_by_nobody_before_it(observed: Load) -> None:
    # When this was captured ratings of mesh1 had just been restarted.
    fault = "split-unknown-host"
    stop = ingress_stop(captured(observed, fault, "mesh1-ingress"), EXPORTS)
    assert stop
    assert (stop.cause, stop.about) == ("backend-down", "ratings.mesh1-bookinfo.svc.cluster.local")
    assert egress_stop(captured(observed, fault, "mesh2-egress"), IMPORTS) is None


def test_a_missing_mongodb_route_only_fails_ratings_of_mesh2(observed: Load) -> None:
    stops = application_stops(captured(observed, "mongo-route-missing", "reviews-outbound"))
    assert stops.keys() == {LOCAL}
    assert (stops[LOCAL].cause, stops[LOCAL].detail) == ("backend-failing", "500")


@pytest.mark.parametrize("fault", ["wrong-clientid-export", "istiod-export-down", "unreachable-address-import"])
def test_what_stops_discovery_does_not_stop_requests(observed: Load, fault: str) -> None:
    calls = captured(observed, fault, "reviews-outbound")
    assert client_stop(calls, IMPORTS, [EGRESS], NC) is None
    assert application_stops(calls) == {}
    assert egress_stop(captured(observed, fault, "mesh2-egress"), IMPORTS) is None


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("wrong-clientid-export", "discovery-denied"),
        ("ingress-down-export", "peer-refuses-connections"),
        ("istiod-export-down", "peer-istiod-unreachable"),
        ("import-rule-nomatch", None),
    ],
)
def test_why_the_last_discovery_request_failed(observed: Load, fault: str, cause: str | None) -> None:
    asked = [line for line in captured(observed, fault, "mesh2-egress") if line.is_http]
    stop = discovery_stop(sorted(asked, key=lambda line: line.start_time))
    assert (stop and stop.cause) == cause


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("wrong-clientid-export", "discovery-denied"),
        ("egress-down-import", "egress-unreachable"),
        ("ingress-down-export", "peer-refuses-connections"),
        ("istiod-export-down", "peer-istiod-unreachable"),
    ],
)
def test_why_a_watch_is_not_connected(observed: Load, fault: str, cause: str) -> None:
    peer = peer_of(observed, f"faults/{fault}/mesh2-peer-mesh1.json")
    view = peer["status"]["discoveryStatus"]["inactive"][0]
    now = datetime.fromisoformat(view["watch"]["lastConnected"]) + timedelta(seconds=30)
    asked = [] if fault == "egress-down-import" else captured(observed, fault, "mesh2-egress")
    stop = watch_stop(peer, [view["pod"]], now, BOUND, [line for line in asked if line.is_http])
    assert stop.cause == cause


def test_a_watch_that_nobody_explains_is_one_direction_while_the_other_one_is_connected(observed: Load) -> None:
    peer = peer_of(observed, "faults/unreachable-address-import/mesh2-peer-mesh1.json")
    view = peer["status"]["discoveryStatus"]["inactive"][0]
    now = datetime.fromisoformat(view["watch"]["lastConnected"])
    assert watch_stop(peer, [view["pod"]], now, BOUND, []).cause == "one-direction"
    view["remotes"] = []
    assert watch_stop(peer, [view["pod"]], now, BOUND, []).cause == "watch-not-connected"


def test_a_connected_watch_without_a_fresh_sync_is_stale_and_no_status_is_no_trust_error(observed: Load) -> None:
    # mesh1's istiod was gone: its own status went on saying connected.
    peer = peer_of(observed, "faults/istiod-export-down/mesh1-peer-mesh2.json")
    view = peer["status"]["discoveryStatus"]["active"][0]
    late = datetime.fromisoformat(view["watch"]["lastFullSync"]) + BOUND + timedelta(seconds=1)
    assert watch_stop(peer, [view["pod"]], late, BOUND, []).cause == "stale-sync"
    bare = {"metadata": peer["metadata"]}
    assert watch_stop(bare, [view["pod"]], datetime.now(UTC), BOUND, []).cause == "peer-not-processed"


def test_a_watch_that_is_let_in_without_its_list_is_explained_by_its_polls_since_then(observed: Load) -> None:
    peer = peer_of(observed, "healthy/objects/mesh2-servicemeshpeer-mesh1.json")
    (view,) = peer["status"]["discoveryStatus"]["active"]
    polls = [line for line in captured(observed, "wrong-clientid-export", "mesh2-egress") if line.is_http]
    refused = min(line.start_time for line in polls)

    def cause(connected: datetime) -> str:
        view["watch"] |= {"lastConnected": connected.isoformat(), "lastFullSync": "2026-11-22T05:00:00Z"}
        return watch_stop(peer, [view["pod"]], connected, BOUND, polls).cause

    assert cause(refused - timedelta(seconds=1)) == "discovery-denied"
    assert cause(max(line.start_time for line in polls) + timedelta(seconds=1)) == "stale-sync"


def tcp_line(flags: str, reason: str, details: str = "-", termination: str = "-") -> AccessLine:
    text = (
        f'[2026-11-22T07:37:01.160Z] "- - -" 0 {flags} {details} {termination} "{reason}" 0 0 3 - "-" "-" "-" "-" '
        '"10.200.0.11:15443" outbound|9080||ratings.bookinfo.svc.mesh2-exports.local - 10.202.0.8:15443 '
        f"10.202.0.16:47784 outbound_.9080_._.{IMPORTED} -"
    )
    return lines(text)[0]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (f"TLS_error:|268435581:{SSL}:CERTIFICATE_VERIFY_FAILED:TLS_error_end", Failure.OUR_REFUSAL),
        (
            "TLS error: 1416F086:SSL routines:tls_process_server_certificate:certificate verify failed",
            Failure.OUR_REFUSAL,
        ),
        ("TLS_error:|unable_to_get_issuer_certificate", Failure.OUR_REFUSAL),
        (
            f"TLS_error:|268435581:{SSL}:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_verify_SAN_list",
            Failure.OTHER_NAME,
        ),
        (f"TLS_error:|268435581:{SSL}:CERTIFICATE_VERIFY_FAILED:SAN_matcher", Failure.OTHER_NAME),
        (f"TLS_error:|268436502:{SSL}:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end", Failure.THEIR_REFUSAL),
        ("TLS error: 336151576:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca", Failure.THEIR_REFUSAL),
        (f"TLS_error:|268435703:{SSL}:WRONG_VERSION_NUMBER:TLS_error_end", Failure.NO_TLS),
        ("delayed_connect_error:_Connection_refused", Failure.NOT_MADE),
        ("delayed_connect_error:_No_route_to_host", Failure.NOT_MADE),
        ("connection_timeout", Failure.NOT_MADE),
        ("TLS_error:|33554464:system_library:OPENSSL_internal:Broken_pipe:TLS_error_end", Failure.LOST),
    ],
)
def test_who_rejected_whom(reason: str, kind: Failure) -> None:
    assert connection_failure(tcp_line("UF,URX", reason)) is kind
    assert connection_failure(tcp_line("-", reason)) is None


UNTRUSTED = f"TLS_error:|268435581:{SSL}:CERTIFICATE_VERIFY_FAILED:TLS_error_end"
PLAINTEXT = f"TLS_error:|268435703:{SSL}:WRONG_VERSION_NUMBER:TLS_error_end"


def call(host: str, flags: str, reason: str, upstream: str) -> AccessLine:
    details = "upstream_reset_before_response_started{remote_connection_failure}" if reason else "no_healthy_upstream"
    return lines(
        f'[2026-11-22T07:37:01.160Z] "GET /ratings/0 HTTP/1.1" 503 {flags} {details} - "{reason or "-"}" 0 19 3 - "-" '
        f'"probe/x/1" "id" "ratings:9080" "{upstream}" outbound|9080||{host} - 10.92.225.16:9080 10.202.0.12:47922 - -'
    )[0]


@pytest.mark.parametrize(
    ("host", "flags", "reason", "upstream", "cause"),
    [
        (LOCAL, "UH", "", "-", "backend-down"),
        (IMPORTED, "UH", "", "-", "import-without-endpoints"),
        (LOCAL, "UF,URX", "delayed_connect_error:_Connection_refused", "10.202.0.16:9080", "backend-unreachable"),
        (IMPORTED, "UF,URX", "delayed_connect_error:_Connection_refused", "10.202.0.99:15443", "egress-endpoint-stale"),
        (IMPORTED, "UF,URX", "connection_timeout", f"{EGRESS}:15443", "egress-data-path-blocked"),
        (LOCAL, "UF,URX", UNTRUSTED, "10.202.0.16:9080", "tls-failing"),
        (IMPORTED, "UF,URX", UNTRUSTED, f"{EGRESS}:15443", "tls-failing"),
        (LOCAL, "UF,URX", PLAINTEXT, "10.202.0.16:9080", "backend-without-tls"),
        (IMPORTED, "UC", "-", f"{EGRESS}:15443", None),
    ],
)
def test_a_call_at_home_and_an_imported_one_fail_by_different_causes(
    host: str, flags: str, reason: str, upstream: str, cause: str | None
) -> None:
    stop = client_stop([call(host, flags, reason, upstream)], IMPORTS, [EGRESS], NC)
    assert (stop and stop.cause) == cause
    if stop and cause == "backend-down":
        assert stop.about == LOCAL


def with_name(line: AccessLine, server_name: str) -> AccessLine:
    return AccessLine(**{**line.__dict__, "requested_server_name": server_name})


@pytest.mark.parametrize(
    ("line", "server_name", "cause"),
    [
        (("NR", "-", "filter_chain_not_found"), "ours", "egress-without-route"),
        (("NR", "-", "filter_chain_not_found"), "", "egress-refuses-plaintext"),
        (("NR", "-", "filter_chain_not_found"), "elsewhere.example", None),
        (("UF,URX", UNTRUSTED), "ours", "peer-not-trusted"),
        (("UF,URX", f"{UNTRUSTED}:verify_SAN_list"), "ours", "peer-identity-differs"),
        (("UF,URX", f"TLS_error:|268436502:{SSL}:TLSV1_ALERT_UNKNOWN_CA"), "ours", "not-trusted-by-peer"),
        (("UF,URX", PLAINTEXT), "ours", "peer-without-tls"),
        (("UF,URX", "TLS_error:|33554464:Broken_pipe"), "ours", None),
        (("UH", "-"), "ours", "egress-without-remote"),
    ],
)
def test_what_the_egress_gateway_says(line: tuple[str, ...], server_name: str, cause: str | None) -> None:
    name = f"outbound_.9080_._.{IMPORTED}" if server_name == "ours" else server_name
    stop = egress_stop([with_name(tcp_line(*line), name)], IMPORTS)
    assert (stop and stop.cause) == cause
    if cause == "egress-without-route":
        assert stop
        assert stop.about == IMPORTED


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (("-", "-", "-", f"{DENIED}[ns[mesh1-system]-policy[federation-exports-mesh2]-rule[0]]"), "export-denied"),
        (("-", "-", "-", f"{DENIED}[ns[mesh1-system]-policy[mine]-rule[0]]"), "gateway-denies"),
        (("-", "-", "-", f"{DENIED}[none]"), "gateway-denies"),
        (("-", "-", "-", "rbac_access_denied"), "export-denied"),
        (("NR", "-", "filter_chain_not_found"), "export-unknown"),
        (("UF,URX", PLAINTEXT), "backend-without-tls"),
        (("UF,URX", UNTRUSTED), "tls-failing"),
        (("UF,URX", "delayed_connect_error:_Connection_refused"), "backend-unreachable"),
        (("UH", "-"), "backend-down"),
    ],
)
def test_what_the_ingress_gateway_says(line: tuple[str, ...], cause: str) -> None:
    ours = with_name(tcp_line(*line), f"outbound_.9080_._.ratings.bookinfo.svc{EXPORTS}")
    stop = ingress_stop([ours], EXPORTS)
    assert stop
    assert stop.cause == cause
    assert ingress_stop([with_name(ours, "")], EXPORTS) is None, "a stranger is no caller"


def test_the_policy_that_denies_is_named() -> None:
    def told(termination: str) -> str | None:
        return denial(tcp_line("-", "-", "-", termination))

    assert told(f"{DENIED}[ns[mesh1-bookinfo]-policy[ratings-only]-rule[1]]") == ("mesh1-bookinfo/ratings-only")
    assert told(f"{DENIED}[none]") == NO_POLICY
    assert told("rbac_access_denied") == ""
    assert told("downstream_remote_disconnect") is None


@pytest.mark.parametrize(
    ("status", "details", "flags", "cause", "side"),
    [
        (400, "via_upstream", "-", "peer-object-unknown", "mesh1"),
        (403, "via_upstream", "-", "discovery-denied", "mesh1"),
        (404, "via_upstream", "-", "discovery-without-route", "mesh1"),
        (503, "via_upstream", "URX", "peer-istiod-unreachable", "mesh1"),
        (404, "route_not_found", "NR", "egress-without-discovery-route", "mesh2"),
        (503, "no_healthy_upstream", "UH", "peer-address-unknown", "mesh2"),
    ],
)
def test_every_answer_to_the_watch_of_mesh2_has_its_cause_and_its_side(
    status: int, details: str, flags: str, cause: str, side: str
) -> None:
    asked = lines(
        f'[2026-11-22T07:35:15.554Z] "GET /v1/watch HTTP/1.1" {status} {flags} {details} - "-" 0 19 5 4 "10.202.0.4" '
        '"Go-http-client/1.1" "dde5" "discovery.mesh2-system.svc.mesh1.local" "10.200.0.11:8188" '
        "outbound|8188|federation-discovery-mesh1-egress|discovery.mesh2-system.svc.mesh1.local 10.202.0.8:44994 "
        "10.202.0.8:8188 10.202.0.4:57950 - federation-discovery-mesh1-egress"
    )
    stop = discovery_stop(asked)
    assert stop
    assert stop.cause == cause
    values = dict.fromkeys(("address", "admitted", "gateway", "name", "remedy"), "x") | {"detail": str(status)}
    link = Look("watch", "mesh2", "its status").broken(cause, "seen", **values)
    assert link.side == side
    assert link.sentence.count(side) >= 1


def test_a_certificate_that_the_peer_rejects_is_put_right_in_the_peer() -> None:
    stop = egress_stop([tcp_line("UF,URX", f"TLS_error:|268436502:{SSL}:TLSV1_ALERT_UNKNOWN_CA")], IMPORTS)
    assert stop
    link = Look("egress", "mesh2", "its log").broken(stop.cause, "seen", detail=stop.detail)
    assert (link.side, link.seen) == ("mesh1", "seen (seen in mesh2)")
    assert link.sentence.startswith("mesh1 rejects the certificate of mesh2's egress gateway")


def test_an_address_that_a_name_has_left_is_told_from_a_way_that_is_shut() -> None:
    stop = Stop("data-path-blocked", "connection_timeout", "10.200.0.11:15443", 3)
    moved = blocked(stop, {"gateway.example": {"10.200.0.77"}})
    assert (moved.cause, moved.about, moved.count) == ("remote-address-stale", stop.about, 3)
    assert "10.200.0.77" in moved.detail
    assert blocked(stop, {"gateway.example": {"10.200.0.77", "10.200.0.11"}}) == stop
    assert blocked(stop, {}) == stop, "a name that does not resolve from here proves nothing"


@pytest.mark.parametrize(
    ("states", "state", "cause"),
    [
        ("ok ok", State.OK, ""),
        ("ok unknown", State.UNKNOWN, ""),
        ("unknown broken", State.BROKEN, "istiod-down"),
        ("broken broken-later", State.BROKEN, "istiod-down"),
    ],
)
def test_the_first_broken_link_is_the_cause_and_unknown_is_not_ok(states: str, state: State, cause: str) -> None:
    look = Look("link", "mesh1", "somewhere")
    links = {
        "ok": look.ok("fine"),
        "unknown": look.unknown("not allowed"),
        "broken": look.broken("istiod-down", "no pod", istiod="istiod-x", detail="quota"),
        "broken-later": look.broken("gateway-down", "no pod", gateway="y", detail="quota"),
    }
    found = Diagnosis(tuple(links[name] for name in states.split()))
    assert (found.state, found.cause) == (state, cause)
    assert found.to_dict()["cause"] == cause
    assert ("not allowed" in "\n".join(found.summary)) == ("unknown" in states)
