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
    assert [document.get("kind") for document in documents[:2]] == ["Task", "Pipeline"]
    assert [document.get("name") for document in documents if "jobs" in document] == [
        "federation",
        "federation-on-kind",
    ]
    assert any("federation" in document and "script" in document["federation"] for document in documents)


def test_every_option_named_is_one_of_the_suite():
    known = subprocess.run([sys.executable, "-m", "pytest", "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]+)", TEXT)) - {"--quiet", "--reruns"}
    assert len(named) > 5
    assert {option for option in named if option not in known} == set()


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--reruns", "2", "--reruns: a split that is judged again until it passes is not judged at all"),
        ("--numprocesses", "2", "-n: one federation cannot be tested by several processes at once"),
    ],
)
def test_plugins_that_would_make_a_run_wrong_are_refused(tmp_path, option, value, sentence):
    """The option stands for the plugin (pytest-rerunfailures, pytest-xdist), which need not be installed."""
    (tmp_path / "stand_in.py").write_text(
        f"def pytest_addoption(parser):\n    parser.addoption('{option}', type=int)\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "stand_in", option, value]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == pytest.ExitCode.USAGE_ERROR, run.stdout
    assert sentence in run.stderr + run.stdout
