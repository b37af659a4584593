"""Were the picks independent? Only then do the error bounds of the verdict hold.

Two kinds of looks, each at a quarter of the total level: Pearson's chi-square of batches against backends (both
tails), and an e-value of Markov chains against independent picks, once in send order and once per connection.
A sticky choice by client identity is invisible here; unique identities prevent it.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

# Probability that independent picks are called dependent, over all looks.
LEVEL = 1e-4
_LOOKS = 4
_LEAST_EXPECTED = 5.0
_LN_EVIDENCE = math.log(_LOOKS / LEVEL)


@dataclass(frozen=True)
class Independence:
    """The findings. `phi` is chi-square over its degrees of freedom (nan where there are too few picks); the Markov
    e-values are natural logarithms. `dependent` says what voids the verdict, `regular` what is only worth a note."""

    phi: float
    ln_order: float
    ln_connection: float
    dependent: tuple[str, ...] = field(default=())
    regular: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Transitions:
    """How often one pick followed another: `pairs[a][b]`."""

    pairs: tuple[tuple[int, ...], ...]

    @property
    def ln_evidence(self) -> float:
        """ln e-value of Markov chains (Krichevsky-Trofimov mixture) against the best independent law in hindsight."""
        k = len(self.pairs)
        n = sum(map(sum, self.pairs))
        chain = math.fsum(
            math.lgamma(k / 2)
            - k * math.lgamma(0.5)
            + math.fsum(math.lgamma(count + 0.5) for count in row)
            - math.lgamma(sum(row) + k / 2)
            for row in self.pairs
        )
        followed = [sum(column) for column in zip(*self.pairs, strict=True)]
        return chain - math.fsum(count * math.log(count / n) for count in followed if count)

    @property
    def sticky(self) -> bool:
        """Whether a pick is repeated more often than independent picks would be."""
        n = sum(map(sum, self.pairs))
        followed = [sum(column) for column in zip(*self.pairs, strict=True)]
        expected = math.fsum(sum(row) * after / n for row, after in zip(self.pairs, followed, strict=True)) if n else 0
        return sum(row[i] for i, row in enumerate(self.pairs)) > expected


def transitions(picks: Sequence[int | None], backends: int) -> Transitions:
    """Counts of successive picks; an unknown pick (None) starts a new sequence."""
    pairs = [[0] * backends for _ in range(backends)]
    for before, after in itertools.pairwise(picks):
        if before is not None and after is not None:
            pairs[before][after] += 1
    return Transitions(tuple(map(tuple, pairs)))


def transitions_within(
    picks: Sequence[int | None], connections: Sequence[Hashable | None], backends: int
) -> Transitions:
    """Counts of successive picks of the same connection, all connections together; None is a connection unknown."""
    per_connection: dict[Hashable, list[int | None]] = defaultdict(list)
    for pick, connection in zip(picks, connections, strict=True):
        if connection is not None:
            per_connection[connection].append(pick)
    tables = [transitions(sequence, backends).pairs for sequence in per_connection.values() if len(sequence) > 1]
    return Transitions(
        tuple(tuple(sum(table[a][b] for table in tables) for b in range(backends)) for a in range(backends))
    )


def chi_square_tail(x: float, df: float) -> tuple[float, float]:
    """(P(X <= x), P(X >= x)) of the chi-square distribution: regularized incomplete gamma functions.

    Series below the middle, continued fraction (modified Lentz) above; Abramowitz and Stegun 6.5.29 and 6.5.31.
    """
    a, half = df / 2, x / 2
    if half <= 0:
        return 0.0, 1.0
    scale = math.exp(a * math.log(half) - half - math.lgamma(a))
    if half < a + 1:
        term = total = 1 / a
        k = a
        while term > total * 1e-16:
            k += 1
            term *= half / k
            total += term
        return scale * total, 1 - scale * total
    tiny = 1e-300
    b = half + 1 - a
    c, d = 1 / tiny, 1 / b
    fraction = d
    for i in range(1, 10_000):
        step = -i * (i - a)
        b += 2
        d = 1 / (step * d + b or tiny)
        c = b + step / c or tiny
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return 1 - scale * fraction, scale * fraction


def batch_chi_square(picks: Sequence[int | None], backends: int, batch: int) -> tuple[float, int]:
    """(X², degrees of freedom) of batches against backends; neighbours are merged until 5 are expected everywhere.

    Degrees of freedom are 0 where there are too few picks to say anything.
    """
    rows = [
        [sum(1 for pick in picks[start : start + batch] if pick == backend) for backend in range(backends)]
        for start in range(0, len(picks), batch)
    ]
    totals = [sum(column) for column in zip(*rows, strict=True)]
    used = [backend for backend in range(backends) if totals[backend]] if rows else []
    if len(used) < 2:
        return 0.0, 0
    n = sum(totals)
    needed = _LEAST_EXPECTED * n / min(totals[backend] for backend in used)
    merged: list[list[int]] = [[0] * backends]
    for row in rows:
        if sum(merged[-1]) >= needed:
            merged.append([0] * backends)
        merged[-1] = [a + b for a, b in zip(merged[-1], row, strict=True)]
    if len(merged) > 1 and sum(merged[-1]) < needed:
        last = merged.pop()
        merged[-1] = [a + b for a, b in zip(merged[-1], last, strict=True)]
    x2 = math.fsum(
        (row[backend] - sum(row) * totals[backend] / n) ** 2 / (sum(row) * totals[backend] / n)
        for row in merged
        for backend in used
    )
    return x2, (len(merged) - 1) * (len(used) - 1)


def examine(
    picks: Sequence[int | None], connections: Sequence[Hashable | None], backends: int, batch: int = 16
) -> Independence:
    """Looks at picks in send order (index of the backend, None for unknown) and the connection each was made on."""
    dependent, regular = [], []
    x2, df = batch_chi_square(picks, backends, batch)
    phi = x2 / df if df else math.nan
    if df:
        below, above = chi_square_tail(x2, df)
        if above < LEVEL / _LOOKS:
            dependent.append(f"batches of {batch} vary {phi:.2f} times as much as independent picks would")
        elif below < LEVEL / _LOOKS:
            regular.append(f"batches of {batch} vary only {phi:.2f} times as much as independent picks would")
    in_order, per_connection = transitions(picks, backends), transitions_within(picks, connections, backends)
    for what, table in (("request", in_order), ("request of the same connection", per_connection)):
        if table.ln_evidence >= _LN_EVIDENCE:
            if table.sticky:
                dependent.append(f"the next {what} repeats the backend too often (e-value {_e(table.ln_evidence)})")
            else:
                regular.append(f"the next {what} changes the backend too often (e-value {_e(table.ln_evidence)})")
    return Independence(phi, in_order.ln_evidence, per_connection.ln_evidence, tuple(dependent), tuple(regular))


def _e(ln: float) -> str:
    """An e-value as a power of ten; it may be too large for a float."""
    return f"10^{ln / math.log(10):.1f}"
