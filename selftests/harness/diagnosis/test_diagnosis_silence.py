"""What log lines say of workloads that give no answer, and of the way to mongodb; lines as proxies wrote them."""

from __future__ import annotations

import pytest

from harness.diagnosis.envoy_failures import NO_POLICY, unanswered, without_answer
from harness.diagnosis.hop_failures import application_stops, client_stop, mongodb_stop, silent
from harness.diagnosis.model import Diagnosis, Look
from harness.product.envoy import AccessLine, connections_of, parse_access_line
from harness.product.versions import behaviour

LOCAL = "ratings.mesh2-bookinfo.svc.cluster.local"
IMPORTED = "mongodb.mesh2-bookinfo.svc.mesh1-imports.local"
NC = behaviour("2.1.6").unknown_cluster


def parsed(text: str) -> AccessLine:
    found = parse_access_line(f"[2026-11-25T22:42:48.051Z] {text}")
    assert found, text
    return found


def call(said: str, upstream: str = "127.33.0.14:9080") -> AccessLine:
    """A ratings call in reviews' log; `said`: code, flags, details."""
    return parsed(
        f'"GET /ratings/0 HTTP/1.1" {said} - "-" 0 0 2503 - "-" "probe/x/9" "8cd66a10" "ratings:9080" "{upstream}" '
        f"outbound|9080||{LOCAL} 127.33.0.17:40514 127.33.128.17:9080 127.33.0.17:58308 - -"
    )


def served(said: str, numbers: str, caller: str = "127.222.0.7") -> AccessLine:
    """A connection in the log of mongodb's sidecar; `said`: flags, details, termination; numbers: bytes, duration."""
    return parsed(
        f'"- - -" 0 {said} "-" {numbers} - "-" "-" "-" "-" "127.222.64.18:27017" inbound|27017|| 127.222.0.18:50212 '
        f"127.222.0.18:27017 {caller}:59232 outbound_.27017_._.mongodb.mesh1-bookinfo.svc.cluster.local -"
    )


DENIED = served("- - rbac_access_denied_matched_policy[none]", "2 0 5")
ANSWERED = served("- - -", "2 4 1", "127.222.0.14")
WAITED = served("UR - -", "2 0 5003")


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (call("0 DC downstream_remote_disconnect"), "backend-silent"),
        (call("504 UT response_timeout"), "backend-silent"),
        (call("504 UMSDR max_duration_timeout"), "backend-silent"),
        (call("0 DC,DI downstream_remote_disconnect", upstream="-"), None),
        (call("503 UC upstream_reset_before_response_started{connection_termination}"), None),
        (call("500 - via_upstream"), "backend-failing"),
    ],
)
def test_no_answer_in_time_is_no_bad_answer_and_no_lost_connection(line: AccessLine, cause: str | None) -> None:
    stop = application_stops([line]).get(LOCAL)
    assert (stop and stop.cause) == cause
    assert unanswered(line) is (cause == "backend-silent")


def test_mongodbs_sidecar_says_whom_it_denies() -> None:
    stop = mongodb_stop([ANSWERED, DENIED, DENIED])
    assert stop
    assert (stop.cause, stop.detail, stop.about, stop.count) == ("denied-by-policy", NO_POLICY, "127.222.0.7", 2)
    assert mongodb_stop([ANSWERED]) is None


def test_a_connection_that_waited_is_told_from_one_that_was_denied() -> None:
    assert [without_answer(line) for line in (ANSWERED, DENIED, WAITED)] == [False, True, True]
    assert silent([ANSWERED, DENIED, WAITED]) == 1


@pytest.mark.parametrize(
    ("said", "upstream", "cause"),
    [
        ("UH - -", "-", "import-without-endpoints"),
        ("UF,URX - -", "127.33.0.99:15443", "egress-endpoint-stale"),
        ("- - -", "127.33.0.9:15443", None),
    ],
)
def test_connections_to_mongodb_stop_at_the_calling_sidecar_as_requests_do(
    said: str, upstream: str, cause: str | None
) -> None:
    reason = "delayed_connect_error:_Connection_refused" if "UF" in said else "-"
    line = parsed(
        f'"- - -" 0 {said} "{reason}" 0 0 3 - "-" "-" "-" "-" "{upstream}" outbound|27017||{IMPORTED} - '
        "127.33.128.14:27017 127.33.0.14:53192 - -"
    )
    stop = client_stop([line], ".mesh1-imports.local", ["127.33.0.9"], NC)
    assert (stop and stop.cause) == cause
    assert stop is None or stop.detail, "a connection's line has no details, but flags"


def test_open_connections_are_counted_by_cluster() -> None:
    stats = [{"name": "cx_active", "type": "GAUGE", "value": "2"}, {"name": "cx_total", "value": "9"}]
    cluster = {"name": "outbound|27017||x", "host_statuses": [{"stats": stats}, {"stats": [{"name": "cx_active"}]}]}
    assert connections_of({"cluster_statuses": [cluster, {"name": "idle"}]}) == {"outbound|27017||x": 2, "idle": 0}


def test_what_another_broken_link_explains_is_no_doubt() -> None:
    look = Look("chain shown", "mesh1", "its gateway")
    broken = Look("workload", "mesh1", "Endpoints").broken(
        "backend-down", "none", service="ratings", selector="app=ratings", detail="quota"
    )
    for follows, shown in ((("workload",), False), (("exports",), True), ((), True)):
        found = Diagnosis((look.unknown("Connection reset by peer", follows), broken))
        assert ("chain shown" in "\n".join(found.summary)) is shown
        assert "follows" not in found.to_dict()["links"][0]
