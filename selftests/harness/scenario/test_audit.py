"""The audit at the end of a run, held against the lab's API server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import CONFIG_MAP, LEASE, NAMESPACE, SERVICE_ACCOUNT
from harness.scenario.manifests import labelled
from harness.scenario.ownership import lease
from harness.scenario.ownership.audit import audit, take_inventory
from lab.settings import ClusterSettings
from selftests.support.api import api_server
from selftests.support.users import restricted

RUN = frozenset({"run-1"})


@pytest.fixture(scope="module")
def settings() -> Iterator[ClusterSettings]:
    with api_server() as found:
        yield found


@pytest.fixture(scope="module")
def cluster(settings) -> Iterator[Cluster]:
    found = Cluster("mesh1", settings.kubeconfig)
    for name in ("mesh1-system", lease.NAMESPACE):
        found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
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
    cluster.apply(labelled({"apiVersion": "v1", "kind": kind.kind, "metadata": meta}, "run-1"))
    (finding,) = audit(clusters, RUN, before)
    assert finding.endswith(f"{kind} elsewhere/ours remains")
    assert audit(clusters, {"run-2"}, before) == [], "another run's objects are not this run's remains"
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


def test_what_goes_away_with_the_remains_of_an_earlier_run_is_not_missed(clusters):
    cluster = clusters["mesh1"]
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mesh1-bookinfo"}}
    cluster.apply(labelled(space, "run-0"))
    cluster.apply(config_map("made-by-the-operator", "mesh1-bookinfo"))
    left = cluster.apply(labelled(config_map("ours"), "run-0"))
    made = config_map("made-of-it")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ours", "uid": left["metadata"]["uid"]}
    made["metadata"]["ownerReferences"] = [owner]
    cluster.apply(made)
    before = take_inventory(clusters)
    cluster.delete(CONFIG_MAP, "made-by-the-operator", "mesh1-bookinfo")
    for name in ("ours", "made-of-it"):
        cluster.delete(CONFIG_MAP, name, "mesh1-system")
    assert audit(clusters, RUN, before) == []
    cluster.delete(NAMESPACE, "mesh1-bookinfo")


@pytest.fixture
def seen_by(settings, tmp_path):
    """Both meshes' cluster as a user sees it to whom some is denied, beside what is denied to all of these users."""
    with contextlib.ExitStack() as stack:

        def look(*deny):
            kinds = ["configmaps", "services", "serviceaccounts", "leases"]
            everywhere = {"verbs": ["list"], "resources": kinds, "namespaces": [""]}
            namespaces = {"verbs": ["list"], "resources": ["leases"], "namespaces": ["mesh1-system", "mesh1-bookinfo"]}
            rules = [everywhere, namespaces, *deny]
            path = stack.enter_context(restricted(settings, tmp_path / "reader.yaml", rules))
            found = Cluster("mesh1", path)
            stack.callback(found.close)
            return {"mesh1": found, "mesh2": found}

        yield look


def test_who_may_see_leases_only_where_ours_is_hears_of_nothing_left_behind(seen_by, cluster):
    clusters = seen_by()
    before = take_inventory(clusters)
    assert audit(clusters, RUN, before) == []
    meta = {"name": lease.NAME, "namespace": lease.NAMESPACE}
    cluster.apply(labelled({"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": meta}, "run-1"))
    (finding,) = audit(clusters, RUN, before)
    cluster.delete(LEASE, lease.NAME, lease.NAMESPACE)
    assert finding.endswith(f": Lease {lease.NAMESPACE}/{lease.NAME} remains")


def test_what_may_not_be_looked_at_any_more_is_said_to_be_so_and_not_to_be_gone(seen_by, cluster):
    cluster.apply(config_map("theirs", who="them"))
    before = take_inventory({"mesh1": cluster, "mesh2": cluster})
    clusters = seen_by({"verbs": ["list"], "resources": ["configmaps"], "namespaces": ["mesh1-system"]})
    (finding,) = audit(clusters, RUN, before)
    assert finding.startswith("mesh1: ConfigMap in mesh1-system could not be looked at: 403 configmaps is forbidden")


def test_a_namespace_that_went_away_takes_its_roles_along_and_holds_nothing(seen_by):
    clusters = seen_by({"verbs": ["list"], "resources": ["*"], "namespaces": ["mesh2-system", "mesh2-bookinfo"]})
    assert audit(clusters, RUN, take_inventory(clusters)) == []
