"""The file of --meshes: entries, and everything that is wrong with it at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.scenario.meshes_file import MeshEntry, read_meshes
from harness.scenario.options import OPTIONS, OptionErrors, read_settings

KUBECONFIG = "{kind: Config, clusters: [{name: c}], contexts: [{name: c}], current-context: c}\n"
DEFAULTS = {option.ini: option.default for option in OPTIONS} | {"federation_adopt": True}
GOOD = """\
- name: red
  kubeconfig: a.yaml
- name: green
  kubeconfig: a.yaml
  context: other
  namespace: green-mesh
  controlPlane: core
"""


@pytest.fixture
def written(tmp_path: Path):
    """Writes the file, beside a kubeconfig a.yaml."""
    (tmp_path / "a.yaml").write_text(KUBECONFIG)

    def write(text: str) -> Path:
        (tmp_path / "meshes.yaml").write_text(text)
        return tmp_path / "meshes.yaml"

    return write


def test_entries_are_read_and_paths_begin_at_the_file(written):
    path = written(GOOD)
    at = path.parent / "a.yaml"
    green = MeshEntry("green", at, "other", "green-mesh", "core")
    assert read_meshes(path) == ([MeshEntry("red", at), green], [])


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("- name: red\n", ["line 1: kubeconfig is missing"]),
        ("- name: red\n  kubeconfig: b.yaml\n", ["line 2: kubeconfig b.yaml: there is no such file"]),
        ("- name: red\n  kubeconfig: a.yaml\n  colour: red\n", ["line 3: colour is none of"]),
        ("- name: red\n  kubeconfig: [a.yaml]\n", ["line 2: kubeconfig must be a text"]),
        ("- name: red\n  kubeconfig: a.yaml\n- name: red\n  kubeconfig: a.yaml\n", ["line 3: there is another mesh"]),
        ("- name: red\n  kubeconfig: a.yaml\n  controlPlane: core\n", ["line 1: controlPlane needs its namespace"]),
        ("- red\n- kubeconfig: b.yaml\n", ["line 1: is not a mesh", "line 2: kubeconfig b.yaml", "line 2: name is"]),
        ("name: red\n", ["is not a list of meshes"]),
        ("- name: red\n  - x\n", ["line 2: is not YAML"]),
    ],
)
def test_all_that_is_wrong_is_told_with_its_line(written, text, problems):
    _, told = read_meshes(written(text))
    assert len(told) == len(problems), told
    assert all(found.startswith(wanted) for found, wanted in zip(told, problems, strict=True)), told


def test_a_file_that_is_not_there_is_told(tmp_path):
    assert read_meshes(tmp_path / "none.yaml") == ([], ["there is no such file"])


def settings(path: Path, **values: object):
    return read_settings(DEFAULTS | {"meshes": str(path), **values}, {"meshes", *values})


def test_the_file_stands_for_both_kubeconfigs(written):
    found = settings(written(GOOD))
    assert [entry.name for entry in found.meshes] == ["red", "green"]
    assert found.clusters == "kubeconfig"
    assert str(found).startswith("red from ")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"federation_adopt": False}, "is only for --federation-adopt"),
        ({"mesh1_kubeconfig": "a.yaml"}, "--mesh1-kubeconfig a.yaml: leaves no room for --meshes"),
        ({"federation_clusters": "kind"}, "--federation-clusters kind: leaves no room for --meshes"),
    ],
)
def test_what_does_not_go_with_the_file_is_refused(written, values, sentence):
    with pytest.raises(OptionErrors, match=sentence):
        settings(written(GOOD), **values)


@pytest.mark.parametrize("link", ["red", "red:north", "red:north=green", "=", "red:=green:south"])
def test_a_link_that_is_not_understood_is_refused(written, link):
    with pytest.raises(OptionErrors, match="must be MESH:PEER=MESH:PEER"):
        settings(written(GOOD), federation_link=link)


def test_a_link_is_said_in_both_directions(written):
    found = settings(written(GOOD), federation_link="red/core:north=green:south")
    assert found.said == {("red/core", "north"): ("green", "south"), ("green", "south"): ("red/core", "north")}
