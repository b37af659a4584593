"""Where requests stopped, told from log lines and statuses that a real federation left behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from string import Formatter
from typing import Any

import pytest

from harness.diagnosis.causes import CAUSES
from harness.diagnosis.hops import (
    application_stops,
    client_stop,
    connection_failure,
    discovery_stop,
    egress_stop,
    ingress_stop,
)
from harness.diagnosis.model import Diagnosis, Look, State
from harness.diagnosis.watches import watch_stop
from harness.envoy import AccessLine, parse_access_line

Load = Callable[[str], Any]
IMPORTS, EXPORTS = ".mesh1-imports.local", ".mesh2-exports.local"
IMPORTED = "ratings.mesh2-bookinfo.svc.mesh1-imports.local"
LOCAL = "ratings.mesh2-bookinfo.svc.cluster.local"
BOUND = timedelta(minutes=7)


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
    assert client_stop(calls) is None
    assert application_stops(calls) == {}


@pytest.mark.parametrize("fault", ["split-unknown-host", "import-rule-nomatch"])
def test_a_route_to_a_host_that_no_proxy_knows(observed: Load, fault: str) -> None:
    stop = client_stop(captured(observed, fault, "reviews-outbound"))
    assert stop
    assert (stop.cause, stop.detail) == ("unknown-host", "cluster_not_found")


def test_an_egress_gateway_that_is_gone_is_noticed_by_the_calling_sidecar(observed: Load) -> None:
    stop = client_stop(captured(observed, "egress-down-import", "reviews-outbound"))
    assert stop
    assert (stop.cause, stop.about) == ("egress-endpoint-stale", "10.202.0.8:15443")


@pytest.mark.parametrize(
    ("fault", "address"),
    [("wrong-service-port-import", "10.200.0.11:15444"), ("ingress-down-export", "10.200.0.11:15443")],
)
def test_a_connection_that_the_other_mesh_refuses_is_told_by_the_egress_gateway(
    observed: Load, fault: str, address: str
) -> None:
    assert client_stop(captured(observed, fault, "reviews-outbound")) is None, "reviews only sees a closed connection"
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
    assert client_stop(calls) is None
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
        ("TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end", "we-reject"),
        ("TLS error: 1416F086:SSL routines:tls_process_server_certificate:certificate verify failed", "we-reject"),
        ("TLS_error:|268436502:SSL_routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end", "peer-rejects"),
        ("TLS error: 336151576:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca", "peer-rejects"),
        ("delayed_connect_error:_Connection_refused", "not-made"),
        ("delayed_connect_error:_No_route_to_host", "not-made"),
        ("TLS_error:|33554464:system_library:OPENSSL_internal:Broken_pipe:TLS_error_end", ""),
    ],
)
def test_who_rejected_whom(reason: str, kind: str) -> None:
    assert connection_failure(tcp_line("UF,URX", reason)) == kind


def test_a_denied_export_an_unknown_one_and_a_stranger() -> None:
    def told(line: AccessLine, server_name: str) -> str | None:
        stop = ingress_stop([AccessLine(**{**line.__dict__, "requested_server_name": server_name})], EXPORTS)
        return stop.cause if stop else None

    ours = f"outbound_.9080_._.ratings.bookinfo.svc{EXPORTS}"
    policy = "rbac_access_denied_matched_policy[ns[mesh1-system]-policy[federation-exports-mesh2]-rule[0]]"
    assert told(tcp_line("-", "-", "-", policy), ours) == "export-denied"
    assert told(tcp_line("NR", "-", "filter_chain_not_found"), ours) == "export-unknown"
    assert told(tcp_line("NR", "-", "filter_chain_not_found"), "") is None


def test_every_cause_has_a_sentence_and_a_remedy_that_can_be_filled_in() -> None:
    values = dict.fromkeys(_placeholders(), "x")
    for identity, cause in CAUSES.items():
        link = Look("link", "mesh1", "somewhere").broken(identity, "seen", **values)
        assert link.sentence.endswith("."), identity
        assert link.remedy.endswith("."), identity
        assert "{" not in f"{link.sentence}{link.remedy}", identity
        assert "mesh" in cause.sentence, f"{identity} does not say where"


def _placeholders() -> set[str]:
    templates = [template for cause in CAUSES.values() for template in cause]
    return {name for text in templates for _, name, _, _ in Formatter().parse(text) if name} - {"mesh", "peer"}


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
        "broken": look.broken("istiod-down", "no pod", istiod="istiod-x"),
        "broken-later": look.broken("gateway-down", "no pod", gateway="y"),
    }
    found = Diagnosis(tuple(links[name] for name in states.split()))
    assert (found.state, found.cause) == (state, cause)
    assert found.to_dict()["cause"] == cause
    assert ("not allowed" in "\n".join(found.summary)) == ("unknown" in states)
