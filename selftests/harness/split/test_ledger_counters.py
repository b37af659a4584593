"""Attribution by counters: differences that add up are picks, everything else is unattributed."""

from __future__ import annotations

from harness.split.meter import WARM_UP, measure_by_counters
from harness.split.request_counters import CounterBook, Reading, attribute, requests_answered
from harness.split.sequential import SplitTest

M1, M2, M2B = ("mesh1", "ratings-1"), ("mesh2", "ratings-2"), ("mesh2", "ratings-3")


def test_only_successful_answers_of_the_destination_count():
    text = """# TYPE istio_requests_total counter
istio_requests_total{reporter="destination",source_app="reviews",response_code="200"} 40
istio_requests_total{reporter="destination",source_app="unknown",response_code="200"} 2
istio_requests_total{reporter="destination",response_code="503",note="a \\"quoted\\" one"} 7
istio_requests_total{reporter="source",response_code="200"} 100
istio_request_bytes_sum{reporter="destination",response_code="200"} 9
"""
    assert requests_answered(text) == 42
    assert requests_answered("envoy_cluster_upstream_cx_total 5\n") is None


def test_differences_that_add_up_are_picks():
    before, after = Reading({M1: 10, M2: 5, M2B: 0}), Reading({M1: 110, M2: 65, M2B: 40})
    found = attribute(200, before, after)
    assert (found.served, found.unattributed, found.why) == ({"mesh1": 100, "mesh2": 100}, 0, "")


def test_too_few_answers_leave_the_rest_unattributed():
    found = attribute(200, Reading({M1: 0, M2: 0}), Reading({M1: 90, M2: 95}))
    assert (sum(found.served.values()), found.unattributed) == (185, 15)


def test_too_many_answers_leave_everything_unattributed():
    found = attribute(200, Reading({M1: 0, M2: 0}), Reading({M1: 120, M2: 95}))
    assert (found.served, found.unattributed) == ({"mesh1": 0, "mesh2": 0}, 200)
    assert "215 requests while 200 were sent" in found.why


def test_a_reset_and_a_new_pod_are_noticed():
    reset = attribute(200, Reading({M1: 500, M2: 0}), Reading({M1: 100, M2: 100}))
    assert (reset.unattributed, "ratings-1 were reset" in reset.why) == (200, True)
    replaced = attribute(200, Reading({M1: 0, M2: 0}), Reading({M1: 100, M2B: 100}))
    assert (replaced.unattributed, "came or went" in replaced.why) == (200, True)


def test_counters_that_cannot_be_read_attribute_nothing():
    whole, partly = Reading({M1: 0, M2: 0}), Reading({M1: 100}, {M2: "exec is forbidden"})
    for before, after in ((whole, partly), (partly, Reading({M1: 200, M2: 100}))):
        found = attribute(200, before, after)
        assert (found.unattributed, found.why) == (200, "counters of ratings-2 could not be read: exec is forbidden")


def test_a_mesh_without_the_metric_is_named():
    after = Reading.of({M1: 100.0, M2: None, M2B: None}, {})
    assert after.requests == {M1: 100, M2: 0, M2B: 0}
    found = attribute(200, Reading.of({M1: 0.0, M2: None, M2B: None}, {}), after)
    assert (found.served, found.unattributed) == ({"mesh1": 100, "mesh2": 0}, 100)
    assert "ratings of mesh2 have no istio_requests_total" in found.why


def test_requests_counted_after_their_answer_are_waited_for():
    readings = [
        Reading({M1: 0, M2: 0}),
        Reading({M1: 99, M2: 99}),
        Reading({M1: 100, M2: 99}),
        Reading({M1: 100, M2: 100}),
    ]
    book = CounterBook(lambda: readings.pop(0), pause=0)
    assert book.close_batch(200).served == {"mesh1": 100, "mesh2": 100}
    assert readings == []


def test_a_split_is_judged_by_counters_batch_by_batch():
    served = {M1: 0.0, M2: 0.0}

    def send(count: int) -> float:
        served[M1] += count * 0.5
        served[M2] += count * 0.5
        return 1.0

    test = SplitTest((50, 50), batch=200)
    book, told = CounterBook(lambda: Reading(dict(served))), list[str]()
    found = measure_by_counters(test, {"mesh1": 50, "mesh2": 50}, book, send, told.append)
    assert found.outcome == "PASS"
    assert told[0] == f"200 of at most {test.cap} requests judged: mesh1 served 50.0 %, mesh2 served 50.0 %"
    assert found.verdict
    assert found.verdict.n % 200 == 0
    assert sum(served.values()) == found.verdict.n + WARM_UP
    assert found.account
    assert found.account.balanced
    assert "independence was not checked" in found.numbers


def test_foreign_requests_end_without_a_verdict():
    served = {M1: 0.0, M2: 0.0}

    def send(count: int) -> float:
        served[M1] += count * 0.5 + 3
        served[M2] += count * 0.5
        return 1.0

    test = SplitTest((50, 50), batch=200)
    found = measure_by_counters(test, {"mesh1": 50, "mesh2": 50}, CounterBook(lambda: Reading(dict(served))), send)
    assert found.outcome == "INCONCLUSIVE:unattributed"
    assert "others' or retries" in found.headline
