"""The whole suite on clusters whose API servers fail in every way there is, from the first request to the last."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.api.faults import KINDS
from selftests.support.api import Http
from selftests.support.lab import Lab, start_lab, stop_lab

ROOT = Path(__file__).parent.parent
RATE = 0.05


@pytest.fixture
def lab() -> Iterator[Lab]:
    found = start_lab()
    yield found
    stop_lab(found)


def test_the_suite_is_green_and_leaves_nothing_behind_while_every_kind_of_fault_is_made(lab, tmp_path):
    apis = {settings.name: Http(settings) for settings in lab.clusters}
    for number, api in enumerate(apis.values()):
        api.must("POST", "/lab/faults", {"rate": RATE, "seed": number})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command += [f"--{settings.name}-kubeconfig={settings.kubeconfig}" for settings in lab.clusters]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST"))}
    run = subprocess.run(
        command, cwd=ROOT, env=clean | {"TMPDIR": str(tmp_path), "CI": "true"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "left behind: nothing" in run.stdout
    for name, api in apis.items():
        made = api.must("GET", "/lab/faults")["made"]
        assert set(made) == set(KINDS), f"{name}: some kinds of faults were never made: {made}"
        api.must("POST", "/lab/faults", {"rate": 0})
        namespaces = {item["metadata"]["name"] for item in api.must("GET", "/api/v1/namespaces")["items"]}
        assert not [namespace for namespace in namespaces if namespace.startswith("mesh")], name
        leases = api.must("GET", "/apis/coordination.k8s.io/v1/leases")["items"]
        assert not [lease for lease in leases if lease["metadata"]["name"].startswith("ossm")], name
