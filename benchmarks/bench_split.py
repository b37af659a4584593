"""Requests a split test needs, computed exactly, against Wald's bound for any sequential test with its error rates."""

from __future__ import annotations

import math

from benchmarks.measure import Figure, timed
from harness.split.sequential import SplitTest

_DESIGNS = (((50, 50), 0.05), ((50, 50), 0.1), ((90, 10), 0.05), ((100, 0), 0.05))


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    terms = [(p, q), (1 - p, 1 - q)]
    return math.fsum(a * math.log(a / b) for a, b in terms if a)


def wald_bound(test: SplitTest) -> float:
    """Fewest requests on average, when the split is as asked, of any test that keeps this alpha and beta."""
    weight = test.weights[0]
    edges = [weight + sign * test.margin for sign in (1, -1)]
    if 0 < weight < 1:
        margin = min(test.margin, min(weight, 1 - weight) / 2)
        edges = [weight + sign * margin for sign in (1, -1)]
    closest = min(_divergence(weight, edge) for edge in edges if 0 < edge < 1)
    return _divergence(1 - test.alpha, test.beta) / closest


def measure() -> list[Figure]:
    figures = []
    for weights, margin in _DESIGNS:
        test = SplitTest(weights, margin)
        name = f"{weights[0]}/{weights[1]}, margin {100 * margin:g} points"
        exact = test.operating_characteristics(weights)
        bound = f"Wald bound {wald_bound(test):.0f}, 95 %: {exact.percentile_95}, cap {test.cap}"
        figures.append(Figure(f"requests for a correct {name} (mean, exact)", (exact.mean,), "requests", bound))
    test = SplitTest((50, 50))
    figures.append(
        Figure("exact error rates of one 50/50 design", timed(3, lambda: test.operating_characteristics((50, 50))), "s")
    )
    figures.append(Figure("one look at the verdict", timed(200, lambda: test.decide((1000, 1010), 7), 1000), "ms"))
    return figures
