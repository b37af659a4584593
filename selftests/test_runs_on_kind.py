"""Runs on a pair of kind clusters, made by a stand-in for kind: its clusters are the lab's, or empty API servers."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from fixtures.clusters import fit_seconds
from harness import kinds, lease
from harness.waiting import wait_for
from selftests.support.api import api_server
from selftests.support.lab import clusters, lab
from selftests.support.runs import ONE_TEST, ROOT, rest, start, until

__all__ = ["clusters", "lab", "start"]
OTHER = "federation-mesh1-0ddba1"  # a cluster that a killed run left behind
FAKE_KIND = """#!/bin/sh
echo "$@" >> {log}
case "$1 $2" in
"get clusters") echo {other};;
"create cluster")
    for word in "$@"; do
        case "$word" in
        --name=*) name=${{word#--name=}};;
        --kubeconfig=*) kubeconfig=${{word#--kubeconfig=}};;
        esac
    done
    case "$name" in *mesh1*) cp {mesh1} "$kubeconfig";; *) cp {mesh2} "$kubeconfig";; esac;;
"delete cluster") while [ -e {hold} ]; do sleep 0.05; done;;
esac
"""


class Kind:
    """A stand-in for kind and docker in a directory of their own; `hold`: while it exists, no cluster is deleted."""

    def __init__(self, directory, mesh1, mesh2):
        self.bin, self.log, self.hold = directory / "bin", directory / "kind.log", directory / "hold"
        self.bin.mkdir()
        text = FAKE_KIND.format(log=self.log, other=OTHER, mesh1=mesh1, mesh2=mesh2, hold=self.hold)
        (self.bin / "kind").write_text(text)
        (self.bin / "docker").write_text("#!/bin/sh\n")
        for program in self.bin.iterdir():
            program.chmod(0o755)
        self.path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        bootstrap = directory / "bootstrap"
        bootstrap.mkdir()
        (bootstrap / "note.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: bootstrapped}}")
        self.arguments = ("--federation-clusters", "kind", "--kind-bootstrap", str(bootstrap))

    def calls(self):
        """What it was asked to do, but for the names of clusters."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split()[0] for line in lines if not line.startswith("get")]

    def until_asked(self, calls):
        wait_for(f"kind to be asked to {calls}", lambda: (self.calls() == calls or None, str(self.calls())), 120)


@pytest.fixture
def kind(lab, tmp_path):
    return Kind(tmp_path, *(settings.kubeconfig for settings in lab.clusters))


def test_kind_clusters_are_made_bootstrapped_reached_by_node_ports_and_removed(start, clusters, kind):
    run = start(*ONE_TEST, *kind.arguments, kubeconfigs=False, PATH=kind.path)
    said = rest(run)
    assert run.returncode == 0, said
    assert kind.calls() == ["create", "create", "delete", "delete"]
    for name, cluster in clusters.items():
        assert cluster.find(kinds.CONFIG_MAP, "bootstrapped", "default"), name
    assert said.count(", NodePort)") >= 2, said
    assert f"kind delete clusters {OTHER}" in said
    assert not (ROOT / ".pytest-kind").exists()


def test_what_kind_clusters_were_kept_with_is_kept_too(start, clusters, kind):
    for cluster in clusters.values():  # the stand-in removes no cluster, so one of another test's runs may be there
        cluster.delete(kinds.LEASE, lease.NAME, lease.NAMESPACE)
    run = start(*ONE_TEST, *kind.arguments, "--federation-keep", "always", kubeconfigs=False, PATH=kind.path)
    said = rest(run)
    assert run.returncode == 0, said
    assert "kept: kind cluster" in said
    following = start(*ONE_TEST)
    said = rest(following)
    rest(start("--federation-sweep"))
    assert following.returncode == pytest.ExitCode.USAGE_ERROR, said
    assert "were kept with --federation-keep" in said


def test_a_ctrl_c_while_clusters_are_removed_keeps_none_of_them(start, kind, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (kind.bin / "kind").rename(elsewhere)
    kind.hold.touch()
    run = start(*ONE_TEST, *kind.arguments, "--kind-bin", str(elsewhere), kubeconfigs=False, PATH=kind.path)
    kind.until_asked(["create", "create", "delete"])
    os.killpg(run.pid, signal.SIGINT)
    until(run, "once more to leave it behind")
    kind.hold.unlink()
    said = rest(run)
    assert kind.calls() == ["create", "create", "delete", "delete"]
    assert "left behind" not in said
    assert list(tmp_path.glob("federation-kind-*")) == []


def test_a_second_ctrl_c_leaves_the_clusters_and_says_which_and_how_to_remove_them(start, kind, tmp_path):
    kind.hold.touch()
    run = start(*ONE_TEST, *kind.arguments, kubeconfigs=False, PATH=kind.path)
    kind.until_asked(["create", "create"])
    os.killpg(run.pid, signal.SIGINT)
    kind.until_asked(["create", "create", "delete"])
    os.killpg(run.pid, signal.SIGINT)
    said = rest(run)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, said
    assert kind.calls() == ["create", "create", "delete"]
    (line,) = [line for line in said.splitlines() if line.startswith("left behind: kind clusters ")]
    names = line.partition("`kind delete clusters ")[2].rstrip("`").split()
    assert [name.rpartition("-")[0] for name in names] == ["federation-mesh1", "federation-mesh2"]
    assert list(tmp_path.glob("federation-kind-*")) == []


def test_new_clusters_without_the_operator_are_refused_with_all_that_is_missing(start, tmp_path):
    with api_server("mesh1") as mesh1, api_server("mesh2") as mesh2:
        kind = Kind(tmp_path, mesh1.kubeconfig, mesh2.kubeconfig)
        for name in ("default", "kube-system"):
            (tmp_path / "bootstrap" / f"{name}.yaml").write_text(
                f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"
            )
        run = start(*ONE_TEST, *kind.arguments, kubeconfigs=False, PATH=kind.path)
        said = rest(run)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, said
    assert f"does {tmp_path / 'bootstrap'} hold the operator and its kinds?" in said
    for settings in (mesh1, mesh2):
        assert f"{settings.name}: {settings.server} serves no ServiceMeshControlPlane" in said
    assert kind.calls() == ["create", "create", "delete", "delete"]


def test_an_operator_that_comes_by_olm_gets_the_time_of_its_installation(tmp_path):
    (tmp_path / "operator.yaml").write_text("{apiVersion: apps/v1, kind: Deployment, metadata: {name: operator}}")
    assert fit_seconds(tmp_path) < 60
    subscription = (
        "{apiVersion: operators.coreos.com/v1alpha1, kind: Subscription, metadata: {name: servicemeshoperator}}"
    )
    (tmp_path / "subscription.yaml").write_text(subscription)
    assert fit_seconds(tmp_path) >= 300


def test_without_kind_and_docker_there_is_one_clear_error(start, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.yaml").write_text("{}")
    arguments = ("--federation-clusters", "kind", "--kind-bootstrap", str(tmp_path))
    empty = {"kubeconfigs": False, "PATH": str(tmp_path / "empty")}
    run = start(*ONE_TEST, *arguments, **empty)
    said = rest(run)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no `kind` on PATH" in said
    assert "no `docker` on PATH" in said
    assert "Traceback" not in said
    assert shutil.which("kind", path=str(tmp_path / "empty")) is None
    named = rest(start(*ONE_TEST, *arguments, "--kind-bin", str(tmp_path / "note.yaml"), **empty))
    assert f"--kind-bin {tmp_path / 'note.yaml'}: is no program that can be started" in named
