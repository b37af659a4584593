"""The report of a run on the embedded lab: what only clusters can tell."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from selftests.harness.scenario.test_options import pytest_run
from selftests.support.reports import SCHEMA


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> dict:
    directory: Path = tmp_path_factory.mktemp("lab") / "report"
    chosen = ["tests/test_federation.py", "-k", "freshly_synced or no_request_reaches"]
    done = pytest_run(*chosen, f"--federation-report={directory}")
    assert done.returncode == 0, done.stdout
    found = yaml.safe_load((directory / "report.yaml").read_text())
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    return found


def test_both_meshes_are_in_it_with_their_versions(content):
    assert [mesh["name"] for mesh in content["meshes"]] == ["mesh1", "mesh2"]
    for mesh in content["meshes"]:
        assert mesh["ossm"].startswith("2.")
        assert mesh["asked"] == "v" + mesh["ossm"].rpartition(".")[0]
        assert mesh["kubernetes"].startswith("v1.")
        assert mesh["ingress"].startswith("127.")
        assert not mesh["problem"]


def test_peers_are_recorded_from_before_they_connect(content):
    for mesh in ("mesh1", "mesh2"):
        states = [state for state in content["timings"]["peers"] if state["mesh"] == mesh]
        assert (states[0]["watch"], states[0]["remote"]) == (False, False)
        # A listener that changes cuts a watch for a moment: the last state may be a cut one, as may any other.
        assert any(state["watch"] and state["remote"] for state in states)
        assert [state["seconds"] for state in states] == sorted(state["seconds"] for state in states)


def test_the_way_to_productpage_and_the_steps_are_in_it(content):
    assert content["entry"]["url"].endswith("/productpage")
    said = {(step["mesh"], step["subject"]) for step in content["timings"]["steps"]}
    assert {
        ("mesh1", "control plane"),
        ("mesh2", "control plane"),
        ("mesh1", "bookinfo"),
        ("mesh2", "bookinfo"),
    } <= said


def test_what_was_not_selected_is_not_run_so_the_whole_is_partial(content):
    results = {entry["id"]: entry["result"] for entry in content["requirements"]}
    assert (results["FED-001"], results["FED-010"], results["FED-002"]) == ("passed", "passed", "not-run")
    assert content["result"] == "partial"
