"""Records of runs, made of real ledgers and verdicts, for the report and its page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.report.catalogue import catalogue
from harness.report.document import document
from harness.report.run_record import MeshRecord, PeerState, Result, RunRecord, TestRecord
from harness.run.progress import Step
from harness.split.ledger import Ledger
from harness.split.meter import WARM_UP, Judge, Measurement
from harness.split.probe import Page, Probe, user_agent
from harness.split.sequential import SplitTest
from selftests.support.scripted import BACKENDS, CALLER, RATINGS, Answer, call_line, ratings_line, stamp

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
BEGIN = 1_700_000_000.0


def probe(index: int, run: str = "r", page: Page = Page.STARS, status: int = 200) -> Probe:
    return Probe(index, 0, user_agent(run, index), f"id-{index}", BEGIN + index / 100, 0.05, status, page)


def booked(answers: Sequence[Answer], run: str = "r") -> Ledger:
    """The books of probes that met these answers."""
    ledger = Ledger(run, BACKENDS, clock=lambda: BEGIN)
    for index, answer in enumerate(answers):
        at = stamp(BEGIN + index / 100)
        ledger.add_line(CALLER, call_line(user_agent(run, index), answer, at))
        if answer.status == 200:
            ledger.add_line(RATINGS[answer.mesh], ratings_line(user_agent(run, index), at))
        ledger.add_probe(probe(index, run, Page.STARS if answer.status == 200 else Page.UNAVAILABLE))
    ledger.close(len(answers), timeout=0)
    return ledger


def measured(answer: Callable[[int], Answer], weights: tuple[int, int] = (50, 50), most: int = 3000) -> Measurement:
    """What measuring a split with these answers comes to, by the real ledger and judge."""
    test = SplitTest(weights)
    asked = {"mesh1": float(weights[0]), "mesh2": float(weights[1])}
    judge, ledger = Judge(test, list(asked)), booked([answer(index) for index in range(most)])
    for begin in range(WARM_UP, most - test.batch + 1, test.batch):
        if judge.verdict.final:
            break
        judge.add_batch(ledger.settlements(begin, begin + test.batch))
    verdict, independence = judge.conclude()
    return Measurement(asked, test, verdict, independence, ledger.account(), tuple(ledger.records()), 100.0, 12.5)


def even(index: int) -> Answer:
    """Half to each mesh, in an order that no test of independence objects to."""
    return Answer("mesh1" if (index * 2654435761 >> 7) & 1 else "mesh2")


def run_of(results: dict[str, Result] | None = None, default: Result = Result.PASSED) -> RunRecord:
    """A run that has ended, in which every contract of the suite came to `default` but for those in `results`."""
    record = RunRecord(command=["pytest"], suite="0.1.0", exit_status=0, started=BEGIN, ended=BEGIN + 26.0)
    for requirement in catalogue():
        result = (results or {}).get(requirement.id, default)
        nodeid = f"tests/test_x.py::test_{requirement.id}"
        test = TestRecord(nodeid, requirement.id, seconds=0.1, began=None if result is Result.NOT_RUN else 2.0)
        if result is not Result.NOT_RUN:
            test.add(result, "" if result is Result.PASSED else f"why {requirement.id}")
        record.tests[nodeid] = test
    if any(test.result is Result.FAILED for test in record.tests.values()):
        record.exit_status = 1
    return record


def full_record() -> RunRecord:
    """A run with everything in it: a failed and a skipped requirement, all figures, a diagnosis, evidence."""
    record = run_of({"SPLIT-001": Result.FAILED, "FED-003": Result.SKIPPED})
    record.meshes = {
        name: MeshRecord(name, "2.1.6", "v2.1", "v1.30.4", "https://a", "b") for name in ("mesh1", "mesh2")
    }
    record.measurements = [measured(even), measured(lambda i: Answer("mesh1", status=503 if i % 3 == 0 else 200))]
    record.steps = [Step(0.5, "mesh1", "control plane", "applying"), Step(2.5, "mesh1", "control plane", "Ready")]
    record.peers = [PeerState(1.0, "mesh1", False, False), PeerState(3.0, "mesh1", True, True)]
    diagnosis: dict[str, Any] = {
        "state": "broken",
        "cause": "weights-differ",
        "side": "mesh2",
        "sentence": "The weights differ.",
        "remedy": "Set them.",
        "seconds": 1.0,
        "links": [{"name": "API", "side": "both", "state": "unknown", "looked_at": "/version", "seen": "Forbidden"}],
        "after": "FED-003",
        "also": [
            {
                "after": "SPLIT-001",
                "cause": "backend-down",
                "side": "mesh1",
                "sentence": "No pod.",
                "remedy": "Start it.",
            }
        ],
    }
    record.diagnosis = {**diagnosis, "walks": [{**diagnosis, "after": "SPLIT-001"}]}
    times = {"first": "2026-01-01T00:00:03.000Z", "last": "2026-01-01T00:01:07.000Z"}
    record.evidence = [
        {"file": "evidence/mesh1/peer.yaml", "what": "peer", "mesh": "mesh1", "bytes": 12},
        {"file": "evidence/mesh1/logs/a.log", "what": "access log", "mesh": "mesh1", "bytes": 99, "cut": True, **times},
    ]
    return record


def content_of(record: RunRecord) -> dict[str, Any]:
    """The report's content for all contracts of the suite."""
    return document(record, catalogue())
