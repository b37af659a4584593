"""Manifests applied to a new cluster, held against the lab's API server."""

from __future__ import annotations

import io

import pytest
import yaml

from harness.cluster.bootstrap import BadManifests, apply_manifests, read_manifests
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import CONFIG_MAP
from harness.run.progress import Progress
from selftests.support.api import api_server, config_map, definition, widget


@pytest.fixture(scope="module")
def cluster():
    with api_server() as settings:
        found = Cluster("mesh1", settings.kubeconfig)
        yield found
        found.close()


def write(directory, **files):
    for name, documents in files.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump_all(documents))


def test_kinds_nobody_knew_are_applied_after_their_definitions_whatever_the_files_are_called(cluster, tmp_path):
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
    in_place = {"apiVersion": "v1", "kind": "ConfigMap"} | config_map("note", {"a": "b"}, namespace="operator")
    write(
        tmp_path,
        a=[widget("first", {"size": 3}), {"kind": "List", "apiVersion": "v1", "items": [in_place]}],
        z=[definition(schema), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "operator"}}],
    )
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    apply_manifests(cluster, read_manifests(tmp_path), Progress(io.StringIO(), live=False))
    made = cluster.get(cluster.kind("test.lab/v1", "Widget"), "first", "default")
    assert made["spec"] == {"size": 3}
    assert cluster.get(CONFIG_MAP, "note", "operator")["data"] == {"a": "b"}
    apply_manifests(cluster, read_manifests(tmp_path), Progress(io.StringIO(), live=False))
    assert cluster.get(cluster.kind("test.lab/v1", "Widget"), "first", "default") == made


@pytest.mark.parametrize("content", ["{", "a: b", "kind: ConfigMap"])
def test_a_file_that_is_no_manifest_is_named(tmp_path, content):
    (tmp_path / "broken.yaml").write_text(content)
    with pytest.raises(BadManifests, match=r"broken\.yaml"):
        read_manifests(tmp_path)
