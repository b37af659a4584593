"""What cannot be seen is never green: every contract, in every way of not seeing what it looks at.

Each way is a run of its own on a healthy federation of the embedded lab, which both API servers hide from the suite as
soon as it is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.api.http.faults import HIDING
from mutants.code import Code
from mutants.suite import ROOT, Results, RunBroken, results

# By what each contract sees, besides connections of its own: resources as the lab hides them.
SEES: dict[str, frozenset[str]] = {
    requirement: frozenset(resources.split())
    for requirement, resources in {
        "INSTALL-001": "discovery",
        "INSTALL-002": "servicemeshcontrolplanes",
        "INSTALL-003": "servicemeshmemberrolls",
        "INSTALL-004": "deployments",
        "INSTALL-005": "services",
        "INSTALL-006": "deployments",
        "INSTALL-007": "",
        "INSTALL-008": "servicemeshcontrolplanes",
        "INSTALL-009": "configmaps",
        "INSTALL-010": "configmaps",
        "INSTALL-011": "configmaps",
        "INSTALL-012": "servicemeshpeers configmaps",
        "INSTALL-013": "pods",
        "INSTALL-014": "servicemeshcontrolplanes servicemeshmemberrolls servicemeshpeers exportedservicesets "
        "importedservicesets configmaps deployments services virtualservices",
        "FED-001": "pods servicemeshpeers",
        "FED-002": "pods servicemeshpeers",
        "FED-003": "exportedservicesets",
        "FED-004": "importedservicesets",
        "FED-005": "exportedservicesets importedservicesets",
        "FED-006": "pods services pods/exec",
        "FED-007": "pods services pods/exec pods/portforward",
        "FED-008": "servicemeshcontrolplanes",
        "FED-009": "",
        "FED-010": "pods pods/exec",
        "FED-011": "servicemeshpeers pods pods/exec",
        "FED-012": "servicemeshpeers services",
        "FED-013": "pods pods/exec",
        "FED-014": "servicemeshcontrolplanes servicemeshmemberrolls servicemeshpeers exportedservicesets "
        "importedservicesets configmaps deployments pods services virtualservices pods/log pods/exec",
        "SPLIT-001": "pods services virtualservices pods/log pods/exec",
        "SPLIT-002": "pods services virtualservices pods/log pods/exec",
        "SPLIT-003": "pods services virtualservices pods/log pods/exec",
        "SPLIT-004": "pods services virtualservices pods/log pods/exec",
        "SPLIT-005": "pods services virtualservices pods/log pods/exec",
    }.items()
}
# What is looked at first hides what is looked at next, so each has runs of its own.
_FIRST = ("pods", "services", "servicemeshcontrolplanes", "discovery")
_NEXT = (
    *("servicemeshpeers", "exportedservicesets", "importedservicesets", "servicemeshmemberrolls"),
    *("configmaps", "deployments", "virtualservices"),
)
_STREAMS = {
    "log empty": {"pods/log": "empty"},
    "log refused": {"pods/log": "403"},
    "dump empty": {"pods/exec": "empty"},
    "exec refused": {"pods/exec": "403"},
    "forward refused": {"pods/portforward": "403"},
}
WAYS: Mapping[str, Mapping[str, str]] = {
    f"{name} {how}": dict.fromkeys(resources, how)
    for how in HIDING
    for name, resources in (("pods", _FIRST), ("objects", _NEXT))
} | _STREAMS
"""Name of each way -> how which resources are hidden; `pods`: what is asked for first, `objects`: the rest."""
LIMIT_SECONDS = 90.0  # the patience with an API server, and a minute
_SECONDS = 420
_OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "mutants.blinding", "--federation-clusters", "embedded")
_SHORT = ("--split-margin", "15", "--federation-settle", "5")


@dataclass(frozen=True)
class BlindRun:
    """One way: what came of the contracts, for how many seconds the suite could not see, and what broke the run."""

    way: str
    tests: Results
    seconds: float
    problem: str = ""

    def cell(self, requirement: str) -> str:
        """`fails`, `green` (it looks at nothing that is hidden), `GREEN BLIND`, or `not run`."""
        if self.problem or not self._is(requirement, self.tests.passed | self.tests.failed):
            return "not run"
        if not self._is(requirement, self.tests.passed):
            return "fails"
        return "GREEN BLIND" if self.hides(requirement) else "green"

    def hides(self, requirement: str) -> bool:
        """Whether something is hidden that the contract looks at; a contract nobody has described sees everything."""
        seen = SEES.get(requirement)
        return seen is None or bool(seen & WAYS[self.way].keys())

    @staticmethod
    def _is(requirement: str, tests: frozenset[str]) -> bool:
        return any(test.partition("[")[0] == requirement for test in tests)

    @property
    def good(self) -> bool:
        """Nothing was green that could not be seen, and it did not take long to find out."""
        blind = any(self.cell(requirement) == "GREEN BLIND" for requirement in SEES)
        return not (blind or self.problem or self.seconds > LIMIT_SECONDS)


def run_way(way: str, directory: Path) -> BlindRun:
    """Installs a federation in a lab, hides it, and says what came of it. Raises nothing of the run."""
    directory.mkdir(parents=True, exist_ok=True)
    junit, clock = directory / "junit.xml", directory / "seconds"
    report = ("--federation-report", str(directory / "report"))
    command = [sys.executable, "-m", "pytest", *_OPTIONS, *_SHORT, *report, "tests", "--junit-xml", str(junit)]
    hidden = {"LAB_HIDDEN": json.dumps(WAYS[way]), "LAB_BLIND_SECONDS": str(clock)}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | hidden, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        (directory / "output.txt").write_text(done.stdout + done.stderr)
        found = results(junit.read_text())
        return BlindRun(way, found, float(clock.read_text()))
    except (subprocess.TimeoutExpired, OSError, ValueError, RunBroken) as error:
        nothing = Results(frozenset(), frozenset(), frozenset(), 0.0)
        return BlindRun(way, nothing, 0.0, f"{type(error).__name__}: {error}")


def run_ways(
    ways: Sequence[str], jobs: int, done: Callable[[BlindRun], None], results_in: Path | None = None
) -> list[BlindRun]:
    """Runs in the order of `ways`; `done` is called for each as it comes."""

    def one(way: str) -> BlindRun:
        name = way.replace(" ", "-")
        if results_in:
            found = run_way(way, results_in / f"blind-{name}")
        else:
            with tempfile.TemporaryDirectory(prefix="blind-") as directory:
                found = run_way(way, Path(directory))
        done(found)
        return found

    with ThreadPoolExecutor(jobs, thread_name_prefix="blind") as pool:
        return list(pool.map(one, ways))


HEADING = "## Blind is never green"


def said(run: BlindRun) -> str:
    """One run for the terminal."""
    green = [name for name in SEES if run.cell(name) == "GREEN BLIND"]
    failed = sum(run.cell(name) == "fails" for name in SEES)
    what = run.problem or (f"GREEN BLIND: {', '.join(green)}" if green else f"{failed} contracts fail, none is green")
    return f"{run.way}: {what} ({run.seconds:.0f} s)"


def page_part(runs: Sequence[BlindRun]) -> str:
    """The part of docs/faults.md."""
    names = sorted({*SEES, *(test.partition("[")[0] for run in runs for test in run.tests.passed | run.tests.failed)})
    lines = [
        HEADING,
        "",
        "Made by `python -m mutants --blind --write docs/faults.md`; do not edit. A healthy federation is installed in "
        "the embedded lab, then both API servers hide from the suite what the column says: `pods` are "
        f"{', '.join(_FIRST)}, `objects` are {', '.join(_NEXT)}; 404 is a kind that is not served, `hang` no answer at "
        "all, `empty` lists without objects. *fails*: the contract failed and said why. *green*: it passed, and looks "
        "at nothing that was hidden. `GREEN BLIND` must not stand here. The last row is for how many seconds the run "
        f"went on without seeing; at most {LIMIT_SECONDS:.0f}.",
        "",
        f"{sum(run.good for run in runs)} of {len(runs)} ways are as they should be, on {time.strftime('%Y-%m-%d')}, "
        f"{Code.now()}.",
        "",
        f"| contract | {' | '.join(run.way for run in runs)} |",
        "|" + "---|" * (len(runs) + 1),
    ]
    lines += [f"| {name} | {' | '.join(run.cell(name) for run in runs)} |" for name in names]
    lines += [f"| seconds | {' | '.join(run.problem or f'{run.seconds:.0f}' for run in runs)} |"]
    return "\n".join(lines) + "\n"
