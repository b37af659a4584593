"""The real probe client, ledger and judge against scripted traffic: each ends in the verdict the method promises."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from harness.split.ledger import Ledger
from harness.split.meter import WARM_UP, Measurement, measure
from harness.split.probe import ProbeClient
from harness.split.sequential import SplitTest
from selftests.support.scripted import BACKENDS, Answer, ScriptedBookinfo

QUICK = {"margin": 0.1}


def measured(
    script: Callable[[int], Answer],
    weights: tuple[int, int] = (50, 50),
    grace: float = 5.0,
    concurrency: int = 16,
    told: list[str] | None = None,
    **test: float,
) -> Measurement:
    split = SplitTest(weights, **test)
    ledger = Ledger("self", BACKENDS, grace=grace)
    with ScriptedBookinfo(script, ledger).running() as bookinfo:
        client = ProbeClient(bookinfo.url, "self", ledger.add_probe, WARM_UP + split.cap, concurrency)
        asked = dict(zip(("mesh1", "mesh2"), weights, strict=True))
        return measure(split, asked, ledger, client, seen=(told if told is not None else []).append)


def test_a_measurement_tells_how_far_it_is():
    told: list[str] = []
    measured(independent(0.5), told=told, margin=0.1)
    counts = [int(text.partition(" of at most ")[0]) for text in told if text != "no request judged yet"]
    assert counts == sorted(counts)
    assert counts[-1] > 100
    assert " requests judged: mesh1 served " in told[-1]


def independent(share: float, seed: int = 1, **answer: float) -> Callable[[int], Answer]:
    rng = random.Random(seed)
    return lambda _: Answer("mesh1" if rng.random() < share else "mesh2", **answer)


def assert_balanced(found: Measurement) -> None:
    assert found.account
    assert found.account.balanced
    assert found.account.sent == len(found.records)
    assert [record.probe.index for record in found.records] == list(range(len(found.records)))


def test_an_independent_half_passes():
    found = measured(independent(0.5))
    assert found.outcome == "PASS", found.report
    assert found.verdict
    assert 1376 <= found.verdict.n <= 8576
    assert_balanced(found)
    assert found.headline.startswith("The 50/50 split is in force: mesh1 served ")


def test_ninety_to_ten_is_not_fifty():
    found = measured(independent(0.9), **QUICK)
    assert found.outcome == "FAIL"
    assert found.headline.startswith("The traffic is not split 50/50: mesh1 served ")
    assert_balanced(found)


def test_ninety_to_ten_passes_as_such():
    assert measured(independent(0.9), (90, 10)).outcome == "PASS"


def test_all_to_one_side_fails_after_two_batches():
    found = measured(lambda _: Answer("mesh2"))
    assert found.outcome == "FAIL"
    assert found.verdict
    assert found.verdict.counts == (0, 32)


def test_all_to_one_side_passes_where_that_is_asked():
    found = measured(lambda _: Answer("mesh1"), (100, 0))
    assert found.outcome == "PASS"
    assert found.verdict
    assert found.verdict.counts == (144, 0)


def test_one_stray_request_fails_a_weight_of_zero():
    found = measured(lambda i: Answer("mesh1" if i != WARM_UP + 70 else "mesh2"), (100, 0))
    assert found.outcome == "FAIL"


def test_pinned_connections_are_dependent():
    rng = random.Random(7)
    pinned = {f"10.2.0.12:{port}": rng.choice(("mesh1", "mesh2")) for port in range(8)}

    def script(_: int) -> Answer:
        connection = rng.choice(list(pinned))
        if rng.random() < 0.05:
            pinned[connection] = rng.choice(("mesh1", "mesh2"))
        return Answer(pinned[connection], connection)

    found = measured(script)
    assert found.outcome == "INCONCLUSIVE:dependent", found.report
    assert "not independent" in found.headline


def test_round_robin_passes_with_a_note():
    """One request at a time, so that the order of arrival is the order of sending."""
    found = measured(lambda i: Answer(("mesh1", "mesh2")[i % 2]), concurrency=1, **QUICK)
    assert found.outcome == "PASS"
    assert found.independence
    assert found.independence.regular
    assert "round robin" in found.numbers


def test_a_slow_remote_mesh_does_not_tip_the_scale():
    rng = random.Random(5)

    def script(_: int) -> Answer:
        return Answer("mesh1", seconds=0.1) if rng.random() < 0.5 else Answer("mesh2")

    assert measured(script, concurrency=32, **QUICK).outcome == "PASS"


@pytest.mark.parametrize(("late", "outcome"), [(50, "PASS"), (200, "FAIL")])
def test_a_rule_that_arrives_late_is_forgiven_within_the_warm_up_only(late, outcome):
    half = independent(0.5)
    assert measured(lambda i: Answer("mesh2") if i < late else half(i), **QUICK).outcome == outcome


@pytest.mark.parametrize("picked", [0.5, 0.55])
def test_a_side_that_fails_18_percent_is_neither_a_pass_nor_a_fail(picked):
    """With 55 % picked, what is left looks like 50/50: dropping failures would pass it."""
    rng = random.Random(11)

    def script(_: int) -> Answer:
        if rng.random() >= picked:
            return Answer("mesh2")
        return Answer("mesh1", status=503 if rng.random() < 0.18 else 200)

    found = measured(script)
    assert found.outcome == "INCONCLUSIVE:unattributed", found.report
    assert "ratings call to mesh1: 503 UC" in found.headline
    assert found.account
    assert found.account.failed > 80
    assert found.account.unattributed == 0
    assert_balanced(found)


def test_lines_that_come_late_and_together_lose_nothing():
    found = measured(independent(0.5, late=0.7), **QUICK)
    assert found.outcome == "PASS"
    assert found.account
    assert (found.account.failed, found.account.unattributed) == (0, 0)
    assert_balanced(found)


def test_a_line_that_never_comes_is_unattributed_and_explained():
    rng = random.Random(3)
    found = measured(
        lambda i: Answer("mesh1" if rng.random() < 0.5 else "mesh2", logged=i % 500 != 100), grace=0.5, **QUICK
    )
    assert found.outcome == "PASS", found.report
    assert found.account
    assert found.account.unattributed >= 1
    assert found.account.reasons == {"stars on the page, no log line of its ratings call": found.account.unattributed}
    assert_balanced(found)


def test_a_productpage_that_is_not_there_gives_no_verdict():
    split = SplitTest((50, 50), margin=0.2)
    ledger = Ledger("self", BACKENDS, grace=0.2)
    client = ProbeClient("http://127.0.0.1:1/productpage", "self", ledger.add_probe, WARM_UP + split.cap)
    found = measure(split, {"mesh1": 50, "mesh2": 50}, ledger, client)
    assert found.outcome == "INCONCLUSIVE:unattributed"
    assert "productpage was not reached" in found.headline
    assert_balanced(found)


def test_books_that_cannot_be_kept_end_the_measurement():
    """What `deliver` raises in the probes' thread comes out, instead of a wait for answers that never arrive."""

    def torn(_: object) -> None:
        raise LookupError("torn")

    split = SplitTest((100, 0))
    ledger = Ledger("self", BACKENDS)
    with ScriptedBookinfo(lambda _: Answer("mesh1"), ledger).running() as bookinfo:
        client = ProbeClient(bookinfo.url, "self", torn, WARM_UP + split.cap)
        with pytest.raises(ExceptionGroup):
            measure(split, {"mesh1": 100, "mesh2": 0}, ledger, client)


def test_a_client_that_may_send_too_few_is_refused():
    split = SplitTest((100, 0))
    client = ProbeClient("http://127.0.0.1:1/", "self", print, split.cap)
    with pytest.raises(ValueError, match="208 probes"):
        measure(split, {"mesh1": 100, "mesh2": 0}, Ledger("self", BACKENDS), client)
