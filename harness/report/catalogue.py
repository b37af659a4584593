"""Every requirement of the suite, read from the sources of its tests: known also when nothing was run."""

from __future__ import annotations

import ast
from pathlib import Path

from harness.report.run_record import Requirement

TESTS = Path(__file__).resolve().parents[2] / "tests"
_MARK = "requirement"
_SPELLED = {"ca": "CA", "api": "API", "ossm": "OSSM", "smcp": "SMCP", "tls": "TLS"}
_NAMES = frozenset({"istiod", "mesh1", "mesh2", "productpage", "ratings", "reviews"})


def catalogue(directory: Path = TESTS) -> list[Requirement]:
    """Requirements in order of their files and lines: `@pytest.mark.requirement(id, level=...)`."""
    found = []
    for path in sorted(directory.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                found += [_requirement(node.name, call) for call in map(_mark, node.decorator_list) if call]
    return found


def _mark(decorator: ast.expr) -> ast.Call | None:
    if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr == _MARK:
        return decorator
    return None


def _requirement(function: str, call: ast.Call) -> Requirement:
    values = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    return Requirement(ast.literal_eval(call.args[0]), title_of(function), values.get("level", "core"))


def title_of(function: str) -> str:
    """The promise in a test's name, in words."""
    words = function.removeprefix("test_").split("_")
    spelled = [_SPELLED.get(word, word) for word in words]
    first = spelled[0] if spelled[0] in _NAMES else spelled[0].capitalize()
    return " ".join([first, *spelled[1:]])
