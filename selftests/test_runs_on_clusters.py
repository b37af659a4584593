"""Runs of the suite on clusters that go on living: the lab, given by its kubeconfigs as any other pair."""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
from typing import NamedTuple

import pytest

from harness import kinds
from harness.cluster import Cluster
from harness.interrupts import ECHO_SECONDS
from harness.mesh import MESH1
from harness.progress import Progress
from harness.provision import Provisioner
from harness.snapshot import changes, snapshot
from harness.waiting import pause
from selftests.support.lab import clusters, lab, start_lab, stop_lab
from selftests.support.runs import (
    ONE_TEST,
    ROOT,
    Ended,
    crashed,
    ended,
    expire_leases,
    held_roll,
    interrupted,
    killed,
    on_a_terminal,
    remains,
    rest,
    runs_of,
    start,
    start_once,
    taken_over,
    until,
)
from selftests.test_progress import screen

__all__ = ["ONE_TEST", "ROOT", "clusters", "lab", "rest", "start", "start_once", "until"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_run_removes_what_it_made(start, clusters, number):
    run = start(*ONE_TEST)
    until(run, "control plane: applied")
    assert len(remains(clusters)) == 6, "nothing was made yet: this test would prove nothing"
    run.send_signal(number)
    said = rest(run)
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "left behind: nothing" in said, said
    assert remains(clusters) == []


class LeftAtOnce(NamedTuple):
    pid: int
    second: Ended
    first: Ended
    early_sweep: Ended
    sweep: Ended


@pytest.fixture(scope="module")
def left_at_once(start_once, clusters):
    """A run keeps a second one out, is made to leave by two Ctrl-C, and is swept: too early, and when it is dead."""
    first = start_once(*ONE_TEST)
    until(first, "control plane: applied")
    second = ended(start_once(*ONE_TEST), clusters)
    with held_roll(clusters["mesh1"]):
        first.send_signal(signal.SIGINT)
        until(first, "mesh1  removing ServiceMeshMemberRoll")
        pause(ECHO_SECONDS)
        first.send_signal(signal.SIGINT)
        left = ended(first, clusters)
        early = ended(start_once("--federation-sweep"), clusters)
    expire_leases(clusters)
    return LeftAtOnce(first.pid, second, left, early, ended(start_once("--federation-sweep"), clusters))


def test_a_second_run_is_kept_out(left_at_once):
    assert left_at_once.second.code == pytest.ExitCode.USAGE_ERROR
    assert f"process {left_at_once.pid}" in left_at_once.second.said
    assert "delete lease" in left_at_once.second.said


def test_a_second_ctrl_c_leaves_at_once_and_says_what_is_left_behind(left_at_once):
    assert left_at_once.first.code == pytest.ExitCode.INTERRUPTED
    assert re.search("as asked for, part of run .* is left behind", left_at_once.first.said), left_at_once.first.said
    assert "mesh1: Lease" in left_at_once.first.remains


def test_what_may_be_alive_is_not_swept(left_at_once):
    assert "last sign of life" in left_at_once.early_sweep.said
    assert left_at_once.early_sweep.code == pytest.ExitCode.USAGE_ERROR


def test_sweeping_removes_what_was_left_behind(left_at_once):
    assert "removed: mesh1: Namespace mesh1-system" in left_at_once.sweep.said
    assert (left_at_once.sweep.code, left_at_once.sweep.remains) == (0, [])


class Adopted(NamedTuple):
    kept: Ended
    objects: dict
    second: Ended
    adopting: Ended
    changed: list
    sweep: Ended


@pytest.fixture(scope="module")
def adopted(start_once, clusters):
    """A run keeps what it made; a second one does not adopt it, a third one does; then it is swept."""
    kept = ended(start_once(*ONE_TEST, "--federation-keep", "always"), clusters)
    before = snapshot(clusters)
    second = ended(start_once(*ONE_TEST), clusters)
    adopting = ended(start_once("tests/test_install.py", "--federation-adopt"), clusters)
    changed = changes(before, snapshot(clusters))
    return Adopted(kept, before, second, adopting, changed, ended(start_once("--federation-sweep"), clusters))


def test_what_a_run_made_is_kept_where_that_is_asked_for(adopted):
    assert "kept, as --federation-keep says" in adopted.kept.said
    assert adopted.kept.code == 0
    assert adopted.objects


def test_what_is_kept_is_somebodys_and_keeps_another_run_out(adopted):
    assert adopted.second.code == pytest.ExitCode.USAGE_ERROR
    assert "were kept with --federation-keep, so they are somebody's" in adopted.second.said
    assert "--federation-sweep" in adopted.second.said


def test_what_is_kept_can_be_adopted_and_is_not_changed_by_that(adopted):
    assert adopted.adopting.code == 0, adopted.adopting.said
    assert "left behind: nothing; what was there before is there again" in adopted.adopting.said
    assert adopted.changed == []


def test_what_is_kept_can_be_swept(adopted):
    assert adopted.sweep.said.count("removed: ") > 30
    assert adopted.sweep.remains == []


def test_where_nothing_was_made_nothing_is_said_to_be_kept_and_the_audit_is_held(start, clusters):
    rest(start(*ONE_TEST, "--federation-keep", "always"))
    adopting = start(*ONE_TEST, "--federation-adopt", "--federation-keep", "always")
    said = rest(adopting)
    assert adopting.returncode == 0, said
    assert "left behind: nothing; what was there before is there again" in said
    assert "everything of run" not in said
    rest(start("--federation-sweep"))
    assert remains(clusters) == []


def test_after_a_crash_the_same_command_goes_on_and_says_before_the_first_test_what_it_takes_over(start, clusters):
    dead = start(*ONE_TEST)
    killed(dead, "control plane: applied")
    expire_leases(clusters)
    run = ended(start(*ONE_TEST), clusters)
    assert (run.code, run.remains) == (0, []), run.said
    told, _, after = run.said.partition("control plane: applying")
    assert all(f"federation: {mesh}: " in told for mesh in clusters), told
    assert told.count(f"process {dead.pid}, had no chance to remove them") == 2
    assert "left behind: nothing" in after


def test_a_run_that_is_interrupted_before_it_has_applied_anything_removes_what_it_has_taken_over(start, clusters):
    crashed(start, clusters, "bookinfo: applied")
    (dead,) = runs_of(clusters)
    run = interrupted(start(*ONE_TEST), clusters)
    assert (run.code, run.remains) == (pytest.ExitCode.INTERRUPTED, []), run.said
    assert f"removed too: what remained of run {dead}" in run.said
    assert "left behind: nothing" in run.said


def test_what_a_run_and_its_killed_successor_left_is_removed_by_the_next_one(start, clusters):
    crashed(start, clusters, "bookinfo: applied")
    crashed(start, clusters, "control plane: applied")
    left = runs_of(clusters)
    run = interrupted(start(*ONE_TEST), clusters)
    assert "left behind: nothing" in run.said, run.said
    assert all(dead in run.said for dead in left)
    assert run.remains == []


def test_what_was_taken_over_is_kept_with_the_rest_where_that_is_asked_for(start, clusters):
    crashed(start, clusters, "bookinfo: applied")
    (dead,) = runs_of(clusters)
    run = interrupted(start(*ONE_TEST, "--federation-keep", "always"), clusters)
    assert "kept, as --federation-keep says" in run.said
    assert f"what it took over of run {dead}" in run.said
    second = ended(start(*ONE_TEST), clusters)
    assert second.code == pytest.ExitCode.USAGE_ERROR
    assert "take" not in second.said.partition("were kept with --federation-keep")[0]
    assert ended(start("--federation-sweep"), clusters).remains == []


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not on PATH")
def test_after_the_printed_advice_the_same_command_takes_the_remains_of_a_killed_run_over(start, clusters):
    killed(start(*ONE_TEST), "control plane: applied")
    refused = ended(start(*ONE_TEST), clusters)
    advice = dict.fromkeys(re.findall(r"`(kubectl [^`]*)`", refused.said))
    assert (refused.code, len(advice)) == (pytest.ExitCode.USAGE_ERROR, 2), refused.said
    for command in advice:
        subprocess.run(command, shell=True, check=True, capture_output=True)
    run = ended(start(*ONE_TEST), clusters)
    assert (run.code, run.remains, "kept" in run.said) == (0, [], False), run.said
    assert "takes them over and removes them at its end" in run.said
    assert "left behind: nothing" in run.said


FAILS_AT_ONCE = """
from fixtures import ownership
from harness.transport import ServerError

def fail(clusters):
    raise ServerError("mesh2", "GET /api/v1/namespaces", "503 injected")

def pytest_configure():
    ownership.take_inventory = fail
"""


def test_a_run_that_fails_before_it_has_begun_gives_its_leases_back(start, clusters, tmp_path):
    (tmp_path / "fails_at_once.py").write_text(FAILS_AT_ONCE)
    run = start(*ONE_TEST, "-p", "fails_at_once", PYTHONPATH=str(tmp_path))
    said = rest(run)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, said
    assert "mesh2: GET /api/v1/namespaces: 503 injected" in said
    assert remains(clusters) == []


def test_a_run_that_fails_before_it_has_begun_removes_what_it_has_taken_over(start, clusters, tmp_path):
    killed(start(*ONE_TEST), "control plane: applied")
    expire_leases(clusters)
    (tmp_path / "fails_at_once.py").write_text(FAILS_AT_ONCE)
    run = start(*ONE_TEST, "-p", "fails_at_once", PYTHONPATH=str(tmp_path))
    said = rest(run)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, said
    assert "left behind: nothing" in said
    assert "is there again" not in said, "nobody has looked at what was there before"
    assert remains(clusters) == []


@pytest.fixture(scope="module")
def provisioned_half(start_once, clusters):
    """(a run that is taken over while it provisions, (its namespace, Deployments of bookinfo), the run after it)."""
    mesh1 = clusters["mesh1"]
    run = start_once(*ONE_TEST, "-p", "selftests.support.watchful")
    until(run, "mesh1  control plane: applied")
    with taken_over(mesh1):
        first = ended(run, clusters)
        made = mesh1.find(kinds.NAMESPACE, "mesh1-system"), mesh1.list(kinds.DEPLOYMENT, "mesh1-bookinfo")
    return first, made, ended(start_once(*ONE_TEST), clusters)


def test_a_run_that_is_taken_over_while_it_provisions_makes_and_removes_nothing_more(provisioned_half):
    run, (system, deployments), _ = provisioned_half
    assert run.code == pytest.ExitCode.INTERRUPTED, run.said
    assert "mesh1: run run-of-somebody-else of" in run.said
    assert "so this run removed nothing" in run.said
    assert "`pytest --federation-sweep` with the same kubeconfigs removes it" in run.said
    assert deployments == []
    assert system


def test_what_a_run_that_was_taken_over_left_is_taken_over_by_the_next_one(provisioned_half, clusters):
    *_, following = provisioned_half
    assert (following.code, following.remains) == (0, []), following.said
    told, _, after = following.said.partition("control plane: applying")
    for mesh in clusters:
        assert re.search(f"federation: {mesh}: .* remain: .*This run takes them over", told), told
    assert "left behind: nothing" in after


def test_a_run_that_is_taken_over_while_it_removes_deletes_nothing_more(start, clusters):
    run, mesh1 = start(*ONE_TEST, "-p", "selftests.support.watchful"), clusters["mesh1"]
    until(run, "mesh1  control plane: applied")
    with held_roll(mesh1):
        run.send_signal(signal.SIGINT)
        until(run, "mesh1  removing ServiceMeshMemberRoll")
        with taken_over(mesh1):
            left = ended(run, clusters)
            assert mesh1.find(kinds.CONTROL_PLANE, "fed-export", "mesh1-system")
    assert left.code == pytest.ExitCode.INTERRUPTED, left.said
    assert re.search(
        "so part of run .* is left behind. Once no other run goes on there, the next run takes over", left.said
    )
    assert ended(start("--federation-sweep"), clusters).remains == []


def test_with_two_istiods_in_each_mesh_every_pod_is_judged_by_itself(start):
    two = ("--istiods", "2", "--ossm-version", "v2.2")
    run = start("tests/test_federation.py", "-k", "every_istiod", "-v", *two, kubeconfigs=False)
    said = rest(run)
    assert run.returncode == 0, said
    judged = [line.split("SUBPASSED[")[1].split("]")[0] for line in said.splitlines() if "SUBPASSED[" in line]
    assert len(judged) == 8
    assert len(set(judged)) == 4


def add_late_istiod(mesh1):
    """An istiod that runs and watches nobody: no node of the lab has it."""
    labels = {"app": "istiod", "istio.io/rev": MESH1.control_plane}
    metadata = {"name": "late", "namespace": MESH1.system_namespace, "labels": labels}
    spec = {"nodeName": "elsewhere", "containers": [{"name": "discovery", "image": "none"}]}
    mesh1.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def set_phase(mesh1, phase):
    status = {"status": {"phase": phase, "podIP": "192.0.2.1"}}
    mesh1.patch(kinds.POD, "late", MESH1.system_namespace, status, "status")


@pytest.fixture
def provisioned_twice():
    """Two Provisioners after their runs with two istiods a mesh, the second beside one more that is late.

    On a lab of 2.2: in 2.1 only one of them federates.
    """
    progress, newer = Progress(io.StringIO(), live=False), start_lab("--ossm", "2.2.13")
    clusters = {settings.name: Cluster(settings.name, settings.kubeconfig) for settings in newer.clusters}
    try:
        first = Provisioner(clusters, "selftest", progress, istiods=2)
        first.run()
        add_late_istiod(clusters["mesh1"])
        set_phase(clusters["mesh1"], "Running")
        second = Provisioner(clusters, "selftest", progress, istiods=2, patience=2)
        second.run()
        set_phase(clusters["mesh1"], "Failed")
    finally:
        for cluster in clusters.values():
            cluster.close()
        stop_lab(newer)
    return first, second


def test_provisioning_waits_for_every_istiod_of_both_meshes_and_names_the_one_that_is_late(provisioned_twice):
    first, second = provisioned_twice
    assert first.unsettled == []
    mesh1, mesh2 = sorted(second.unsettled)
    assert mesh1.startswith("mesh1: waited 2 s for the watches of both meshes to connect; last seen: ")
    assert "istiod late is not in discoveryStatus" in mesh1
    assert "late (192.0.2.1) of mesh1 has no watch connected" in mesh2


def test_one_cluster_given_twice_carries_both_meshes_which_meet_by_their_services_names(start, clusters, lab):
    kubeconfig = str(lab.clusters[0].kubeconfig)
    twice = (f"--mesh1-kubeconfig={kubeconfig}", f"--mesh2-kubeconfig={kubeconfig}")
    run = start("tests/test_install.py", "tests/test_federation.py", *twice, kubeconfigs=False)
    said = rest(run)
    assert run.returncode == 0, said
    assert "mesh2-ingress.mesh1-system.svc.cluster.local" in said
    assert "left behind: nothing" in said
    assert remains(clusters) == []


def test_by_what_productpage_is_reached_is_told_as_soon_as_it_is_known_and_again_at_the_end(lab, tmp_path):
    code, said = on_a_terminal(lab, tmp_path, "tests/test_federation.py", "-k", "mesh2_shows_stars")
    assert code == 0, said
    before, _, after = said.partition("productpage: http://")
    assert "\x1b[1A" in before or "\x1b[2A" in before, "no live line was drawn: this test would prove nothing"
    assert re.match(r"127\.[\d.:]+/productpage by NodePort\r\n", after), after[:100]
    shown = screen(said.replace("\r\n", "\n"))
    assert any(row.startswith("mesh2  productpage: http://127.") for row in shown), "the line was drawn over"
    assert re.search(r"^productpage: http://127\.[\d.:]+/productpage by NodePort", after, re.MULTILINE)
