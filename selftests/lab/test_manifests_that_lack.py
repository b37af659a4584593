"""What a server or the operator fills in: manifests say it themselves, and INSTALL-014 fails for those that do not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from selftests.support.lab import start_lab, stop_lab
from selftests.support.runs import ROOT

PARTS = ("conftest.py", "pyproject.toml", "tests", "fixtures", "harness", "manifests")
CAPTURED = {
    "mesh1-smcp-smmr": "mesh1/control-plane/servicemeshcontrolplane.yaml",
    "mesh2-smcp-smmr": "mesh2/control-plane/servicemeshcontrolplane.yaml",
    "mesh1-exportedserviceset-mesh2": "mesh1/federation/exportedserviceset.yaml",
    "mesh2-importedserviceset-mesh1": "mesh2/federation/importedserviceset.yaml",
}
REFUSED = 'associative list with keys has an element that omits key field "protocol"'


def lists(value: Any, path: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Every list of an object, by its path: what is filled in within one is a change for whoever applies it again."""
    if isinstance(value, list):
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from lists(inner, f"{path}.{name}")


@pytest.mark.parametrize("name", CAPTURED)
def test_the_product_gave_no_list_back_otherwise_than_it_was_asked_for(
    name: str, observed: Callable[[str], Any]
) -> None:
    captured = observed(f"healthy-2.2/objects/{name}.json")
    spec = captured.get("items", [captured])[0]["spec"]
    asked = yaml.safe_load((ROOT / "manifests" / CAPTURED[name]).read_text())["spec"]
    back = dict(lists(spec))
    wanted = dict(lists(asked))
    assert wanted
    assert {path: back.get(path) for path in wanted} == wanted


def without(directory: Path, field: str, *files: str) -> Path:
    """A copy of the suite whose manifests say nothing of a field."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, directory / part)
    found = [path for pattern in files for path in (directory / "manifests").rglob(pattern)]
    for path in found:
        path.write_text(re.sub(rf", {field}: \w+|(?<=\{{){field}: \w+, ", "", path.read_text()))
    assert found
    assert not [path for path in found if f"{field}: " in path.read_text()]
    return directory


def provisioned_again(suite: Path, *lab: str) -> tuple[int, str]:
    """Exit status and words of INSTALL-014 in a lab."""
    running = start_lab(*lab)
    try:
        given = [f"--{each.name}-kubeconfig={each.kubeconfig}" for each in running.clusters]
        line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "INSTALL-014", *given]
        run = subprocess.run(line, cwd=suite, capture_output=True, text=True, timeout=230)
        return run.returncode, run.stdout
    finally:
        stop_lab(running)


def test_ports_without_protocol_are_refused_by_an_old_server(tmp_path: Path) -> None:
    """Captured: Kubernetes 1.20 refused the first Service, with 500."""
    suite = without(tmp_path, "protocol", "service-*.yaml")
    code, said = provisioned_again(suite, "--kubernetes", "v1.20.2")
    assert (code, REFUSED in said) == (1, True), said


def test_gateway_ports_without_target_are_a_change_each_time(tmp_path: Path) -> None:
    """Captured: generation 2 became 3, and both meshes were not Ready for 42 s."""
    code, said = provisioned_again(without(tmp_path, "targetPort", "servicemeshcontrolplane.yaml"))
    assert (code, "targetPort" in said) == (1, True), said
    assert re.search("ServiceMeshControlPlane.*fed-export", said), said
