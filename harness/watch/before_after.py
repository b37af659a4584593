"""Is after as good as before? Each stream's failures and latency in the quiet time before the first change and in the
one after the last, all rows judged together.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.watch.changes import Change
from harness.watch.comparison import Count, Outcome, clean_needed, compare_rates, holm, shift_of
from harness.watch.segments import Sample
from harness.watch.timeline import Timeline

ALPHA = 0.05  # chance that anything at all is called worse, or not worse, that is not
FAILURES_MARGIN = 1e-3  # share of probes
LATENCY_MARGIN, LEAST_LATENCY_MARGIN = 0.25, 0.005  # of the baseline's own latency; seconds
SETTLING = 30.0  # seconds after the last change that belong to it
_BLOCK = 10.0  # seconds whose median is one value: single requests are not independent


@dataclass(frozen=True)
class Comparison:
    """One row: what was compared, both values (a share, or seconds), the interval of their difference where there is
    one, the margin, the outcome; wants: what it would take where there is none."""

    row: str
    before: float
    after: float
    margin: float
    outcome: Outcome
    interval: tuple[float, float] | None = None
    p_worse: float | None = None
    wants: str = ""


@dataclass(frozen=True)
class Phase:
    start: float
    end: float

    def of(self, samples: Sequence[Sample]) -> list[Sample]:
        return [sample for sample in samples if self.start <= sample.at < self.end]


def quiet_phases(timeline: Timeline, changes: Sequence[Change]) -> tuple[Phase, Phase] | None:
    """The time before the first change, and that after the last one; None where nothing has changed."""
    if not changes:
        return None
    first, last = min(change.start for change in changes), max(change.seen_last for change in changes)
    return Phase(timeline.start, first), Phase(min(last + SETTLING, timeline.end), timeline.end + 1.0)


def compare(
    timeline: Timeline, changes: Sequence[Change], samples: Mapping[str, Sequence[Sample]]
) -> list[Comparison]:  # fmt: skip
    """The rows of all streams of pages; none where nothing has changed. `samples`: those that prove something."""
    phases = quiet_phases(timeline, changes)
    if phases is None:
        return []
    pages = {name: found for name, found in samples.items() if not timeline.facts[name].refused}
    failures = list(_failures(pages, *phases))
    judged = holm({one.row: one.p_worse for one in failures if one.p_worse is not None})
    rows = [_together(one, judged.get(one.row, 1.0)) for one in failures]
    return [*rows, *_latencies(pages, *phases)]


def _failures(pages: Mapping[str, Sequence[Sample]], before: Phase, after: Phase) -> Iterator[Comparison]:
    for name, samples in pages.items():
        counts = []
        for phase in (before, after):
            found = phase.of(samples)
            counts.append(Count(sum(not one.good for one in found), len(found)))
        found_rates = compare_rates(counts[0], counts[1], FAILURES_MARGIN, ALPHA / max(1, len(pages)))
        wants = ""
        if found_rates.outcome is Outcome.INCONCLUSIVE:
            needed = clean_needed(FAILURES_MARGIN, ALPHA / max(1, len(pages)) / 2)
            seconds = (needed - counts[1].exposure) / _rate(samples)
            wants = f"{seconds:.0f} s more without a failure" if seconds > 0 else "a longer time before"
        yield Comparison(
            f"failures of {name}",
            counts[0].rate,
            counts[1].rate,
            FAILURES_MARGIN,
            found_rates.outcome,
            p_worse=found_rates.p_worse,
            wants=wants,
        )


def _rate(samples: Sequence[Sample]) -> float:
    """Probes a second, as they were sent."""
    lasted = samples[-1].at - samples[0].at if len(samples) > 1 else 0.0
    return len(samples) / lasted if lasted else 1.0


def _together(row: Comparison, adjusted: float) -> Comparison:
    if adjusted <= ALPHA:
        return replace(row, outcome=Outcome.WORSE, p_worse=adjusted)
    kept = Outcome.INCONCLUSIVE if row.outcome is Outcome.WORSE else row.outcome
    return replace(row, outcome=kept, p_worse=adjusted)


def _latencies(pages: Mapping[str, Sequence[Sample]], before: Phase, after: Phase) -> Iterator[Comparison]:
    level = 1 - ALPHA / max(1, len(pages))
    for name, samples in pages.items():
        was, now = (_medians(phase.of(samples)) for phase in (before, after))
        shift = shift_of(was, now, level)
        base, then = (statistics.median(values) if values else math.nan for values in (was, now))
        margin = max(LATENCY_MARGIN * base, LEAST_LATENCY_MARGIN)
        if shift is None:
            yield Comparison(
                f"latency of {name}", base, then, margin, Outcome.INCONCLUSIVE, wants="a longer time before and after"
            )
        else:
            interval = shift.low, shift.high
            yield Comparison(f"latency of {name}", base, then, margin, shift.against(margin), interval)


def _medians(samples: Sequence[Sample]) -> list[float]:
    """The median of each block of good probes, in seconds."""
    blocks: dict[int, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.good:
            blocks[int(sample.at // _BLOCK)].append(sample.took)
    return [statistics.median(block) for block in blocks.values()]
