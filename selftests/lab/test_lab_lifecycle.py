"""How the lab starts and that it leaves nothing behind, however it ends."""

from __future__ import annotations

import base64
import os
import signal
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml

from lab.processes import blocks
from lab.processes.supervisor import command
from selftests.support.lab import Lab, ended, listening, processes_of, start_lab, stop_lab

# What a user may find after at most this long, whatever happened to the lab.
CLEAN_WITHIN = 5.0


def end_by_signal(number: int):
    return lambda lab: lab.process.send_signal(number)


def end_by_eof(lab: Lab) -> None:
    assert lab.process.stdin is not None
    lab.process.stdin.close()
    lab.process.stdin = None


def kill_one(name: str):
    def end(lab: Lab) -> None:
        marks = (f"lab.{name} ", f"lab/processes/{name}.py ")
        pid = next(pid for pid, words in processes_of(lab.directory).items() if any(mark in words for mark in marks))
        os.kill(pid, signal.SIGKILL)

    return end


ENDINGS = {
    "SIGTERM": (end_by_signal(signal.SIGTERM), 0, ""),
    "SIGINT": (end_by_signal(signal.SIGINT), 0, ""),
    "end of input": (end_by_eof, 0, ""),
    "SIGKILL": (end_by_signal(signal.SIGKILL), -signal.SIGKILL, ""),
    "killed node": (kill_one("node"), 1, "node of mesh"),
    "killed guardian": (kill_one("guardian"), 1, "guardian"),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_nothing_outlives_the_lab(how):
    end, code, said = ENDINGS[how]
    lab = start_lab("--until-eof")
    try:
        octets = [cluster.octet for cluster in lab.clusters]
        pids = processes_of(lab.directory)
        assert len(pids) >= 7, f"two APIs, managers and nodes and a guardian were expected: {pids}"
        assert len(listening(octets)) >= 2, "both APIs listen"
        end(lab)
        left = ended([lab.process.pid, *pids], CLEAN_WITHIN)
        assert [pids.get(pid, "supervisor") for pid in left] == []
        errors = lab.process.communicate()[1]
        assert processes_of(lab.directory) == {}
        assert not lab.directory.exists()
        assert listening(octets) == []
        assert lab.process.returncode == code
        assert said in errors
    finally:
        stop_lab(lab)


def test_up_announces_two_clusters_that_serve():
    lab = start_lab()
    try:
        servers = set()
        for line, name in zip(lab.announced, ("MESH1", "MESH2"), strict=True):
            variable, _, path = line.strip().partition("=")
            assert variable == f"export {name}_KUBECONFIG"
            servers.add(version_of(Path(path)))
        assert len(servers) == 2
        assert lab.directory.stat().st_mode & 0o777 == 0o700
        told = subprocess.run(
            command("status", "--directory", str(lab.directory)), capture_output=True, text=True, timeout=30
        )
        assert told.stdout.splitlines() == [line.strip() for line in lab.announced]
        lab.process.terminate()
        more, people = lab.process.communicate()
        assert more == "", "two lines and nothing else"
        assert str(lab.directory) in people
    finally:
        stop_lab(lab)


def version_of(kubeconfig: Path) -> str:
    """Asks the cluster as its kubeconfig says; returns its address."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
    request = urllib.request.Request(f"{cluster['server']}/version", headers=headers)
    with urllib.request.urlopen(request, context=trust) as answer:
        assert answer.status == 200
    return cluster["server"]


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    result = subprocess.run(command("up", "--directory", str(tmp_path)), capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "exists already" in result.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["precious"]


def test_an_unknown_release_is_refused_before_anything_starts():
    result = subprocess.run(command("up", "--ossm", "3.0.0"), capture_output=True, text=True, timeout=30)
    assert result.returncode == 2
    assert "3.0.0 is not a release of OSSM 2.1 to 2.6" in result.stderr


def test_status_without_a_lab_says_so(tmp_path):
    result = subprocess.run(command("status", "--directory", str(tmp_path)), capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert f"no lab runs in {tmp_path}" in result.stderr


def test_a_block_belongs_to_one_lab_at_a_time(monkeypatch):
    block, lock = blocks.take_block()
    monkeypatch.setattr(blocks, "OCTETS", range(block.octet, block.octet + 1))
    with lock, pytest.raises(OSError, match="used by another lab"):
        blocks.take_block()
    again, lock = blocks.take_block()
    lock.close()
    assert again == block
