"""Every requirement of the suite, read from the sources of its tests: known also when nothing was run."""

from __future__ import annotations

import ast
from pathlib import Path

from harness.report.run_record import Requirement

TESTS = Path(__file__).resolve().parents[2] / "tests"
_MARK = "requirement"


def catalogue(directory: Path = TESTS) -> list[Requirement]:
    """Requirements in order of their files and lines: `@pytest.mark.requirement(id, title, source=…, level=…)`."""
    found = []
    for path in sorted(directory.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                found += [_requirement(call) for call in map(_mark, node.decorator_list) if call]
    return found


def _mark(decorator: ast.expr) -> ast.Call | None:
    if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr == _MARK:
        return decorator
    return None


def _requirement(call: ast.Call) -> Requirement:
    identity, title = (ast.literal_eval(argument) for argument in call.args)
    values = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    return Requirement(identity, title, values.get("level", "core"), values["source"])
