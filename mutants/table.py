"""The kill table: on the terminal, and as a page of the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from lab.faults import CATALOGUE
from mutants.blind import HEADING as _BLIND
from mutants.blind import BlindRun, page_part
from mutants.expected import EXPECTED
from mutants.run import Row
from mutants.suite import Outcome

_GREEN = "## Green runs in a row"
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
        _compact(row.outcome.tests.failed) if row.outcome else "-",
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


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """docs/faults.md; its other parts stay."""
    _write(path, "", _page(rows))


def write_blind(path: Path, runs: Sequence[BlindRun]) -> None:
    """The part on what cannot be seen, in place of what was said of it before."""
    _write(path, _BLIND, page_part(runs))


def write_green(path: Path, outcomes: Sequence[Outcome], asked: int) -> None:
    """The part on green runs, in place of what was said of them before."""
    seconds = median(outcome.tests.seconds for outcome in outcomes)
    green = sum(outcome.green for outcome in outcomes)
    lines = [
        _GREEN,
        "",
        "Made by `python -m mutants --healthy N --write docs/faults.md`: `pytest` without any option, on a fresh lab "
        "each time, no test failed or skipped, and every link of the diagnosis in order on another fresh lab.",
        "",
        f"{green} of {asked} green in a row, on {datetime.now(UTC):%Y-%m-%d}, median {seconds:.1f} s, "
        f"{outcomes[0].code}.",
        "",
    ]
    _write(path, _GREEN, "\n".join(lines))


def _write(path: Path, heading: str, part: str) -> None:
    """Puts a part into the page; '' is the heading of the first one, the table."""
    text = path.read_text() if path.is_file() else ""
    parts = dict.fromkeys(("", _BLIND, _GREEN), "")
    starts = sorted((text.index(found), found) for found in parts if found in text)
    for (start, found), (end, _) in zip(starts, [*starts[1:], (len(text), "")], strict=True):
        parts[found] = text[start:end]
    parts[heading] = part
    path.write_text("\n\n".join(found.strip("\n") for found in parts.values() if found.strip("\n")) + "\n")


def _codes(rows: Sequence[Row]) -> str:
    return ", ".join(sorted({str(row.outcome.code) for row in rows if row.outcome})) or "no result"


def _page(rows: Sequence[Row]) -> str:
    lines = [
        "# Faults and who notices them",
        "",
        "Made by `python -m mutants --write docs/faults.md`; do not edit. For each fault of "
        "`python -m lab fault --list` a fresh lab was provisioned, given the fault, and verified by the suite "
        "(`--federation-adopt`). *killed*: every test meant for the fault failed, no test that has nothing to do with "
        "it did, and the diagnosis named the right cause on the right side. *withstood*: the suite has to stay green, "
        "and did. A requirement with a mesh in brackets failed for that mesh only. Under `api-*` the suite also "
        "installed everything, and each kind of failure was met.",
        "",
        f"{totals(rows)}, at {_codes(rows)}.",
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
