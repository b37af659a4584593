"""docs/requirements.md is what the markers say, and a run goes in its order."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.checks.compared import Compared
from harness.report.catalogue import catalogue
from harness.report.requirements_page import requirements_page

ROOT = Path(__file__).parents[3]
SENTENCES = {"watch"}


def test_the_page_is_what_the_command_makes():
    told = subprocess.run(
        [sys.executable, "-m", "harness.report", "requirements"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs" / "requirements.md").read_text() == told.stdout == requirements_page(catalogue())


def test_every_requirement_says_how_it_is_checked_what_that_cannot_see_and_why_it_is_one():
    silent = {each.id for each in catalogue() if not (each.title and each.checked and each.unseen and each.source)}
    assert silent == set()


def test_contracts_run_in_the_order_of_the_page():
    files = [f"tests/test_{name}.py" for name in ("split", "federation", "install")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", *files]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    order = dict.fromkeys(re.findall(r"^tests/test_(\w+)\.py::", shown, re.MULTILINE))
    assert list(order) == ["install", "federation", "split"]


def test_what_was_seen_is_told_where_it_is_not_what_was_asked_for():
    members = Compared(["bookinfo"], [], ["mesh1: nothing is configured"])
    assert str(members) == "mesh1: nothing is configured"
    assert str(Compared(["bookinfo"], ["bookinfo"], [])) == ""


@pytest.mark.parametrize(("seen", "problems"), [(["other"], []), (["bookinfo"], ["mesh1: nothing is configured"])])
def test_a_comparison_that_contradicts_itself_is_none(seen, problems):
    with pytest.raises(ValueError, match="and yet"):
        Compared(["bookinfo"], seen, problems)


def messages(file: str) -> Iterator[ast.expr | None]:
    """What each assertion of a file of contracts says when it fails."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return (node.msg for node in ast.walk(tree) if isinstance(node, ast.Assert))


@pytest.mark.parametrize("file", ["test_install.py", "test_federation.py", "test_split.py"])
def test_every_assertion_of_a_contract_says_a_sentence_when_it_fails(file):
    """pytest shows a value as its repr, and cuts that; names in SENTENCES hold a sentence."""
    silent = [ast.unparse(said) if said else "nothing" for said in messages(file) if _is_value(said)]
    assert not silent


def _is_value(said: ast.expr | None) -> bool:
    return said is None or (isinstance(said, ast.Name) and said.id not in SENTENCES)
