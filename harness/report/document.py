"""The report as plain data, from what a run recorded: the content of report.yaml, and all that index.html shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from harness.report.catalogue import PROFILES, place
from harness.report.figures import figures
from harness.report.run_record import RANK, Requirement, Result, RunRecord, TestRecord
from harness.run.redact import redacted

API_VERSION = "federation-conformance/v1alpha1"
KIND = "FederationConformanceReport"
EMBEDDED = "Embedded lab: this says nothing of any cluster."
ONE_SIDED = 6  # exit status of a run whose contracts hold as far as one side can tell
_PASSED_OR_FAILED = (0, 1, ONE_SIDED)

Json = dict[str, Any]


def document(record: RunRecord, requirements: Sequence[Requirement]) -> Json:
    """Everything there is to say about a run; docs/report.schema.json describes it.

    `requirements` are all contracts of the suite: one that was not run is in the report too, as `not-run`.
    """
    judged = [_requirement(requirement, record) for requirement in sorted(requirements, key=_place)]
    result = overall(judged, record)
    content: Json = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "result": result,
        "summary": _summary(result, judged, record),
        "run": {
            "started": _time(record.started),
            "ended": _time(record.ended) if record.ended else None,
            "seconds": round(record.ended - record.started, 2) if record.ended else None,
            "id": record.run_id,
            "suite": record.suite,
            "clusters": record.clusters,
            "exitStatus": record.exit_status,
            "options": dict(record.options),
        },
        "reproduce": " ".join(record.command),
        "meshes": [vars(mesh) | {} for _, mesh in sorted(record.meshes.items())],
        "entry": {"url": record.url, "by": record.entry},
        "profiles": _profiles(judged),
        "requirements": judged,
        "split": [figures(found) for found in record.measurements],
        "timings": {
            "steps": [
                {
                    "seconds": round(step.seconds, 2),
                    "mesh": step.mesh.strip(),
                    "subject": step.subject,
                    "step": step.text,
                }
                for step in record.steps
            ],
            "peers": [vars(state) | {"seconds": round(state.seconds, 2)} for state in list(record.peers)],
        },
        "unsettled": list(record.unsettled),
        "diagnosis": dict(record.diagnosis) if record.diagnosis else None,
        "evidence": [dict(entry) for entry in record.evidence],
    }
    content = redacted(content)
    return content | {"digest": digest(content)}


def digest(content: Json) -> str:
    """`sha256:` over the canonical content: JSON without `digest`, keys sorted, no spaces, UTF-8."""
    bare = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def aggregate(results: Iterable[Result]) -> str:
    """success, failure, one-sided, partial or unknown.

    Nothing that was skipped or not run is a success, no result is unknown.

    What does not apply counts as if it were not there; one-sided: what is in view holds, and not all is in view.
    """
    found = set(results) - {Result.NOT_APPLICABLE}
    if Result.FAILED in found:
        return "failure"
    if not found - {Result.NOT_RUN, Result.NOT_IN_VIEW}:
        return "unknown"
    if found == {Result.PASSED, Result.NOT_IN_VIEW}:
        return "one-sided"
    return "success" if found == {Result.PASSED} else "partial"


def overall(judged: Sequence[Json], record: RunRecord) -> str:
    """The contracts' result; tests without a contract, and how pytest ended, can only make it worse."""
    named = {entry["id"] for entry in judged}
    results = [Result(entry["result"]) for entry in judged]
    results += [test.result for test in record.tests.values() if test.requirement not in named]
    found = aggregate(results)
    return "partial" if found in ("success", "one-sided") and record.exit_status not in _PASSED_OR_FAILED else found


def _place(requirement: Requirement) -> tuple[int, str]:
    return place(requirement.profile), requirement.id


def _requirement(requirement: Requirement, record: RunRecord) -> Json:
    tests = [test for test in record.tests.values() if test.requirement == requirement.id]
    result = max((test.result for test in tests), key=RANK.__getitem__, default=Result.NOT_RUN)
    reasons = [test.reason for test in tests if test.result is result and test.reason]
    if result is Result.NOT_RUN and not reasons and record.ended is not None:
        # Where nothing was collected nobody knows what was to be run.
        reasons = [record.unrun if tests or not record.tests else "not selected"]
    evidence = [f"split/{index}" for test in tests for index in test.measurements]
    if result is Result.FAILED:
        evidence += ["diagnosis"] if record.diagnosis else []
        evidence += ["evidence"] if record.evidence else []
    return {
        "id": requirement.id,
        "profile": requirement.profile,
        "title": requirement.title,
        "result": result.value,
        "reason": "\n".join(dict.fromkeys(reasons)),
        "tests": [_test(test) for test in tests],
        "evidence": list(dict.fromkeys(evidence)),
    }


def _test(test: TestRecord) -> Json:
    return {
        "name": test.nodeid,
        "result": test.result.value,
        "reason": test.reason,
        "began": None if test.began is None else round(test.began, 2),
        "seconds": round(test.seconds, 3),
    }


def _profiles(judged: Sequence[Json]) -> list[Json]:
    names = dict.fromkeys([*PROFILES, *(entry["profile"] for entry in judged)])
    return [{"name": name, **_of_profile([entry for entry in judged if entry["profile"] == name])} for name in names]


def _of_profile(entries: Sequence[Json]) -> Json:
    def of(result: Result) -> list[Json]:
        return [entry for entry in entries if entry["result"] == result]

    return {
        "result": aggregate(Result(entry["result"]) for entry in entries),
        "statistics": {
            "passed": len(of(Result.PASSED)),
            "failed": len(of(Result.FAILED)),
            "skipped": len(of(Result.SKIPPED)),
            "notRun": len(of(Result.NOT_RUN)),
            "notApplicable": len(of(Result.NOT_APPLICABLE)),
            "notInView": len(of(Result.NOT_IN_VIEW)),
        },
        "failed": [entry["id"] for entry in of(Result.FAILED)],
        "skipped": [{"id": entry["id"], "reason": entry["reason"]} for entry in of(Result.SKIPPED)],
    }


def _summary(result: str, judged: Sequence[Json], record: RunRecord) -> str:
    """The result in words; that a lab is no cluster; and why the run ended early, if it did."""
    lab = EMBEDDED.split() if record.clusters == "embedded" else []
    return " ".join([_told(result, judged, record), *lab, *record.stopped.split()])


def _told(result: str, judged: Sequence[Json], record: RunRecord) -> str:
    passed = sum(entry["result"] == Result.PASSED for entry in judged)
    if record.ended is None:
        return "The run has not ended: this is what was known when it began."
    if result == "success":
        others = sum(entry["result"] == Result.NOT_APPLICABLE for entry in judged)
        spared = f"; {others} do not apply" if others else ""
        return f"Both meshes are federated: all {len(judged) - others} requirements hold{spared}."
    if result == "one-sided":
        unseen = sum(entry["result"] == Result.NOT_IN_VIEW for entry in judged)
        told = f"{passed} requirements hold, {unseen} only the other side can tell, which is not in view"
        return f"The meshes are federated as far as this side can tell: {told}."
    if result == "unknown":
        return "Nothing was tested, so nothing is known."
    failed = [entry["id"] for entry in judged if entry["result"] == Result.FAILED]
    if result == "failure":
        what = f"{len(failed)} of {len(judged)} requirements fail" if failed else "a test without requirement fails"
        return f"{what[:1].upper()}{what[1:]}{': ' if failed else ''}{', '.join(failed)}."
    return f"{passed} of {len(judged)} requirements hold, the others were not all tested."


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
