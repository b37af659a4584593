"""The mutation run: how results are read and judged, that its table fits lab and suite, and one fault for real."""

from __future__ import annotations

import pytest

from harness.diagnosis.causes import CAUSES
from harness.report.catalogue import catalogue
from lab.faults import CATALOGUE
from mutants.expected import EXPECTED, QUICK
from mutants.run import run_fault
from mutants.suite import Outcome, found_cause, results, said_cause
from mutants.table import line
from mutants.verdict import Expected, Verdict, covers, judge

JUNIT = """<testsuites><testsuite>
<testcase name="test_watch[mesh1]" time="1.5"><properties><property name="requirement" value="FED-001"/></properties>
  <failure message="no"/></testcase>
<testcase name="test_watch[mesh2]" time="0.5"><properties><property name="requirement" value="FED-001"/></properties>
</testcase>
<testcase name="test_sets" time="1"><properties><property name="requirement" value="FED-003"/></properties>
  <error message="setup"/></testcase>
<testcase name="test_skipped" time="0"><properties><property name="requirement" value="FED-004"/></properties>
  <skipped message="no"/></testcase>
<testcase name="test_unnamed" time="0"><failure message="no"/></testcase>
</testsuite></testsuites>"""

EXPECTATION = Expected(("FED-001[mesh1]",), ("wrong-client-id",), "mesh2", ("SPLIT-001",))


def outcome(*failed: str, cause: str = "wrong-client-id", side: str = "mesh2") -> Outcome:
    return Outcome(frozenset(failed), cause, side, 1.0)


def test_failures_and_errors_are_named_by_requirement_and_mesh():
    assert results(JUNIT) == ({"FED-001[mesh1]", "FED-003", "test_unnamed"}, 3.0)


def test_what_came_of_a_run_is_kept_and_found_again(tmp_path):
    assert Outcome.load(tmp_path) is None
    kept = outcome("FED-001[mesh1]", "SPLIT-001")
    kept.save(tmp_path)
    assert Outcome.load(tmp_path) == kept


def test_the_cause_is_read_from_what_the_suite_says_and_from_a_diagnosis():
    said = "x\ncause: The gateway of mesh1 [sic] has no pod. [gateway-down]\nside: mesh1\nremedy: y [no]\n"
    assert said_cause(said) == ("gateway-down", "mesh1")
    assert said_cause("cause: none, every link of the chain is in order now\n") == ("", "")
    assert found_cause({"cause": "gateway-down", "side": "mesh1"}) == ("gateway-down", "mesh1")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (outcome("FED-001[mesh1]"), Verdict.KILLED),
        (outcome("FED-001[mesh1]", "SPLIT-001"), Verdict.KILLED),
        (outcome(), Verdict.SURVIVED),
        (outcome("FED-001[mesh2]"), Verdict.SURVIVED),
        (outcome("FED-001[mesh1]", "FED-001[mesh2]"), Verdict.WRONG_TESTS),
        (outcome("FED-001[mesh1]", "FED-0011"), Verdict.WRONG_TESTS),
        (outcome("FED-001[mesh1]", cause="gateway-down"), Verdict.WRONG_CAUSE),
        (outcome("FED-001[mesh1]", cause=""), Verdict.WRONG_CAUSE),
        (outcome("FED-001[mesh1]", side="mesh1"), Verdict.WRONG_CAUSE),
    ],
)
def test_tests_and_cause_both_have_to_be_right(found, verdict):
    assert judge(EXPECTATION, found).verdict is verdict


def test_a_requirement_without_a_mesh_stands_for_its_tests_in_both():
    assert [covers("FED-001", test) for test in ("FED-001", "FED-001[mesh2]", "FED-0011")] == [True, True, False]
    assert not covers("FED-001[mesh1]", "FED-001")


def test_what_was_missed_and_what_was_too_much_is_said():
    judgement = judge(EXPECTATION, outcome("FED-004"))
    assert (judgement.missed, judgement.surplus) == (("FED-001[mesh1]",), ("FED-004",))


def test_a_fault_to_be_withstood_leaves_the_suite_green():
    calm = Expected((), ("", "api-failing"))
    assert judge(calm, outcome(cause="", side="")).verdict is Verdict.WITHSTOOD
    assert judge(calm, outcome("FED-001[mesh1]", cause="", side="")).verdict is Verdict.WRONG_TESTS
    assert judge(calm, outcome(cause="gateway-down")).verdict is Verdict.WRONG_CAUSE


def test_every_fault_of_the_lab_has_an_expectation_that_the_suite_can_meet():
    assert EXPECTED.keys() == CATALOGUE.keys()
    known = {requirement.id for requirement in catalogue()}
    for name, expected in EXPECTED.items():
        assert {entry.partition("[")[0] for entry in (*expected.must, *expected.may)} <= known, name
        assert {cause for cause in expected.causes if cause} <= CAUSES.keys(), name
        assert expected.must or expected.why, f"{name}: what is to be withstood says why"
    assert set(QUICK) <= EXPECTED.keys()


def test_weights_that_are_not_those_asked_for_are_noticed_in_a_lab_and_their_cause_is_named(tmp_path):
    row = run_fault("split-all-local", tmp_path)
    assert row.judgement.verdict is Verdict.KILLED, line(row)
    assert (tmp_path / "split-all-local" / "junit.xml").is_file()
