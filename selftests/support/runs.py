"""Runs of the suite on the clusters of a lab, given by its kubeconfigs as any other pair; and what they left there."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cluster import kinds
from harness.scenario.manifests import RUN_LABEL
from harness.scenario.ownership import lease

ROOT = Path(__file__).resolve().parents[2]
ONE_TEST = ("tests/test_install.py", "-k", "trust_domains")
FINALIZER = "selftest.example/hold"
SOMEBODY_ELSE = "run-of-somebody-else"


def _command(*arguments):
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]


def _kubeconfigs(lab):
    return [f"--{settings.name}-kubeconfig={settings.kubeconfig}" for settings in lab.clusters]


def _environment(directory, *left_out):
    """This process's, but for variables that begin so, with temporary files in `directory`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST", *left_out))}
    return kept | {"TMPDIR": str(directory)}


@contextlib.contextmanager
def starting(lab, directory):
    """Gives a function that starts the suite on the lab's clusters; its output goes to `.stdout`, one stream."""
    runs = []

    def begin(*arguments, kubeconfigs=True, **environment):
        run = subprocess.Popen(
            _command(*arguments, *(_kubeconfigs(lab) if kubeconfigs else ())),
            cwd=ROOT,
            env=_environment(directory) | {"CI": "true", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # as from a shell: a Ctrl-C goes to all of it
        )
        runs.append(run)
        return run

    try:
        yield begin
    finally:
        for run in runs:
            run.kill()
            run.communicate()


@pytest.fixture
def start(lab, tmp_path):
    with starting(lab, tmp_path) as begin:
        yield begin


@pytest.fixture(scope="module")
def start_once(lab, tmp_path_factory):
    """The same, for runs that several tests look at."""
    with starting(lab, tmp_path_factory.mktemp("runs")) as begin:
        yield begin


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


class Ended(NamedTuple):
    """How a run ended, what it said at last, and what then remained."""

    code: int
    said: str
    remains: list[str]


def ended(run, clusters):
    """Waits for the run's end."""
    said = rest(run)
    return Ended(run.returncode, said, remains(clusters))


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


def crashed(start, clusters, words):
    """A run is killed at these words, and long dead."""
    killed(start(*ONE_TEST), words)
    expire_leases(clusters)


def interrupted(run, clusters):
    """The run's end, where it is told to go before it has applied anything."""
    until(run, "mesh1  control plane: applying")
    run.send_signal(signal.SIGTERM)
    return ended(run, clusters)


@contextlib.contextmanager
def held_roll(mesh1):
    """Nobody can remove mesh1's member roll, once it is there and until the block ends."""
    there = {"until": lambda rolls: bool(rolls) or None, "timeout": 60}
    mesh1.wait("mesh1's member roll", kinds.MEMBER_ROLL, "mesh1-system", "default", **there)
    mesh1.patch(kinds.MEMBER_ROLL, "default", "mesh1-system", {"metadata": {"finalizers": [FINALIZER]}})
    try:
        yield
    finally:
        mesh1.patch(kinds.MEMBER_ROLL, "default", "mesh1-system", {"metadata": {"finalizers": None}})


def expire_leases(clusters):
    """Makes the last sign of life old, so that nobody need wait for it."""
    for cluster in clusters.values():
        long_ago = (cluster.now() - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        cluster.patch(kinds.LEASE, lease.NAME, lease.NAMESPACE, {"spec": {"renewTime": long_ago}})


def runs_of(clusters):
    """The ids of the runs that made what is there of the suite's namespaces."""
    found = [obj["metadata"]["labels"] for cluster in clusters.values() for obj in cluster.list(kinds.NAMESPACE)]
    return {labels[RUN_LABEL] for labels in found if RUN_LABEL in labels}


@contextlib.contextmanager
def taken_over(cluster):
    """Another run has the Lease until the block ends, given to it by a person who was told how."""
    other = lease.RunLease(cluster, SOMEBODY_ELSE)
    # In one step: deleted first, it is seen as deleted by whoever looks in between.
    cluster.patch(kinds.LEASE, lease.NAME, lease.NAMESPACE, {"spec": {"holderIdentity": SOMEBODY_ELSE}})
    other.acquire()
    try:
        yield
    finally:
        other.release()


def on_a_terminal(lab, directory, *arguments):
    """(exit code, everything that is written to its terminal) of a run on the lab's clusters."""
    command, environment = _command(*arguments, *_kubeconfigs(lab)), _environment(directory, "CI")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (50, 200))
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(ours, 65536):
            said += part
    os.close(ours)
    return run.wait(), said.decode()
