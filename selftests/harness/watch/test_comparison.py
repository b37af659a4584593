"""The statistics of before and after, each against exact fractions, brute force, or figures computed apart."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

from harness.watch.comparison import (
    Count,
    Outcome,
    Shift,
    at_least,
    at_most,
    clean_needed,
    compare_rates,
    holm,
    nothing_seen,
    poisson_at_most,
    rank_sum_counts,
    share_interval,
    shift_of,
    tolerated_quantile,
)


def exact_tail(k: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)), Fraction(0))


@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("p", [Fraction(1, 1000), Fraction(1, 4), Fraction(1, 2), Fraction(9, 10)])
def test_binomial_tails_are_those_of_exact_fractions(n, p):
    for k in range(n + 2):
        assert at_least(k, n, float(p)) == pytest.approx(float(exact_tail(k, n, p)), rel=1e-9, abs=1e-300)
        assert at_most(k - 1, n, float(p)) == pytest.approx(float(1 - exact_tail(k, n, p)), rel=1e-9, abs=1e-15)


def test_a_tail_of_a_long_watch_is_no_underflow():
    assert at_least(6000, 48_000, 0.001) == pytest.approx(0.0, abs=1e-300)
    assert at_least(10, 48_000, 0.5) == pytest.approx(1.0)
    assert at_least(60, 48_000, 0.001) == pytest.approx(0.0528, abs=0.001)


@pytest.mark.parametrize(
    ("before", "after", "p"),
    [((0, 600), (5, 600), 0.03125), ((0, 600), (7, 600), 0.0078125), ((0, 1800), (3, 600), 1 / 64),
     ((0, 1800), (5, 600), 1 / 1024)],
)  # fmt: skip
def test_outages_after_none_before_have_their_exact_probability(before, after, p):
    assert compare_rates(Count(*before), Count(*after), margin=0.001).p_worse == pytest.approx(p)


def test_a_rate_has_three_outcomes():
    before = Count(0, 12_000)
    assert compare_rates(before, Count(0, 12_000), margin=0.001).outcome is Outcome.NOT_WORSE
    assert compare_rates(before, Count(0, 1_000), margin=0.001).outcome is Outcome.INCONCLUSIVE
    assert compare_rates(before, Count(40, 12_000), margin=0.001).outcome is Outcome.WORSE
    assert compare_rates(Count(0, 0), Count(0, 12_000), margin=0.001).outcome is Outcome.INCONCLUSIVE


def test_what_failed_as_often_before_is_not_worse_though_it_is_more_than_the_margin():
    found = compare_rates(Count(2_400, 240_000), Count(2_400, 240_000), margin=0.003)
    assert found.outcome is Outcome.NOT_WORSE


@pytest.mark.parametrize("rate", [0.0005, 0.01])
def test_a_rate_that_grew_by_the_margin_is_called_not_worse_no_more_often_than_alpha(rate):
    """By summing over all counts that may come, weighed by their probabilities."""
    margin, alpha, exposure = 0.02, 0.05, 800.0

    def poisson(k: int, mean: float) -> float:
        return poisson_at_most(k, mean) - (poisson_at_most(k - 1, mean) if k else 0.0)

    wrong = sum(
        poisson(k, rate * exposure) * poisson(m, (rate + margin) * exposure)
        for k in range(30)
        for m in range(60)
        if compare_rates(Count(k, exposure), Count(m, exposure), margin, alpha).outcome is Outcome.NOT_WORSE
    )
    assert 0 < wrong <= alpha


def test_where_nothing_failed_the_bound_is_stated():
    assert nothing_seen(30_000) == pytest.approx(1.0e-4, rel=0.01)
    assert nothing_seen(30_000, 0.999) == pytest.approx(2.3e-4, rel=0.01)
    assert nothing_seen(6_000) == pytest.approx(5.0e-4, rel=0.01)
    assert nothing_seen(0) == 1.0
    assert (clean_needed(0.001), clean_needed(0.001, 0.001)) == (2_995, 6_905)


def test_the_interval_of_a_share_is_where_the_exact_tails_cross():
    low, high = share_interval(29, 240)
    assert at_least(29, 240, low) == pytest.approx(0.025)
    assert at_most(29, 240, high) == pytest.approx(0.025)
    assert share_interval(0, 100)[0] == 0.0
    assert share_interval(0, 100)[1] == pytest.approx(1 - 0.025**0.01)
    assert share_interval(5, 5)[1] == 1.0


@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 3), (4, 3), (5, 5)])
def test_the_orders_of_two_samples_are_counted_as_by_trying_all(m, n):
    tried = [0] * (m * n + 1)
    for places in itertools.combinations(range(m + n), m):
        others = [place for place in range(m + n) if place not in places]
        tried[sum(place > other for place in places for other in others)] += 1
    assert rank_sum_counts(m, n) == tuple(tried)


def test_the_shift_is_the_median_of_all_differences():
    before, after = [1.0, 2.0, 4.0, 8.0, 9.0], [2.5, 3.0, 7.0, 11.0, 12.0]
    differences = sorted(b - a for a in before for b in after)
    found = shift_of(before, after, level=0.9)
    assert found is not None
    assert found.estimate == differences[12]
    assert found.low in differences
    assert found.low < found.estimate < found.high
    assert shift_of([1.0, 2.0], [3.0], level=0.95) is None
    assert shift_of([], [3.0]) is None


def test_the_interval_of_a_shift_holds_the_truth_as_often_as_it_says():
    """All orders of two samples of one continuous law are equally likely, so they are tried one by one."""
    m = n = 5
    inside = total = 0
    values = [math.sqrt(2) ** i for i in range(m + n)]
    for places in itertools.combinations(range(m + n), m):
        before = [values[i] for i in places]
        after = [values[i] for i in range(m + n) if i not in places]
        found = shift_of(before, after, level=0.9)
        assert found is not None
        inside += found.low <= 0 <= found.high
        total += 1
    assert 0.9 <= inside / total < 0.96


def test_a_shift_is_held_against_a_margin_and_not_against_itself():
    assert Shift(0.002, 0.001, 0.003).against(0.005) is Outcome.NOT_WORSE
    assert Shift(0.02, 0.01, 0.03).against(0.005) is Outcome.WORSE
    assert Shift(0.004, -0.001, 0.009).against(0.005) is Outcome.INCONCLUSIVE


def test_holm_judges_all_rows_with_one_alpha():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {}


def test_holm_is_wrong_no_more_often_than_alpha():
    draws, wrong = random.Random(7), 0
    for _ in range(4_000):
        wrong += min(holm({str(i): draws.random() for i in range(6)}).values()) <= 0.05
    assert wrong / 4_000 < 0.065


def test_the_worst_of_a_few_runs_bounds_a_low_quantile_only():
    assert tolerated_quantile(59) >= 0.95 > tolerated_quantile(58)
    assert tolerated_quantile(299) >= 0.99 > tolerated_quantile(298)
    assert tolerated_quantile(5) == pytest.approx(0.55, abs=0.01)
    assert tolerated_quantile(0) == 0.0
