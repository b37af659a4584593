"""What a run has learned so far: fixtures append facts, the writers read them at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.run.progress import Step
from harness.split.meter import Measurement


class Result(StrEnum):
    """What came of one test or requirement, best first.

    What does not apply, or is not in view, says nothing beside what does.
    """

    NOT_APPLICABLE = "not-applicable"
    NOT_IN_VIEW = "not-in-view"
    PASSED = "passed"
    NOT_RUN = "not-run"
    SKIPPED = "skipped"
    FAILED = "failed"


RANK = {result: rank for rank, result in enumerate(Result)}


@dataclass(frozen=True)
class Requirement:
    """One contract of the suite: `title` is its promise in words.

    checked: what is looked at; unseen: what that cannot tell; source: where the rule comes from.
    """

    id: str
    title: str
    checked: str = ""
    unseen: str = ""
    source: str = ""

    @property
    def profile(self) -> str:
        """The group the contract belongs to: the word before its number, in lower case."""
        return self.id.rpartition("-")[0].lower()


@dataclass
class TestRecord:
    """One test of this run; `reason` explains what is not passed, `seconds` are of setup, call and teardown.

    `measurements` are indexes into RunRecord.measurements, `began` is in seconds since the start of the run.
    """

    __test__ = False  # pytest looks at names

    nodeid: str
    requirement: str = ""
    result: Result = Result.NOT_RUN
    reason: str = ""
    seconds: float = 0.0
    began: float | None = None
    measurements: list[int] = field(default_factory=list)
    _phases: dict[str, float] = field(default_factory=dict)

    def took(self, phase: str, seconds: float) -> None:
        """Takes how long setup, call or teardown took, or a part of it: the longest has the others in it."""
        known = self._phases.get(phase, 0.0)
        self._phases[phase] = max(known, seconds)
        self.seconds += self._phases[phase] - known

    def add(self, result: Result, reason: str = "") -> None:
        """Takes the result of one phase: the worst one counts, and the first reason given for it."""
        if self.result is Result.NOT_RUN or RANK[result] > RANK[self.result]:
            self.result, self.reason = result, reason


@dataclass
class MeshRecord:
    """What is known of one mesh; '' for what nobody could read, `problem` says why.

    reached: the last step of a provisioning that failed.
    """

    name: str
    ossm: str = ""
    asked: str = ""
    kubernetes: str = ""
    server: str = ""
    ingress: str = ""
    reached: str = ""
    problem: str = ""

    @property
    def line(self) -> str:
        """All of it in one line for people, whatever is known."""
        if not self.server:
            return f"{self.name}: no cluster"
        asked = f"OSSM {self.asked} asked for, not installed," if self.asked else "OSSM unknown"
        text = f"{self.name}: {f'OSSM {self.ossm}' if self.ossm else asked} on {self.server}"
        text += f" (Kubernetes {self.kubernetes})" if self.kubernetes else ""
        text += f", ingress at {self.ingress}" if self.ingress else ""
        text += f"; got as far as: {self.reached}" if self.reached else ""
        return text + (f"; {self.problem}" if self.problem else "")


@dataclass(frozen=True)
class PeerState:
    """What a ServiceMeshPeer said from `seconds` (since the start of the run) on.

    `watch`: its own watch is connected and has synced; `remote`: the other mesh's watch on it is connected.
    """

    seconds: float
    mesh: str
    watch: bool
    remote: bool


@dataclass
class RunRecord:
    """Filled while the suite runs. Appending to its lists from other threads is safe.

    command: argv as given; clusters: where they come from, as of harness.scenario.options.CLUSTERS; where: the same in
    words; run_id: the label of what the run makes; options: settings in words; steps: as Progress keeps them;
    diagnosis: as Explanation.to_dict of harness.diagnosis.explanation;
    evidence: one mapping per file, with at least `file` (relative to the report) and `what`;
    stopped: a sentence, where the run ended before all of its tests were run; unrun: the reason that this is for those;
    unfinished: how far a split was whose measurement was interrupted.
    """

    command: list[str] = field(default_factory=list)
    suite: str = ""
    run_id: str = ""
    clusters: str = ""
    where: str = ""
    options: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    ended: float | None = None
    exit_status: int | None = None
    meshes: dict[str, MeshRecord] = field(default_factory=dict)
    entry: str = ""
    url: str = ""
    tests: dict[str, TestRecord] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    peers: list[PeerState] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    diagnosis: Mapping[str, Any] | None = None
    evidence: list[Mapping[str, Any]] = field(default_factory=list)
    stopped: str = ""
    unrun: str = ""
    unfinished: str = ""

    def __post_init__(self) -> None:
        self._begin = time.monotonic()

    def now(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self._begin

    def stop(self, sentence: str, reason: str) -> None:
        """Says why the run ends early; the first time counts."""
        if not self.stopped:
            self.stopped, self.unrun = sentence, reason

    def mesh(self, name: str) -> MeshRecord:
        """The record of one mesh, made when first asked for."""
        return self.meshes.setdefault(name, MeshRecord(name))
