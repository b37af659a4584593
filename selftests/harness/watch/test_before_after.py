"""The quiet time before the first change against the one after the last: failures and latency of each stream."""

from __future__ import annotations

import random

import pytest

from harness.watch.before_after import compare, quiet_phases
from harness.watch.changes import Cause, Change
from harness.watch.comparison import Outcome
from harness.watch.segments import Sample
from harness.watch.timeline import StreamFacts, Timeline

LENGTH = 1_800.0
RATE = 20.0
CHANGES = [
    Change(600.0, 605.0, Cause.ISTIOD_REPLACED, "mesh1", "istiod: a gone"),
    Change(700.0, 1_000.0, Cause.EGRESS_REPLACED, "mesh2", "mesh1-egress: b gone", last_sign=705.0),
]
FACTS = {"fresh": StreamFacts(RATE), "stranger": StreamFacts(0.1, refused=True)}


def samples(failing=lambda _: 0.0, took=lambda _: 0.02, seed=1, length=LENGTH):
    draws = random.Random(seed)
    times = [n / RATE for n in range(round(length * RATE))]
    return [Sample(at, draws.random() >= failing(at), took(at) * draws.uniform(0.9, 1.1)) for at in times]


def rows(fresh, changes=CHANGES):
    streams = {"fresh": fresh, "stranger": []}
    timeline = Timeline(0.0, fresh[-1].at, streams, FACTS)
    return {one.row: one for one in compare(timeline, changes, streams)}


def test_quiet_is_before_the_first_change_and_half_a_minute_after_the_last_one_ended():
    before, after = quiet_phases(Timeline(0.0, LENGTH, {}, {}), CHANGES)
    assert (before.start, before.end, after.start) == (0.0, 600.0, 735.0)
    assert quiet_phases(Timeline(0.0, LENGTH, {}, {}), []) is None


def test_a_change_that_did_nothing_is_shown_to_have_done_nothing():
    found = rows(samples())
    assert {one.outcome for one in found.values()} == {Outcome.NOT_WORSE}
    assert set(found) == {"failures of fresh", "latency of fresh"}


@pytest.mark.parametrize("share", [0.003, 0.12])
def test_more_failures_than_before_are_worse(share):
    found = rows(samples(failing=lambda at: share if at > 650 else 0.0))
    assert found["failures of fresh"].outcome is Outcome.WORSE


def test_as_many_failures_as_before_are_not_worse():
    assert rows(samples(failing=lambda _: 0.0004))["failures of fresh"].outcome is not Outcome.WORSE


def test_failures_while_it_changed_are_not_after_it():
    found = rows(samples(failing=lambda at: 1.0 if 600 <= at < 730 else 0.0))
    assert found["failures of fresh"].outcome is Outcome.NOT_WORSE


def test_a_time_too_short_says_how_much_more_it_takes():
    found = rows(samples(length=800.0))["failures of fresh"]
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.wants == "119 s more without a failure"


def test_latency_is_worse_by_the_margin_of_what_it_was_before():
    half_more = rows(samples(took=lambda at: 0.03 if at > 650 else 0.02))["latency of fresh"]
    a_tenth_more = rows(samples(took=lambda at: 0.022 if at > 650 else 0.02))["latency of fresh"]
    assert half_more.outcome is Outcome.WORSE
    assert half_more.interval[0] <= 0.01 <= half_more.interval[1]
    assert a_tenth_more.outcome is Outcome.NOT_WORSE


def test_nothing_is_compared_where_nothing_changed():
    assert rows(samples(), changes=[]) == {}


def test_healthy_changes_are_called_worse_no_more_often_than_they_may():
    """200 quiet watches whose failures are as rare before as after."""
    worse = 0
    for seed in range(200):
        draws = random.Random(seed)
        fresh = [Sample(n / 2, draws.random() >= 0.002, draws.uniform(0.01, 0.03)) for n in range(3_600)]
        found = rows(fresh)
        worse += any(one.outcome is Outcome.WORSE for one in found.values())
    assert worse <= 20  # 10 are expected at most
