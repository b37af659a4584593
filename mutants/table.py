"""The kill table: on the terminal, and as a page of the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lab.faults import CATALOGUE
from mutants.expected import EXPECTED
from mutants.run import Row

_HEADER = ("fault", "tests that failed", "cause named", "expected cause", "verdict")


def _compact(tests: frozenset[str]) -> str:
    """`FED-001[mesh1]` and `FED-001[mesh2]` as FED-001; sorted."""
    sides = Counter(test.partition("[")[0] for test in tests)
    shown = {
        name if count > 1 else next(test for test in tests if test.partition("[")[0] == name)
        for name, count in sides.items()
    }
    return ", ".join(sorted(shown)) or "none"


def _expected_cause(fault: str) -> str:
    expected = EXPECTED[fault]
    named = [cause or "none" for cause in expected.causes] or ["none"]
    return " or ".join(named) + (f", {expected.side}" if expected.side and expected.causes else "")


def _named_cause(row: Row) -> str:
    outcome = row.outcome
    if outcome is None:
        return "-"
    return f"{outcome.cause}, {outcome.side}" if outcome.cause else "none"


def _remarks(row: Row) -> str:
    judgement = row.judgement
    parts = [row.problem] if row.problem else []
    parts += [f"not noticed by {', '.join(judgement.missed)}"] if judgement.missed else []
    parts += [f"should not have failed: {', '.join(judgement.surplus)}"] if judgement.surplus else []
    return "; ".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    remarks = _remarks(row)
    return (
        row.fault,
        _compact(row.outcome.failed) if row.outcome else "-",
        _named_cause(row),
        _expected_cause(row.fault),
        f"{row.judgement.verdict}{f' ({remarks})' if remarks else ''}",
    )


def line(row: Row) -> str:
    """One row for the terminal."""
    return " | ".join(_cells(row)) + f" | {row.seconds:.0f} s"


def totals(rows: Sequence[Row]) -> str:
    """How many faults came to which verdict."""
    counts = Counter(row.judgement.verdict for row in rows)
    return f"{len(rows)} faults: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def page(rows: Sequence[Row]) -> str:
    """docs/faults.md."""
    lines = [
        "# Faults and who notices them",
        "",
        "Made by `python -m mutants --write docs/faults.md`; do not edit. For each fault of "
        "`python -m lab fault --list` a fresh lab was provisioned, given the fault, and verified by the suite "
        "(`--federation-adopt`). *killed*: every test meant for the fault failed, no test that has nothing to do with "
        "it did, and the diagnosis named the right cause on the right side. *withstood*: the suite has to stay green, "
        "and did. A requirement with a mesh in brackets failed for that mesh only.",
        "",
        totals(rows) + ".",
        "",
        "| " + " | ".join(_HEADER) + " |",
        "|" + "---|" * len(_HEADER),
    ]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in rows]
    lines += ["", "## What each fault is", "", "| fault | what is wrong | known from | notes |", "|---|---|---|---|"]
    for row in rows:
        fault = CATALOGUE[row.fault]
        lines.append(f"| {fault.name} | {fault.title} | {fault.reference} | {EXPECTED[row.fault].why} |")
    return "\n".join(lines) + "\n"
