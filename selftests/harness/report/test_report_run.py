"""Runs of pytest with --federation-report: whatever becomes of them, the report is there and says so."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml

from harness.cluster.cluster import Cluster
from harness.report.evidence import collect
from harness.report.run_record import TestRecord
from selftests.support.lab import start_lab, stop_lab
from selftests.support.reports import SCHEMA

ROOT = Path(__file__).parents[3]
TESTS = """
import os, pytest

@pytest.fixture
def broken():
    raise RuntimeError("the meshes could not be provisioned")

@pytest.mark.requirement("INSTALL-001")
def test_good():
    pass

@pytest.mark.requirement("INSTALL-002")
def test_bad():
    assert not ["mesh1: <b>not Ready</b>"], "mesh1: <b>not Ready</b>"

@pytest.mark.requirement("INSTALL-003")
def test_unready(broken):
    pass

@pytest.mark.requirement("INSTALL-004")
def test_left_out():
    pytest.skip("nothing is provisioned here")
"""
SPLIT = """
import pytest

@pytest.mark.requirement("SPLIT-001")
def test_split(split_of):
    split_of(50, 50)
"""
# As Ctrl-C, at the second look that has figures.
INTERRUPTING = """
import os, signal
from harness.split import meter

class Judge(meter.Judge):
    told = False

    @property
    def so_far(self):
        if self.told:
            os.kill(os.getpid(), signal.SIGINT)
        self.told = self.judged > 0
        return super().so_far

meter.Judge = Judge
"""


class Run:
    """A run of a file of tests with this suite's options and hooks; prefix: what its command begins with."""

    prefix: tuple[str, ...] = ()

    def __init__(self, directory: Path, tests: str, *arguments: str, pythonpath: Path = ROOT) -> None:
        self.report = directory / "report"
        (directory / "test_given.py").write_text(tests)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST"))}
        clean["PYTHONPATH"] = str(pythonpath)
        command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
        command += [f"--rootdir={ROOT}", str(directory / "test_given.py"), "--federation-report", str(self.report)]
        self.done = subprocess.run(
            [*self.prefix, *command, *arguments], cwd=ROOT, env=clean, capture_output=True, text=True, check=False
        )

    @property
    def content(self) -> dict:
        content = yaml.safe_load((self.report / "report.yaml").read_text())
        jsonschema.validate(content, SCHEMA, jsonschema.Draft202012Validator)
        return content

    def reason_of(self, identity: str) -> str:
        return next(entry["reason"] for entry in self.content["requirements"] if entry["id"] == identity)

    def results(self) -> dict[str, tuple[str, str]]:
        found = self.content["requirements"]
        return {entry["id"]: (entry["result"], entry["reason"]) for entry in found if entry["tests"]}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Run:
    return Run(tmp_path_factory.mktemp("mixed"), TESTS)


def test_every_result_has_its_reason(mixed):
    assert mixed.done.returncode == pytest.ExitCode.TESTS_FAILED, mixed.done.stdout
    assert mixed.results() == {
        "INSTALL-001": ("passed", ""),
        "INSTALL-002": ("failed", "mesh1: <b>not Ready</b>"),
        "INSTALL-003": ("failed", "setup: RuntimeError: the meshes could not be provisioned"),
        "INSTALL-004": ("skipped", "nothing is provisioned here"),
    }
    assert mixed.content["result"] == "failure"


def test_junit_has_the_same_ids(mixed):
    cases = ElementTree.parse(mixed.report / "junit.xml").iter("testcase")
    found = [case.find("properties/property[@name='requirement']") for case in cases]
    assert [entry.get("value") for entry in found] == [f"INSTALL-00{n}" for n in (1, 2, 3, 4)]


ENDINGS = """
import pytest

@pytest.fixture
def unclean():
    yield
    raise RuntimeError("left behind")

def test_both(unclean):
    assert not "first", "wrong"

def test_parts(subtests):
    for part in "ab":
        with subtests.test(part):
            assert part == "c", f"{part} is wrong"
        with subtests.test(part):
            pass

def test_good():
    pass

def test_explained(run_state):
    from harness.diagnosis import Diagnosis
    from harness.diagnosis.model import Look
    link = Look("trust", "mesh1", "root").broken("namespace-not-member", "seen", namespace="n", detail="d", system="s")
    run_state.explanation.add_walk("SPLIT-001", Diagnosis((link,)))
    run_state.record.diagnosis = run_state.explanation.to_dict()
    run_state.record.mesh("mesh2").ossm = "2.5.1"
    assert not "first"
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> ElementTree.Element:
    """pytest's file of a run whose tests end in every way in which they have several results."""
    run = Run(tmp_path_factory.mktemp("endings"), ENDINGS)
    return ElementTree.parse(run.report / "junit.xml").find("testsuite")


def test_junit_has_one_result_for_each_test_and_counts_that_add_up(suite):
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert list(cases) == ["test_both", "test_parts", "test_good", "test_explained"]
    kinds = [[part.tag for part in case if part.tag in ("error", "failure")] for case in cases.values()]
    assert kinds == [["error"], ["failure"], [], ["failure"]]
    assert [suite.get(count) for count in ("tests", "errors", "failures", "skipped")] == ["4", "1", "2", "0"]
    both, parts = cases["test_both"].find("error"), cases["test_parts"].find("failure")
    assert ("left behind" in both.text, "wrong" in both.text) == (True, True)
    assert ("a is wrong" in parts.text, "b is wrong" in parts.text) == (True, True)


def test_junit_tells_cause_side_and_remedy_with_what_failed(suite):
    [good] = [case for case in suite.iter("testcase") if case.get("name") == "test_good"]
    texts = [part.text for part in suite.iter() if part.tag in ("error", "failure")]
    assert len(texts) == 3
    for text in texts:
        assert re.search(r"^cause: .*\[namespace-not-member\]\nside: mesh1\nremedy: .", text, re.MULTILINE), text
    assert [part for part in good if part.tag != "properties"] == []


def test_junit_says_of_the_whole_run_what_it_was_of(suite):
    facts = {each.get("name"): each.get("value") for each in suite.iterfind("properties/property")}
    assert facts["embedded"] == "true"
    assert facts["mesh2.ossm"] == "2.5.1"
    assert set(facts) >= {"suite", "run", "clusters", "mesh2.kubernetes", "mesh2.server"}


def test_junit_says_why_a_test_was_skipped_and_which_requirement_that_leaves_open(mixed):
    cases = ElementTree.parse(mixed.report / "junit.xml").iter("testcase")
    found = {
        case.find("properties/property[@name='requirement']").get("value"): skipped.get("message")
        for case in cases
        if (skipped := case.find("skipped")) is not None
    }
    assert found == {"INSTALL-004": "nothing is provisioned here"}


def test_the_directory_holds_whole_files_only(mixed):
    assert {path.name for path in mixed.report.iterdir()} == {"report.yaml", "junit.xml", "index.html"}
    assert "&lt;b&gt;not Ready&lt;/b&gt;" in (mixed.report / "index.html").read_text()


def test_the_terminal_says_where_the_report_is(mixed):
    assert f"report: {mixed.report / 'index.html'} (failure, embedded lab, sha256:" in mixed.done.stdout
    assert str(mixed.report / "junit.xml") in mixed.done.stdout


def test_the_command_is_in_the_report(mixed):
    assert mixed.content["reproduce"].startswith("pytest -p conftest")
    assert str(mixed.report) in mixed.content["reproduce"]


def test_a_run_of_nothing_is_unknown(tmp_path):
    run = Run(tmp_path, TESTS, "-k", "no_such_test")
    assert (run.done.returncode, run.content["result"]) == (pytest.ExitCode.NO_TESTS_COLLECTED, "unknown")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Run:
    """A run that Ctrl-C ends during the second of its two tests."""
    tests = TESTS.replace('pytest.skip("nothing is provisioned here")', "raise KeyboardInterrupt")
    return Run(tmp_path_factory.mktemp("interrupted"), tests, "-k", "good or left_out")


def test_an_interrupted_run_leaves_what_it_knows(interrupted):
    assert interrupted.done.returncode == pytest.ExitCode.INTERRUPTED
    assert interrupted.results() == {
        "INSTALL-001": ("passed", ""),
        "INSTALL-004": ("not-run", "interrupted by Ctrl-C during it"),
    }
    assert interrupted.content["result"] == "partial"
    assert interrupted.reason_of("INSTALL-002") == "not selected"


def test_an_interrupted_run_says_by_what_and_during_which_test(interrupted):
    assert interrupted.content["summary"].endswith("The run was interrupted by Ctrl-C during INSTALL-004.")
    assert "interrupted by Ctrl-C during INSTALL-004" in (interrupted.report / "junit.xml").read_text()


def test_what_an_interrupted_run_did_not_come_to_says_so(tmp_path):
    run = Run(tmp_path, TESTS.replace("    pass", "    raise KeyboardInterrupt('SIGTERM')", 1))
    assert run.results() == {
        f"INSTALL-00{n}": ("not-run", f"interrupted by SIGTERM {'during' if n == 1 else 'before'} it")
        for n in (1, 2, 3, 4)
    }
    assert "interrupted by SIGTERM before it" in (run.report / "index.html").read_text()


def test_a_run_that_ends_at_its_first_failure_says_what_it_left_open(tmp_path):
    run = Run(tmp_path, TESTS, "-x")
    assert run.results()["INSTALL-004"] == ("not-run", "ended early (stopping after 1 failures) before it")
    assert run.content["summary"].endswith("The run ended early (stopping after 1 failures).")
    assert "the run" not in (run.report / "junit.xml").read_text()


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> tuple[Run, list[str]]:
    """A run with a token that mesh2 does not know, and the servers of both meshes."""
    directory, lab = tmp_path_factory.mktemp("refused"), start_lab()
    try:
        good, bad = (settings.kubeconfig for settings in lab.clusters)
        content = yaml.safe_load(bad.read_text())
        content["users"] = [{"name": user["name"], "user": {"token": "of-nobody"}} for user in content["users"]]
        (directory / "kubeconfig").write_text(yaml.safe_dump(content))
        kubeconfigs = (f"--mesh1-kubeconfig={good}", f"--mesh2-kubeconfig={directory / 'kubeconfig'}")
        tests = TESTS.replace("def test_good():", "def test_good(clusters):")
        run = Run(directory, tests, *kubeconfigs, "-k", "good or bad")
        return run, [Cluster("x", settings.kubeconfig).server for settings in lab.clusters]
    finally:
        stop_lab(lab)


def test_a_run_that_preflight_refuses_is_unknown_and_says_why(refused):
    run, _ = refused
    assert run.done.returncode == pytest.ExitCode.USAGE_ERROR
    assert run.content["result"] == "unknown"
    assert re.match("Nothing was tested, .*This run cannot begin: mesh2: .*401", run.content["summary"])


def test_a_run_that_preflight_refuses_says_why_of_every_requirement_that_was_selected(refused):
    run, _ = refused
    for identity in ("INSTALL-001", "INSTALL-002"):
        assert re.match("(?s)refused before the run because\nmesh2: .*401", run.reason_of(identity))
    assert run.reason_of("INSTALL-003") == "not selected"


def test_a_run_that_preflight_refuses_says_which_clusters_it_saw(refused):
    run, servers = refused
    assert [mesh["server"] for mesh in run.content["meshes"]] == servers
    assert "401" in run.content["meshes"][1]["problem"]
    assert run.content["meshes"][0]["kubernetes"]


def test_a_run_that_preflight_refuses_says_why_on_the_page_and_in_the_junit_file(refused):
    run, _ = refused
    text = (run.report / "index.html").read_text()
    assert "401" in text
    assert "No cluster was reached" not in text
    [error] = ElementTree.parse(run.report / "junit.xml").iter("error")
    assert "401" in error.get("message")


def test_a_run_that_preflight_refuses_writes_no_token(refused):
    run, _ = refused
    assert "of-nobody" not in "".join(path.read_text() for path in run.report.iterdir())


def test_a_split_that_was_interrupted_is_told_with_its_figures(tmp_path):
    (tmp_path / "interrupting.py").write_text(INTERRUPTING)
    run = Run(tmp_path, SPLIT, "-p", "interrupting", pythonpath=tmp_path)
    assert run.done.returncode == pytest.ExitCode.INTERRUPTED, run.done.stdout
    told = r"he 50/50 split was interrupted, \d+ of at most 8576 requests judged: mesh1 served [\d.]+ %, mesh2 .*"
    assert re.search(f"^T{told}", run.done.stdout, re.MULTILINE), run.done.stdout
    result, reason = run.results()["SPLIT-001"]
    assert result == "not-run"
    assert re.match(f"interrupted by Ctrl-C during it: t{told}", reason)


def test_a_killed_run_leaves_no_report_of_an_earlier_one(tmp_path):
    assert Run(tmp_path, TESTS, "-k", "good").results()["INSTALL-001"][0] == "passed"
    tests = TESTS.replace('pytest.skip("nothing is provisioned here")', "os.kill(os.getpid(), 9)")
    run = Run(tmp_path, tests)
    assert run.done.returncode == -9
    assert (run.content["result"], run.content["run"]["ended"]) == ("unknown", None)
    assert not (run.report / "junit.xml").exists()
    assert "has not ended" in (run.report / "index.html").read_text()


def test_evidence_of_an_earlier_run_does_not_stand_beside_a_green_report(tmp_path):
    collect({}, datetime.now(UTC), tmp_path / "report" / "evidence")
    run = Run(tmp_path, TESTS, "-k", "good")
    assert run.done.returncode == 0
    assert not (run.report / "evidence").exists()


def test_what_somebody_else_keeps_under_that_name_stays(tmp_path):
    (tmp_path / "report" / "evidence").mkdir(parents=True)
    (tmp_path / "report" / "evidence" / "mine.txt").write_text("mine")
    run = Run(tmp_path, TESTS, "-k", "good")
    assert run.done.returncode == 0
    assert (run.report / "evidence" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("given", "in_the_way", "sentence"),
    [
        ("report", "report/report.yaml/", "there is a directory in the way: report.yaml"),
        ("report", "report", "is not a directory"),
        ("report/of/today", "report", "report is not a directory"),
        ("/sys/report", "", "cannot be written"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_first_test(tmp_path, given, in_the_way, sentence):
    if in_the_way.endswith("/"):
        (tmp_path / in_the_way).mkdir(parents=True)
    elif in_the_way:
        (tmp_path / in_the_way).touch()
    run = Run(tmp_path, TESTS, f"--federation-report={tmp_path / given}")
    assert run.done.returncode == pytest.ExitCode.USAGE_ERROR
    assert sentence in run.done.stderr
    assert "Traceback" not in run.done.stderr + run.done.stdout


@pytest.mark.parametrize("own", [(), ("--junitxml=report/own.xml",)], ids=["no file of one's own", "one's own"])
def test_a_report_that_can_be_written_no_more_hides_no_result(tmp_path, own):
    """As on a disk that is full, for which somebody has put a file in the directory's place."""
    tests = TESTS.replace("    pass", "    import pathlib, shutil; d = pathlib.Path(__file__).parent / 'report'", 1)
    tests = tests.replace("/ 'report'", "/ 'report'; shutil.rmtree(d); d.touch()", 1)
    run = Run(tmp_path, tests, "-k", "good or bad", *(flag.replace("report/", f"{tmp_path}/report/") for flag in own))
    assert run.done.returncode == pytest.ExitCode.TESTS_FAILED, run.done.stdout
    assert "1 failed, 1 passed" in run.done.stdout
    assert "report: could not be written to" in run.done.stdout
    assert "junit: could not be written to" in run.done.stdout
    assert "Traceback" not in run.done.stderr + run.done.stdout
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}  # Python's own, where it writes bytecode
    assert left == {"report", "test_given.py"}


def test_a_run_without_pytests_junit_plugin_has_a_report_all_the_same(tmp_path):
    run = Run(tmp_path, TESTS, "-k", "good", "-p", "no:junitxml")
    assert run.done.returncode == 0, run.done.stdout + run.done.stderr
    assert {path.name for path in run.report.iterdir()} == {"report.yaml", "index.html"}


def test_a_verdict_of_the_embedded_lab_says_what_it_is_worth_wherever_it_stands(tmp_path):
    run = Run(tmp_path, TESTS.replace("def test_good()", "def test_good(record)"), "-k", "good")
    assert "federation: embedded lab, says nothing of any cluster" in run.done.stdout
    assert "(partial, embedded lab, sha256:" in run.done.stdout
    assert run.content["run"]["clusters"] == "embedded"
    assert run.content["summary"].endswith("Embedded lab: this says nothing of any cluster.")
    assert ">Incomplete: embedded lab, says nothing of any cluster</h1>" in (run.report / "index.html").read_text()
    [said] = ElementTree.parse(run.report / "junit.xml").iterfind("testsuite/properties/property[@name='clusters']")
    assert said.get("value") == "embedded lab, says nothing of any cluster"


def test_the_time_of_a_subtest_is_counted_once(tmp_path):
    lines = ["with subtests.test(str(part)):", "    sum(range(1_000_000))"]
    body = "\n".join(f"        {line}" for line in lines)
    tests = TESTS.replace("test_good():\n    pass", f"test_good(subtests):\n    for part in range(3):\n{body}")
    run = Run(tmp_path, tests, "-k", "good")
    seconds = next(entry["tests"][0]["seconds"] for entry in run.content["requirements"] if entry["tests"])
    [case] = ElementTree.parse(run.report / "junit.xml").iter("testcase")
    assert float(case.get("time")) == pytest.approx(seconds, abs=0.002)


def test_the_longest_time_of_a_phase_has_its_parts_in_it():
    test = TestRecord("a test")
    for phase, seconds in (("setup", 1), ("call", 2), ("call", 3), ("call", 6), ("teardown", 1)):
        test.took(phase, seconds)
    assert test.seconds == 8


def test_a_path_with_a_space_is_quoted_for_a_shell(tmp_path):
    directory = tmp_path / "of today"
    directory.mkdir()
    run = Run(directory, TESTS, "-k", "good")
    assert run.done.returncode == 0, run.done.stdout + run.done.stderr
    assert f"--federation-report={run.report}" in shlex.split(run.content["reproduce"])


def test_ones_own_junit_file_is_written_too(tmp_path):
    run = Run(tmp_path, TESTS, "-k", "good", "--junitxml", str(tmp_path / "own.xml"))
    assert (tmp_path / "own.xml").read_text() == (run.report / "junit.xml").read_text()


def test_without_the_option_nothing_is_written(tmp_path):
    run = Run(tmp_path, TESTS, "-k", "good", "--federation-report", "")
    assert run.done.returncode == 0
    assert not run.report.exists()
