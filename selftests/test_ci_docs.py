"""The pipelines of docs/ci.md are YAML, run commands that exist, and give options the suite has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "ci.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_all_four_pipelines_are_there_and_parse():
    documents = [document for block in BLOCKS for document in yaml.safe_load_all(block)]
    assert [document.get("kind") for document in documents[:3]] == ["Task", "Task", "Pipeline"]
    assert [document.get("name") for document in documents if "jobs" in document] == [
        "federation",
        "federation-on-kind",
    ]
    assert any("federation" in document and "script" in document["federation"] for document in documents)


def test_every_option_named_is_one_of_the_suite():
    known = subprocess.run([sys.executable, "-m", "pytest", "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]+)", TEXT)) - {
        "--quiet",
        "--reruns",
        "--force-reruns",
        "--dist",
    }
    assert len(named) > 5
    assert {option for option in named if option not in known} == set()


def test_every_example_asks_for_the_clusters_that_it_means():
    commands = re.findall(r"\bpytest\s+(?!install)(--\S+\s+\S+)", "\n".join(BLOCKS))
    assert len(commands) == 7
    assert set(commands) == {"--federation-clusters kubeconfig", "--federation-clusters kind"}
    assert commands.count("--federation-clusters kind") == 1


# What the plugins bring with them: options, an ini value, a marker.
STAND_IN = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--reruns", type=int)
    parser.addoption("--force-reruns", type=int)
    parser.addini("reruns", "as --reruns")
    parser.addoption("--numprocesses", type=int)
    parser.addoption("--tx", action="append", default=[])
    parser.addoption("--dist", default="no")
    parser.addoption("--flaky-splits", action="store_true")

def pytest_configure(config):
    config.addinivalue_line("markers", "flaky: run again")

def pytest_collection_modifyitems(config, items):
    for item in items:
        if "split" in item.name and config.option.flaky_splits:
            item.add_marker(pytest.mark.flaky(reruns=2))
"""
NOT_JUDGED = "a split that is judged again until it passes is not judged at all"
NOT_AT_ONCE = "one federation cannot be tested by several processes at once"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("--reruns 2", f"--reruns: {NOT_JUDGED}"),
        ("--force-reruns 2", f"--force-reruns: {NOT_JUDGED}"),
        ("-o reruns=2", f"reruns in the ini file: {NOT_JUDGED}"),
        ("--flaky-splits", "marker flaky of test_ratings_calls_are_split_as_the_weights_say"),
        ("--numprocesses 2", NOT_AT_ONCE),
        ("--tx 2*popen --dist load", NOT_AT_ONCE),
    ],
)
def test_plugins_that_would_make_a_run_wrong_are_refused(tmp_path, given, sentence):
    """A stand-in for the plugins (pytest-rerunfailures, pytest-xdist), which need not be installed."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    without = ["-p", "no:rerunfailures", "-p", "no:xdist", "-p", "no:xdist.looponfail"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *without, "-p", "stand_in", *given.split()]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == pytest.ExitCode.USAGE_ERROR, run.stdout
    assert sentence in run.stderr + run.stdout
