"""What the pages for contributors name is there: files, functions, classes, fixtures."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
ROW = re.compile(r"^\| .*\? .*\| `([^`|]+)` \| (.+) \|$", re.MULTILINE)
QUESTIONS = ROW.findall(ARCHITECTURE)


def names_in(path: Path) -> set[str]:
    """What a module defines at its top, and `Class.member`."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_there_are_at_least_twenty_questions():
    assert len(QUESTIONS) >= 20


@pytest.mark.parametrize(("file", "named"), QUESTIONS)
def test_a_newcomers_question_is_answered_by_what_is_there(file, named):
    asked = set(re.findall(r"`([^`]+)`", named))
    assert asked
    assert asked - names_in(ROOT / file) == set()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_named_with_its_whole_path_is_there(page):
    tops = "benchmarks|docs|fixtures|harness|lab|manifests|mutants|selftests|tests"
    paths = set(re.findall(rf"`((?:{tops})/[\w./-]*)`", (ROOT / page).read_text()))
    assert paths
    assert {path for path in paths if not (ROOT / path).exists()} == set()
