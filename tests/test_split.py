"""mesh2's ratings calls are split over both meshes as the weights say."""

from __future__ import annotations

import pytest


@pytest.mark.requirement(
    "SPLIT-001",
    "ratings calls are split as the weights say",
    checked="a sequential test of who served each request, within --split-margin, --split-alpha and --split-beta",
    unseen="callers other than reviews; shares in shorter spans than the measurement",
    source="Istio: weighted destinations; sequential test with stated error rates",
)
def test_ratings_calls_are_split_as_the_weights_say(split_of, asked_split):
    split = split_of(*asked_split)
    assert split.passed, split.report


@pytest.mark.requirement(
    "SPLIT-002",
    "a skewed split of 90 to 10 holds",
    checked="as SPLIT-001, with the weights set to 90 and 10",
    unseen="as SPLIT-001; nothing under --federation-adopt, where weights are not set",
    source="Istio: weighted destinations; sequential test with stated error rates",
)
def test_a_skewed_split_of_90_to_10_holds(split_of):
    split = split_of(90, 10)
    assert split.passed, split.report


@pytest.mark.requirement(
    "SPLIT-003",
    "a weight of 100 sends everything to mesh1",
    checked="as SPLIT-001: one request that stays in mesh2 breaks it",
    unseen="as SPLIT-002",
    source="Istio: weighted destinations",
)
def test_a_weight_of_100_sends_everything_to_mesh1(split_of):
    split = split_of(100, 0)
    assert split.passed, split.report


@pytest.mark.requirement(
    "SPLIT-004",
    "a weight of 0 sends nothing to mesh1",
    checked="as SPLIT-001: one request that reaches mesh1 breaks it",
    unseen="as SPLIT-002",
    source="Istio: weighted destinations",
)
def test_a_weight_of_0_sends_nothing_to_mesh1(split_of):
    split = split_of(0, 100)
    assert split.passed, split.report


@pytest.mark.requirement(
    "SPLIT-005",
    "every request is accounted for",
    checked="the lines of every proxy on the path for every request that was sent, else their counters",
    unseen="where counters stand for logs: which request went where",
    source="access logs of all proxies on the path",
)
def test_every_request_is_accounted_for(any_measurement):
    for split in any_measurement:
        assert split.account, split.report
        assert split.account.balanced, f"requests sent and requests accounted for differ: {split.account}"
        assert not split.account.unattributed, f"some requests left no trace in the logs: {split.account}"
