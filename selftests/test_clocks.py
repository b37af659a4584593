"""The clock of the machine that runs the suite proves nothing about the meshes."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from harness.cluster import Cluster
from harness.diagnosis import State, diagnose
from harness.evidence import collect
from mutants.suite import ADOPTING, on
from selftests.support.diagnosed import Meshes, meshes
from selftests.support.skewed import skewed
from selftests.test_options import pytest_run

__all__ = ["meshes"]
SKEWS = pytest.mark.parametrize("skew", [900, -900], ids=["ahead", "behind"])


@SKEWS
def test_a_healthy_federation_is_healthy_by_whatever_clock_it_is_looked_at(meshes: Meshes, skew):
    kubeconfigs = (meshes.clusters["mesh1"].kubeconfig, meshes.clusters["mesh2"].kubeconfig)
    chosen = ["tests/test_install.py", "tests/test_federation.py", "-k", "root or identity or watch"]
    done = pytest_run("-p", "selftests.support.skewed", *on(kubeconfigs), *ADOPTING, *chosen, SKEW=str(skew))
    assert done.returncode == 0, done.stdout + done.stderr


@SKEWS
def test_the_diagnosis_finds_its_own_lines_by_whatever_clock_it_asks(meshes: Meshes, skew):
    with skewed(skew):
        found = diagnose(meshes.clusters)
    assert [str(link) for link in found.links if link.state is not State.OK] == []


@SKEWS
def test_clocks_that_differ_are_compared_to_a_tenth_of_a_second(meshes: Meshes, skew):
    now = datetime.now(UTC)
    with skewed(skew), closing(Cluster("mesh1", meshes.clusters["mesh1"].kubeconfig)) as fresh:
        fresh.compare_clocks(within=60)
        assert abs(fresh.its_time(now + timedelta(seconds=skew)) - now) <= timedelta(seconds=0.1)


def test_evidence_is_of_the_time_meant_by_whatever_clock_it_is_meant(meshes: Meshes, tmp_path):
    diagnose(meshes.clusters)
    with skewed(900):
        for cluster in meshes.clusters.values():
            cluster.version()
        since = datetime.now(UTC) + timedelta(seconds=900) - timedelta(minutes=5)
        index = collect(meshes.clusters, since, tmp_path / "evidence")
    logs = [file for file in index.to_dict()["files"] if file["file"].startswith("mesh2/logs/istio-ingressgateway")]
    assert logs
    assert all(file["bytes"] for file in logs)
