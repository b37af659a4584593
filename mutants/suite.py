"""One run of the suite, and what came of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mutants.code import Code

ROOT = Path(__file__).parent.parent
UNKNOWN = "unknown"
"""What is named as the cause where the diagnosis could not look at everything and saw nothing broken."""
_SECONDS = 300  # for one run; on a broken federation it takes about half a minute
_DIAGNOSIS_SECONDS = 60
_OUTCOME = "outcome.json"
_QUIET = ("-p", "no:cacheprovider", "-q")
_MARGIN = ("--split-margin", "10")
_KEPT = ("--federation-keep", "always")  # the diagnosis looks at what is there afterwards
ADOPTING = (*_QUIET, "--federation-adopt", "--federation-settle", "4", *_MARGIN)
"""Verifies what is installed, with short waits."""
PROVISIONING = (*_QUIET, *_KEPT, *_MARGIN)
"""Installs everything and leaves it."""
EMBEDDED = (*_QUIET, "--federation-clusters", "embedded")
"""The main job as it is run without any option."""


class RunBroken(Exception):
    """The suite left no results; the text says why."""


@dataclass(frozen=True)
class Results:
    """Ids of requirements, `FED-001`, or `FED-001[mesh1]` where a test is run for each mesh; see `results`."""

    failed: frozenset[str]
    passed: frozenset[str]
    skipped: frozenset[str]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of one run.

    tests: what they came to; cause, side: what the diagnosis named, '' for nothing; code: what was run.
    """

    tests: Results
    cause: str
    side: str
    code: Code

    @property
    def green(self) -> bool:
        """Every test passed, none was skipped, and the diagnosis found every link of the chain in order."""
        return bool(self.tests.passed) and not (self.tests.failed or self.tests.skipped or self.cause)

    def save(self, directory: Path) -> None:
        """Keeps it beside what the run said."""
        (directory / _OUTCOME).write_text(json.dumps(asdict(self), default=sorted))

    @classmethod
    def load(cls, directory: Path) -> Outcome | None:
        """What `save` kept; None where there is nothing, or something that an older version kept."""
        path = directory / _OUTCOME
        if not path.is_file():
            return None
        try:
            kept = json.loads(path.read_text())
            tests = kept["tests"]
            sets = {name: frozenset(tests[name]) for name in ("failed", "passed", "skipped")}
            return cls(Results(**sets, seconds=tests["seconds"]), kept["cause"], kept["side"], Code(**kept["code"]))
        except (ValueError, KeyError, TypeError):
            return None


def run_suite(arguments: Sequence[str], directory: Path, kubeconfigs: tuple[Path, Path] | None) -> Outcome:
    """Runs the suite on these clusters, on a lab of its own without; `directory` gets what it said.

    The cause is what the run names if it fails. If not, the clusters are diagnosed, as far as there are any left.
    Raises RunBroken.
    """
    directory.mkdir(parents=True, exist_ok=True)
    junit = directory / "junit.xml"
    # No --federation-report: gathering evidence costs more than all the tests.
    command = [sys.executable, "-m", "pytest", *on(kubeconfigs), *arguments, "tests", "--junit-xml", str(junit)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunBroken(f"the suite took more than {error.timeout:g} s") from None
    (directory / "output.txt").write_text(done.stdout + done.stderr)
    if done.returncode not in (0, 1):
        raise RunBroken(f"pytest ended with {done.returncode}: {_last(done.stdout + done.stderr)}")
    tests = results(junit.read_text())
    if tests.failed:
        cause, side = said_cause(done.stdout)
    else:
        cause, side = found_cause(diagnosis(kubeconfigs)) if kubeconfigs else ("", "")
    return Outcome(tests, cause, side, Code.now())


def diagnosis(kubeconfigs: tuple[Path, Path]) -> Mapping:
    """What `python -m harness.diagnosis` says, without the suite. Raises RunBroken."""
    command = [sys.executable, "-m", "harness.diagnosis", *on(kubeconfigs), "--weights", "50/50", "--json"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_DIAGNOSIS_SECONDS, check=False
        )
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise RunBroken(f"the diagnosis took more than {error.timeout:g} s") from None
    except ValueError:
        raise RunBroken(f"the diagnosis ended with {done.returncode}: {_last(done.stderr)}") from None


def on(kubeconfigs: tuple[Path, Path] | None) -> list[str]:
    """The options that name the clusters."""
    if kubeconfigs is None:
        return []
    return ["--mesh1-kubeconfig", str(kubeconfigs[0]), "--mesh2-kubeconfig", str(kubeconfigs[1])]


def _last(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-5:])


def results(junit: str) -> Results:
    """From JUnit XML with `requirement` properties; `seconds` is the time of all tests.

    A test without a requirement is listed by its name. One that is reported twice, as subtests are, counts as what is
    worst: failed, skipped, passed.
    """
    failed, passed, skipped, seconds = set(), set(), set(), 0.0
    for case in ElementTree.fromstring(junit).iter("testcase"):
        seconds += float(case.get("time", 0))
        name, _, parameter = case.get("name", "").partition("[")
        properties = {entry.get("name"): entry.get("value", "") for entry in case.iter("property")}
        test = properties.get("requirement", name) + (f"[{parameter}" if parameter else "")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(test)
        elif case.find("skipped") is not None:
            skipped.add(test)
        else:
            passed.add(test)
    return Results(frozenset(failed), frozenset(passed - failed - skipped), frozenset(skipped - failed), seconds)


def said_cause(output: str) -> tuple[str, str]:
    """Cause and side as the summary of a failed run names them; ('', '') where it names none."""
    cause = re.search(r"^cause: .* \[([\w-]+)\]$", output, re.MULTILINE)
    side = re.search(r"^side: (\S+)$", output, re.MULTILINE)
    return (cause[1], side[1] if side else "") if cause else ("", "")


def found_cause(found: Mapping) -> tuple[str, str]:
    """The same from the JSON of `harness.diagnosis`; UNKNOWN where it is not sure that all is well."""
    if not found.get("cause") and found.get("state") != "ok":
        return UNKNOWN, ""
    return found.get("cause", ""), found.get("side", "")
