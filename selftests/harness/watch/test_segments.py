"""What is an outage and what a degradation: the best course against trying all, and streams made for one purpose."""

from __future__ import annotations

import itertools
import random

import pytest

from harness.watch.segments import _CHANGE as CHANGE
from harness.watch.segments import _COST as COST
from harness.watch.segments import FINE, OUT, Sample, conditions, cut

RATE = 20.0


def stream(seconds, failing, seed=1, rate=RATE):
    """Probes at an even pace; `failing`: the chance to fail at each second."""
    draws = random.Random(seed)
    return [
        Sample(n / rate, draws.random() >= failing(n / rate), 0.02, "503")
        for n in range(round(seconds * rate))
    ]  # fmt: skip


def during(start, end, share=1.0):
    return lambda at: share if start <= at < end else 0.0


def worth(course, failed):
    steps = [FINE, *course]
    return sum(COST[now][bad] for now, bad in zip(course, failed, strict=True)) + sum(
        CHANGE for a, b in itertools.pairwise(steps) if a != b
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_course_is_the_likeliest_of_all(seed):
    draws = random.Random(seed)
    failed = [draws.random() < draws.choice([0.0, 0.5, 0.9]) for _ in range(7)]
    best = max(worth(course, failed) for course in itertools.product(range(4), repeat=len(failed)))
    assert worth(conditions(failed), failed) == pytest.approx(best)


@pytest.mark.parametrize("seconds", [0.3, 3.0, 70.0])
def test_a_cut_is_one_outage_of_its_length(seconds):
    outages, degradations = cut(stream(120, during(30, 30 + seconds)))
    assert degradations == []
    (outage,) = outages
    assert (outage.start, outage.lost) == (30.0, round(seconds * RATE))
    assert outage.lasted == pytest.approx(seconds - 1 / RATE)


def test_one_lost_probe_is_an_outage_too():
    (outage,), degradations = cut(stream(60, during(30, 30 + 1 / RATE)))
    assert (outage.start, outage.lost, degradations) == (30.0, 1, [])


def test_a_stream_without_failures_has_nothing():
    assert cut(stream(60, during(0, 0))) == ([], [])
    assert cut([]) == ([], [])


def test_outages_less_than_a_second_apart_are_one_and_others_are_not():
    near, _ = cut(stream(60, lambda at: float(30 <= at < 30.5 or 31.2 <= at < 31.7)))
    far, _ = cut(stream(60, lambda at: float(30 <= at < 30.5 or 31.7 <= at < 32.2)))
    assert [(outage.start, outage.lost) for outage in near] == [(30.0, 20)]
    assert [(outage.start, outage.lost) for outage in far] == [(30.0, 10), (31.7, 10)]


@pytest.mark.parametrize("seed", range(5))
def test_twelve_percent_for_good_are_a_degradation_and_no_outage(seed):
    outages, (found,) = cut(stream(300, during(60, 301, 0.12), seed))
    assert outages == []
    assert found.earliest <= 60.0 <= found.start < 62.5
    assert found.interval[0] < 0.12 < found.interval[1]
    assert found.p_value < 1e-30


def test_a_cut_within_a_degradation_is_told_apart_from_it():
    outages, degradations = cut(stream(300, lambda at: 1.0 if 150 <= at < 153 else 0.12 if at >= 60 else 0.0))
    assert [round(outage.start) for outage in outages] == [150]
    assert 2.8 < outages[0].lasted < 3.5
    assert [(one.start, one.end) for one in degradations] == [
        (pytest.approx(60, abs=2), pytest.approx(150, abs=2)),
        (pytest.approx(153, abs=2), pytest.approx(300, abs=2)),
    ]


def test_a_short_flicker_is_an_outage_that_lost_some():
    (outage,), degradations = cut(stream(120, during(30, 34, 0.5)))
    assert degradations == []
    assert 20 < outage.lost < 60 < outage.sent <= 80


def test_the_end_of_an_outage_is_no_beginning_of_a_degradation():
    probes = stream(300, during(60, 301, 0.12))
    slow = [Sample(at, False, 9.0, "slow") for at in (55.0, 56.5, 58.0, 59.5)]
    outages, (found,) = cut([*probes, *slow])
    assert [outage.start for outage in outages] == [55.0, 56.5, 58.0, 59.5]
    assert (found.start >= 60.0, found.saw) == (True, ("503",))


def test_healthy_streams_with_rare_failures_have_no_degradation():
    for seed in range(100):
        assert cut(stream(200, lambda _: 1e-3, seed))[1] == []


def test_a_stream_that_is_out_from_its_first_probe_is_out():
    assert conditions([True] * 30) == [OUT] * 30
