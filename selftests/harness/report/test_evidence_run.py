"""Runs of pytest on the embedded lab that fail: the cause and the evidence come from the real hooks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from selftests.harness.report.test_report_run import Run
from selftests.harness.scenario.test_options import pytest_run

SETUP_FAILS = """
import pytest

@pytest.fixture(scope="session")
def provisioned(clusters):
    raise RuntimeError("mesh1: the control plane never became Ready")

@pytest.mark.requirement("INSTALL-001")
def test_ready(provisioned):
    pass
"""
AFTER_A_SPLIT = """
def test_measures(split_of):
    assert split_of(0, 100).passed

def test_measures_nothing(measurements):
    assert not measurements, "something else is wrong"
"""
CHANGED_MEANWHILE = """
from harness.cluster.kinds import VIRTUAL_SERVICE

def test_measures(split_of, federation):
    mesh = federation.mesh2
    split_of(0, 100)
    http = mesh.cluster.get(VIRTUAL_SERVICE, "ratings-split", mesh.app_namespace)["spec"]["http"]
    for destination in http[0]["route"]:
        destination["weight"] = 50
    mesh.cluster.patch(VIRTUAL_SERVICE, "ratings-split", mesh.app_namespace, {"spec": {"http": http}})
    assert False, "somebody changed the weights"
"""

FAILS_TWICE = CHANGED_MEANWHILE.replace(
    "def test_measures",
    """
import pytest

def test_fails_first(federation):
    assert False, "of no cause that is seen"

@pytest.mark.requirement("SPLIT-001")
def test_measures""",
)
PLANTED = """
import json, logging, os, sys, warnings
import pytest, requests
from harness.cluster import kinds

S = os.environ["PLANTED"]
PEM = f"-----BEGIN EC PRIVATE KEY-----\\n{S}\\nMHcCAQEE\\n-----END EC PRIVATE KEY-----"
NAMES = ("DB_PASS", "SECRET", "AWS_SECRET_ACCESS_KEY", "SESSION_KEY", "HARMLESS_BY_ITS_NAME")

@pytest.fixture(scope="session")
def planted(federation, bookinfo):
    cluster, namespace = federation.mesh2.cluster, federation.mesh2.app_namespace
    labels = {"planted": "yes"}
    pull = json.dumps({"auths": {"registry.example.com": {"auth": S}}})
    notes = {"note": f"authorization: Bearer {S}", "token": S, "key": PEM, "pull": pull}
    container = {"name": "x", "image": "none", "env": [{"name": name, "value": S} for name in NAMES]}
    container["args"] = [f"--password={S}", "--db-password", S, "sh", "-c", f"app --db-password {S} --verbose"]
    template = {"metadata": {"labels": labels, "annotations": notes}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    meta = {"name": "planted", "namespace": namespace, "annotations": notes}
    cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
    cluster.wait("a planted pod", kinds.POD, namespace, label_selector="planted=yes", until=bool, timeout=10)
    requests.get(bookinfo.productpage_url, headers={"User-Agent": f"planted Bearer {S}"}, timeout=10)
    yield
    cluster.delete(kinds.DEPLOYMENT, "planted", namespace)

@pytest.fixture
def broken(capsys):
    raise RuntimeError(f"users: client-key-data: {S}")

def test_fails(planted, record_property):
    record_property("token", S)
    print(f"token: {S}")
    print(PEM)
    print(f"proxy-url: http://user:{S}@proxy:3128", file=sys.stderr)
    logging.getLogger("x").warning('password="%s"', S)
    warnings.warn(f"access_token={S}")
    said = {"Authorization": f"Bearer {S}"}
    assert said == {}, f'https://admin:{S}@api.example.com:6443 refused Authorization: Bearer "{S}", {PEM}'

def test_cannot_begin(broken):
    pass

def test_in_parts(subtests):
    with subtests.test("first"):
        print(f"token: {S}")
        assert False, f"token: {S}"

def test_left_out():
    pytest.skip(f"password={S}")
"""
SECRET = "c0ffee-" + "do-not-show-me"


def test_a_failed_setup_leaves_evidence(tmp_path: Path) -> None:
    run = Run(tmp_path, SETUP_FAILS)
    assert run.done.returncode == pytest.ExitCode.TESTS_FAILED, run.done.stdout
    assert (run.report / "evidence" / "index.yaml").is_file(), run.done.stdout
    named = {entry["file"] for entry in run.content["evidence"]}
    assert {"evidence/index.yaml", "evidence/diagnosis.yaml"} <= named
    assert f"evidence: {run.report / 'evidence'}" in run.done.stdout
    assert run.results()["INSTALL-001"][0] == "failed"


def test_where_evidence_cannot_be_kept_the_cause_is_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "report" / "evidence").mkdir(parents=True)
    (tmp_path / "report" / "evidence" / "mine.txt").write_text("mine")
    run = Run(tmp_path, SETUP_FAILS)
    assert "gathering evidence failed: FileExistsError" in run.done.stdout
    assert "cause: " in run.done.stdout
    assert (run.report / "evidence" / "mine.txt").read_text() == "mine"


def test_what_an_earlier_test_asked_of_the_split_is_no_cause(tmp_path: Path) -> None:
    run = Run(tmp_path, AFTER_A_SPLIT, "--split-margin", "20")
    assert "1 failed, 1 passed" in run.done.stdout, run.done.stdout
    assert run.content["diagnosis"]["cause"] == "", run.done.stdout
    assert "asked" in yaml.safe_load((run.report / "evidence" / "ledger.yaml").read_text())[0]


def test_what_the_failing_test_asked_of_the_split_counts(tmp_path: Path) -> None:
    run = Run(tmp_path, CHANGED_MEANWHILE, "--split-margin", "20")
    assert run.content["diagnosis"]["cause"] == "weights-differ", run.done.stdout


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that fails of no cause that is seen, and later because somebody changed the weights."""
    return Run(tmp_path_factory.mktemp("twice"), FAILS_TWICE, "--split-margin", "20")


def test_a_later_failure_is_explained_too(twice: Run) -> None:
    said = twice.done.stdout
    first, second = said.find("after test_fails_first failed:"), said.find("after SPLIT-001 failed:")
    assert 0 < first < second, said
    assert "cause: none" in said[first:second], said
    assert "[weights-differ]" in said[second:], said


def test_the_report_tells_after_which_failure_a_cause_was_seen(twice: Run) -> None:
    found = twice.content["diagnosis"]
    assert (found["cause"], found["after"]) == ("weights-differ", "SPLIT-001")
    assert [(walk["cause"], walk["after"]) for walk in found["walks"]] == [("", "test_fails_first")]
    assert found["sentence"] in (twice.report / "index.html").read_text()


def test_what_a_later_failure_measured_is_evidence(twice: Run) -> None:
    evidence = twice.report / "evidence"
    assert yaml.safe_load((evidence / "ledger.yaml").read_text())[0]["asked"] == {"mesh1": 0, "mesh2": 100}
    assert "weights-differ" in (evidence / "diagnosis.yaml").read_text()
    files = {str(path.relative_to(twice.report)) for path in evidence.rglob("*") if path.is_file()}
    assert {entry["file"] for entry in twice.content["evidence"]} == files


@pytest.mark.parametrize("pod", ["reviews-v3", "istio-ingressgateway"])
def test_the_access_logs_of_a_later_failure_hold_every_request_it_sent(twice: Run, pod: str) -> None:
    [log] = (twice.report / "evidence" / "mesh2" / "logs" / "SPLIT-001").glob(f"{pod}*.log")
    sent = twice.content["split"][0]["account"]["sent"]
    assert len(log.read_text().splitlines()) >= sent, log.read_text()


def test_the_routes_by_which_requests_come_in_are_evidence(twice: Run) -> None:
    [entry] = (twice.report / "evidence" / "mesh2" / "proxies").glob("istio-ingressgateway*.json")
    assert "productpage" in str(json.loads(entry.read_text())["routes"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run full of secrets wrote: the files of its report by their paths, and `terminal`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLANTED", SECRET)
        run = Run(tmp_path_factory.mktemp("planted"), PLANTED, "-o", "junit_logging=all")
    files = {str(path.relative_to(run.report)): path.read_text() for path in run.report.rglob("*") if path.is_file()}
    return files | {"terminal": run.done.stdout + run.done.stderr}


def test_no_secret_leaves_a_run(written: dict[str, str]) -> None:
    assert {name: context(text) for name, text in written.items() if SECRET in text} == {}
    assert {"report.yaml", "junit.xml", "index.html", "evidence/index.yaml"} <= written.keys()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("terminal", "token: [redacted]"),
        ("terminal", "refused Authorization: Bearer"),
        ("junit.xml", "proxy-url: http://user:[redacted]@proxy:3128"),
        ("evidence/mesh2/objects/mesh2-bookinfo-pods.yaml", "HARMLESS_BY_ITS_NAME"),
        ("evidence/mesh2/objects/mesh2-bookinfo-deployments.yaml", "DB_PASS"),
    ],
)
def test_what_stands_around_a_secret_is_kept(written: dict[str, str], name: str, kept: str) -> None:
    assert kept in written[name], written[name]


def test_the_request_with_a_secret_in_it_is_in_the_access_logs(written: dict[str, str]) -> None:
    assert "planted Bearer [redacted]" in "".join(text for name, text in written.items() if "/logs/" in name)


def context(text: str) -> str:
    """What stands around the first secret."""
    return text[max(0, text.index(SECRET) - 200) :][:300]


@pytest.fixture
def secretive(tmp_path: Path) -> Path:
    """A kubeconfig of a cluster that is not there, with a secret wherever one may be."""
    proxied = {"server": f"https://me:{SECRET}@127.0.0.1:1", "proxy-url": f"http://me:{SECRET}@127.0.0.1:1"}
    kubeconfig = {
        "kind": "Config",
        "apiVersion": "v1",
        "clusters": [{"name": "c", "cluster": proxied}],
        "users": [{"name": "u", "user": {"token": SECRET}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    return path


def test_a_run_that_cannot_begin_says_so_without_secrets(secretive: Path) -> None:
    done = pytest_run(f"--mesh1-kubeconfig={secretive}", f"--mesh2-kubeconfig={secretive}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "this run cannot begin" in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
