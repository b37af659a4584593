"""`--federation-plan`: what stands in the way and what would be created, and nothing is touched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cluster import kinds
from harness.product.mesh import MESH1, MESH2
from harness.product.topology.reading import Scope
from harness.scenario.adopt import survey
from harness.scenario.manifests import scenario
from harness.scenario.ownership import lease
from harness.scenario.plan import adoption
from selftests.support.dead_api import DeadApi
from selftests.support.lab import Lab, clusters, lab

__all__ = ["clusters", "lab"]
ROOT = Path(__file__).parents[3]


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


@pytest.fixture(scope="module")
def empty(lab) -> tuple[int, str]:
    """A plan for clusters in which nothing is; the tests of it come before those that put something there."""
    return planned(lab)


def test_a_plan_tells_findings_that_are_in_order_too(empty):
    code, said = empty
    assert code == 0, said
    assert "ok  mesh1: permissions: all" in said
    assert "ok  both meshes: the clocks of the clusters agree to" in said


@pytest.mark.parametrize("names", [MESH1, MESH2], ids=["mesh1", "mesh2"])
def test_a_plan_lists_every_object(empty, names):
    _, said = empty
    objects = [obj["metadata"] for obj in scenario(names)]
    wanted = {"/".join(filter(None, (metadata.get("namespace"), metadata["name"]))) for metadata in objects}
    assert wanted <= names_in(said)
    assert f"{lease.NAMESPACE}/{lease.NAME}" in names_in(said)


@pytest.mark.usefixtures("empty")
def test_a_plan_creates_nothing(clusters):
    for cluster in clusters.values():
        assert not [obj for obj in cluster.list(kinds.NAMESPACE) if obj["metadata"]["name"].startswith("mesh")]
        assert cluster.find(kinds.LEASE, lease.NAME, lease.NAMESPACE) is None


@pytest.fixture(scope="module")
def taken(lab, clusters) -> tuple[int, str]:
    """A plan where somebody else has made a namespace of mesh1 and its member roll."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mesh1-system"}}
    roll = {"apiVersion": "maistra.io/v1", "kind": "ServiceMeshMemberRoll", "spec": {"members": []}}
    clusters["mesh1"].apply(space)
    clusters["mesh1"].apply({**roll, "metadata": {"name": "default", "namespace": "mesh1-system"}})
    found = planned(lab)
    clusters["mesh1"].delete(kinds.NAMESPACE, "mesh1-system")
    return found


def test_a_plan_says_what_stands_in_the_way_and_what_is_only_remarkable(taken):
    code, said = taken
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "NO  mesh1: not created by this suite, so not touched: ServiceMeshMemberRoll mesh1-system/default" in said
    assert "!!  mesh1: namespace mesh1-system exists and is not ours" in said


def test_a_plan_says_nothing_twice_and_ends_with_what_to_look_for(taken):
    _, said = taken
    told = [line for line in said.splitlines() if line.startswith(("NO", "!!", "ok", "mesh", "    "))]
    assert [line for line in told if told.count(line) > 1] == [f"    Lease: {lease.NAMESPACE}/{lease.NAME}"] * 2
    assert said.count("not created by this suite") == 1, said
    assert said.rstrip().endswith("ERROR: this run cannot begin: what stands in the way is marked NO above"), said


def test_a_plan_leaves_out_what_is_there(taken):
    _, said = taken
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
    *_, line = adoption(survey(Scope(cluster) for cluster in clusters.values()))
    assert line.startswith(f"would be created: Lease {lease.NAMESPACE}/{lease.NAME} in each cluster")


def test_the_plan_of_an_embedded_run_starts_no_lab():
    code, said = planned(None)
    assert code == 0, said
    assert "says nothing of any cluster: made for this run and empty" in said
    assert {"mesh1-system/fed-export", "mesh2-bookinfo/ratings-split"} <= names_in(said)
