"""Two faults at once on the lab: each failure gets its own cause, and the run its ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import PEER
from harness.cluster.transport import Objects
from harness.product.mesh import MESH2
from harness.product.status import PeerStatus
from mutants.bench import inject, provisioned_lab
from mutants.suite import ADOPTING, on, said_cause
from selftests.harness.scenario.test_options import pytest_run

FAULTS = ("wrong-clientid-export", "split-70-30")
PATIENT = 60


@pytest.fixture(scope="module")
def broken() -> Iterator[tuple[Path, Path]]:
    with provisioned_lab() as kubeconfigs:
        for fault in FAULTS:
            inject(fault, kubeconfigs)
        with contextlib.closing(Cluster("mesh2", kubeconfigs[1])) as cluster:
            cluster.wait("its watch to be cut", PEER, MESH2.system_namespace, MESH2.peer, until=cut, timeout=PATIENT)
        yield kubeconfigs


def cut(found: Objects) -> bool:
    return any(not view.watch.connected for peer in found for view in PeerStatus.of(peer).views)


def test_two_faults_at_once_are_both_named_and_measured(broken, tmp_path):
    chosen = ("tests/test_federation.py", "tests/test_split.py", "-k", "freshly_synced or as_the_weights_say")
    done = pytest_run(*on(broken), *ADOPTING, *chosen, f"--federation-report={tmp_path / 'report'}")
    assert "FAILED SPLIT-001" in done.stdout, done.stdout
    assert said_cause(done.stdout) == ("wrong-client-id", "mesh1")
    assert "[weights-differ]" in done.stdout.partition("after SPLIT-001 failed:")[2]
    content = yaml.safe_load((tmp_path / "report" / "report.yaml").read_text())
    found = content["diagnosis"]
    assert [found["cause"], *(entry["cause"] for entry in found["also"])] == ["wrong-client-id", "weights-differ"]
    assert found["walks"] == [], "the first walk knew what the split is to be"
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Cause, on mesh2, found after SPLIT-001 failed" in page
    [ledger] = yaml.safe_load((tmp_path / "report" / "evidence" / "ledger.yaml").read_text())
    assert (ledger["asked"], ledger["outcome"]) == ({"mesh1": 50, "mesh2": 50}, "FAIL")
