"""The report: what may be called a success, what is in it, and that it leaves whole."""

from __future__ import annotations

import re
from dataclasses import replace

import jsonschema
import pytest
import yaml

from harness.report import report_files
from harness.report.catalogue import TESTS, catalogue
from harness.report.document import aggregate, digest
from harness.report.figures import COURSE, figures
from harness.report.run_record import Requirement, Result, RunRecord, TestRecord
from harness.report.service_graph import service_graph
from harness.split.ledger import Ledger, Role, Source
from harness.split.meter import WARM_UP
from selftests.harness.split.test_ledger import CAPTURED
from selftests.support.reports import SCHEMA, booked, content_of, even, full_record, measured, probe, run_of
from selftests.support.scripted import BACKENDS, Answer

PASSED, FAILED, SKIPPED, NOT_RUN = Result.PASSED, Result.FAILED, Result.SKIPPED, Result.NOT_RUN
NOT_APPLICABLE, NOT_IN_VIEW = Result.NOT_APPLICABLE, Result.NOT_IN_VIEW


def requirement(content: dict, identity: str) -> dict:
    return next(entry for entry in content["requirements"] if entry["id"] == identity)


@pytest.fixture(scope="module")
def full() -> dict:
    return content_of(full_record())


# Results


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], "unknown"),
        ([NOT_RUN, NOT_RUN], "unknown"),
        ([PASSED], "success"),
        ([PASSED, NOT_RUN], "partial"),
        ([PASSED, SKIPPED], "partial"),
        ([PASSED, NOT_APPLICABLE], "success"),
        ([NOT_APPLICABLE], "unknown"),
        ([PASSED, NOT_IN_VIEW], "one-sided"),
        ([NOT_IN_VIEW], "unknown"),
        ([PASSED, NOT_IN_VIEW, NOT_RUN], "partial"),
        ([NOT_IN_VIEW, FAILED], "failure"),
        ([NOT_APPLICABLE, FAILED], "failure"),
        ([SKIPPED], "partial"),
        ([PASSED, SKIPPED, FAILED], "failure"),
        ([NOT_RUN, FAILED], "failure"),
    ],
)
def test_only_what_was_all_tested_and_holds_is_a_success(results, expected):
    assert aggregate(results) == expected


def test_a_run_in_which_every_contract_holds_is_a_success():
    content = content_of(run_of())
    assert content["result"] == "success"
    assert {profile["result"] for profile in content["profiles"]} == {"success"}


def test_a_run_without_tests_is_unknown_and_lists_every_contract():
    content = content_of(RunRecord(ended=1.0, exit_status=5))
    assert content["result"] == "unknown"
    assert {entry["result"] for entry in content["requirements"]} == {"not-run"}
    assert len(content["requirements"]) == len(catalogue())


def test_a_skipped_contract_is_told_with_its_reason_and_never_a_success():
    content = content_of(run_of({"FED-004": SKIPPED}))
    profile = next(profile for profile in content["profiles"] if profile["name"] == "fed")
    assert (content["result"], profile["result"]) == ("partial", "partial")
    assert profile["skipped"] == [{"id": "FED-004", "reason": "why FED-004"}]


def test_a_contract_fails_with_either_mesh():
    record = run_of()
    bad = TestRecord("tests/test_x.py::test_FED-001[mesh2]", "FED-001")
    bad.add(FAILED, "mesh2 is not connected")
    record.tests[bad.nodeid] = bad
    found = requirement(content_of(record), "FED-001")
    assert (found["result"], found["reason"]) == ("failed", "mesh2 is not connected")
    assert [test["result"] for test in found["tests"]] == ["passed", "failed"]


def test_a_contract_of_which_one_test_never_ran_does_not_hold():
    record = run_of()
    record.tests["other"] = TestRecord("other", "FED-001")
    assert requirement(content_of(record), "FED-001")["result"] == "not-run"


def test_the_worst_phase_of_a_test_counts():
    test = TestRecord("t")
    test.add(PASSED)
    test.add(FAILED, "teardown: still there")
    test.add(PASSED)
    assert (test.result, test.reason) == (FAILED, "teardown: still there")


@pytest.mark.parametrize("status", [2, 3, None])
def test_an_interrupted_run_is_no_success_even_if_all_contracts_held(status):
    record = run_of()
    record.exit_status = status
    assert content_of(record)["result"] == "partial"


def test_a_failing_test_without_contract_is_a_failure():
    record = run_of()
    record.tests["t"] = TestRecord("t", result=FAILED, reason="no")
    assert content_of(record)["result"] == "failure"


# Content


def test_reports_keep_to_the_schema(full):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for content in (full, content_of(run_of()), content_of(RunRecord())):
        jsonschema.validate(content, SCHEMA, jsonschema.Draft202012Validator)
        again = yaml.safe_load(report_files.dump(content))
        assert again == content


@pytest.mark.parametrize(
    ("result", "statistics"),
    [
        ("success", {"passed": 9, "failed": 0, "skipped": 1, "notRun": 0, "notApplicable": 0, "notInView": 0}),
        ("success", {"passed": 0, "failed": 0, "skipped": 0, "notRun": 0, "notApplicable": 0, "notInView": 0}),
        ("partial", {"passed": 9, "failed": 1, "skipped": 0, "notRun": 0, "notApplicable": 0, "notInView": 0}),
    ],
)
def test_the_schema_knows_what_is_no_success(result, statistics):
    content = content_of(run_of())
    content["profiles"][0] |= {"result": result, "statistics": statistics}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA, jsonschema.Draft202012Validator)


def test_the_digest_is_of_the_content_as_it_is_read_back(full):
    again = yaml.safe_load(report_files.dump(full))
    assert digest(again) == full["digest"]
    again["requirements"][0]["result"] = "failed"
    assert digest(again) != full["digest"]


def test_the_catalogue_has_every_contract_of_the_suite():
    written = re.findall(r'requirement\(\s*"([A-Z]+-\d{3})"', "".join(p.read_text() for p in TESTS.glob("test_*.py")))
    assert written
    assert sorted(entry.id for entry in catalogue()) == sorted(written)


def test_a_contract_names_its_promise_how_it_is_checked_and_its_source(tmp_path):
    (tmp_path / "test_a.py").write_text(
        '@pytest.mark.requirement("FED-020", "roots are CAs", source="RFC 5280", checked="roots")\ndef test_a(): ...\n'
    )
    (found,) = catalogue(tmp_path)
    assert found == Requirement("FED-020", "roots are CAs", "roots", "", "RFC 5280")
    assert found.profile == "fed"


def test_nothing_secret_is_in_a_report():
    record = run_of({"FED-001": FAILED})
    record.tests["tests/test_x.py::test_FED-001"].reason = "Authorization: Bearer s3cr3t-t0k3n-value was refused"
    record.url = "https://admin:hunter2hunter2@productpage"
    text = report_files.dump(content_of(record))
    assert "FED-001" in text
    assert "s3cr3t-t0k3n-value" not in text
    assert "hunter2hunter2" not in text


# The split


def test_the_course_ends_where_the_verdict_is():
    found = measured(lambda index: Answer("mesh1") if index < WARM_UP else even(index))
    course = figures(found)["course"]
    last = dict(zip(COURSE, course["rows"][-1], strict=True))
    assert found.verdict
    assert (last["n"], last["hits"], last["unattributed"]) == (found.verdict.n, found.verdict.counts[0], 0)
    assert last["passLow"] <= last["hits"] <= last["passHigh"]
    assert (last["low"], last["high"]) == pytest.approx(found.verdict.intervals[0], abs=1e-3)


def test_a_failed_split_ends_beyond_its_boundary():
    last = dict(zip(COURSE, figures(measured(lambda _: Answer("mesh1")))["course"]["rows"][-1], strict=True))
    assert last["hits"] >= last["failHigh"]


def test_each_way_to_fail_has_its_example():
    found = figures(measured(lambda i: Answer("mesh1", status={0: 503, 1: 500}.get(i % 20, 200))))
    assert len(found["examples"]) == 2
    assert {re.search(r"\d{3}", example["why"])[0] for example in found["examples"]} == {"503", "500"}
    assert all(example["lines"] for example in found["examples"])


# The service graph


def edges(records) -> dict[str, tuple[int, int]]:
    found = service_graph(records, ("mesh1", "mesh2"))
    return {f"{edge.source} -> {edge.target}": (edge.requests, edge.failed) for edge in found}


def test_the_captured_run_goes_by_the_captured_path(observed):
    ledger = Ledger("capture", BACKENDS)
    for name, source in CAPTURED.items():
        ledger.add_source(source)
        for text in observed(f"healthy/access-logs/{name}.log").splitlines():
            ledger.add_line(source, text)
    for index in range(1, 41):
        ledger.add_probe(probe(index, "capture"))
    found = edges(ledger.records())
    logged = {name: observed(f"healthy/access-logs/{name}.log").count("probe/capture/") for name in CAPTURED}
    assert found["client -> mesh2 istio-ingressgateway"] == (40, 0)
    assert found["mesh2 reviews-v3 -> mesh2 mesh1-egress"] == (19, 0)
    assert found["mesh2 mesh1-egress -> mesh1 mesh2-ingress"] == (19, 0)
    for version in ("v1", "v2"):
        assert found[f"mesh1 mesh2-ingress -> mesh1 ratings-{version}"] == (logged[f"mesh1-ratings-{version}"], 0)
        assert found[f"mesh2 reviews-v3 -> mesh2 ratings-{version}"] == (logged[f"mesh2-ratings-{version}"], 0)


def test_a_failure_is_on_the_edge_it_happened_on():
    egress = Source("mesh2", Role.GATEWAY, "mesh1-egress", "mesh1-egress-1", "10.2.0.8")
    ledger = booked([Answer("mesh1", status=503), Answer("mesh1"), Answer("mesh2")])
    ledger.add_source(egress)
    found = edges(ledger.records())
    assert found["mesh2 reviews-v3 -> mesh2 mesh1-egress"] == (2, 1)
    assert found["mesh2 mesh1-egress -> mesh1 mesh2-ingress"] == (2, 1)
    assert found["mesh1 mesh2-ingress -> mesh1 ratings-v1"] == (1, 0)
    assert found["mesh2 reviews-v3 -> mesh2 ratings-v1"] == (1, 0)


def test_a_client_that_reaches_nothing_fails_at_the_first_edge():
    ledger = booked([])
    ledger.add_probe(replace(probe(0, status=0), connected=False, error="refused"))
    ledger.close(1, timeout=0)
    assert edges(ledger.records()) == {"client -> mesh2 istio-ingressgateway": (1, 1)}


# Files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.yaml"
    report_files.write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        report_files.write_atomically(path, "new \ud800")
    assert (path.read_text(), [entry.name for entry in tmp_path.iterdir()]) == ("old", ["report.yaml"])
    report_files.write_atomically(path, "new")
    assert path.read_text() == "new"


def test_a_page_that_fails_leaves_the_report(tmp_path, monkeypatch, full):
    monkeypatch.setattr(report_files, "page", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report_files.write_report(tmp_path / "deep" / "er", full)
    assert yaml.safe_load((tmp_path / "deep" / "er" / "report.yaml").read_text())["digest"] == full["digest"]
