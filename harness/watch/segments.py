"""Outages and degradations in one stream of probes: pure functions of what each probe found.

A stream is in one of four conditions, told apart by the share of probes that fail: fine, losing some, losing about
half, out. The likeliest course of conditions is found by dynamic programming (Viterbi), where a change counts
as unlikely as 1 in 1000. Then:
- an outage is a stretch that is out or loses half, or a run of failing probes, if only of one, while the
  stream is fine. Outages less than `MERGED` apart are one.
- a degradation is a stretch of `LASTING` or more that loses some, from the first to the last failure of its commonest
  way to fail. Its failures are no outages: they are judged as a share, with an interval. A shorter one is an outage
  that lost some of its probes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.watch.comparison import at_least, share_interval

MERGED = 1.0  # seconds between two outages that are one
LASTING = 10.0  # seconds of losing some from which it is no flicker of an outage any more
FINE, SOME, HALF, OUT = range(4)
_FAILING = (1e-4, 0.12, 0.5, 0.98)  # share of probes that fail in each condition
_CHANGE = math.log(1e-3)
_COST = tuple((math.log1p(-p), math.log(p)) for p in _FAILING)  # by condition and whether the probe failed
_HARMLESS = 1e-3  # share of failures that is no degradation


@dataclass(frozen=True)
class Sample:
    """One probe: when it was sent, for how long its answer took (seconds), whether it was good, what came in words."""

    at: float
    good: bool
    took: float = 0.0
    saw: str = ""

    @property
    def until(self) -> float:
        return self.at + self.took


@dataclass(frozen=True)
class Segment:
    """A stretch of one stream, from the first failing probe sent to the last one: `lost` of `sent` probes failed."""

    start: float
    end: float
    lost: int
    sent: int
    saw: tuple[str, ...] = ()

    @property
    def lasted(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Degradation(Segment):
    """A lasting share of failures; `interval`: exact, at 95 %; `earliest`: by when it may have begun, at 95 %.

    p_value: the chance of as much anywhere in the stream while no more than 1 in 1000 fails.
    """

    earliest: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    p_value: float = 1.0

    @property
    def share(self) -> float:
        return self.lost / self.sent


def conditions(failed: Sequence[bool]) -> list[int]:
    """The likeliest condition of a stream at each of its probes, FINE before the first."""
    if not failed:
        return []
    score = [_CHANGE] * len(_FAILING)
    score[FINE] = 0.0
    back: list[tuple[int, ...]] = []
    for bad in failed:
        best = max(range(len(score)), key=score.__getitem__)
        from_best = score[best] + _CHANGE
        back.append(tuple(now if score[now] >= from_best else best for now in range(len(score))))
        score = [max(score[now], from_best) + _COST[now][bad] for now in range(len(score))]
    course = [max(range(len(score)), key=score.__getitem__)]
    for came_from in reversed(back):
        course.append(came_from[course[-1]])
    return course[-2::-1]


def cut(samples: Iterable[Sample], merged: float = MERGED) -> tuple[list[Segment], list[Degradation]]:
    """The outages and the degradations of one stream, in order of time."""
    probes = sorted(samples, key=lambda sample: sample.at)
    if all(probe.good for probe in probes):
        return [], []
    course = conditions([not probe.good for probe in probes])
    kinds = [_kind(condition) for condition in course]
    outages: list[list[Sample]] = []
    lasting: list[list[Sample]] = []
    begin = 0
    for end in range(1, len(probes) + 1):
        if end < len(probes) and kinds[end] == kinds[begin]:
            continue
        stretch, kind, begin = _trimmed(probes[begin:end]), kinds[begin], end
        if not stretch:
            continue
        if kind == FINE:
            outages += _runs(stretch)
        elif kind == SOME and stretch[-1].at - stretch[0].at >= LASTING:
            before, core, after = _one_way(stretch)
            lasting.append(core)
            outages += [*_runs(before), *_runs(after)]
        else:
            outages.append(stretch)
    outages.sort(key=lambda stretch: stretch[0].at)
    return _joined(probes, outages, merged), [_degradation(stretch, probes) for stretch in lasting]


def _kind(condition: int) -> int:
    return OUT if condition == HALF else condition


def _trimmed(stretch: list[Sample]) -> list[Sample]:
    bad = [place for place, probe in enumerate(stretch) if not probe.good]
    return stretch[bad[0] : bad[-1] + 1] if bad else []


def _one_way(stretch: list[Sample]) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """What comes before, between and after the first and the last failure of the way in which most probes failed.

    An end of something else that runs into a degradation is no part of it.
    """
    most, _ = Counter(probe.saw for probe in stretch if not probe.good).most_common(1)[0]
    places = [place for place, probe in enumerate(stretch) if not probe.good and probe.saw == most]
    return stretch[: places[0]], stretch[places[0] : places[-1] + 1], stretch[places[-1] + 1 :]


def _runs(stretch: list[Sample]) -> list[list[Sample]]:
    runs: list[list[Sample]] = [[]]
    for probe in stretch:
        if probe.good:
            runs.append([])
        else:
            runs[-1].append(probe)
    return [run for run in runs if run]


def _joined(probes: list[Sample], stretches: list[list[Sample]], merged: float) -> list[Segment]:
    """Stretches as outages; those close together become one, with all the probes between them."""
    spans: list[tuple[float, float]] = []
    for stretch in stretches:
        start, end = stretch[0].at, stretch[-1].at
        if spans and start - spans[-1][1] < merged:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return [_segment([probe for probe in probes if start <= probe.at <= end]) for start, end in spans]


def _segment(stretch: list[Sample]) -> Segment:
    bad = [probe for probe in stretch if not probe.good]
    said = tuple(dict.fromkeys(probe.saw for probe in bad if probe.saw))
    return Segment(stretch[0].at, stretch[-1].at, len(bad), len(stretch), said)


def _degradation(stretch: list[Sample], probes: list[Sample]) -> Degradation:
    found = _segment(stretch)
    low, high = share_interval(found.lost, found.sent)
    # So many good probes before the first failure are not surprising though it had begun already.
    unnoticed = int(math.log(0.05) / math.log1p(-min(found.lost / found.sent, 0.999)))
    before = [probe for probe in probes if probe.at < found.start]
    good = next((place for place, probe in enumerate(reversed(before)) if not probe.good), len(before))
    back = min(unnoticed, good)
    earliest = before[-back].at if back else found.start
    places = len(probes) * (len(probes) + 1) / 2  # stretches that could have been taken
    return Degradation(
        found.start,
        found.end,
        found.lost,
        found.sent,
        found.saw,
        earliest,
        (low, high),
        min(1.0, places * at_least(found.lost, found.sent, _HARMLESS)),
    )
