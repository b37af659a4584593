"""docs/requirements.md: every promise of the suite, how it is checked, and what that cannot see."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from harness.report.run_record import Requirement

_HEAD = """# Requirements

What the suite promises, contract by contract, in the order of a run. Made by `python -m harness.report requirements`
from the markers in `tests/`; a selftest holds it to them. The ids are those of the terminal, the report and JUnit:
`pytest -k FED-003` runs one.
"""
_TITLES = {"install": "Installation", "fed": "Federation", "split": "Traffic split"}
_COLUMNS = ("id", "promise", "how it is checked", "what that cannot see", "source")


def requirements_page(requirements: Sequence[Requirement]) -> str:
    """The page as Markdown, one table for each profile."""
    parts = [_HEAD]
    for profile, members in groupby(requirements, lambda requirement: requirement.profile):
        lines = [_row(_COLUMNS), _row(["---"] * len(_COLUMNS))]
        lines += [_row((each.id, each.title, each.checked, each.unseen, each.source)) for each in members]
        parts.append(f"## {_TITLES.get(profile, profile)}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
