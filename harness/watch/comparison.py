"""Is after as good as before? Exact tests of rates, the shift of latencies, bounds where nothing was seen.

Everything here is a pure function of counts and numbers. A claim "not worse" is non-inferiority with a margin: it has
to be shown, and where neither it nor its opposite is, the outcome is INCONCLUSIVE.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

_HALVINGS = 60  # of an interval of probabilities: about the bits that a float has
_NEGLIGIBLE = 1e-18  # share of the sum so far below which the terms of a tail are left out


class Outcome(StrEnum):
    NOT_WORSE = "not worse"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


def _ln_binomial(k: int, n: int, p: float) -> float:
    """ln P(X = k) for 0 < p < 1."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)


def at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) of the binomial distribution."""
    if k <= 0 or p >= 1:
        return 1.0 if k <= n else 0.0
    if k > n or p <= 0:
        return 0.0
    if k <= n * p:
        return 1.0 - at_least(n - k + 1, n, 1 - p)
    term = total = math.exp(_ln_binomial(k, n, p))
    for i in range(k, n):
        term *= (n - i) / (i + 1) * p / (1 - p)
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return min(total, 1.0)


def at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) of the binomial distribution."""
    return at_least(n - k, n, 1 - p)


def _crossing(holds: Callable[[float], bool]) -> float:
    """Where in 0 to 1 a condition that holds at the left end stops to hold."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def share_interval(failed: int, sent: int, level: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval (Clopper-Pearson) for the share of requests that fail."""
    tail = (1 - level) / 2
    low = 0.0 if failed == 0 else _crossing(lambda p: at_least(failed, sent, p) <= tail)
    high = 1.0 if failed == sent else _crossing(lambda p: at_most(failed, sent, p) > tail)
    return low, high


def nothing_seen(sent: int, level: float = 0.95) -> float:
    """The largest share of failures that `sent` requests without any still allow for at this confidence."""
    return 1.0 if sent <= 0 else -math.expm1(math.log1p(-level) / sent)


def clean_needed(share: float, alpha: float = 0.05) -> int:
    """How many requests without a failure it takes to show that less than `share` of them fail."""
    return math.ceil(math.log(alpha) / math.log1p(-share))


@dataclass(frozen=True)
class Count:
    """Events in an exposure: outages in seconds, or failures in requests."""

    events: int
    exposure: float

    @property
    def rate(self) -> float:
        return self.events / self.exposure if self.exposure else math.nan


@dataclass(frozen=True)
class RateComparison:
    """Two rates held against each other. `p_worse` speaks against "after is no higher than before", `p_not_worse`
    against "after is higher by the margin or more"; each is exact and one-sided."""

    before: Count
    after: Count
    margin: float
    p_worse: float
    p_not_worse: float
    outcome: Outcome


def compare_rates(before: Count, after: Count, margin: float, alpha: float = 0.05) -> RateComparison:
    """The conditional test of two Poisson rates: given all events, those after are binomial by the exposures.

    margin: by how much the rate may grow per unit of exposure. That it grew by less is shown by whichever is stronger:
    an upper bound of after's rate alone (after is harmless, whatever was before), or the conditional test against the
    ratio that the margin makes of before's rate, taken as high as its counts allow. Half of alpha belongs to each.
    """
    if before.exposure <= 0 or after.exposure <= 0:
        return RateComparison(before, after, margin, 1.0, 1.0, Outcome.INCONCLUSIVE)
    total = before.events + after.events
    share = after.exposure / (before.exposure + after.exposure)
    p_worse = at_least(after.events, total, share)
    p_not_worse = min(1.0, 2 * min(_harmless(after, margin), _ratio_excluded(before, after, margin, alpha / 4)))
    if p_worse <= alpha:
        outcome = Outcome.WORSE
    elif p_not_worse <= alpha:
        outcome = Outcome.NOT_WORSE
    else:
        outcome = Outcome.INCONCLUSIVE
    return RateComparison(before, after, margin, p_worse, p_not_worse, outcome)


def _harmless(after: Count, margin: float) -> float:
    """P(no more events than were seen) where the rate is the margin, even if nothing failed before."""
    return poisson_at_most(after.events, margin * after.exposure)


def _ratio_excluded(before: Count, after: Count, margin: float, risk: float) -> float:
    """P value against a rate higher by the margin; before's rate is above what is taken for it with `risk` only."""
    if not before.events:
        return 1.0
    high = _poisson_upper(before.events, risk) / before.exposure
    ratio = 1 + margin / high  # the smallest ratio the margin can mean: before's rate is no higher than `high`
    share = ratio * after.exposure / (before.exposure + ratio * after.exposure)
    return min(1.0, at_most(after.events, before.events + after.events, share) + risk)


def poisson_at_most(k: int, mean: float) -> float:
    """P(X <= k) of the Poisson distribution."""
    if mean <= 0:
        return 1.0
    return min(1.0, math.fsum(math.exp(i * math.log(mean) - mean - math.lgamma(i + 1)) for i in range(k + 1)))


def _poisson_upper(k: int, risk: float) -> float:
    """The mean above which so few events would come with probability `risk` only."""
    high = 1.0
    while poisson_at_most(k, high) > risk:
        high *= 2
    return high * _crossing(lambda part: poisson_at_most(k, part * high) > risk)


@functools.lru_cache(maxsize=16)
def rank_sum_counts(m: int, n: int) -> tuple[int, ...]:
    """How many of the orders of m and n values have u pairs "first above second", for u from 0 to m*n."""
    counts = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for u in range(m * n, n + i - 1, -1):  # times (1 - q^(n+i))
            counts[u] -= counts[u - n - i]
        for u in range(i, m * n + 1):  # divided by (1 - q^i)
            counts[u] += counts[u - i]
    return tuple(counts)


@dataclass(frozen=True)
class Shift:
    """By how much values grew: the Hodges-Lehmann estimate, and its exact interval, in the unit of the values."""

    estimate: float
    low: float
    high: float

    def against(self, margin: float) -> Outcome:
        """WORSE where all of it is above 0 and the estimate at the margin, NOT_WORSE where all is below the margin."""
        if self.high < margin:
            return Outcome.NOT_WORSE
        return Outcome.WORSE if self.low > 0 and self.estimate >= margin else Outcome.INCONCLUSIVE


def shift_of(before: Sequence[float], after: Sequence[float], level: float = 0.95) -> Shift | None:
    """How far `after` is shifted against `before`: no distribution is assumed but that the values are independent.

    Both are summaries of blocks (the median of 10 s, for one), as single requests are not independent. None where
    there are too few to say anything at this level.
    """
    if not before or not after:
        return None
    differences = sorted(b - a for a, b in itertools.product(before, after))
    counts = rank_sum_counts(len(before), len(after))
    total, below, cut = sum(counts), 0, 0
    for u, count in enumerate(counts):
        below += count
        if below / total > (1 - level) / 2:
            cut = u
            break
    if not cut:
        return None
    middle = len(differences) // 2
    median = differences[middle] if len(differences) % 2 else (differences[middle - 1] + differences[middle]) / 2
    return Shift(median, differences[cut - 1], differences[-cut])


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p values as they are when all are judged together: each times the number of those not smaller, monotone."""
    adjusted: dict[str, float] = {}
    worst = 0.0
    for place, (row, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, p * (len(p_values) - place)))
        adjusted[row] = worst
    return adjusted


def tolerated_quantile(runs: int, level: float = 0.95) -> float:
    """Which quantile of all runs the worst of `runs` earlier ones bounds, at this confidence."""
    return 0.0 if runs < 1 else (1 - level) ** (1 / runs)
