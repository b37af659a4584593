"""A whole watch beside changes in a lab: it follows what moves, is ended by a signal, and judges."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from harness.cluster import kinds
from harness.run.waiting import wait_for
from harness.watch.store import read_timeline
from harness.watch.verdict import judge
from selftests.support.federation import LiveFederation
from selftests.support.lab import lab

__all__ = ["lab"]
_PATIENCE = 120.0
_STOPPED = 4.0  # seconds in which the watch is not let run
_RATE = 4  # a stream: what is sent is not the subject


@pytest.fixture(scope="module")
def live(lab):
    found = LiveFederation(lab.directory)
    yield found
    found.close()


def seen(directory, what, wanted):
    """Waits until the record has something."""

    def look():
        return wanted(read_timeline(directory)) or None, ""

    return wait_for(what, look, _PATIENCE, interval=0.5)


@pytest.fixture(scope="module")
def watched(lab, live, tmp_path_factory):
    """The record, the exit code, and what was written on the terminal, of a watch beside two changes."""
    directory = tmp_path_factory.mktemp("run")
    files = [f"--{mesh}-kubeconfig={lab.directory / mesh / 'admin.kubeconfig'}" for mesh in ("mesh1", "mesh2")]
    command = [sys.executable, "-m", "harness.watch", *files, "--out", str(directory), "--rate", str(_RATE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while "watching" not in (line := process.stderr.readline()):
                assert line, process.communicate()
            seen(directory, "pages before", lambda record: len(record.streams.get("fresh", ())) > 20)
            change = {"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}}
            live.clusters["mesh1"].patch(kinds.DEPLOYMENT, "mesh2-ingress", "mesh1-system", change)
            subprocess.run([sys.executable, "-m", "harness.watch", "mark", directory, "ingress restarted"], check=True)
            seen(directory, "the old gateway's end", gone("mesh2-ingress"))
            move_node_port(live.clusters["mesh2"])
            seen(directory, "the new entry", lambda record: [one for one in record.states if one.kind == "Entry"])
            moved = time.time()
            seen(
                directory, "pages after", lambda record: [p for p in record.streams["fresh"] if p.good and p.at > moved]
            )
            process.send_signal(signal.SIGSTOP)
            threading.Event().wait(_STOPPED)
            process.send_signal(signal.SIGCONT)
            seen(directory, "the gap", lambda record: record.gaps)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=_PATIENCE)
        finally:
            process.kill()
    return directory, process.returncode, output


def gone(workload):
    def look(record):
        return [one for one in record.states if one.kind == "Pod" and one.now is None and workload in one.name]

    return look


def move_node_port(cluster):
    service = cluster.get(kinds.SERVICE, "istio-ingressgateway", "mesh2-system")
    ports = service["spec"]["ports"]
    taken = {port["nodePort"] for port in ports}
    free = next(port for port in range(30000, 32768) if port not in taken)
    moved = [{**port, "nodePort": free} if port["port"] == 80 else port for port in ports]
    cluster.patch(kinds.SERVICE, "istio-ingressgateway", "mesh2-system", {"spec": {"ports": moved}})


def test_a_watch_ends_with_its_verdict_and_says_it_by_its_code(watched):
    directory, code, output = watched
    told = yaml.safe_load((directory / "outages.yaml").read_text())
    assert (code, told["verdict"]) == (1, "not safe"), output
    assert output.startswith("not safe")
    assert any("NodePort" in line or "Service istio-ingressgateway" in line for line in output.splitlines())
    assert [mark["text"] for mark in told["marks"]] == ["ingress restarted"]


def test_the_entry_that_moved_is_an_event_and_a_difference_that_harms(watched):
    directory, *_ = watched
    told = yaml.safe_load((directory / "outages.yaml").read_text())
    assert [one["mesh"] for one in told["differences"] if one["harms"]] == ["mesh2"]
    (entry,) = [one for one in read_timeline(directory).states if one.kind == "Entry"]
    assert entry.was["url"] != entry.now["url"]


def test_the_replaced_gateway_explains_what_was_cut_by_it(watched):
    directory, *_ = watched
    record = read_timeline(directory)
    assert {one.now["workload"] for one in record.states if one.kind == "Pod" and one.now and not one.first} >= {
        "mesh2-ingress"
    }
    assert set(record.streams) >= {"fresh", "kept", "control", "ratings", "stranger at mesh1 15443"}
    refused = [one for name, samples in record.streams.items() if " at " in name for one in samples]
    assert refused
    assert all(one.good for one in refused)


def test_a_time_in_which_the_watch_was_not_let_run_is_a_gap_and_no_outage(watched):
    directory, *_ = watched
    record = read_timeline(directory)
    gap = max(record.gaps, key=lambda one: one.lasted)
    assert (gap.why, gap.mesh, gap.lasted >= _STOPPED - 0.5) == ("the watch was not let run", "", True)
    within = [one for one in judge(record).outages if gap.start <= one.start <= gap.end]
    assert within == []


def test_nothing_of_the_record_is_torn_and_the_run_says_how_it_ended(watched):
    directory, *_ = watched
    runs = [json.loads(line) for line in (directory / "runs.jsonl").read_text().splitlines()]
    assert runs[-1]["ended"] == "SIGTERM"
    assert read_timeline(directory).unread == 0
