"""All faults, each in a lab of its own, some side by side."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import aiohttp

from harness.provision import ProvisionError
from harness.transport import ClusterError
from lab.client import ApiError
from lab.supervisor import LabError
from mutants.bench import inject, provisioned_lab
from mutants.expected import EXPECTED
from mutants.suite import Outcome, RunBroken, run_suite
from mutants.verdict import Judgement, Verdict, judge

_SETTLING = 6.0  # seconds from a changed object to the last status that speaks of it, with several labs at a time
_CANNOT = (RunBroken, ProvisionError, ClusterError, LabError, ApiError, aiohttp.ClientError, OSError, RuntimeError)


@dataclass(frozen=True)
class Row:
    """One line of the kill table; `outcome` is None where there was no result, `problem` says why. In seconds."""

    fault: str
    judgement: Judgement
    outcome: Outcome | None
    problem: str
    seconds: float


@contextlib.contextmanager
def _directory_for(results: Path | None, name: str) -> Iterator[Path]:
    if results:
        yield results / name
        return
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        yield Path(directory)


def run_fault(fault: str, results: Path | None = None, resume: bool = False) -> Row:
    """A fresh lab, the fault, the suite, the verdict. Raises nothing that has to do with the run.

    What the suite said stays in a directory of `results`, named as the fault; with `resume` what a run left there is
    judged instead of running it again.
    """
    begin = time.monotonic()
    if resume and results and (kept := Outcome.load(results / fault)):
        return Row(fault, judge(EXPECTED[fault], kept), kept, "", 0.0)
    try:
        with provisioned_lab() as kubeconfigs, _directory_for(results, fault) as directory:
            inject(fault, kubeconfigs)
            time.sleep(_SETTLING)
            outcome = run_suite(kubeconfigs, directory)
            outcome.save(directory)
    except _CANNOT as error:
        problem = f"{type(error).__name__}: {error}"
        return Row(fault, Judgement(Verdict.BROKEN_RUN), None, problem, time.monotonic() - begin)
    return Row(fault, judge(EXPECTED[fault], outcome), outcome, "", time.monotonic() - begin)


def run_faults(
    faults: Sequence[str],
    jobs: int,
    done: Callable[[Row], None],
    results: Path | None = None,
    resume: bool = False,
) -> list[Row]:
    """Rows in the order of `faults`; `done` is called for each as it comes. Ctrl-C begins no further fault."""
    stopped = Event()

    def one(fault: str) -> Row | None:
        if stopped.is_set():
            return None
        row = run_fault(fault, results, resume)
        done(row)
        return row

    with ThreadPoolExecutor(jobs, thread_name_prefix="mutants") as pool:
        try:
            return [row for row in pool.map(one, faults) if row]
        except BaseException:
            stopped.set()
            raise


def run_healthy(times: int, done: Callable[[int, Outcome], None], results: Path | None = None) -> int:
    """How often in a row the suite, diagnosis included, is green on one lab without a fault, up to `times`.

    Raises what a broken run raises.
    """
    with provisioned_lab() as kubeconfigs:
        for number in range(times):
            with _directory_for(results, f"healthy-{number + 1}") as directory:
                outcome = run_suite(kubeconfigs, directory)
            done(number + 1, outcome)
            if outcome.failed or outcome.cause:
                return number
    return times
