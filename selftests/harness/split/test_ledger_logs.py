"""Following logs through what happens to them: cuts, restarts, pods replaced; every line once, nothing silently."""

from __future__ import annotations

import time
from queue import Queue
from typing import Any

import pytest

from harness.cluster.cluster import Cluster
from harness.cluster.transport import Forbidden
from harness.product.envoy import Proxy
from harness.run.waiting import wait_for
from harness.split.ledger import Role, Source
from harness.split.log_following import LogFlusher, LogFollower, Workload
from selftests.support.pod_logs import NAMESPACE, LoggedPod, PodLogs
from selftests.support.scripted import ratings_line, stamp

SECONDS = 5


class Following:
    """A follower of everything in the namespace, and what it has handed over."""

    def __init__(self, logs: PodLogs, cluster: Cluster) -> None:
        self.logs, self.lines, self.told = logs, Queue[tuple[Source, str]](), Queue[str]()
        workload = Workload(cluster, "mesh1", NAMESPACE, "app=ratings", "ratings", Role.RATINGS)
        self.follower = LogFollower(
            [workload], lambda *line: self.lines.put(line), trouble=self.told.put, look_every=0.05
        )

    def read(self, count: int) -> list[str]:
        """The next lines, by the number in their User-Agent."""
        return [self.lines.get(timeout=SECONDS)[1].split('"probe/r/')[1].split('"')[0] for _ in range(count)]


def line(number: int, seconds_ago: float = 0) -> str:
    return ratings_line(f"probe/r/{number}", stamp(time.time() - seconds_ago))


@pytest.fixture
def following(tmp_path):
    logs = PodLogs()
    with logs.serving(tmp_path) as kubeconfig:
        cluster = Cluster("mesh1", kubeconfig)
        yield Following(logs, cluster)
        cluster.close()


@pytest.fixture
def pod(following) -> LoggedPod:
    return following.logs.add(LoggedPod("ratings-a", "uid-a", log=[line(1, 120), line(2, 60)]))


def test_lines_come_as_they_are_written_and_old_ones_do_not(following, pod):
    with following.follower:
        assert following.read(1) == ["2"]
        following.logs.write(pod, line(3))
        assert following.read(1) == ["3"]
        following.logs.write(pod, line(4), line(5))
        assert following.read(2) == ["4", "5"]


def test_nothing_is_lost_that_is_written_once_a_log_is_said_to_be_followed(following, pod):
    following.logs.busy = 2
    with following.follower:
        following.logs.write(pod, line(3), line(4))
        assert following.read(3) == ["2", "3", "4"]


def test_a_log_that_ends_at_once_is_opened_again_after_growing_pauses(following, pod):
    pod.short = True
    with following.follower:
        wait_for("six tries", lambda: (len(following.logs.times) >= 6 or None, ""), SECONDS)
    assert following.logs.times[5] - following.logs.times[4] >= 0.8


@pytest.mark.usefixtures("pod")
def test_the_source_names_mesh_workload_and_pod(following):
    with following.follower:
        source, _ = following.lines.get(timeout=SECONDS)
    assert source == Source("mesh1", Role.RATINGS, "ratings-v1", "ratings-a", "10.0.0.1")


def test_a_cut_loses_no_line_and_repeats_none(following, pod):
    with following.follower:
        following.read(1)
        following.logs.write(pod, line(3))
        following.read(1)
        following.logs.cut(pod, line(4), line(5))
        assert following.read(2) == ["4", "5"]
        following.logs.cut(pod)
        following.logs.write(pod, line(6))
        assert following.read(1) == ["6"]
    assert following.lines.empty()
    assert following.told.empty()


def test_the_last_words_of_a_restarted_container_are_read(following, pod):
    with following.follower:
        following.read(1)
        following.logs.restart(pod, line(3), line(4))
        assert sorted(following.read(2)) == ["3", "4"]
        following.logs.write(pod, line(5))
        assert following.read(1) == ["5"]
        assert following.told.get(timeout=SECONDS) == "the proxy of mesh1 ratings-a was restarted"
        following.logs.restart(pod, line(6))
        assert following.read(1) == ["6"]


@pytest.mark.usefixtures("pod")
def test_a_new_pod_is_read_from_its_beginning(following):
    with following.follower:
        following.read(1)
        following.logs.add(LoggedPod("ratings-b", "uid-b", log=[line(7), line(8)]))
        assert following.read(2) == ["7", "8"]
        assert following.told.get(timeout=SECONDS) == "mesh1 ratings-b started while requests were being sent"


def test_a_pod_that_goes_is_told(following, pod):
    with following.follower:
        following.read(1)
        following.logs.delete(pod)
        assert "mesh1 ratings-a is gone" in following.told.get(timeout=SECONDS)


@pytest.mark.usefixtures("pod")
def test_a_cluster_that_forbids_listing_pods_says_so_at_once(following):
    following.logs.forbidden = True
    with pytest.raises(Forbidden, match="mesh1"), following.follower:
        pass


@pytest.mark.usefixtures("pod")
def test_stopping_ends_the_streams(following):
    begin = time.monotonic()
    with following.follower:
        following.read(1)
    assert not [thread for thread in following.follower._threads if thread.is_alive()]
    assert time.monotonic() - begin < 2 * SECONDS


class Pilot:
    """Stands for a cluster that runs `pilot-agent request` in pods, or refuses to."""

    def __init__(self, refuses: bool = False) -> None:
        self.asked, self.refuses = Queue[tuple[str, str]](), refuses

    def exec(self, *asked: Any, **_: float) -> str:
        _, pod, _, argv = asked
        self.asked.put((pod, " ".join(argv)))
        if self.refuses:
            raise Forbidden("mesh1", "exec", "not allowed")
        return "OK"


def proxy_of(pilot: Pilot, pod: str = "ratings-a") -> Proxy:
    return Proxy(pilot, NAMESPACE, pod)  # type: ignore[arg-type]


def test_held_back_lines_are_asked_for_again_and_again():
    pilot = Pilot()
    with LogFlusher(interval=0.01) as flusher:
        flusher.add(proxy_of(pilot))
        asked = [pilot.asked.get(timeout=SECONDS) for _ in range(3)]
    assert set(asked) == {("ratings-a", "pilot-agent request POST reopen_logs")}


def test_a_hurry_asks_every_proxy_at_once():
    pilot = Pilot()
    with LogFlusher(interval=3600) as flusher:
        for pod in ("ratings-a", "ratings-b"):
            flusher.add(proxy_of(pilot, pod))
        flusher.hurry()
        assert {pilot.asked.get(timeout=SECONDS)[0] for _ in range(2)} == {"ratings-a", "ratings-b"}
        assert pilot.asked.empty()


def test_a_proxy_that_cannot_be_asked_is_told_once_and_left_to_its_own_flush():
    pilot, told = Pilot(refuses=True), Queue[str]()
    with LogFlusher(told.put, interval=0.01) as flusher:
        flusher.add(proxy_of(pilot))
        assert "ratings-a comes with Envoy's 10 s flush: mesh1: exec: not allowed" in told.get(timeout=SECONDS)
        for thread in flusher._threads:
            thread.join(SECONDS)
    assert pilot.asked.qsize() == 1
    assert told.empty()
