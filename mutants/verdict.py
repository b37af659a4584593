"""What a run under a fault came to, held against what was expected of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mutants.suite import Outcome, Results


@dataclass(frozen=True)
class Expected:
    """What a fault has to lead to.

    must: requirements whose tests are meant for the fault, all of which have to fail; may: those that fail with them,
    or not, since what they check depends on it. Both name a requirement, which means its tests in both meshes, or with
    `[mesh1]` its test in one mesh only.
    causes: what the diagnosis may name, the best first; () where nothing is to be named, and '' for "or nothing".
    side: the mesh to put right, '' for either. A fault with nothing in `must` has to be withstood: the suite stays
    green and skips nothing. why: for readers of the table, where the row is not plain.
    """

    must: tuple[str, ...]
    causes: tuple[str, ...]
    side: str = ""
    may: tuple[str, ...] = ()
    why: str = ""


class Verdict(StrEnum):
    KILLED = "killed"
    WITHSTOOD = "withstood"
    SURVIVED = "survived"
    WRONG_TESTS = "wrong tests"
    WRONG_CAUSE = "wrong cause"
    BROKEN_RUN = "no result"

    @property
    def good(self) -> bool:
        return self in (Verdict.KILLED, Verdict.WITHSTOOD)


@dataclass(frozen=True)
class Judgement:
    """`missed` should have failed and did not, `surplus` failed and should not have."""

    verdict: Verdict
    missed: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()


def covers(listed: str, failed: str) -> bool:
    """Whether an entry of an expectation speaks of this failed test."""
    return failed == listed or failed.startswith(f"{listed}[")


def _all_failed(entry: str, tests: Results) -> bool:
    """Whether every test the entry speaks of failed; one that no test belongs to did not."""
    others = any(covers(entry, test) for test in tests.passed | tests.skipped)
    return not others and any(covers(entry, test) for test in tests.failed)


def judge(expected: Expected, outcome: Outcome) -> Judgement:
    """Tests first, then the cause: a cause is of no use where the wrong tests fail."""
    tests = outcome.tests
    missed = tuple(entry for entry in expected.must if not _all_failed(entry, tests))
    allowed = (*expected.must, *expected.may)
    wrong = tests.failed if expected.must else tests.failed | tests.skipped
    surplus = tuple(sorted(test for test in wrong if not any(covers(entry, test) for entry in allowed)))
    if missed:
        return Judgement(Verdict.SURVIVED, missed, surplus)
    if surplus:
        return Judgement(Verdict.WRONG_TESTS, (), surplus)
    wrong_side = expected.side and outcome.cause and outcome.side != expected.side
    if outcome.cause not in (expected.causes or ("",)) or wrong_side:
        return Judgement(Verdict.WRONG_CAUSE)
    return Judgement(Verdict.KILLED if expected.must else Verdict.WITHSTOOD)
