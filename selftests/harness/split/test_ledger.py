"""The books of a run: held against the captures, and against what logs do wrong."""

from __future__ import annotations

import pytest

from harness.split.ledger import Fate, Ledger, Role, Source
from harness.split.probe import Page, Probe, user_agent
from selftests.support.scripted import BACKENDS, CALLER, RATINGS, Answer, call_line, ratings_line, stamp

# Pod addresses of the captured run.
CAPTURED = {
    "mesh1-ratings-v1": Source("mesh1", Role.RATINGS, "ratings-v1", "ratings-v1-a", "10.201.0.11"),
    "mesh1-ratings-v2": Source("mesh1", Role.RATINGS, "ratings-v2", "ratings-v2-a", "10.201.0.16"),
    "mesh2-ratings-v1": Source("mesh2", Role.RATINGS, "ratings-v1", "ratings-v1-b", "10.202.0.14"),
    "mesh2-ratings-v2": Source("mesh2", Role.RATINGS, "ratings-v2", "ratings-v2-b", "10.202.0.16"),
    "mesh2-reviews-v3": Source("mesh2", Role.CALLER, "reviews-v3", "reviews-v3-b", "10.202.0.12"),
    "mesh1-mesh2-ingress": Source("mesh1", Role.GATEWAY, "mesh2-ingress", "mesh2-ingress-a", "10.201.0.6"),
    "mesh2-mesh1-egress": Source("mesh2", Role.GATEWAY, "mesh1-egress", "mesh1-egress-b", "10.202.0.8"),
}


def probe(index: int, run: str = "r", page: Page = Page.STARS, status: int = 200, **more) -> Probe:
    return Probe(index, 0, user_agent(run, index), f"id-{index}", 1000.0 + index, 0.1, status, page, **more)


@pytest.fixture
def ledger() -> Ledger:
    """Books of run `r`, whose grace is over at once when the clock says so."""
    return Ledger("r", BACKENDS, clock=lambda: 0.0)


def log(ledger: Ledger, index: int, answer: Answer, caller: bool = True, ratings: bool = True) -> None:
    if caller:
        ledger.add_line(CALLER, call_line(user_agent("r", index), answer, stamp()))
    if ratings:
        ledger.add_line(RATINGS[answer.mesh], ratings_line(user_agent("r", index), stamp()))


def settlement(ledger: Ledger, index: int = 0):
    return ledger.settlements(index, index + 1)[0]


@pytest.mark.parametrize("probes_first", [True, False])
def test_the_captured_run_of_40_probes_balances(observed, probes_first):
    ledger = Ledger("capture", BACKENDS)
    probes = [probe(n, "capture") for n in range(1, 41)]
    for source in CAPTURED.values():
        ledger.add_source(source)
    if probes_first:
        for each in probes:
            ledger.add_probe(each)
    for name, source in CAPTURED.items():
        for text in observed(f"healthy/access-logs/{name}.log").splitlines():
            ledger.add_line(source, text)
    if not probes_first:
        for each in probes:
            ledger.add_probe(each)
    account = ledger.account()
    assert account.served == {"mesh1": 19, "mesh2": 21}
    assert (account.sent, account.failed, account.unattributed, account.foreign) == (40, 0, 0, {})
    assert account.connections == {"mesh1 mesh2-ingress-a": 13, "mesh2 mesh1-egress-b": 13}


def test_a_captured_record_names_gateways_and_lines(observed):
    ledger = Ledger("capture", BACKENDS)
    for name, source in CAPTURED.items():
        ledger.add_source(source)
        for text in observed(f"healthy/access-logs/{name}.log").splitlines():
            ledger.add_line(source, text)
    ledger.add_probe(probe(1, "capture"))
    ledger.add_probe(probe(2, "capture"))
    through, local = ledger.records()
    assert through.settlement.mesh == "mesh1"
    assert through.path == ("mesh2 mesh1-egress", "mesh1 mesh2-ingress")
    assert [str(logged.source) for logged in through.lines] == ["mesh2 reviews-v3-b", "mesh1 ratings-v1-a"]
    assert (local.settlement.mesh, local.path) == ("mesh2", ())


def test_the_line_of_a_gateway_connection_belongs_to_the_probes_it_carried(ledger):
    gateway = Source("mesh1", Role.GATEWAY, "mesh2-ingress", "mesh2-ingress-a", "10.1.0.6")
    text = (
        f'[{stamp()}] "- - -" 0 - - - "-" 900 400 24 - "-" "-" "-" "-" "10.1.0.11:9080" '
        "outbound|9080||ratings.mesh1-bookinfo.svc.cluster.local 10.1.0.6:57386 10.1.0.6:15443 10.1.0.1:61453 "
        "outbound_.9080_._.ratings.bookinfo.svc.mesh2-exports.local -"
    )
    ledger.add_source(gateway)
    log(ledger, 0, Answer("mesh1"))
    ledger.add_line(gateway, text)
    ledger.add_probe(probe(0))
    (record,) = ledger.records()
    assert text in [logged.text for logged in record.lines]
    assert "mesh1 mesh2-ingress" in record.path


def test_a_served_probe_is_settled_by_both_its_lines(ledger):
    ledger.add_probe(probe(0))
    assert ledger.settled() == 0
    log(ledger, 0, Answer("mesh1", "10.2.0.12:7"), ratings=False)
    assert ledger.settled() == 0
    log(ledger, 0, Answer("mesh1"), caller=False)
    assert ledger.settled() == 1
    assert (settlement(ledger).mesh, settlement(ledger).connection) == ("mesh1", "10.2.0.12:7")


def test_only_the_prefix_in_send_order_counts_as_settled(ledger):
    for index in (0, 1, 2):
        ledger.add_probe(probe(index))
    for index in (2, 1):
        log(ledger, index, Answer("mesh2"))
        assert ledger.settled() == 0
    log(ledger, 0, Answer("mesh1"))
    assert ledger.settled() == 3
    with pytest.raises(LookupError):
        ledger.settlements(0, 4)


def test_a_failed_call_fails_whoever_was_picked_and_whatever_the_page_shows(ledger):
    ledger.add_probe(probe(0, page=Page.UNAVAILABLE))
    log(ledger, 0, Answer("mesh1", status=503), ratings=False)
    found = settlement(ledger)
    assert found.fate is Fate.FAILED
    assert found.why == "ratings call to mesh1: 503 UC upstream_reset_before_response_started"


def test_a_pick_counts_though_the_page_failed(ledger):
    ledger.add_probe(probe(0, page=Page.NONE, status=0, error="no answer within 15 s"))
    log(ledger, 0, Answer("mesh2"))
    assert settlement(ledger).mesh == "mesh2"


def test_the_first_call_decides_not_the_retry_of_productpage(ledger):
    log(ledger, 0, Answer("mesh2"))
    ledger.add_line(CALLER, call_line("probe/r/0", Answer("mesh1", status=503), stamp(1.0)))
    ledger.add_probe(probe(0))
    assert settlement(ledger).fate is Fate.FAILED


@pytest.mark.parametrize(
    ("caller", "ratings", "page", "fate", "why"),
    [
        (True, False, Page.STARS, Fate.UNATTRIBUTED, "no ratings sidecar there logged it"),
        (False, True, Page.STARS, Fate.SERVED, "the calling sidecar's line is missing"),
        (False, False, Page.STARS, Fate.UNATTRIBUTED, "stars on the page, no log line of its ratings call"),
        (False, False, Page.UNAVAILABLE, Fate.FAILED, "page with unavailable, no log line of a ratings call"),
    ],
)
def test_what_never_comes_is_explained_when_the_books_are_closed(ledger, caller, ratings, page, fate, why):
    ledger.add_probe(probe(0, page=page))
    log(ledger, 0, Answer("mesh1"), caller, ratings)
    assert ledger.settled() == 0
    ledger.close(1, timeout=0)
    assert settlement(ledger).fate is fate
    assert why in settlement(ledger).why


@pytest.mark.parametrize("served_by", [["mesh2"], ["mesh2", "mesh1"]])
def test_lines_that_contradict_each_other_are_no_pick(ledger, served_by):
    ledger.add_probe(probe(0))
    for mesh in served_by:
        ledger.add_line(RATINGS[mesh], ratings_line("probe/r/0", stamp()))
    ledger.add_line(CALLER, call_line("probe/r/0", Answer("mesh1"), stamp()))
    ledger.close(1, timeout=0)
    assert settlement(ledger).fate is Fate.UNATTRIBUTED
    assert "picked mesh1, but a ratings sidecar of " in settlement(ledger).why


def test_the_grace_ends_the_waiting_for_one_probe():
    now = 0.0
    ledger = Ledger("r", BACKENDS, grace=15, clock=lambda: now)
    ledger.add_probe(probe(0))
    now = probe(0).answered_at + 14.9
    assert ledger.settled() == 0
    now = probe(0).answered_at + 15.1
    assert ledger.settled() == 1


def test_a_probe_that_never_left_has_failed_at_once(ledger):
    ledger.add_probe(probe(0, page=Page.NONE, status=0, connected=False, error="connection refused"))
    assert settlement(ledger).why == "productpage was not reached: connection refused"


def test_an_interrupted_log_is_told_with_what_left_no_trace(ledger):
    ledger.add_trouble("mesh1 ratings-v1-mesh1 is gone")
    ledger.add_probe(probe(0))
    ledger.close(1, timeout=0)
    assert "(mesh1 ratings-v1-mesh1 is gone)" in settlement(ledger).why


def test_foreign_lines_are_counted_apart_and_never_mixed_in(ledger):
    log(ledger, 0, Answer("mesh1"))
    ledger.add_probe(probe(0))
    for agent in ("probe/other/0", "probe/r2/0", "curl/8", "probe/r/x", "probe/r/"):
        ledger.add_line(RATINGS["mesh1"], ratings_line(agent, stamp()))
    for mesh in RATINGS:
        ledger.add_line(RATINGS[mesh], ratings_line("curl/8", stamp(1.0)))  # from before the run
    account = ledger.account()
    assert (account.sent, account.served) == (1, {"mesh1": 1, "mesh2": 0})
    assert account.foreign == {"mesh1 ratings-v1-mesh1": 5}


def test_what_is_no_access_line_is_ignored(ledger):
    ledger.add_line(CALLER, "2026-11-22T07:27:34.446051Z\tinfo\tEnvoy proxy is ready probe/r/0")
    assert ledger.account().sent == 0


def test_an_account_reads_as_a_balance(ledger):
    for index, mesh in enumerate(("mesh1", "mesh2", "mesh2")):
        log(ledger, index, Answer(mesh))
        ledger.add_probe(probe(index))
    ledger.add_probe(probe(3, page=Page.NONE, status=0, connected=False, error="refused"))
    assert str(ledger.account()) == (
        "4 sent = 1 served by mesh1 + 2 served by mesh2 + 1 failed + 0 unattributed; "
        "1 x productpage was not reached: refused"
    )


def test_a_probe_that_was_never_booked_upsets_the_balance(ledger):
    log(ledger, 0, Answer("mesh1"))
    ledger.add_probe(probe(0))
    assert ledger.account(sent=1).balanced
    assert not ledger.account(sent=2).balanced
