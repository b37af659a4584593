"""A federation that somebody else has made, with names of their own, is found, verified and left as it is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from selftests.support.lab import Lab, lab
from selftests.support.topologies import Federated, shape

__all__ = ["lab"]
ROOT = Path(__file__).parents[3]
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def federated(lab: Lab) -> Iterator[Federated]:
    """Red in the first cluster and green in the second: each exports one service to the other."""
    settings = dict(zip(("red", "green"), lab.clusters, strict=True))
    clusters = {name: Cluster(name, found.kubeconfig) for name, found in settings.items()}
    found = Federated(clusters, shape("other-names"))
    found.bring_up()
    yield found
    for cluster in clusters.values():
        cluster.close()


@pytest.fixture(scope="module")
def run(lab: Lab, federated: Federated) -> Run:
    """Runs the suite on what is there; its exit status and all that it says."""

    def adopted(*arguments: str, of: tuple[str, ...] = ("mesh1", "mesh2")) -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--federation-adopt"]
        command += [f"--{found.name}-kubeconfig={found.kubeconfig}" for found in lab.clusters if found.name in of]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST"))}
        done = subprocess.run([*command, *arguments], cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert federated
    return adopted


@pytest.fixture(scope="module")
def planned(run: Run) -> tuple[int, str]:
    return run("--federation-plan")


@pytest.mark.parametrize(
    "line",
    [
        "mesh red-mesh/core (mesh1): OSSM 2.1.6 (v2.1), trust domain red.example, MultiTenant, members shop; ",
        "red-mesh/core (mesh1) and green-mesh/core (mesh2), which it calls green and which calls it red",
        "        stock.trade.svc.green-exports.local, taken as stock.front.svc.red-imports.local",
        "        cart.trade.svc.red-exports.local, taken as cart.shop.svc.green-imports.local",
        "mesh2 is green-mesh/core: peer red, ingress ingress-red, egress egress-red",
    ],
)
def test_the_preview_tells_the_meshes_and_who_offers_what_to_whom_both_ways(planned, line):
    code, said = planned
    assert code == 0, said
    assert line in said


@pytest.fixture(scope="module")
def verified(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, dict]:
    """A run of all contracts, with its report."""
    report = tmp_path_factory.mktemp("report")
    code, said = run("--federation-settle", "10", "--federation-report", str(report))
    return code, said, yaml.safe_load((report / "report.yaml").read_text())


def test_a_healthy_federation_of_others_is_in_order_but_for_what_nobody_computes_yet(verified):
    code, said, report = verified
    assert (code, report["result"]) == (0, "partial"), said
    assert "FED-009  not applicable: it is about bookinfo" in said
    results = {entry["id"]: entry["result"] for entry in report["requirements"]}
    assert set(results.values()) == {"passed", "not-applicable", "skipped"}
    unknown = [identity for identity, result in results.items() if result == "skipped"]
    assert sorted(unknown) == ["FED-003", "FED-004", "FED-006", "INSTALL-013"]
    assert "unknown: it compares with what the scenario asks for" in said


def test_what_does_not_apply_is_bookinfo_s_own_and_says_why(verified):
    _, _, report = verified
    spared = {entry["id"]: entry["reason"] for entry in report["requirements"] if entry["result"] == "not-applicable"}
    assert spared.keys() >= {"INSTALL-014", "FED-009", "FED-010", "SPLIT-002", "SPLIT-003", "SPLIT-004"}
    assert all(spared.values())
    as_it_is = {
        *(f"INSTALL-{number:03}" for number in (1, 2, 5, 8, 9, 11, 12)),
        "FED-001",
        "FED-002",
        "FED-007",
        "FED-008",
    }
    assert not as_it_is & spared.keys()


def test_nothing_is_left_behind_or_changed(verified, federated):
    _, said, _ = verified
    assert "left behind: nothing; what was there before is there again" in said
    generation = federated.clusters["red"].get(kinds.PEER, "green", "red-mesh")["metadata"]["generation"]
    assert generation == 1


@pytest.mark.parametrize("own", ["mesh1", "mesh2"])
def test_one_side_alone_is_judged_as_far_as_it_can_tell(run, tmp_path, own):
    code, said = run("--federation-settle", "10", "--federation-report", str(tmp_path), of=(own,))
    report = yaml.safe_load((tmp_path / "report.yaml").read_text())
    assert (code, report["result"]) == (6, "one-sided"), said
    assert report["summary"].startswith("The meshes are federated as far as this side can tell: ")
    results = {entry["id"]: entry["result"] for entry in report["requirements"]}
    assert results["FED-001"] == results["INSTALL-002"] == "passed"
    assert results["FED-002"] == results["INSTALL-008"] == "not-in-view"
    other = {"mesh1": "mesh2", "mesh2": "mesh1"}[own]
    reason = f"only {other} can tell, and no kubeconfig of its cluster was given"
    assert f"INSTALL-008  unknown, not in view: {reason}" in said


@pytest.fixture
def without(federated: Federated) -> Iterator[Callable[[str, kinds.Kind, str], None]]:
    """Takes an object of the control plane's namespace away for the length of a test."""
    with contextlib.ExitStack() as stack:

        def remove(mesh: str, kind: kinds.Kind, name: str) -> None:
            cluster, space = federated.clusters[mesh], federated.space(mesh)
            found = cluster.get(kind, name, space)
            cluster.delete(kind, name, space)
            again = {part: found[part] for part in ("apiVersion", "kind", "spec")}
            stack.callback(cluster.apply, {**again, "metadata": {"name": name, "namespace": space}})

        yield remove


@pytest.mark.parametrize(
    ("mesh", "kind", "name", "contract", "sentence"),
    [
        ("green", kinds.MEMBER_ROLL, "default", "INSTALL-003", "front is not a configured member of mesh2"),
        ("red", kinds.EXPORTS, "green", "FED-005", "what ImportedServiceSet green-mesh/red of mesh2 asks for"),
        ("green", kinds.PEER, "red", "FED-011", "mesh2 has no ServiceMeshPeer red in its control plane namespace"),
    ],
)
def test_what_is_missing_is_a_failed_contract_with_cause_and_side(run, without, mesh, kind, name, contract, sentence):
    without(mesh, kind, name)
    code, said = run("--federation-settle", "4", "-k", contract)
    assert code == 1, said
    assert f"{contract}  failed" in said
    assert sentence in said


def test_a_root_of_another_mesh_is_told_and_fails_the_contract_of_it(run, federated):
    red = federated.clusters["red"]
    right = red.get(kinds.CONFIG_MAP, "root-of-green", "red-mesh")["data"]
    own = red.get(kinds.CONFIG_MAP, "istio-ca-root-cert", "red-mesh")["data"]
    red.patch(kinds.CONFIG_MAP, "root-of-green", "red-mesh", {"data": own})
    code, said = run("--federation-settle", "4", "-k", "INSTALL-011")
    red.patch(kinds.CONFIG_MAP, "root-of-green", "red-mesh", {"data": right})
    assert code == 1, said
    assert "but its root is that of this mesh itself: ConfigMap red-mesh/root-of-green holds" in said
    assert "INSTALL-011  failed" in said
