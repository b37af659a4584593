"""Runs of the suite on clusters that go on living: the lab, given by its kubeconfigs as any other pair."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from datetime import timedelta
from pathlib import Path

import pytest

from harness import kinds, lease
from harness.cluster import Cluster
from harness.interrupts import ECHO_SECONDS
from harness.manifests import RUN_LABEL
from harness.mesh import MESH1
from harness.ownership import teardown
from harness.progress import Progress
from harness.provision import Provisioner
from harness.snapshot import changes, snapshot
from harness.waiting import pause
from selftests.support.lab import lab
from selftests.test_progress import screen

__all__ = ["lab"]
ROOT = Path(__file__).parent.parent
ONE_TEST = ("tests/test_install.py", "-k", "trust_domains")
FINALIZER = "selftest.example/hold"


@pytest.fixture(scope="module")
def clusters(lab):
    found = {settings.name: Cluster(settings.name, settings.kubeconfig) for settings in lab.clusters}
    yield found
    for cluster in found.values():
        cluster.close()


@pytest.fixture
def start(lab, tmp_path):
    """Starts the suite on the lab's clusters; its output goes to `.stdout`, one stream."""
    runs = []

    def begin(*arguments, kubeconfigs=True, **environment):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        if kubeconfigs:
            for settings in lab.clusters:
                command.append(f"--{settings.name}-kubeconfig={settings.kubeconfig}")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST"))}
        clean |= {"TMPDIR": str(tmp_path), "CI": "true", **environment}
        run = subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # as from a shell: a Ctrl-C goes to all of it
        )
        runs.append(run)
        return run

    yield begin
    for run in runs:
        run.kill()
        run.communicate()


def until(run, words):
    """Reads the run's output up to a line with these words."""
    assert run.stdout
    seen = []
    for line in run.stdout:
        seen.append(line)
        if words in line:
            return
    pytest.fail(f"the run ended without {words!r}:\n{''.join(seen)}")


def rest(run):
    """What the run says until it ends."""
    assert run.stdout
    said = run.stdout.read()
    run.wait()
    return said


def remains(clusters):
    """Namespaces and Leases of the suite that are there."""
    found = []
    for name, cluster in clusters.items():
        namespaces = {obj["metadata"]["name"] for obj in cluster.list(kinds.NAMESPACE)}
        found += [f"{name}: {namespace}" for namespace in namespaces if namespace.startswith("mesh")]
        if cluster.find(kinds.LEASE, lease.NAME, lease.NAMESPACE):
            found.append(f"{name}: Lease")
    return sorted(found)


def killed(run, words):
    """Kills the run at these words, as the kernel or a pipeline's runner does."""
    until(run, words)
    run.kill()
    run.wait()


def expire_leases(clusters):
    """Makes the last sign of life old, so that nobody need wait for it."""
    for cluster in clusters.values():
        long_ago = (cluster.now() - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        cluster.patch(kinds.LEASE, lease.NAME, lease.NAMESPACE, {"spec": {"renewTime": long_ago}})


def runs_of(clusters):
    """The ids of the runs that made what is there of the suite's namespaces."""
    found = [obj["metadata"]["labels"] for cluster in clusters.values() for obj in cluster.list(kinds.NAMESPACE)]
    return {labels[RUN_LABEL] for labels in found if RUN_LABEL in labels}


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


def test_a_second_run_is_kept_out_a_second_ctrl_c_leaves_at_once_and_sweeping_removes_the_rest(start, clusters):
    first = start(*ONE_TEST)
    until(first, "control plane: applied")
    second = start(*ONE_TEST)
    said = rest(second)
    assert second.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"process {first.pid}" in said
    assert "delete lease" in said

    mesh1 = clusters["mesh1"]
    hold = {"metadata": {"finalizers": [FINALIZER]}}
    mesh1.patch(kinds.MEMBER_ROLL, "default", "mesh1-system", hold)
    first.send_signal(signal.SIGINT)
    until(first, "mesh1  removing ServiceMeshMemberRoll")
    pause(ECHO_SECONDS)
    first.send_signal(signal.SIGINT)
    said = rest(first)
    assert first.returncode == pytest.ExitCode.INTERRUPTED
    assert re.search("as asked for, part of run .* is left behind", said), said
    assert "mesh1: Lease" in remains(clusters)

    sweep = start("--federation-sweep")
    assert "last sign of life" in rest(sweep)
    assert sweep.returncode == pytest.ExitCode.USAGE_ERROR
    mesh1.patch(kinds.MEMBER_ROLL, "default", "mesh1-system", {"metadata": {"finalizers": None}})
    expire_leases(clusters)
    sweep = start("--federation-sweep")
    assert "removed: mesh1: Namespace mesh1-system" in rest(sweep)
    assert sweep.returncode == 0
    assert remains(clusters) == []


def test_what_is_kept_can_be_adopted_and_is_not_changed_by_that(start, clusters):
    kept = start(*ONE_TEST, "--federation-keep", "always")
    assert "kept, as --federation-keep says" in rest(kept)
    assert kept.returncode == 0
    before = snapshot(clusters)
    assert before
    second = start(*ONE_TEST)
    said = rest(second)
    assert second.returncode == pytest.ExitCode.USAGE_ERROR
    assert "were kept with --federation-keep, so they are somebody's" in said
    assert "--federation-sweep" in said
    adopting = start("tests/test_install.py", "--federation-adopt")
    said = rest(adopting)
    assert adopting.returncode == 0, said
    assert "left behind: nothing; what was there before is there again" in said
    assert changes(before, snapshot(clusters)) == []
    assert rest(start("--federation-sweep")).count("removed: ") > 30
    assert remains(clusters) == []


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
    run = start(*ONE_TEST)
    said = rest(run)
    assert run.returncode == 0, said
    told, _, after = said.partition("control plane: applying")
    for mesh in clusters:
        assert f"federation: {mesh}: " in told
    assert told.count(f"process {dead.pid}, had no chance to remove them") == 2
    assert "left behind: nothing" in after
    assert remains(clusters) == []


def test_a_run_that_is_interrupted_before_it_has_applied_anything_removes_what_it_has_taken_over(start, clusters):
    killed(start(*ONE_TEST), "bookinfo: applied")
    expire_leases(clusters)
    (dead,) = runs_of(clusters)
    run = start(*ONE_TEST)
    until(run, "mesh1  control plane: applying")
    run.send_signal(signal.SIGTERM)
    said = rest(run)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, said
    assert remains(clusters) == []
    assert f"removed too: what remained of run {dead}" in said
    assert "left behind: nothing" in said


def test_what_a_run_and_its_killed_successor_left_is_removed_by_the_next_one(start, clusters):
    killed(start(*ONE_TEST), "bookinfo: applied")
    expire_leases(clusters)
    killed(start(*ONE_TEST), "control plane: applied")
    expire_leases(clusters)
    left = runs_of(clusters)
    run = start(*ONE_TEST)
    until(run, "mesh1  control plane: applying")
    run.send_signal(signal.SIGTERM)
    said = rest(run)
    assert "left behind: nothing" in said, said
    assert all(dead in said for dead in left)
    assert remains(clusters) == []


def test_what_was_taken_over_is_kept_with_the_rest_where_that_is_asked_for(start, clusters):
    killed(start(*ONE_TEST), "bookinfo: applied")
    expire_leases(clusters)
    (dead,) = runs_of(clusters)
    run = start(*ONE_TEST, "--federation-keep", "always")
    until(run, "mesh1  control plane: applying")
    run.send_signal(signal.SIGTERM)
    said = rest(run)
    assert "kept, as --federation-keep says" in said
    assert f"what it took over of run {dead}" in said
    second = start(*ONE_TEST)
    said = rest(second)
    assert second.returncode == pytest.ExitCode.USAGE_ERROR
    assert "take" not in said.partition("were kept with --federation-keep")[0]
    rest(start("--federation-sweep"))
    assert remains(clusters) == []


def test_after_the_printed_advice_the_same_command_takes_the_remains_of_a_killed_run_over(start, clusters):
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not on PATH")
    killed(start(*ONE_TEST), "control plane: applied")
    refused = start(*ONE_TEST)
    said = rest(refused)
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    advice = dict.fromkeys(re.findall(r"`(kubectl [^`]*)`", said))
    assert len(advice) == 2, said
    for command in advice:
        subprocess.run(command, shell=True, check=True, capture_output=True)
    run = start(*ONE_TEST)
    said = rest(run)
    assert run.returncode == 0, said
    assert "takes them over and removes them at its end" in said
    assert "kept" not in said
    assert "left behind: nothing" in said
    assert remains(clusters) == []


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


def take_over(cluster):
    """Gives the Lease to another run, as a person does who was told how."""
    cluster.delete(kinds.LEASE, lease.NAME, lease.NAMESPACE)
    other = lease.RunLease(cluster, "run-of-somebody-else")
    other.acquire()
    return other


def test_a_run_that_is_taken_over_while_it_provisions_makes_and_removes_nothing_more(start, clusters):
    run = start(*ONE_TEST, "-p", "selftests.support.watchful")
    until(run, "mesh1  control plane: applied")
    other = take_over(clusters["mesh1"])
    said = rest(run)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, said
    assert "mesh1: run run-of-somebody-else of" in said
    assert "so this run removed nothing" in said
    assert "`pytest --federation-sweep` with the same kubeconfigs removes it" in said
    assert clusters["mesh1"].list(kinds.DEPLOYMENT, "mesh1-bookinfo") == []
    assert clusters["mesh1"].find(kinds.NAMESPACE, "mesh1-system")
    other.release()
    following = start(*ONE_TEST)
    said = rest(following)
    assert following.returncode == 0, said
    told, _, after = said.partition("control plane: applying")
    for mesh in clusters:
        assert re.search(f"federation: {mesh}: .* remain: .*This run takes them over", told), told
    assert "left behind: nothing" in after
    assert remains(clusters) == []


def test_a_run_that_is_taken_over_while_it_removes_deletes_nothing_more(start, clusters):
    run = start(*ONE_TEST, "-p", "selftests.support.watchful")
    until(run, "mesh1  control plane: applied")
    mesh1 = clusters["mesh1"]
    mesh1.patch(kinds.MEMBER_ROLL, "default", "mesh1-system", {"metadata": {"finalizers": [FINALIZER]}})
    run.send_signal(signal.SIGINT)
    until(run, "mesh1  removing ServiceMeshMemberRoll")
    other = take_over(mesh1)
    said = rest(run)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, said
    assert re.search("so part of run .* is left behind. Once no other run goes on there, the next run takes over", said)
    mesh1.patch(kinds.MEMBER_ROLL, "default", "mesh1-system", {"metadata": {"finalizers": None}})
    assert mesh1.find(kinds.CONTROL_PLANE, "fed-export", "mesh1-system")
    other.release()
    rest(start("--federation-sweep"))
    assert remains(clusters) == []


def test_with_two_istiods_in_each_mesh_every_pod_is_judged_by_itself(start, clusters):
    run = start("tests/test_federation.py", "-k", "every_istiod", "-v", "--istiods", "2")
    said = rest(run)
    assert run.returncode == 0, said
    judged = [line.split("SUBPASSED[")[1].split("]")[0] for line in said.splitlines() if "SUBPASSED[" in line]
    assert len(judged) == 8
    assert len(set(judged)) == 4
    assert remains(clusters) == []


def test_provisioning_waits_for_every_istiod_of_both_meshes_and_names_the_one_that_is_late(clusters):
    progress = Progress(io.StringIO(), live=False)
    try:
        first = Provisioner(clusters, "selftest", progress, istiods=2)
        first.run()
        assert first.unsettled == []
        # An istiod that runs and watches nobody: no node of the lab has it.
        labels = {"app": "istiod", "istio.io/rev": MESH1.control_plane}
        late = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late", "namespace": MESH1.system_namespace}}
        late["metadata"]["labels"] = labels
        late["spec"] = {"nodeName": "elsewhere", "containers": [{"name": "discovery", "image": "none"}]}
        clusters["mesh1"].create(late)
        second = Provisioner(clusters, "selftest", progress, istiods=2, patience=2)
        for phase, provision in (("Running", second.run), ("Failed", lambda: None)):
            status = {"status": {"phase": phase, "podIP": "192.0.2.1"}}
            clusters["mesh1"].patch(kinds.POD, "late", MESH1.system_namespace, status, "status")
            provision()
    finally:
        teardown(clusters, "selftest", progress)
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
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_federation.py"]
    command += ["-k", "mesh2_shows_stars", *(f"--{s.name}-kubeconfig={s.kubeconfig}" for s in lab.clusters)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST", "CI"))}
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (50, 200))
    run = subprocess.Popen(command, cwd=ROOT, env=clean | {"TMPDIR": str(tmp_path)}, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(ours, 65536):
            said += part
    os.close(ours)
    assert run.wait() == 0, said.decode()
    before, _, after = said.decode().partition("productpage: http://")
    assert "\x1b[1A" in before or "\x1b[2A" in before, "no live line was drawn: this test would prove nothing"
    assert re.match(r"127\.[\d.:]+/productpage by NodePort\r\n", after), after[:100]
    shown = screen(said.decode().replace("\r\n", "\n"))
    assert any(row.startswith("mesh2  productpage: http://127.") for row in shown), "the line was drawn over"
    assert re.search(r"^productpage: http://127\.[\d.:]+/productpage by NodePort", after, re.MULTILINE)
