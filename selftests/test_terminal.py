"""What a red run ends with on the terminal: the meshes, the split, then cause, side and remedy."""

from __future__ import annotations

import os
import re

import pytest

from harness.mesh import MESH1
from selftests.support.lab import clusters, lab
from selftests.support.runs import ONE_TEST, rest, start, until
from selftests.test_options import pytest_run
from selftests.test_report_run import Run

__all__ = ["clusters", "lab", "start"]
RED = """
import pytest
from fixtures.evidence import EXPLANATION
from harness.diagnosis import Diagnosis
from harness.diagnosis.model import Look
from selftests.support.reports import even, measured

@pytest.mark.requirement("SPLIT-001")
def test_split(record, summary, pytestconfig):
    for name in ("mesh2", "mesh1"):
        record.mesh(name).server = f"https://{name}.example"
        record.mesh(name).ossm = "2.5.1"
    record.measurements.append(measured(even))
    summary.append("productpage: by NodePort")
    link = Look("trust", "mesh1", "root").broken("namespace-not-member", "seen", namespace="n", detail="d", system="s")
    pytestconfig.stash[EXPLANATION].add_walk("SPLIT-001", Diagnosis((link,)))
    raise AssertionError("no split")
"""


def test_a_red_run_ends_with_the_meshes_then_the_split_then_cause_side_and_remedy(tmp_path):
    run = Run(tmp_path, RED)
    *above, result = run.done.stdout.rstrip().splitlines()
    assert "1 failed" in result
    words = [line.split(" ")[0].strip("=") for line in above[-7:]]
    assert words == ["mesh1:", "mesh2:", "The", "", "cause:", "side:", "remedy:"], above[-12:]
    summary = above.index(next(line for line in above if "short test summary" in line))
    assert summary < above.index("productpage: by NodePort") < above.index("mesh1: OSSM 2.5.1 on https://mesh1.example")


def test_a_file_that_cannot_be_collected_ends_in_pytests_own_words(tmp_path):
    run = Run(tmp_path, "import nothing_of_this_name")
    assert "No module named 'nothing_of_this_name'" in run.done.stdout
    assert "1 error in" in run.done.stdout.rstrip().splitlines()[-1], run.done.stdout + run.done.stderr


def test_every_skipped_test_stands_under_its_own_id_with_its_reason(tmp_path):
    skip = "def skip():\n    import pytest\n    pytest.skip('not ours to change')\n"
    test = "import pytest\n@pytest.mark.requirement('{0}')\ndef test_{1}():\n    skip()\n"
    run = Run(tmp_path, skip + "".join(test.format(f"SPLIT-00{n}", n) for n in (2, 3)))
    lines = [line for line in run.done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert [line.split()[1] for line in lines] == ["SPLIT-002", "SPLIT-003"]
    assert all("not ours to change" in line for line in lines)


def test_a_log_tells_of_every_long_wait_what_was_seen_last(tmp_path):
    (tmp_path / "impatient.py").write_text(
        "from harness import progress\nprogress._LONG, progress._AGAIN = 0.05, 0.5\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = pytest_run("tests/test_split.py", "-k", "weight_of", "-p", "impatient", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout
    told = re.findall(r"still waiting for (.*), since \d+ s; last seen: (.*)", done.stderr)
    for what, seen in (
        ("control plane fed-export to be Ready", ".*"),
        ("the watches of both meshes to connect", "istiod istiod-fed-.*: own watch is .*"),
        ("the verdict", r"no request judged yet|\d+ of at most 144 requests judged: mesh1 served .*"),
    ):
        assert any(name == what and re.fullmatch(seen, last) for name, last in told), f"{what}:\n{done.stderr}"
    for what in ("productpage to show stars", "Deployments in mesh2-bookinfo"):
        assert f"still waiting for {what}, since " in done.stderr, done.stderr


def test_a_failed_provisioning_leaves_a_line_for_each_mesh_that_says_how_far_it_got(start, clusters):
    run = start(*ONE_TEST)
    until(run, "mesh1  control plane: applied")
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ratings", "namespace": MESH1.app_namespace}}
    clusters["mesh1"].create({**theirs, "spec": {"ports": [{"port": 9080}]}})
    said = rest(run)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, said
    lines = said.rstrip().splitlines()
    mesh1, mesh2, cause = (
        next(number for number, line in enumerate(lines) if line.startswith(begin))
        for begin in ("mesh1: OSSM ", "mesh2: OSSM ", "cause: ")
    )
    assert mesh1 < mesh2 < cause, said
    for mesh, line in (("mesh1", lines[mesh1]), ("mesh2", lines[mesh2])):
        assert f" on {clusters[mesh].server} (Kubernetes v1." in line
        assert "; got as far as: " in line
