"""The mutation run: how results are read and judged, that its table fits lab and suite, and one fault for real."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from harness.diagnosis.causes import CAUSES
from harness.report.catalogue import catalogue
from lab.faults import CATALOGUE
from mutants import run
from mutants.code import Code
from mutants.expected import EXPECTED, QUICK
from mutants.run import Row, run_fault
from mutants.suite import UNKNOWN, Outcome, Results, RunBroken, found_cause, results, said_cause
from mutants.table import line, write_green, write_table
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


CODE = Code("0123456789abcdef", clean=True)


def outcome(
    *failed: str,
    cause: str = "wrong-client-id",
    side: str = "mesh2",
    passed: tuple[str, ...] = ("FED-003",),
    **more: Any,
) -> Outcome:
    tests = Results(frozenset(failed), frozenset(passed), frozenset(more.get("skipped", ())), 1.0)
    return Outcome(tests, cause, side, more.get("code", CODE))


def test_failures_errors_and_skips_are_named_by_requirement_and_mesh():
    found = results(JUNIT)
    assert found.failed == {"FED-001[mesh1]", "FED-003", "test_unnamed"}
    assert (found.passed, found.skipped, found.seconds) == ({"FED-001[mesh2]"}, {"FED-004"}, 3.0)


def test_what_came_of_a_run_is_kept_and_found_again(tmp_path):
    assert Outcome.load(tmp_path) is None
    kept = outcome("FED-001[mesh1]", "SPLIT-001", skipped=("SPLIT-002",))
    kept.save(tmp_path)
    assert Outcome.load(tmp_path) == kept
    (tmp_path / "outcome.json").write_text('{"failed": [], "cause": "", "side": "", "seconds": 1.0}')
    assert Outcome.load(tmp_path) is None


@pytest.fixture
def committed(monkeypatch, tmp_path):
    """Commits a file, by name and text, in a project of its own: the Code of that commit."""

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=e")
        return subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True).stdout.strip()

    def commit(file: str, text: str) -> Code:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
        git("add", "-A")
        git("commit", "-m", file)
        return Code(git("rev-parse", "HEAD"), clean=True)

    monkeypatch.setattr("mutants.code._ROOT", tmp_path)
    git("init")
    Code.now.cache_clear()
    yield commit
    Code.now.cache_clear()


def test_a_commit_that_leaves_suite_and_lab_alone_is_the_same_code(committed):
    first, documents = committed("tests/test_split.py", "1"), committed("docs/faults.md", "2")
    changed = committed("tests/test_split.py", "3")
    assert first != documents
    assert first.same_as(documents)
    assert not documents.same_as(changed)


@pytest.mark.parametrize(("file", "clean"), [("docs/faults.md", True), ("tests/test_split.py", False)])
def test_only_changes_of_suite_and_lab_are_changes(committed, tmp_path, file, clean):
    committed(file, "1")
    (tmp_path / file).write_text("2")
    assert Code.now().clean is clean


@pytest.mark.parametrize(
    ("kept", "now", "same"),
    [
        (CODE, CODE, True),
        (CODE, Code("fedcba9876543210", clean=True), False),
        (Code(CODE.commit, clean=False), CODE, False),
        (Code(CODE.commit, clean=False), Code(CODE.commit, clean=False), False),
        (Code("", clean=True), Code("", clean=True), False),
    ],
)
def test_only_results_of_the_same_commit_are_judged_again(monkeypatch, tmp_path, kept, now, same):
    def rerun(*_: object) -> Outcome:
        raise RunBroken("was run again")

    monkeypatch.setattr(Code, "now", lambda: now)
    monkeypatch.setattr(run, "_on_broken_federation", rerun)
    directory = tmp_path / "wrong-clientid-export"
    directory.mkdir()
    outcome("FED-001[mesh2]", code=kept).save(directory)
    row = run_fault("wrong-clientid-export", tmp_path, resume=True)
    assert (row.outcome is not None) == same
    assert row.problem == ("" if same else "RunBroken: was run again")


def test_a_green_run_fails_nothing_skips_nothing_and_names_nothing():
    assert outcome(cause="", side="").green
    assert not outcome("FED-001[mesh1]", cause="").green
    assert not outcome(cause="", skipped=("FED-001[mesh1]",)).green
    assert not outcome(cause="", passed=()).green
    assert not outcome(cause=UNKNOWN).green


def test_the_cause_is_read_from_what_the_suite_says_and_from_a_diagnosis():
    said = "x\ncause: The gateway of mesh1 [sic] has no pod. [gateway-down]\nside: mesh1\nremedy: y [no]\n"
    assert said_cause(said) == ("gateway-down", "mesh1")
    assert said_cause("cause: none, every link of the chain is in order now\n") == ("", "")
    found = {"state": "broken", "cause": "gateway-down", "side": "mesh1"}
    assert found_cause(found) == ("gateway-down", "mesh1")


@pytest.mark.parametrize(("state", "cause"), [("ok", ""), ("unknown", UNKNOWN), (None, UNKNOWN)])
def test_not_everything_looked_at_is_not_well(state, cause):
    assert found_cause({"state": state, "cause": "", "side": ""}) == (cause, "")


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


def test_a_requirement_without_a_mesh_demands_its_tests_in_both():
    both = Expected(("FED-001",), ("wrong-client-id",))
    assert judge(both, outcome("FED-001[mesh1]", "FED-001[mesh2]")).verdict is Verdict.KILLED
    assert judge(both, outcome("FED-001[mesh1]", passed=("FED-001[mesh2]",))).missed == ("FED-001",)
    assert judge(both, outcome("FED-001[mesh1]", skipped=("FED-001[mesh2]",))).missed == ("FED-001",)
    assert judge(both, outcome("FED-002[mesh1]")).missed == ("FED-001",)


def test_what_was_missed_and_what_was_too_much_is_said():
    judgement = judge(EXPECTATION, outcome("FED-004"))
    assert (judgement.missed, judgement.surplus) == (("FED-001[mesh1]",), ("FED-004",))


def test_a_fault_to_be_withstood_leaves_the_suite_green():
    calm = Expected((), ("", "api-failing"))
    assert judge(calm, outcome(cause="", side="")).verdict is Verdict.WITHSTOOD
    assert judge(calm, outcome("FED-001[mesh1]", cause="", side="")).verdict is Verdict.WRONG_TESTS
    assert judge(calm, outcome(cause="gateway-down")).verdict is Verdict.WRONG_CAUSE
    assert judge(calm, outcome(cause=UNKNOWN)).verdict is Verdict.WRONG_CAUSE
    assert judge(calm, outcome(cause="", skipped=("FED-004",))).verdict is Verdict.WRONG_TESTS


def test_every_fault_of_the_lab_has_an_expectation_that_the_suite_can_meet():
    assert EXPECTED.keys() == CATALOGUE.keys()
    known = {requirement.id for requirement in catalogue()}
    for name, expected in EXPECTED.items():
        assert {entry.partition("[")[0] for entry in (*expected.must, *expected.may)} <= known, name
        assert {cause for cause in expected.causes if cause} <= CAUSES.keys(), name
        assert expected.must or expected.why, f"{name}: what is to be withstood says why"
    assert set(QUICK) <= EXPECTED.keys()


def test_the_page_says_of_which_commit_it_is_and_keeps_what_is_said_of_green_runs(tmp_path):
    target = tmp_path / "faults.md"
    rows = [Row("wrong-clientid-export", judge(EXPECTATION, outcome("FED-001[mesh1]")), outcome(), "", 1.0)]
    write_table(target, rows)
    table = target.read_text()
    assert "1 killed, at commit 0123456789ab." in table
    write_green(target, [outcome(cause="")] * 3, 4)
    assert "3 of 4 green in a row" in target.read_text()
    write_green(target, [outcome(cause="", code=Code(CODE.commit, clean=False))], 1)
    text = target.read_text()
    assert text.startswith(table)
    assert "1 of 1 green in a row" in text
    assert "median 1.0 s, commit 0123456789ab with changes." in text
    assert "3 of 4" not in text
    write_table(target, rows)
    assert target.read_text() == text


def test_weights_that_are_not_those_asked_for_are_noticed_in_a_lab_and_their_cause_is_named(tmp_path):
    row = run_fault("split-all-local", tmp_path)
    assert row.judgement.verdict is Verdict.KILLED, line(row)
    assert (tmp_path / "split-all-local" / "junit.xml").is_file()
