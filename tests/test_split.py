"""mesh2's ratings calls are split over both meshes as the weights say."""

from __future__ import annotations

import pytest


@pytest.mark.requirement(
    "SPLIT-001",
    "ratings calls are split as the weights say",
    source="Istio: weighted destinations; sequential test with stated error rates",
)
def test_ratings_calls_are_split_as_the_weights_say(split_of, asked_split):
    found = split_of(*asked_split)
    assert found.passed, found.report


@pytest.mark.requirement(
    "SPLIT-002",
    "a skewed split of 90 to 10 holds",
    source="Istio: weighted destinations; sequential test with stated error rates",
)
def test_a_skewed_split_of_90_to_10_holds(split_of):
    found = split_of(90, 10)
    assert found.passed, found.report


@pytest.mark.requirement(
    "SPLIT-003",
    "a weight of 100 sends everything to mesh1",
    source="Istio: weighted destinations",
)
def test_a_weight_of_100_sends_everything_to_mesh1(split_of):
    found = split_of(100, 0)
    assert found.passed, found.report


@pytest.mark.requirement("SPLIT-004", "a weight of 0 sends nothing to mesh1", source="Istio: weighted destinations")
def test_a_weight_of_0_sends_nothing_to_mesh1(split_of):
    found = split_of(0, 100)
    assert found.passed, found.report


@pytest.mark.requirement("SPLIT-005", "every request is accounted for", source="access logs of all proxies on the path")
def test_every_request_is_accounted_for(any_measurement):
    for found in any_measurement:
        assert found.account, found.report
        assert found.account.balanced, f"requests sent and requests accounted for differ: {found.account}"
        assert not found.account.unattributed, f"some requests left no trace in the logs: {found.account}"
