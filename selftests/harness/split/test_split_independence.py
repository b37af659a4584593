"""The independence checks: known distributions as oracles, and traffic that is and is not independent."""

from __future__ import annotations

import math
import random

import pytest

from harness.split.independence import batch_chi_square, chi_square_tail, examine, transitions


@pytest.mark.parametrize("df", [2, 10, 250, 1070])
@pytest.mark.parametrize("z", [-4.2, -1, 0, 1, 4.2])
def test_chi_square_tail_is_the_poisson_sum(df, z):
    """For even degrees of freedom the upper tail is P(Poisson(x/2) < df/2)."""
    x = max(0.1, df + z * math.sqrt(2 * df))
    upper = math.fsum(math.exp(-x / 2 + j * math.log(x / 2) - math.lgamma(j + 1)) for j in range(df // 2))
    lower, tail = chi_square_tail(x, df)
    assert tail == pytest.approx(upper, rel=1e-9)
    assert lower + tail == pytest.approx(1)


def test_chi_square_of_a_table_worked_by_hand():
    picks = [0] * 12 + [1] * 4 + [0] * 4 + [1] * 12
    # Two batches of 16, 8 expected everywhere: 4 cells of (4^2)/8.
    assert batch_chi_square(picks, 2, 16) == (8.0, 1)


def test_batches_are_merged_until_five_are_expected():
    picks = ([0] * 9 + [1]) * 16
    _, df = batch_chi_square(picks, 2, 16)
    # 16 misses in 160 requests: 5 are expected in 50, so four batches together, and the last two join them.
    assert df == 1
    assert batch_chi_square(picks * 2, 2, 16)[1] == 320 // 64 - 1


def test_markov_evidence_of_a_short_sequence_worked_by_hand():
    """After 0: 0 then 1; mixture of one chain row (1/2)(1/2 / 2) = 1/8; best independent law (1/2)(1/2) = 1/4."""
    assert transitions([0, 0, 1], 2).ln_evidence == pytest.approx(math.log((1 / 8) / (1 / 4)))


def test_unknown_picks_break_the_sequence():
    assert transitions([0, None, 0, 1], 2).pairs == ((0, 1), (0, 0))


def independent(rng: random.Random, n: int, p: float) -> list[int]:
    return [int(rng.random() >= p) for _ in range(n)]


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_independent_picks_are_left_alone(p):
    for seed in range(60):
        rng = random.Random(seed)
        picks = independent(rng, 2016, p)
        found = examine(picks, [rng.randrange(8) for _ in picks], 2)
        assert not found.dependent
        assert not found.regular
        assert 0.5 < found.phi < 1.6


def test_picks_pinned_to_a_connection_are_dependent():
    """Eight connections that keep their backend for five requests each, interleaved at random."""
    for seed in range(20):
        rng = random.Random(seed)
        backend, left = [0] * 8, [0] * 8
        picks, connections = [], []
        for _ in range(2016):
            c = rng.randrange(8)
            if not left[c]:
                backend[c], left[c] = rng.randrange(2), 5
            left[c] -= 1
            picks.append(backend[c])
            connections.append(c)
        assert examine(picks, connections, 2).dependent


def test_round_robin_is_a_note_only():
    found = examine([0, 1] * 700, [None] * 1400, 2)
    assert not found.dependent
    assert len(found.regular) == 2


def test_one_backend_only_says_nothing():
    found = examine([0] * 144, list(range(144)), 2)
    assert (found.dependent, found.regular) == ((), ())


def test_drifting_batches_are_dependent():
    picks = [int(i % 16 < (4 if i // 16 % 2 else 12)) for i in range(2016)]
    assert any("batches" in finding for finding in examine(picks, [None] * 2016, 2).dependent)
