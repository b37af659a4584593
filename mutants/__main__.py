"""`python -m mutants`: proves that the suite notices what it is there to notice."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mutants.blind import WAYS, run_ways, said
from mutants.expected import EXPECTED, QUICK
from mutants.run import Row, run_faults, run_healthy
from mutants.suite import Outcome
from mutants.table import line, totals, write_blind, write_green, write_table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mutants",
        description="Runs the suite against every fault of the lab, each in a fresh lab, and prints who noticed what.",
        epilog="Exit code: 0 when every fault was noticed by the tests meant for it, and by no other, with the right "
        "cause; else 1.",
    )
    parser.add_argument("faults", nargs="*", metavar="NAME", help="which faults (default: all)")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--healthy", type=int, metavar="N", help="no fault: the main job has to be green N times")
    parser.add_argument(
        "--blind", action="store_true", help="no fault: nothing may be green that cannot be seen (NAME: which ways)"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", default=os.cpu_count() or 1, help="labs at a time (%(default)s)"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="also write what came of it into a page of documentation"
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help="keep what each run said here")
    parser.add_argument(
        "--resume", action="store_true", help="judge what the same commit left in --results, run the others"
    )
    return parser


def _healthy(times: int, results: Path | None, page: Path | None) -> int:
    def show(number: int, outcome: Outcome) -> None:
        tests = outcome.tests
        wrong = [*sorted(tests.failed), *(f"{test} skipped" for test in sorted(tests.skipped)), outcome.cause]
        what = "green" if outcome.green else ", ".join(filter(None, wrong)) or "no test passed"
        print(f"healthy run {number} of {times}: {what} ({tests.seconds:.1f} s)", flush=True)

    outcomes = run_healthy(times, show, results)
    green = sum(outcome.green for outcome in outcomes)
    print(f"green {green} times in a row, asked for {times}")
    if page:
        write_green(page, outcomes, times)
    return 0 if green == times else 1


def _blind(ways: list[str], jobs: int, results: Path | None, page: Path | None) -> int:
    runs = run_ways(ways or list(WAYS), jobs, lambda run: print(said(run), flush=True), results)
    if page:
        write_blind(page, runs)
    return 0 if all(run.good for run in runs) else 1


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.blind:
        if unknown := set(arguments.faults) - WAYS.keys():
            parser.error(f"no way {', '.join(sorted(unknown))}; known: {', '.join(WAYS)}")
        return _blind(arguments.faults, arguments.jobs, arguments.results, arguments.write)
    if unknown := set(arguments.faults) - EXPECTED.keys():
        parser.error(f"no fault {', '.join(sorted(unknown))}; `python -m lab fault --list` names all")
    if arguments.healthy is not None and arguments.healthy < 1:
        parser.error("--healthy: at least 1 run")
    if arguments.healthy is not None:
        return _healthy(arguments.healthy, arguments.results, arguments.write)
    faults = arguments.faults or list(QUICK if arguments.quick else EXPECTED)

    def show(row: Row) -> None:
        print(line(row), flush=True)

    rows = run_faults(faults, arguments.jobs, show, arguments.results, arguments.resume)
    print(totals(rows))
    if arguments.write:
        write_table(arguments.write, rows)
    return 0 if all(row.judgement.verdict.good for row in rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; with --results, --resume goes on from here")
