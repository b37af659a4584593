"""The verdict on a traffic split: a sequential test with three outcomes, a pure function of counts.

For every backend three zones are told apart by its long-run share p and its weight w: conforming (|p - w| at most the
tolerance; must not FAIL), violating (|p - w| at least the margin; must not PASS) and grey between them (any outcome).
Evidence is kept as e-values (nonnegative supermartingales under what they speak against), so the error bounds alpha
(FAIL of a conforming split) and beta (PASS of a violating one) hold at every stopping time (Ville's inequality).
Requests without a known backend count against both: as hits where hits hurt, as misses where misses hurt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from statistics import NormalDist

from harness.split.error_rates import Boundaries, OperatingCharacteristics, exact_characteristics

INTERVAL_LEVEL = 0.99
# Probability that a split exactly as configured is still undecided at the cap.
_CAP_RISK = 1e-4
# Share of the cap that may stay without a backend before no verdict is given.
_UNATTRIBUTED_LIMIT = 0.01


class Outcome(StrEnum):
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Reason(StrEnum):
    """Why a verdict is INCONCLUSIVE."""

    BUDGET = "budget"
    UNATTRIBUTED = "unattributed"
    DEPENDENT = "dependent"


@dataclass(frozen=True)
class Verdict:
    """What the counts say.

    `final`: more requests can not change it under the rule (False only below the cap, as INCONCLUSIVE:budget).
    `shares` and `intervals` are per backend, intervals at 99 % for all times and all backends together, widened by
    the unattributed requests; they inform, the verdict rests on the e-values. `evidence_for` is the e-value against
    "some share is a margin off" (PASS from 1/beta), `evidence_against` the one against "all shares are within the
    tolerance" (FAIL from 1/alpha); both are given as natural logarithms too, since they overflow.
    """

    outcome: Outcome
    reason: Reason | None
    final: bool
    counts: tuple[int, ...]
    unattributed: int
    n: int
    cap: int
    shares: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    ln_evidence_for: float
    ln_evidence_against: float

    @property
    def evidence_for(self) -> float:
        return _exp(self.ln_evidence_for)

    @property
    def evidence_against(self) -> float:
        return _exp(self.ln_evidence_against)

    def __str__(self) -> str:
        return self.outcome.value if self.reason is None else f"{self.outcome.value}:{self.reason.value}"


def _exp(value: float) -> float:
    return math.exp(value) if value < 709 else math.inf


def _times_ln(count: int, ratio: float) -> float:
    """count * ln(ratio) with 0 * ln(0) = 0 and ln(0) = -inf."""
    if count == 0:
        return 0.0
    if ratio <= 0:
        return -math.inf
    return count * math.log(ratio) if ratio < math.inf else math.inf


def _ratio(numerator: float, denominator: float) -> float:
    if denominator > 0:
        return numerator / denominator
    return math.inf if numerator > 0 else 1.0


def _ln_sum(terms: Sequence[float]) -> float:
    top = max(terms)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(math.exp(term - top) for term in terms))


@dataclass(frozen=True)
class _Side:
    """One side of one backend: shares above its weight, or below it seen as misses (then everything is mirrored).

    `edge` is the nearest violating share, `bound` the farthest conforming one, `mixture` the pairs (ln prior, share)
    of violating shares that FAIL looks for: 1, 2, 4, ... margins away and the end of the scale.
    """

    weight: float
    edge: float
    bound: float
    mixture: tuple[tuple[float, float], ...]

    @classmethod
    def above(cls, weight: float, margin: float, tolerance: float) -> _Side:
        shares = []
        step = 1
        while weight + step * margin < 1 - 1e-9:
            shares.append(weight + step * margin)
            step *= 2
        shares.append(1.0)
        priors = [1.0] if len(shares) == 1 else [0.5] + [0.5 / (len(shares) - 1)] * (len(shares) - 1)
        mixture = tuple((math.log(prior), share) for prior, share in zip(priors, shares, strict=True))
        return cls(weight, min(1.0, weight + margin), weight + tolerance, mixture)

    def ln_for(self, hits: int, misses: int) -> float:
        """ln e-value against p >= edge."""
        w, q = self.weight, self.edge
        return _times_ln(hits, _ratio(w, q)) + _times_ln(misses, _ratio(1 - w, 1 - q))

    def ln_against(self, hits: int, misses: int) -> float:
        """ln e-value against p <= bound."""
        b = self.bound
        terms = []
        for ln_prior, g in self.mixture:
            up, down = _times_ln(hits, _ratio(g, b)), _times_ln(misses, _ratio(1 - g, 1 - b))
            terms.append(-math.inf if -math.inf in (up, down) else ln_prior + up + down)
        return _ln_sum(terms)

    def requests(self, z: float, ln_evidence: float) -> float:
        """Requests after which a share equal to the weight is judged, but for the normal tail beyond z."""
        w, q = self.weight, self.edge
        if w <= 0:
            return ln_evidence / -math.log(1 - q)
        drift = w * math.log(w / q) + (1 - w) * math.log((1 - w) / (1 - q))
        spread = math.sqrt(w * (1 - w)) * abs(math.log(w / (1 - w)) - math.log(q / (1 - q)))
        return ((z * spread + math.sqrt((z * spread) ** 2 + 4 * drift * ln_evidence)) / (2 * drift)) ** 2


@dataclass(frozen=True)
class _Backend:
    """One backend's sides; a weight of 0 has no side below, a weight of 1 none above."""

    above: _Side | None
    below: _Side | None

    @property
    def sides(self) -> int:
        return (self.above is not None) + (self.below is not None)

    def ln_for(self, hits: int, n: int, unattributed: int) -> list[float]:
        found = []
        if self.above:
            found.append(self.above.ln_for(hits + unattributed, n - hits - unattributed))
        if self.below:
            found.append(self.below.ln_for(n - hits, hits))
        return found

    def ln_against(self, hits: int, n: int, unattributed: int) -> list[float]:
        found = []
        if self.above:
            found.append(self.above.ln_against(hits, n - hits))
        if self.below:
            found.append(self.below.ln_against(n - hits - unattributed, hits + unattributed))
        return found


class SplitTest:
    """Judges how requests were split over backends.

    weights: what was asked for, any positive scale (50/50 and 0.5/0.5 are the same), at least two backends.
    margin: how far off a share must be told from its weight, as a share (0.05 = 5 points); per backend capped at half
    the weight's distance to 0 and 1. tolerance: how far off is still as asked (default margin/5), scaled with the
    capped margin and 0 for weights 0 and 1, which leave no room. alpha, beta: see the module. batch: requests
    between looks.
    Raises ValueError for values that describe no test.
    """

    def __init__(
        self,
        weights: Sequence[float],
        margin: float = 0.05,
        tolerance: float | None = None,
        alpha: float = 1e-4,
        beta: float = 1e-3,
        batch: int = 16,
    ) -> None:
        total = math.fsum(weights)
        if len(weights) < 2 or any(not w >= 0 for w in weights) or not 0 < total < math.inf:
            raise ValueError(f"weights must be two or more numbers from 0 up with a positive sum, not {list(weights)}")
        if not 0 < margin < 1:
            raise ValueError(f"margin must be a share between 0 and 1, such as 0.05 for 5 points, not {margin}")
        if tolerance is None:
            tolerance = margin / 5
        if not 0 <= tolerance < margin:
            raise ValueError(f"tolerance must be from 0 to below the margin {margin}, not {tolerance}")
        if not (0 < alpha < 1 and 0 < beta < 1):
            raise ValueError(f"alpha and beta must be probabilities between 0 and 1, not {alpha} and {beta}")
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}")
        self.weights = tuple(w / total for w in weights)
        self.margin, self.tolerance, self.alpha, self.beta, self.batch = margin, tolerance, alpha, beta, batch
        self._backends = [self._backend(w) for w in self.weights]
        # Of two backends the second mirrors the first.
        self._judged = self._backends[:1] if len(self._backends) == 2 else self._backends

    def _backend(self, weight: float) -> _Backend:
        inner = 0 < weight < 1
        margin = min(self.margin, min(weight, 1 - weight) / 2) if inner else self.margin
        tolerance = margin * self.tolerance / self.margin if inner else 0.0
        above = _Side.above(weight, margin, tolerance) if weight < 1 else None
        below = _Side.above(1 - weight, margin, tolerance) if weight > 0 else None
        return _Backend(above, below)

    @cached_property
    def cap(self) -> int:
        """The most requests that are judged: a split as configured is decided by then but for 1 in 10,000."""
        sides = sum(backend.sides for backend in self._judged)
        z = NormalDist().inv_cdf(1 - _CAP_RISK / sides)
        needed = max(
            side.requests(z, -math.log(self.beta))
            for backend in self._judged
            for side in (backend.above, backend.below)
            if side
        )
        return math.ceil(needed / self.batch) * self.batch

    @property
    def unattributed_limit(self) -> int:
        """More unattributed requests than this end the test as INCONCLUSIVE:unattributed."""
        return math.floor(_UNATTRIBUTED_LIMIT * self.cap)

    def ln_evidence_for(self, counts: Sequence[int], unattributed: int = 0) -> float:
        """ln of the e-value against "some share is a margin or more off"."""
        n = sum(counts) + unattributed
        return min(
            term
            for hits, backend in zip(counts, self._judged, strict=False)
            for term in backend.ln_for(hits, n, unattributed)
        )

    def ln_evidence_against(self, counts: Sequence[int], unattributed: int = 0) -> float:
        """ln of the e-value against "every share is within its tolerance"."""
        n = sum(counts) + unattributed
        terms = [
            term
            for hits, backend in zip(counts, self._judged, strict=False)
            for term in backend.ln_against(hits, n, unattributed)
        ]
        return _ln_sum(terms) - math.log(len(terms))

    def _fails(self, ln_against: float) -> bool:
        return ln_against >= -math.log(self.alpha)

    def decide(self, counts: Sequence[int], unattributed: int = 0) -> Verdict:
        """The verdict on `counts` requests per backend and `unattributed` ones beside them, in any order of arrival.

        Below the cap an undecided test is INCONCLUSIVE:budget with `final` False. Raises ValueError when the number
        of backends differs or a count is negative.
        """
        if len(counts) != len(self.weights) or min(*counts, unattributed) < 0:
            raise ValueError(f"{len(self.weights)} counts from 0 up are needed, not {list(counts)} and {unattributed}")
        n = sum(counts) + unattributed
        ln_for = self.ln_evidence_for(counts, unattributed)
        ln_against = self.ln_evidence_against(counts, unattributed)
        outcome, reason, final = Outcome.INCONCLUSIVE, None, True
        if self._fails(ln_against):
            outcome = Outcome.FAIL
        elif ln_for >= -math.log(self.beta):
            outcome = Outcome.PASS
        elif unattributed > self.unattributed_limit:
            reason = Reason.UNATTRIBUTED
        else:
            reason, final = Reason.BUDGET, n >= self.cap
        known = n - unattributed
        return Verdict(
            outcome,
            reason,
            final,
            tuple(counts),
            unattributed,
            n,
            self.cap,
            tuple(hits / known if known else math.nan for hits in counts),
            tuple(self.interval(hits, n, unattributed) for hits in counts),
            ln_for,
            ln_against,
        )

    def interval(self, hits: int, n: int, unattributed: int = 0) -> tuple[float, float]:
        """Shares not refuted at 99 % at any time by `hits` of `n`: beta-binomial mixture, prior (1/2, 1/2)."""
        threshold = -math.log((1 - INTERVAL_LEVEL) / len(self.weights))
        low = _lowest_share(hits, n, threshold)
        return low, 1 - _lowest_share(n - hits - unattributed, n, threshold)

    def operating_characteristics(self, shares: Sequence[float]) -> OperatingCharacteristics:
        """What this test does to independent requests that reach two backends with `shares` (any scale): exact.

        Raises ValueError for other than two backends.
        """
        if len(shares) != 2 or len(self.weights) != 2:
            raise ValueError("operating characteristics are computed for two backends only")
        return exact_characteristics(self.batch, self.cap, self.boundaries, shares[0] / math.fsum(shares))

    def boundaries(self, n: int) -> Boundaries:
        """The look after n requests as integers; two backends only (ValueError otherwise)."""
        if len(self.weights) != 2:
            raise ValueError("integer boundaries exist for two backends only")
        middle = min(n, max(0, round(n * self.weights[0])))

        def fails(s: int) -> bool:
            return self._fails(self.ln_evidence_against((s, n - s)))

        # Evidence against is convex in s and lowest near the weight; evidence for rises up to there and falls after.
        fail_low = _last_true(fails, 0, middle)
        fail_high = n - _last_true(lambda misses: fails(n - misses), 0, n - middle)
        backend, enough = self._judged[0], -math.log(self.beta)
        above, below = backend.above, backend.below
        pass_low, pass_high = 0, n
        if above:
            pass_high = _last_true(lambda s: above.ln_for(s, n - s) >= enough, 0, n)
        if below:
            pass_low = n - _last_true(lambda misses: below.ln_for(misses, n - misses) >= enough, 0, n)
        return Boundaries(fail_low, pass_low, pass_high, fail_high)


def _last_true(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The last i in low..high with holds(i), where holds is true up to some i and false after; low - 1 if none."""
    if not holds(low):
        return low - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _lowest_share(hits: int, n: int, threshold: float) -> float:
    """The lowest p with ln [B(hits + 1/2, n - hits + 1/2) / B(1/2, 1/2)] - ln likelihood(p) below the threshold."""
    if hits <= 0 or n == 0:
        return 0.0
    mixed = math.lgamma(hits + 0.5) + math.lgamma(n - hits + 0.5) - math.lgamma(n + 1) - math.log(math.pi)
    low, high = 0.0, hits / n
    for _ in range(60):
        p = (low + high) / 2
        if mixed - _times_ln(hits, p) - _times_ln(n - hits, 1 - p) >= threshold:
            low = p
        else:
            high = p
    return high
