"""Runs of pytest on the embedded lab that fail: the cause and the evidence come from the real hooks."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from selftests.test_report_run import Run

SETUP_FAILS = """
import pytest

@pytest.fixture(scope="session")
def provisioned(clusters):
    raise RuntimeError("mesh1: the control plane never became Ready")

@pytest.mark.requirement("INSTALL-001")
def test_ready(provisioned):
    pass
"""
AFTER_A_SPLIT = """
def test_measures(split_of):
    assert split_of(0, 100).passed

def test_measures_nothing(measurements):
    assert not measurements, "something else is wrong"
"""
CHANGED_MEANWHILE = """
from harness.kinds import VIRTUAL_SERVICE

def test_measures(split_of, federation):
    mesh = federation.mesh2
    split_of(0, 100)
    http = mesh.cluster.get(VIRTUAL_SERVICE, "ratings-split", mesh.app_namespace)["spec"]["http"]
    for destination in http[0]["route"]:
        destination["weight"] = 50
    mesh.cluster.patch(VIRTUAL_SERVICE, "ratings-split", mesh.app_namespace, {"spec": {"http": http}})
    assert False, "somebody changed the weights"
"""


def test_a_failed_setup_leaves_evidence(tmp_path: Path) -> None:
    run = Run(tmp_path, SETUP_FAILS)
    assert run.done.returncode == pytest.ExitCode.TESTS_FAILED, run.done.stdout
    assert (run.report / "evidence" / "index.yaml").is_file(), run.done.stdout
    named = {entry["file"] for entry in run.content["evidence"]}
    assert "evidence/diagnosis.yaml" in named
    assert f"evidence: {run.report / 'evidence'}" in run.done.stdout
    assert run.results()["INSTALL-001"][0] == "failed"


def test_what_an_earlier_test_asked_of_the_split_is_no_cause(tmp_path: Path) -> None:
    run = Run(tmp_path, AFTER_A_SPLIT, "--split-margin", "20")
    assert "1 failed, 1 passed" in run.done.stdout, run.done.stdout
    assert run.content["diagnosis"]["cause"] == "", run.done.stdout
    assert "asked" in yaml.safe_load((run.report / "evidence" / "ledger.yaml").read_text())[0]


def test_what_the_failing_test_asked_of_the_split_counts(tmp_path: Path) -> None:
    run = Run(tmp_path, CHANGED_MEANWHILE, "--split-margin", "20")
    assert run.content["diagnosis"]["cause"] == "weights-differ", run.done.stdout
