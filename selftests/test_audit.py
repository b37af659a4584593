"""The audit at the end of a run, held against the lab's API server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.audit import audit, take_inventory
from harness.cluster import Cluster
from harness.kinds import CONFIG_MAP, NAMESPACE, SERVICE_ACCOUNT
from harness.manifests import labelled
from selftests.support.api import api_server

RUN = "run-1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with api_server() as settings:
        found = Cluster("mesh1", settings.kubeconfig)
        found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mesh1-system"}})
        yield found
        found.close()


@pytest.fixture
def clusters(cluster):
    """One cluster for both meshes, with something of somebody's in a namespace of the scenario."""
    cluster.apply(config_map("theirs", who="them"))
    return {"mesh1": cluster, "mesh2": cluster}


def config_map(name, namespace="mesh1-system", **data):
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def test_a_run_that_left_everything_as_it_was_has_no_findings(clusters):
    before = take_inventory(clusters)
    assert any("ConfigMap mesh1-system/theirs" in key for key in before)
    assert audit(clusters, RUN, before) == []


@pytest.mark.parametrize("kind", [CONFIG_MAP, SERVICE_ACCOUNT], ids=str)
def test_whatever_of_ours_remains_is_named_wherever_it_is(clusters, kind):
    cluster = clusters["mesh1"]
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}})
    before = take_inventory(clusters)
    meta = {"name": "ours", "namespace": "elsewhere"}
    cluster.apply(labelled({"apiVersion": "v1", "kind": kind.kind, "metadata": meta}, RUN))
    (finding,) = audit(clusters, RUN, before)
    assert finding.endswith(f"{kind} elsewhere/ours remains")
    assert audit(clusters, "run-2", before) == [], "another run's objects are not this run's remains"
    cluster.delete(kind, "ours", "elsewhere")
    assert audit(clusters, RUN, before) == []


def test_what_was_changed_is_named_with_its_part(clusters):
    before = take_inventory(clusters)
    clusters["mesh1"].apply(config_map("theirs", who="us"))
    assert audit(clusters, RUN, before) == [
        "mesh1: ConfigMap mesh1-system/theirs was there before the run and has been changed: data"
    ]


def test_what_is_gone_or_made_anew_is_named(clusters):
    before = take_inventory(clusters)
    clusters["mesh1"].delete(CONFIG_MAP, "theirs", "mesh1-system")
    assert audit(clusters, RUN, before) == ["mesh1: ConfigMap mesh1-system/theirs was there before the run and is gone"]
    clusters["mesh1"].apply(config_map("theirs", who="them"))
    assert "made anew" in audit(clusters, RUN, before)[0]


def test_a_label_on_a_namespace_of_somebody_counts(clusters):
    before = take_inventory(clusters)
    clusters["mesh1"].patch(NAMESPACE, "mesh1-system", None, {"metadata": {"labels": {"left": "over"}}})
    found = audit(clusters, RUN, before)
    clusters["mesh1"].patch(NAMESPACE, "mesh1-system", None, {"metadata": {"labels": {"left": None}}})
    assert any("Namespace mesh1-system" in finding and "labels" in finding for finding in found)
