"""Every requirement of the suite, read from the sources of its tests: known also when nothing was run."""

from __future__ import annotations

import ast
from pathlib import Path

from harness.report.run_record import Requirement

TESTS = Path(__file__).resolve().parents[2] / "tests"
PROFILES = ("install", "fed", "split")  # in the order in which they are run and told
_MARK = "requirement"


def place(profile: str) -> int:
    """Where a profile stands in a run; one that is not known comes after all that are."""
    return PROFILES.index(profile) if profile in PROFILES else len(PROFILES)


def catalogue(directory: Path = TESTS) -> list[Requirement]:
    """Requirements by profile and id: `@pytest.mark.requirement(id, title, checked=…, unseen=…, source=…)`."""
    requirements = []
    for path in sorted(directory.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                requirements += [_requirement(call) for call in map(_mark, node.decorator_list) if call]
    return sorted(requirements, key=lambda requirement: (place(requirement.profile), requirement.id))


def _mark(decorator: ast.expr) -> ast.Call | None:
    if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr == _MARK:
        return decorator
    return None


def _requirement(call: ast.Call) -> Requirement:
    identity, title = (ast.literal_eval(argument) for argument in call.args)
    return Requirement(identity, title, **{str(word.arg): ast.literal_eval(word.value) for word in call.keywords})
