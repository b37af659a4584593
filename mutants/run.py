"""All faults, each in a lab of its own, some side by side; and the suite on labs without a fault."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import aiohttp

from harness.cluster.transport import ClusterError
from harness.run.waiting import WaitTimeout
from harness.scenario.provision import ProvisionError
from lab.client import ApiError
from lab.faults import CATALOGUE
from lab.processes.supervisor import LabError
from mutants.bench import bare_lab, inject, provisioned_lab, spoiled, wait_rolled_out
from mutants.code import Code
from mutants.expected import EXPECTED
from mutants.suite import ADOPTING, EMBEDDED, PROVISIONING, Outcome, RunBroken, diagnosis, found_cause, run_suite
from mutants.verdict import Judgement, Verdict, judge

_SETTLING = 6.0  # seconds from a changed object to the last status that speaks of it, with several labs at a time
_CANNOT = (
    *(RunBroken, ProvisionError, ClusterError, WaitTimeout, LabError, ApiError),
    *(aiohttp.ClientError, OSError, RuntimeError),
)


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

    What the suite said stays in a directory of `results`, named as the fault; with `resume` what a run of the same
    commit left there is judged instead of running it again.
    """
    begin = time.monotonic()
    if resume and results and (kept := Outcome.load(results / fault)) and kept.code.same_as(Code.now()):
        return Row(fault, judge(EXPECTED[fault], kept), kept, "", 0.0)
    try:
        with _directory_for(results, fault) as directory:
            outcome = (_with_failing_api if CATALOGUE[fault].api else _on_broken_federation)(fault, directory)
            outcome.save(directory)
    except _CANNOT as error:
        problem = f"{type(error).__name__}: {error}"
        return Row(fault, Judgement(Verdict.BROKEN_RUN), None, problem, time.monotonic() - begin)
    return Row(fault, judge(EXPECTED[fault], outcome), outcome, "", time.monotonic() - begin)


def _on_broken_federation(fault: str, directory: Path) -> Outcome:
    """The scenario is installed, broken, and verified as it is."""
    with provisioned_lab() as kubeconfigs:
        inject(fault, kubeconfigs)
        wait_rolled_out(kubeconfigs)
        time.sleep(max(_SETTLING, CATALOGUE[fault].certain_after))
        return run_suite(ADOPTING, directory, kubeconfigs)


def _with_failing_api(fault: str, directory: Path) -> Outcome:
    """The APIs fail before anything is installed, and the suite does all of its work with them."""
    with bare_lab() as kubeconfigs:
        inject(fault, kubeconfigs)
        outcome = run_suite(PROVISIONING, directory, kubeconfigs)
        if missing := [kind for kind, count in spoiled(kubeconfigs).items() if not count]:
            raise RunBroken(f"no request met {', '.join(missing)}, so nothing is proven")
    return outcome


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


def run_healthy(times: int, done: Callable[[int, Outcome], None], results: Path | None = None) -> list[Outcome]:
    """The main job as a user runs it, with a lab of its own, and the diagnosis of a lab freshly provisioned.

    Ends after `times`, or after the first that was not green. Raises what a broken run raises.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < times and all(outcome.green for outcome in outcomes):
        number = len(outcomes) + 1
        with _directory_for(results, f"healthy-{number}") as directory:
            outcome = run_suite(EMBEDDED, directory, None)
        if not outcome.cause:
            with provisioned_lab() as kubeconfigs:
                cause, side = found_cause(diagnosis(kubeconfigs))
            outcome = replace(outcome, cause=cause, side=side)
        outcomes.append(outcome)
        done(number, outcome)
    return outcomes
