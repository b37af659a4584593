"""One run of the suite on a federation that is installed, and what came of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_SECONDS = 240  # for one run; on a broken federation it takes about half a minute
_DIAGNOSIS_SECONDS = 60
_OUTCOME = "outcome.json"
_ARGUMENTS = (
    *("-p", "no:cacheprovider", "-q", "--federation-adopt", "--federation-settle", "4"),
    *("--split-margin", "10", "tests"),
)


class RunBroken(Exception):
    """The suite left no results; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """What came of one run.

    failed: ids of the requirements whose tests did not pass, `FED-001`, or `FED-001[mesh1]` where a test is run for
    each mesh; cause, side: what the diagnosis named, '' for nothing; seconds: how long the tests took.
    """

    failed: frozenset[str]
    cause: str
    side: str
    seconds: float

    def save(self, directory: Path) -> None:
        """Keeps it beside what the run said."""
        (directory / _OUTCOME).write_text(json.dumps({**asdict(self), "failed": sorted(self.failed)}))

    @classmethod
    def load(cls, directory: Path) -> Outcome | None:
        """What `save` kept; None where there is nothing."""
        path = directory / _OUTCOME
        if not path.is_file():
            return None
        kept = json.loads(path.read_text())
        return cls(frozenset(kept["failed"]), kept["cause"], kept["side"], kept["seconds"])


def run_suite(kubeconfigs: tuple[Path, Path], directory: Path) -> Outcome:
    """Runs the suite in adopt mode, with short waits; `directory` gets what it said. Raises RunBroken."""
    directory.mkdir(parents=True, exist_ok=True)
    junit = directory / "junit.xml"
    # No --federation-report: gathering evidence costs more than all the tests.
    command = [sys.executable, "-m", "pytest", *_on(kubeconfigs), *_ARGUMENTS, "--junit-xml", str(junit)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunBroken(f"the suite took more than {error.timeout:g} s") from None
    (directory / "output.txt").write_text(done.stdout + done.stderr)
    if done.returncode not in (0, 1):
        raise RunBroken(f"pytest ended with {done.returncode}: {_last(done.stdout + done.stderr)}")
    failed, seconds = results(junit.read_text())
    cause, side = said_cause(done.stdout) if failed else found_cause(diagnosis(kubeconfigs))
    return Outcome(failed, cause, side, seconds)


def diagnosis(kubeconfigs: tuple[Path, Path]) -> Mapping:
    """What `python -m harness.diagnosis` says, without the suite. Raises RunBroken."""
    command = [sys.executable, "-m", "harness.diagnosis", *_on(kubeconfigs), "--weights", "50/50", "--json"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_DIAGNOSIS_SECONDS, check=False
        )
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise RunBroken(f"the diagnosis took more than {error.timeout:g} s") from None
    except ValueError:
        raise RunBroken(f"the diagnosis ended with {done.returncode}: {_last(done.stderr)}") from None


def _on(kubeconfigs: tuple[Path, Path]) -> list[str]:
    return ["--mesh1-kubeconfig", str(kubeconfigs[0]), "--mesh2-kubeconfig", str(kubeconfigs[1])]


def _last(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-5:])


def results(junit: str) -> tuple[frozenset[str], float]:
    """Failed requirements, as of Outcome, and the seconds of all tests, from JUnit XML with `requirement` properties.

    A test that failed and has no requirement is listed by its name.
    """
    failed, seconds = set(), 0.0
    for case in ElementTree.fromstring(junit).iter("testcase"):
        seconds += float(case.get("time", 0))
        if case.find("failure") is None and case.find("error") is None:
            continue
        name, _, parameter = case.get("name", "").partition("[")
        properties = {entry.get("name"): entry.get("value", "") for entry in case.iter("property")}
        failed.add(properties.get("requirement", name) + (f"[{parameter}" if parameter else ""))
    return frozenset(failed), seconds


def said_cause(output: str) -> tuple[str, str]:
    """Cause and side as the summary of a failed run names them; ('', '') where it names none."""
    cause = re.search(r"^cause: .* \[([\w-]+)\]$", output, re.MULTILINE)
    side = re.search(r"^side: (\S+)$", output, re.MULTILINE)
    return (cause[1], side[1] if side else "") if cause else ("", "")


def found_cause(found: Mapping) -> tuple[str, str]:
    """The same from the JSON of `harness.diagnosis`."""
    return found.get("cause", ""), found.get("side", "")
