"""Which causes a red run names: the first that was seen broken, and what later failures show beside it."""

from __future__ import annotations

import pytest

from harness.diagnosis.explanation import Explanation
from harness.diagnosis.model import Diagnosis, Link, Look
from harness.split.meter import Measurement
from selftests.support.reports import even, measured
from selftests.support.scripted import Answer

SPLIT = Look("split routes", "mesh2", "ratings-split")
OFF = SPLIT.broken("weights-differ", "70 % to mesh1", name="ratings-split", detail="70 % to mesh1")
TRUST = Look("trust", "mesh1", "root").broken("namespace-not-member", "seen", namespace="n", detail="d", system="s")
FINE = SPLIT.ok("50 % to mesh1, 50 % to mesh2")


def skewed(index: int) -> Answer:
    """To mesh1 where `even` divides, and half of the rest."""
    return Answer("mesh1") if even(index).mesh == "mesh1" or index % 2 else Answer("mesh2")


def failing(index: int) -> Answer:
    return Answer(even(index).mesh, status=503 if index % 2 else 200)


def explained(*links: Link) -> Explanation:
    found = Explanation()
    found.add_walk("FED-001", Diagnosis(links))
    return found


@pytest.fixture(scope="module")
def off() -> Measurement:
    """Of a split whose shares are not what was asked for."""
    return measured(skewed)


@pytest.fixture
def behind(off: Measurement) -> Explanation:
    """A split that is off, after a walk that saw its cause behind another."""
    found = explained(TRUST, OFF)
    found.add_failure("SPLIT-001", off)
    return found


def test_the_cause_of_a_split_that_is_off_may_stand_behind_another(behind, off):
    assert explained(TRUST, OFF).explains(off)
    said = [line for line in behind.summary if line.startswith("after")]
    assert said == ["after FED-001 failed:", "after SPLIT-001 failed:"]
    causes = [line.rpartition("[")[2] for line in behind.summary if line.startswith("cause:")]
    assert causes == ["namespace-not-member]", "weights-differ]"]


def test_a_request_that_ended_the_installation_is_the_cause_and_its_message_is_not_told_again():
    found = Explanation()
    found.end("INSTALL-001[mesh1]", "mesh2", "mesh2: PATCH https://api/x: 403 no")
    assert found.explains(None), "nothing is walked"
    assert found.summary[:2] == [
        "cause: the installation failed, as INSTALL-001[mesh1] says above [installation-failed]",
        "side: mesh2",
    ]
    plain = found.to_dict()
    assert plain
    assert (plain["cause"], plain["after"]) == ("installation-failed", "INSTALL-001[mesh1]")
    assert "mesh2: PATCH https://api/x: 403 no" in plain["sentence"]


def test_a_cause_behind_another_is_in_the_report_beside_it(behind):
    plain = behind.to_dict()
    assert plain
    assert (plain["cause"], plain["after"], plain["walks"]) == ("namespace-not-member", "FED-001", [])
    also = [(entry["after"], entry["cause"], entry["side"]) for entry in plain["also"]]
    assert also == [("SPLIT-001", "weights-differ", "mesh2")]


def test_requests_that_failed_are_explained_by_what_is_broken_first():
    found = explained(TRUST, OFF)
    unattributed = measured(failing)
    assert found.explains(unattributed)
    found.add_failure("SPLIT-001", unattributed)
    assert found.summary == Diagnosis((TRUST, OFF)).summary


def test_a_split_that_is_off_is_not_explained_by_other_links(off):
    found = explained(TRUST, FINE)
    assert not found.explains(off)
    found.add_walk("SPLIT-001", Diagnosis((TRUST, OFF)))
    found.add_failure("SPLIT-001", off)
    assert [cause.diagnosis.cause for cause in found.causes] == ["namespace-not-member", "weights-differ"]


def test_what_a_walk_saw_in_order_explains_no_failure():
    found = explained(FINE)
    assert not found.explains(None)
    found.add_walk("FED-009", Diagnosis((TRUST,)))
    assert found.explains(None)
    plain = found.to_dict()
    assert plain
    assert (plain["cause"], plain["after"], plain["also"]) == ("namespace-not-member", "FED-009", [])
    assert [walk["after"] for walk in plain["walks"]] == ["FED-001"]
    assert "cause: none, every link of the chain is in order now" in found.summary


def test_a_second_look_in_vain_is_told():
    found = explained(TRUST, FINE)
    found.add_walk("SPLIT-001", Diagnosis((TRUST, FINE)))
    assert found.summary[-1] == "after SPLIT-001 failed: looked again, nothing else was seen broken"
    assert sum(line.startswith("cause:") for line in found.summary) == 1


def test_a_run_without_failure_says_nothing():
    assert (Explanation().summary, Explanation().to_dict()) == ([], None)
