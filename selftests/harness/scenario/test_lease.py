"""The Lease that keeps a second run out, held against the lab's API server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import LEASE
from harness.cluster.transport import Conflict
from harness.scenario.ownership import lease
from harness.scenario.ownership.lease import NAME, NAMESPACE, LeaseHeld, RunLease, RunLeases, holder
from selftests.support.api import api_server
from selftests.support.recorded_api import RecordedApi


@pytest.fixture(scope="module")
def kubeconfig():
    with api_server() as settings:
        Cluster("mesh1", settings.kubeconfig).apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )
        yield settings.kubeconfig


@pytest.fixture
def cluster(kubeconfig) -> Iterator[Cluster]:
    found = Cluster("mesh1", kubeconfig)
    yield found
    found.delete(LEASE, NAME, NAMESPACE)
    found.close()


def age(cluster: Cluster, seconds: float) -> None:
    """Makes the last sign of life this old."""
    then = (cluster.now() - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    cluster.patch(LEASE, NAME, NAMESPACE, {"spec": {"renewTime": then}})


def test_a_second_run_is_kept_out_and_told_who_since_when_and_what_to_do(cluster):
    first = RunLease(cluster, "run-1")
    first.acquire()
    with pytest.raises(LeaseHeld) as told:
        RunLease(cluster, "run-2").acquire()
    said = str(told.value)
    for part in ("mesh1: ", "run-1", lease.myself(), "since 20", "delete lease", str(cluster.kubeconfig)):
        assert part in said
    first.release()
    second = RunLease(cluster, "run-2")
    second.acquire()
    assert holder(cluster).run_id == "run-2"
    second.release()
    assert cluster.find(LEASE, NAME, NAMESPACE) is None


def test_every_cluster_that_is_held_is_told_with_its_own_command_quoted_for_a_shell(cluster, tmp_path, monkeypatch):
    copy = tmp_path / "of two words.yaml"
    copy.write_bytes(cluster.kubeconfig.read_bytes())
    again = Cluster("mesh2", copy)
    names = iter(["one", "two"])
    monkeypatch.setattr(Cluster, "uid", lambda _: next(names))
    first = RunLease(cluster, "run-1")
    first.acquire()
    with pytest.raises(LeaseHeld) as told:
        RunLeases({"mesh1": cluster, "mesh2": again}, "run-2").acquire()
    first.release()
    again.close()
    lines = str(told.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["mesh1", "mesh2"]
    assert f"`kubectl --kubeconfig {cluster.kubeconfig} -n default delete lease {NAME} --ignore-not-found`" in lines[0]
    assert f"`kubectl --kubeconfig '{copy}' -n default" in lines[1]


def test_a_lease_without_sign_of_life_expires_and_is_taken_over_by_one_run_only(cluster):
    dead = RunLease(cluster, "run-1")
    dead.acquire()
    dead.abandon()
    age(cluster, lease.SECONDS - 20)
    with pytest.raises(LeaseHeld):
        RunLease(cluster, "run-2").acquire()
    age(cluster, lease.SECONDS + 20)
    assert holder(cluster) is None
    second = RunLease(cluster, "run-2")
    second.acquire()
    with pytest.raises(LeaseHeld, match="run-2"):
        RunLease(cluster, "run-3").acquire()
    second.release()


def test_a_sign_of_life_keeps_the_lease(cluster):
    mine = RunLease(cluster, "run-1")
    mine.acquire()
    age(cluster, lease.SECONDS + 20)
    mine.renew()
    assert holder(cluster).run_id == "run-1"
    assert mine.lost == ""
    mine.release()


def test_a_run_learns_that_it_was_taken_over_and_leaves_the_new_lease_alone(cluster):
    mine = RunLease(cluster, "run-1")
    mine.acquire()
    cluster.delete(LEASE, NAME, NAMESPACE)
    other = RunLease(cluster, "run-2")
    other.acquire()
    mine.renew()
    assert "run-2" in mine.lost
    assert "mesh1" in mine.lost
    mine.release()
    assert holder(cluster).run_id == "run-2"
    other.release()


def test_two_runs_that_start_together_cannot_both_win(cluster, monkeypatch):
    """The other run takes the Lease between our look and our write."""
    mine, other = RunLease(cluster, "run-1"), RunLease(Cluster("mesh1", cluster.kubeconfig), "run-2")
    create, overtaken = cluster.create, []

    def create_second(obj, dry_run=False):
        if not overtaken:
            overtaken.append(True)
            other.acquire()
        return create(obj, dry_run)

    monkeypatch.setattr(cluster, "create", create_second)
    with pytest.raises(LeaseHeld, match="run-2"):
        mine.acquire()
    other.release()


def test_an_answer_that_was_lost_is_found_out(cluster, monkeypatch):
    create = cluster.create

    def create_unheard(obj, dry_run=False):
        create(obj, dry_run)
        raise Conflict("mesh1", "create", "injected")

    monkeypatch.setattr(cluster, "create", create_unheard)
    mine = RunLease(cluster, "run-1")
    mine.acquire()
    assert holder(cluster).run_id == "run-1"
    mine.release()


def test_one_cluster_has_one_lease_and_all_are_taken_or_none(cluster, monkeypatch):
    monkeypatch.setattr(Cluster, "uid", lambda _: "same")
    again = Cluster("mesh2", cluster.kubeconfig)
    leases = RunLeases({"mesh1": cluster, "mesh2": again}, "run-1")
    leases.acquire()
    leases.release()
    assert cluster.find(LEASE, NAME, NAMESPACE) is None
    names = iter(["one", "two"])
    monkeypatch.setattr(Cluster, "uid", lambda _: next(names))
    both = RunLeases({"mesh1": cluster, "mesh2": again}, "run-1")
    both._leases[1]._run_id = "run-2"  # stands for a second cluster that another run holds
    with pytest.raises(LeaseHeld):
        both.acquire()
    assert cluster.find(LEASE, NAME, NAMESPACE) is None


def test_times_are_the_servers_so_a_wrong_clock_here_changes_nothing(tmp_path):
    with RecordedApi({"/version": {"gitVersion": "v1"}}, clock=3600).running(tmp_path) as kubeconfig:
        ahead = Cluster("mesh1", kubeconfig)
        assert ahead.clock_offset() == pytest.approx(3600, abs=30)
        assert ahead.now() - datetime.now(UTC) > timedelta(minutes=59)
        ahead.close()
