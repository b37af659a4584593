"""A plugin of pytest: once the meshes are provisioned, both API servers hide what LAB_HIDDEN says, until the last test.

LAB_HIDDEN is a JSON object, resource to way of hiding (lab/api/http/faults.py). The seconds from then on until the last
test has ended go into the file that LAB_BLIND_SECONDS names.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cluster.transport import Transport
from harness.product.mesh import Federation

_SERVERS: list[Transport] = []
_SINCE: list[float] = []


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
    outcome = yield
    if fixturedef.argname == "provisioned" and outcome.excinfo is None:  # type: ignore[attr-defined]
        federation: Federation = outcome.get_result()  # type: ignore[attr-defined]
        _SERVERS[:] = [Transport(mesh.name, mesh.cluster.kubeconfig) for mesh in federation.meshes]
        _hide(json.loads(os.environ["LAB_HIDDEN"]))
        _SINCE.append(time.monotonic())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    if nextitem is None and _SINCE:
        Path(os.environ["LAB_BLIND_SECONDS"]).write_text(f"{time.monotonic() - _SINCE[0]:.1f}")
        _hide({})


def _hide(resources: Mapping[str, str]) -> None:
    for server in _SERVERS:
        server.request("POST", "/lab/faults", body={"rate": 0, "hidden": resources}, repeat=True)
