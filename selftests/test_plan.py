"""`--federation-plan`: what stands in the way and what would be created, and nothing is touched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import kinds, lease
from harness.cluster import Cluster
from harness.manifests import scenario
from harness.mesh import MESH1, MESH2
from harness.plan import plan
from selftests.support.dead_api import DeadApi
from selftests.support.lab import Lab, lab

__all__ = ["lab"]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def clusters(lab):
    found = {settings.name: Cluster(settings.name, settings.kubeconfig) for settings in lab.clusters}
    yield found
    for cluster in found.values():
        cluster.close()


def planned(lab: Lab | None, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--federation-plan"]
    command += [f"--{settings.name}-kubeconfig={settings.kubeconfig}" for settings in (lab.clusters if lab else ())]
    command += arguments
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST"))}
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def names_in(lines: str) -> set[str]:
    """Every `namespace/name`, or name, that the plan lists by kind."""
    listed = re.findall(r"^    \w+: (.*)$", lines, re.MULTILINE)
    return {name for names in listed for name in names.split(", ")}


def test_a_plan_lists_findings_and_every_object_and_creates_none(lab, clusters):
    code, said = planned(lab)
    assert code == 0, said
    assert "ok  mesh1: permissions: all" in said
    assert "ok  both meshes: the clocks of the clusters agree to" in said
    for names in (MESH1, MESH2):
        wanted = {
            "/".join(filter(None, (obj["metadata"].get("namespace"), obj["metadata"]["name"])))
            for obj in scenario(names)
        }
        assert wanted <= names_in(said)
    assert f"{lease.NAMESPACE}/{lease.NAME}" in names_in(said)
    for cluster in clusters.values():
        assert not [obj for obj in cluster.list(kinds.NAMESPACE) if obj["metadata"]["name"].startswith("mesh")]
        assert cluster.find(kinds.LEASE, lease.NAME, lease.NAMESPACE) is None


def test_a_plan_leaves_out_what_is_there_and_ends_with_what_stands_in_the_way(lab, clusters):
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mesh1-system"}}
    roll = {"apiVersion": "maistra.io/v1", "kind": "ServiceMeshMemberRoll", "spec": {"members": []}}
    clusters["mesh1"].apply(space)
    clusters["mesh1"].apply({**roll, "metadata": {"name": "default", "namespace": "mesh1-system"}})
    code, said = planned(lab)
    clusters["mesh1"].delete(kinds.NAMESPACE, "mesh1-system")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "NO  mesh1: not created by this suite, so not touched: ServiceMeshMemberRoll mesh1-system/default" in said
    assert "!!  mesh1: namespace mesh1-system exists and is not ours" in said
    told = [line for line in said.splitlines() if line.startswith(("NO", "!!", "ok", "mesh", "    "))]
    assert [line for line in told if told.count(line) > 1] == [f"    Lease: {lease.NAMESPACE}/{lease.NAME}"] * 2
    assert said.count("not created by this suite") == 1, said
    assert said.rstrip().endswith("ERROR: this run cannot begin: what stands in the way is marked NO above"), said
    first, _, second = said.partition("mesh2: would be created")
    assert not {"mesh1-system", "mesh1-system/default"} & names_in(first)
    assert {"mesh2-system", "mesh2-system/default"} <= names_in(second)


def test_a_plan_asks_a_cluster_that_gives_no_answer_once_and_plans_the_other(lab, tmp_path):
    api = DeadApi({"tls-server-name": "api.elsewhere.example"})
    with api.running(tmp_path / "dead") as kubeconfig:
        # Of an option given twice the last counts.
        code, said = planned(lab, f"--mesh1-kubeconfig={kubeconfig}")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert len(api.connections) == 1
    assert said.count("NO  mesh1: ") == 1
    assert "mesh1: would be created" not in said
    assert {"mesh2-system", "mesh2-system/default"} <= names_in(said)


def test_with_adoption_only_the_leases_would_be_created(clusters):
    (line,) = plan(clusters, adopt=True)
    assert line.startswith(f"would be created: Lease {lease.NAMESPACE}/{lease.NAME} in each cluster")


def test_the_plan_of_an_embedded_run_starts_no_lab():
    code, said = planned(None)
    assert code == 0, said
    assert "embedded lab: made for this run and empty" in said
    assert {"mesh1-system/fed-export", "mesh2-bookinfo/ratings-split"} <= names_in(said)
