"""Faults that what a diagnosis prints has to put right: how they are made, and how the commands are run as printed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from harness.cluster import kinds
from harness.cluster.kinds import Kind
from harness.diagnosis import CAUSES, Diagnosis, Hints, State, diagnose
from harness.run.waiting import wait_for
from selftests.support.diagnosed import Meshes

SYSTEM, APP = {"mesh1": "mesh1-system", "mesh2": "mesh2-system"}, {"mesh1": "mesh1-bookinfo", "mesh2": "mesh2-bookinfo"}
EVEN = Hints({"mesh1": 50, "mesh2": 50})

Break = Callable[[Meshes], None]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `oc` is there: the machine's own, or kubectl under its name."""
    if not (shutil.which("oc") or shutil.which("kubectl")):
        pytest.skip("neither oc nor kubectl is on PATH")
    directory = tmp_path_factory.mktemp("bin")
    if not shutil.which("oc"):
        script = directory / "oc"
        script.write_text(f'#!/bin/sh\nexec {shutil.which("kubectl")} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "HOME": str(directory)}


def patched(mesh: str, kind: Kind, name: str, spec: dict[str, Any], namespace: str = "") -> Break:
    """Merges into the spec of an object, by default of the control plane's namespace."""
    return lambda meshes: meshes.clusters[mesh].patch(kind, name, namespace or SYSTEM[mesh], {"spec": spec})


def deleted(mesh: str, kind: Kind, name: str, namespace: str = "") -> Break:
    return lambda meshes: meshes.clusters[mesh].delete(kind, name, namespace or SYSTEM[mesh])


def peer(mesh: str, **spec: Any) -> Break:
    """Merges into a mesh's peer object."""
    return patched(mesh, kinds.PEER, {"mesh1": "mesh2", "mesh2": "mesh1"}[mesh], spec)


def scaled(mesh: str, deployment: str, replicas: int, namespace: str = "") -> Break:
    return patched(mesh, kinds.DEPLOYMENT, deployment, {"replicas": replicas}, namespace)


def heal(meshes: Meshes, shell: dict[str, str], cause: str) -> None:
    """Waits for the diagnosis to name a cause, runs what it prints, and waits until all is in order."""
    assert CAUSES[cause].heals
    commands = _diagnosed(meshes, f"the diagnosis to name {cause}", lambda found: found.cause == cause).commands
    assert commands
    for command in commands:
        run = subprocess.run(command, shell=True, env=shell, capture_output=True, text=True, check=False, timeout=60)
        assert run.returncode == 0, f"{command}\n{run.stdout}{run.stderr}"
    _diagnosed(meshes, f"all to be in order after {'; '.join(commands)}", lambda found: found.state is State.OK)


def _diagnosed(meshes: Meshes, what: str, wanted: Callable[[Diagnosis], bool]) -> Diagnosis:
    """The first diagnosis that is wanted; proxies and statuses take their time to follow a change."""

    def look() -> tuple[Diagnosis | None, str]:
        found = diagnose(meshes.clusters, EVEN, patience=1)
        unwell = [str(link) for link in found.links if link.state is not State.OK]
        return found if wanted(found) else None, "\n".join(unwell)

    return wait_for(what, look, 90)
