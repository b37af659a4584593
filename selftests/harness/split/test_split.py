"""The verdict on counts: exact figures of the method's reference, and what must hold for every design."""

from __future__ import annotations

import itertools
import math

import pytest

from harness.split.error_rates import exact_characteristics
from harness.split.sequential import Outcome, Reason, SplitTest

FLAT = SplitTest((50, 50))
DESIGNS = {
    "half": SplitTest((1, 1), margin=0.2, alpha=0.05, beta=0.05, batch=4),
    "ninety": SplitTest((0.9, 0.1), margin=0.2, alpha=0.05, beta=0.05, batch=8),
    "quarter": SplitTest((0.25, 0.75), margin=0.2, alpha=0.02, beta=0.1, batch=5),
    "all": SplitTest((1, 0), margin=0.1),
    "none": SplitTest((0, 1), margin=0.1),
    "edge": SplitTest((97, 3), margin=0.2, alpha=0.05, beta=0.05),
}
designs = pytest.mark.parametrize("test", DESIGNS.values(), ids=DESIGNS)


def one_digit(p: float) -> str:
    return f"{p:.0e}"


# The rows of the reference's table for alpha 1e-4, beta 1e-3: weight, margin, mean, 95th percentile, cap, then
# FAIL at the weights, FAIL one tolerance off and PASS one margin off (the worse side) with the digits it gives.
@pytest.mark.parametrize(
    ("weight", "margin", "mean", "p95", "cap", "fail", "fail_tolerance", "pass_margin"),
    [
        (0.5, 0.05, 2017, 3360, 8576, "3e-06", "2.9e-05", "4.9e-04"),
        (0.5, 0.1, 515, 848, 2128, "1e-06", "2.2e-05", "3.8e-04"),
        (0.9, 0.05, 751, 1312, 3616, "2e-06", "2.5e-05", "6.3e-04"),
        (0.25, 0.05, 1523, 2544, 6784, "4e-06", "3.0e-05", "5.3e-04"),
    ],
)
def test_exact_figures_of_the_reference(weight, margin, mean, p95, cap, fail, fail_tolerance, pass_margin):
    test = SplitTest((weight, 1 - weight), margin=margin)
    as_asked = test.operating_characteristics((weight, 1 - weight))
    assert (round(as_asked.mean), as_asked.percentile_95, test.cap) == (mean, p95, cap)
    assert one_digit(as_asked.fails) == fail
    assert as_asked.inconclusive < 1e-4

    def worst(off: float, outcome: str) -> float:
        shares = [share for share in (weight - off, weight + off) if 0 < share < 1]
        return max(getattr(test.operating_characteristics((p, 1 - p)), outcome) for p in shares)

    assert f"{worst(margin / 5, 'fails'):.1e}" == fail_tolerance
    assert f"{worst(margin, 'passes'):.1e}" == pass_margin


def test_a_zero_weight_is_settled_by_144_requests_and_refuted_by_one():
    test = SplitTest((100, 0))
    assert test.cap == 144
    assert test.decide((144, 0)).outcome is Outcome.PASS
    assert test.decide((143, 1)).outcome is Outcome.FAIL
    assert test.decide((128, 0)).outcome is Outcome.INCONCLUSIVE


def test_pass_beyond_the_margin_falls_as_the_reference_says():
    passes = [FLAT.operating_characteristics((p, 1 - p)).passes for p in (0.55, 0.56, 0.60)]
    assert [f"{p:.1e}" for p in passes[:2]] == ["4.9e-04", "1.4e-05"]
    assert one_digit(passes[2]) == "6e-14"


def test_the_strip_of_50_50():
    """PASS iff |s - n/2| <= 0.02504 n - 34.42, earliest at n = 1376."""
    for n in range(16, FLAT.cap + 1, 16):
        width = math.floor(0.02504 * n - 34.42 + 1e-9)
        look = FLAT.boundaries(n)
        if n < 1376:
            assert look.pass_low > look.pass_high
        elif abs((0.02504 * n - 34.42) % 1 - 0.5) < 0.4:
            assert look.pass_high == n // 2 + width
            assert look.pass_low == n // 2 - width


@designs
def test_integer_boundaries_are_decide_in_every_cell(test):
    for n in range(1, min(test.cap, 100) + 1):
        look = test.boundaries(n)
        for s in range(n + 1):
            if s <= look.fail_low or s >= look.fail_high:
                expected = Outcome.FAIL
            elif look.pass_low <= s <= look.pass_high:
                expected = Outcome.PASS
            else:
                expected = Outcome.INCONCLUSIVE
            assert test.decide((s, n - s)).outcome is expected, (n, s, look)


@pytest.mark.parametrize("p", [0.3, 0.5, 0.93, 1.0])
@pytest.mark.parametrize("weights", [(1, 1), (0.8, 0.2), (1, 0)])
def test_dynamic_programming_is_brute_force_over_all_sequences(weights, p):
    """A test cut short at 12 requests, so that all 4096 sequences can be walked through."""
    cap = 12
    test = SplitTest(weights, margin=0.4, alpha=0.3, beta=0.6, batch=2)
    looks = {(n, s): test.decide((s, n - s)) for n in range(2, cap + 1, 2) for s in range(n + 1)}
    outcomes = dict.fromkeys(Outcome, 0.0)
    mean = 0.0
    for sequence in itertools.product((1, 0), repeat=cap):
        hits = sum(sequence)
        probability = p**hits * (1 - p) ** (cap - hits)
        n = next((n for n in range(2, cap, 2) if looks[n, sum(sequence[:n])].outcome is not Outcome.INCONCLUSIVE), cap)
        outcomes[looks[n, sum(sequence[:n])].outcome] += probability
        mean += n * probability
    exact = exact_characteristics(test.batch, cap, test.boundaries, p)
    assert exact.passes == pytest.approx(outcomes[Outcome.PASS], abs=1e-13)
    assert exact.fails == pytest.approx(outcomes[Outcome.FAIL], abs=1e-13)
    assert exact.inconclusive == pytest.approx(outcomes[Outcome.INCONCLUSIVE], abs=1e-13)
    assert exact.mean == pytest.approx(mean, abs=1e-11)


def test_evidence_is_a_martingale_where_its_bound_is_tight():
    """At the edge of what it speaks against, one more request changes the e-value by 1 on average."""
    side = SplitTest((0.3, 0.7), margin=0.1)._backends[0].above
    assert side is not None
    for n, s in itertools.product((5, 40, 333), (0, 2, 5)):
        for ln_e, p in ((side.ln_for, side.edge), (side.ln_against, side.bound)):
            after = p * math.exp(ln_e(s + 1, n - s)) + (1 - p) * math.exp(ln_e(s, n - s + 1))
            assert after == pytest.approx(math.exp(ln_e(s, n - s)), rel=1e-12)


@pytest.mark.parametrize("weights", [(1, 1), (9, 1), (5, 3, 2), (70, 30, 0)])
@pytest.mark.parametrize("unattributed", [0, 3])
def test_labels_may_be_permuted(weights, unattributed):
    counts = (310, 150, 40)[: len(weights)]
    for order in itertools.permutations(range(len(weights))):
        one = SplitTest(weights).decide(counts, unattributed)
        other = SplitTest([weights[i] for i in order]).decide([counts[i] for i in order], unattributed)
        assert (one.outcome, one.reason, one.cap) == (other.outcome, other.reason, other.cap)
        assert other.ln_evidence_for == pytest.approx(one.ln_evidence_for)
        assert other.ln_evidence_against == pytest.approx(one.ln_evidence_against)
        assert [other.shares[order.index(i)] for i in range(len(weights))] == pytest.approx(one.shares)


@pytest.mark.parametrize("batch", [1, 8, 32, 64, 100, 200])
def test_the_bounds_hold_for_every_batch(batch):
    test = SplitTest((1, 1), margin=0.1, batch=batch)
    assert test.decide((260, 250)).ln_evidence_for == SplitTest((1, 1), margin=0.1).decide((260, 250)).ln_evidence_for
    assert test.operating_characteristics((0.52, 0.48)).fails <= test.alpha
    assert test.operating_characteristics((0.6, 0.4)).passes <= test.beta


@pytest.mark.parametrize("weights", [(1, 1), (9, 1), (1, 0), (5, 3, 2)])
def test_an_unattributed_request_never_adds_evidence(weights):
    test = SplitTest(weights, margin=0.1)
    for base in ((30, 25, 10), (90, 8, 4), (5, 60, 60), (400, 0, 0)):
        counts = list(base[: len(weights)])
        for i, lost in itertools.product(range(len(counts)), (1, 3)):
            if counts[i] < lost:
                continue
            fewer = [count - lost * (i == j) for j, count in enumerate(counts)]
            assert test.ln_evidence_for(fewer, lost) <= test.ln_evidence_for(counts) + 1e-9
            assert test.ln_evidence_against(fewer, lost) <= test.ln_evidence_against(counts) + 1e-9


def test_more_than_a_hundredth_of_the_cap_unattributed_is_no_verdict():
    at_limit = FLAT.decide((400, 400), FLAT.unattributed_limit)
    beyond = FLAT.decide((400, 400), FLAT.unattributed_limit + 1)
    assert (at_limit.reason, at_limit.final) == (Reason.BUDGET, False)
    assert (beyond.outcome, beyond.reason, beyond.final) == (Outcome.INCONCLUSIVE, Reason.UNATTRIBUTED, True)


def test_the_cap_ends_an_undecided_test():
    s = FLAT.cap // 2 + 200
    assert FLAT.decide((s, FLAT.cap - s)).final
    assert str(FLAT.decide((s, FLAT.cap - s))) == "INCONCLUSIVE:budget"
    assert not FLAT.decide((s, FLAT.cap - s - 16)).final


def test_three_backends_catch_a_stray_hit_and_a_missing_backend():
    assert SplitTest((70, 30, 0)).decide((66, 30, 1)).outcome is Outcome.FAIL
    assert SplitTest((50, 30, 20)).decide((32, 0, 0)).outcome is Outcome.FAIL
    assert SplitTest((50, 30, 20)).decide((2500, 1500, 1000)).outcome is Outcome.PASS


def test_the_capped_margin_keeps_all_from_passing_as_ninety():
    test = SplitTest((90, 10), margin=0.1)
    assert test.operating_characteristics((1, 0)).passes == 0
    assert test.operating_characteristics((0.9, 0.1)).passes > 0.9999


@pytest.mark.parametrize("n", [20, 400, 3000])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_interval_covers_what_its_definition_covers(n, p):
    """Its ends are where the beta-binomial mixture's likelihood ratio reaches 2/0.01."""
    hits = round(n * p)
    low, high = FLAT.interval(hits, n)
    for end in (low, high):
        # The mixture as a product of predictive probabilities instead of beta functions.
        ln_mixture = math.fsum(math.log((i + 0.5) / (i + 1)) for i in range(hits)) + math.fsum(
            math.log((i + 0.5) / (hits + i + 1)) for i in range(n - hits)
        )
        ln_ratio = ln_mixture - hits * math.log(end) - (n - hits) * math.log(1 - end)
        assert ln_ratio == pytest.approx(math.log(200), rel=1e-6)
    assert low < p < high


def test_unattributed_requests_widen_the_interval():
    low, high = FLAT.interval(200, 400)
    wide = FLAT.interval(195, 400, unattributed=10)
    assert wide[0] < low
    assert wide[1] > high


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"weights": (1,)}, "weights"),
        ({"weights": (0, 0)}, "weights"),
        ({"weights": (1, -1)}, "weights"),
        ({"weights": (1, float("nan"))}, "weights"),
        ({"weights": (1, 1), "margin": 0}, "margin"),
        ({"weights": (1, 1), "tolerance": 0.05}, "tolerance"),
        ({"weights": (1, 1), "alpha": 1}, "alpha"),
        ({"weights": (1, 1), "batch": 0}, "batch"),
    ],
)
def test_what_is_no_test_is_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        SplitTest(**arguments)


def test_counts_must_fit_the_weights():
    with pytest.raises(ValueError, match="2 counts"):
        FLAT.decide((1, 2, 3))
