"""Sets, rules, routes and misplaced objects on a running federation: the one to blame is named, and what to change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.cluster import kinds
from harness.cluster.kinds import Kind
from harness.diagnosis import Diagnosis, State, diagnose
from harness.product.status import condition_true
from selftests.support.diagnosed import Meshes, command, in_effect, meshes, named, until

__all__ = ["meshes"]
SYSTEM, APP = {"mesh1": "mesh1-system", "mesh2": "mesh2-system"}, {"mesh1": "mesh1-bookinfo", "mesh2": "mesh2-bookinfo"}
REMOTE = "ratings.mesh2-bookinfo.svc.mesh1-imports.local"
EXPORTS, IMPORTS = ("mesh1", kinds.EXPORTS, "mesh2"), ("mesh2", kinds.IMPORTS, "mesh1")


def told(found: Diagnosis, cause: str, mesh: str, *words: str) -> None:
    """The cause, its side, and words that its sentence and remedy have for people."""
    assert named(found) == (cause, mesh), found.summary
    text = f"{found.sentence} {found.remedy}"
    assert [word for word in words if word not in text] == [], text


# Routes


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("ratings-split", "rating", "ratings.mesh2-bookinfo.svc.cluster.local"),
        ("mongodb-remote", "mongo.mesh2-bookinfo.svc.cluster.local", "mongodb.mesh2-bookinfo.svc.cluster.local"),
        ("reviews", "review", "reviews.mesh2-bookinfo.svc.cluster.local"),
    ],
)
def test_a_virtual_service_for_another_host_is_named_with_both_hosts(
    meshes: Meshes, name: str, host: str, expected: str
) -> None:
    with meshes.changed("mesh2", kinds.VIRTUAL_SERVICE, name, APP["mesh2"], {"hosts": [host]}):
        found = diagnose(meshes.clusters)
    told(found, "route-for-another-host", "mesh2", name, f" {host}", expected)


def test_a_virtual_service_for_gateways_alone_says_nothing_to_sidecars(meshes: Meshes) -> None:
    spec = {"gateways": ["bookinfo-gateway"]}
    with meshes.changed("mesh2", kinds.VIRTUAL_SERVICE, "ratings-split", APP["mesh2"], spec):
        found = diagnose(meshes.clusters)
    told(found, "route-not-for-sidecars", "mesh2", "ratings-split", "bookinfo-gateway", "mesh")


def test_the_virtual_service_that_precedes_is_named(meshes: Meshes) -> None:
    spec = {"hosts": ["ratings"], "http": [{"route": [{"destination": {"host": "ratings"}}]}]}
    cluster = meshes.clusters["mesh2"]
    # Whichever is older holds; of the same second, the one whose name comes first.
    with contextlib.ExitStack() as stack:
        split = stack.enter_context(meshes.removed("mesh2", kinds.VIRTUAL_SERVICE, "ratings-split", APP["mesh2"]))
        stack.callback(cluster.delete, kinds.VIRTUAL_SERVICE, "ratings-split", APP["mesh2"])
        stack.enter_context(meshes.added("mesh2", kinds.VIRTUAL_SERVICE, "ratings", spec))
        cluster.create(split)
        found = diagnose(meshes.clusters)
    told(found, "host-owned-by-another", "mesh2", "VirtualService mesh2-bookinfo/ratings precedes", "ratings-split")


def test_reviews_that_are_pinned_by_nothing(meshes: Meshes) -> None:
    with meshes.removed("mesh2", kinds.VIRTUAL_SERVICE, "reviews", APP["mesh2"]):
        found = diagnose(meshes.clusters)
    told(found, "reviews-route-missing", "mesh2", "reviews", "v3")


def reviews(*versions: str) -> list[dict[str, Any]]:
    """Destinations, half of the requests to each of these versions."""
    return [{"destination": {"host": "reviews", "subset": version}, "weight": 50} for version in versions]


@pytest.mark.parametrize(
    ("route", "word"),
    [(reviews("v3", "v1"), "v1"), (reviews("v9"), "v9"), ([{"destination": {"host": "reviews"}}], "no subset")],
    ids=["another", "unknown", "no-subset"],
)
def test_reviews_that_are_not_pinned_to_v3(meshes: Meshes, route: list[dict[str, Any]], word: str) -> None:
    with meshes.changed("mesh2", kinds.VIRTUAL_SERVICE, "reviews", APP["mesh2"], {"http": [{"route": route}]}):
        found = diagnose(meshes.clusters)
    told(found, "reviews-not-pinned", "mesh2", word, "v3")


def test_a_subset_that_reviews_do_not_have(meshes: Meshes) -> None:
    with meshes.changed("mesh2", kinds.DESTINATION_RULE, "reviews", APP["mesh2"], {"subsets": []}):
        told(diagnose(meshes.clusters), "unknown-subset", "mesh2", "subset v3 of reviews")


def test_a_mongodb_that_has_no_name_in_the_importing_mesh(meshes: Meshes) -> None:
    with meshes.removed("mesh2", kinds.SERVICE, "mongodb", APP["mesh2"]):
        found = diagnose(meshes.clusters)
    told(found, "mongodb-service-missing", "mesh2", "Service mongodb", "mesh2-bookinfo", "27017")


# Sets


@contextlib.contextmanager
def ruled(meshes: Meshes, mesh: str, kind: Kind, name: str, **spec: Any) -> Iterator[None]:
    """With a set changed, until the block ends and statuses and sidecars are as before."""
    before = status(meshes, mesh, kind, name)
    with meshes.changed(mesh, kind, name, SYSTEM[mesh], spec):
        yield
    restored(meshes, mesh, kind, name, before)


def status(meshes: Meshes, mesh: str, kind: Kind, name: str) -> Any:
    return meshes.clusters[mesh].get(kind, name, SYSTEM[mesh]).get("status")


def restored(meshes: Meshes, mesh: str, kind: Kind, name: str, before: Any) -> None:
    until(f"{kind} {name} to be as before", lambda: status(meshes, mesh, kind, name) == before)
    until("reviews to know what is imported", lambda: meshes.reviews().endpoints().get(f"outbound|9080||{REMOTE}"))


def rules(meshes: Meshes, mesh: str, kind: Kind, name: str) -> list[dict[str, Any]]:
    field = {"mesh1": "exportRules", "mesh2": "importRules"}[mesh]
    return meshes.clusters[mesh].get(kind, name, SYSTEM[mesh])["spec"][field]


@pytest.fixture(scope="module")
def surplus(meshes: Meshes) -> tuple[Diagnosis, Diagnosis]:
    """With an export that nobody asked for: while ratings-split calls nobody, and with nothing else wrong."""
    details = {"type": "NameSelector", "nameSelector": {"namespace": APP["mesh1"], "name": "details"}}
    nobody = {"http": [{"route": [{"destination": {"host": "nobody"}}]}]}
    with ruled(meshes, *EXPORTS, exportRules=[*rules(meshes, *EXPORTS), details]):
        until("details to be exported", lambda: "details." in str(status(meshes, *EXPORTS)))
        with meshes.changed("mesh2", kinds.VIRTUAL_SERVICE, "ratings-split", APP["mesh2"], nobody):
            both = diagnose(meshes.clusters)
        return both, diagnose(meshes.clusters)


def test_a_surplus_export_does_not_hide_what_breaks_requests(surplus: tuple[Diagnosis, Diagnosis]) -> None:
    both, _ = surplus
    told(both, "unknown-host", "mesh2", "nobody")
    exposed = next(link for link in both.links if link.name == "exposure")
    assert (exposed.cause, exposed.side) == ("surplus-export", "mesh1")
    assert both.links.index(exposed) > [link.name for link in both.links].index("strangers")


def test_a_surplus_export_that_breaks_nothing_is_named(surplus: tuple[Diagnosis, Diagnosis]) -> None:
    _, alone = surplus
    told(alone, "surplus-export", "mesh1", "details")


def without_alias(rule: dict[str, Any]) -> dict[str, Any]:
    """An import set with that rule, whose services keep their names."""
    return {"importRules": [{**rule, "nameSelector": {"namespace": rule["nameSelector"]["namespace"]}}]}


def behind_another_alias(rule: dict[str, Any]) -> dict[str, Any]:
    """An import set with that rule, and before it one that gives ratings another name."""
    selector = rule["nameSelector"]
    alias = {**selector["alias"], "name": "ratings-remote"}
    return {"importRules": [{**rule, "nameSelector": {**selector, "name": "ratings", "alias": alias}}, rule]}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            lambda _: {"domainSuffix": "other.local"},
            ("mongodb.mesh2-bookinfo.other.local", "domainSuffix other.local of the set"),
        ),
        (
            lambda _: {"domainSuffix": "cluster.local"},
            ("mongodb.mesh2-bookinfo.cluster.local", "domainSuffix must differ from cluster.local"),
        ),
        (without_alias, ("mongodb.bookinfo.svc.mesh1-imports.local", "alias.namespace: mesh2-bookinfo")),
        (behind_another_alias, ("ratings-remote.mesh2-bookinfo.svc", "importRules[0]", "alias.name")),
    ],
    ids=["suffix", "cluster-suffix", "no-alias", "first-rule"],
)
def test_services_under_another_name_are_no_matter_of_waiting(
    meshes: Meshes, changed: Callable[[dict[str, Any]], dict[str, Any]], words: tuple[str, ...]
) -> None:
    (rule,) = rules(meshes, *IMPORTS)
    with ruled(meshes, *IMPORTS, **changed(rule)):
        found = diagnose(meshes.clusters)
    told(found, "imported-under-another-name", "mesh2", *words, "svc.mesh1-imports.local")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "nameselector"}, ("'nameselector'", "Write type: NameSelector")),
        ({"type": "LabelSelector"}, ("'LabelSelector'", "Write type: NameSelector")),
        ({"domainSuffix": "svc.cluster.local"}, ("domainSuffix", "must differ from svc.cluster.local")),
        (
            {"importAsLocal": True, "nameSelector": {"namespace": "bookinfo"}},
            ("importAsLocal needs", "alias.namespace"),
        ),
        ({"nameSelector": None}, ("it has no nameSelector",)),
    ],
    ids=["case", "label-selector", "cluster-suffix", "as-local", "no-selector"],
)
def test_an_import_rule_that_istiod_ignores_is_named_with_the_reason(
    meshes: Meshes, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    (rule,) = rules(meshes, *IMPORTS)
    changed = {key: value for key, value in {**rule, **change}.items() if value is not None}
    with ruled(meshes, *IMPORTS, importRules=[changed]):
        found = diagnose(meshes.clusters)
    told(found, "import-rule-ignored", "mesh2", "importRules[0]", *words)


def test_an_import_rule_with_the_exporters_own_namespace_is_told_the_alias(meshes: Meshes) -> None:
    (rule,) = rules(meshes, *IMPORTS)
    with ruled(meshes, *IMPORTS, importRules=[{**rule, "nameSelector": {"namespace": APP["mesh1"]}}]):
        found = diagnose(meshes.clusters)
    told(found, "import-rule-no-match", "mesh2", "importRules[0]", "mesh1-bookinfo", "bookinfo/mongodb")


def test_an_export_rule_that_istiod_ignores_is_named_with_the_reason(meshes: Meshes) -> None:
    first, second = rules(meshes, *EXPORTS)
    with ruled(meshes, *EXPORTS, exportRules=[{**first, "type": "nameselector"}, second]):
        found = diagnose(meshes.clusters)
    told(found, "export-rule-ignored", "mesh1", "exportRules[0]", "ratings", "'nameselector'", "type: NameSelector")


def test_an_export_rule_for_a_service_that_is_not_there_is_told_so(meshes: Meshes) -> None:
    first, second = rules(meshes, *EXPORTS)
    misspelt = {**first, "nameSelector": {**first["nameSelector"], "name": "rating"}}
    with ruled(meshes, *EXPORTS, exportRules=[misspelt, second]):
        found = diagnose(meshes.clusters)
    told(found, "export-rule-no-match", "mesh1", "exportRules[0]", "there is no Service mesh1-bookinfo/rating")


def test_a_service_that_is_exported_under_another_alias_is_exported(meshes: Meshes) -> None:
    first, second = rules(meshes, *EXPORTS)
    books = {**first["nameSelector"], "alias": {"namespace": "books", "name": "ratings"}}
    with ruled(meshes, *EXPORTS, exportRules=[{**first, "nameSelector": books}, second]):
        found = diagnose(meshes.clusters)
    seen, expected = (f"ratings.{namespace}.svc.mesh2-exports.local" for namespace in ("books", "bookinfo"))
    told(found, "exported-under-another-name", "mesh1", "exportRules[0]", seen, expected, "namespace: bookinfo")


def test_a_label_selector_that_fits_no_service_is_shown(meshes: Meshes) -> None:
    _, second = rules(meshes, *EXPORTS)
    selector = {"namespace": APP["mesh1"], "selector": {"matchLabels": {"app": "nothing"}}}
    labels = {"type": "LabelSelector", "labelSelector": selector}
    with ruled(meshes, *EXPORTS, exportRules=[second, labels]):
        found = diagnose(meshes.clusters)
    told(found, "export-rule-no-match", "mesh1", "ratings", "exportRules[1]", "app=nothing", "app=ratings")


def test_a_service_that_is_not_there_is_not_the_rules_fault(meshes: Meshes) -> None:
    before = status(meshes, *EXPORTS)
    with meshes.removed("mesh1", kinds.SERVICE, "ratings", APP["mesh1"]):
        found = diagnose(meshes.clusters)
    restored(meshes, *EXPORTS, before)
    told(found, "export-service-missing", "mesh1", "Service mesh1-bookinfo/ratings")


# Clusters and places; what changes peers and gateways comes last: a watch takes its time to come back.


def test_one_cluster_for_both_meshes_is_said_to_be_one(meshes: Meshes) -> None:
    one = meshes.clusters["mesh1"]
    said = command(meshes, "--mesh2-kubeconfig", str(one.kubeconfig))
    assert said.returncode == 1, said.stderr
    assert "[same-cluster]" in said.stdout
    assert f"mesh1 and mesh2 are the same cluster (uid {one.uid()}" in said.stdout
    assert "--mesh2-kubeconfig" in said.stdout


def test_kubeconfigs_in_each_others_place_are_said_to_be(meshes: Meshes) -> None:
    one, other = (str(meshes.clusters[name].kubeconfig) for name in ("mesh1", "mesh2"))
    said = command(meshes, "--mesh1-kubeconfig", other, "--mesh2-kubeconfig", one)
    assert said.returncode == 1, said.stderr
    assert "[kubeconfigs-swapped]" in said.stdout
    assert f"run: export MESH1_KUBECONFIG={one} MESH2_KUBECONFIG={other}\n" in said.stdout


@pytest.mark.parametrize("kind", [kinds.IMPORTS, kinds.PEER], ids=str)
def test_an_object_in_the_wrong_namespace_is_to_be_moved(meshes: Meshes, kind: Kind) -> None:
    before = status(meshes, *IMPORTS)
    spec = meshes.clusters["mesh2"].get(kind, "mesh1", SYSTEM["mesh2"])["spec"]
    away = meshes.removed("mesh2", kind, "mesh1", SYSTEM["mesh2"])
    with away, meshes.added("mesh2", kind, "mesh1", spec):
        found = diagnose(meshes.clusters, patience=1)
    restored(meshes, *IMPORTS, before)
    meshes.settle()
    told(found, "object-misplaced", "mesh2", str(kind), "in mesh2-bookinfo", "only mesh2-system")


def test_an_endpoint_of_a_gateway_that_is_gone_is_said_in_words(meshes: Meshes) -> None:
    def seen(gone: bool) -> bool:
        return bool(meshes.federation.mesh2.gateway_pods("mesh1-egress")) is not gone

    down = meshes.changed("mesh2", kinds.DEPLOYMENT, "mesh1-egress", SYSTEM["mesh2"], {"replicas": 0})
    with in_effect(down, "the egress gateway to be gone", seen):
        found = diagnose(meshes.clusters, patience=1)
    told(found, "gateway-down", "mesh2", "mesh1-egress")
    client = next(link for link in found.links if link.name == "client sidecar")
    assert (client.state, client.cause) == (State.BROKEN, "egress-endpoint-stale"), client
    assert client.seen.endswith("the gateway has no running pod"), client


def test_a_second_istiod_of_2_1_is_told_with_the_command_that_takes_it_away(meshes: Meshes) -> None:
    def two(there: bool) -> bool:
        ready = [pod for pod in meshes.federation.mesh2.istiod_pods() if condition_true(pod, "Ready")]
        return (len(ready) == 2) is there

    more = meshes.changed("mesh2", kinds.DEPLOYMENT, "istiod-fed-import", SYSTEM["mesh2"], {"replicas": 2})
    with in_effect(more, "a second istiod", two):
        found = diagnose(meshes.clusters, patience=1)
    told(found, "second-istiod", "mesh2", "has 2 pods of istiod", "ServiceMeshControlPlane mesh2-system/fed-import")
    (command,) = found.commands
    assert command.startswith(f"oc --kubeconfig {meshes.clusters['mesh2'].kubeconfig} -n mesh2-system patch ")
    assert '{"spec":{"runtime"' in command
