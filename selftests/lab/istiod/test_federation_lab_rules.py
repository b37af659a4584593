"""Which services the rules of the sets match and how they are called; names, checksums, versions."""

from __future__ import annotations

import logging

import pytest

from lab.istiod.federation.names import checksum, export_name, import_name
from lab.istiod.federation.objects import PeerSpec, discovery_objects, export_objects
from lab.istiod.federation.rules import Candidate, ExportRules, ImportRules, ServiceKey, locality_labels
from lab.istiod.federation.versions import rules_for

RATINGS = Candidate("ratings", "mesh1-bookinfo", {"app": "ratings", "tier": "back"})


def export_set(*rules):
    return {"metadata": {"name": "mesh2", "namespace": "mesh1-system"}, "spec": {"exportRules": list(rules)}}


def import_set(*rules, **spec):
    return {"metadata": {"name": "mesh1", "namespace": "mesh2-system"}, "spec": {"importRules": list(rules), **spec}}


def by_name(**selector):
    return {"type": "NameSelector", "nameSelector": selector}


def by_label(**selector):
    return {"type": "LabelSelector", "labelSelector": selector}


def exported(service, *rules):
    found = ExportRules(export_set(*rules), "mesh2").name_for(service)
    return found and found.hostname


def imported(name, namespace, *rules, **spec):
    found = ImportRules(import_set(*rules, **spec), "mesh1").name_for(name, namespace)
    return found and found.hostname


@pytest.mark.parametrize(
    ("rule", "hostname"),
    [
        (by_name(namespace="mesh1-bookinfo", name="ratings"), "ratings.mesh1-bookinfo.svc.mesh2-exports.local"),
        (by_name(namespace="*", name="ratings"), "ratings.mesh1-bookinfo.svc.mesh2-exports.local"),
        (by_name(namespace="mesh1-bookinfo"), "ratings.mesh1-bookinfo.svc.mesh2-exports.local"),
        (by_name(name="*", alias={"namespace": "bookinfo"}), "ratings.bookinfo.svc.mesh2-exports.local"),
        (by_name(alias={"namespace": "*", "name": "stars"}), "stars.mesh1-bookinfo.svc.mesh2-exports.local"),
        (by_name(alias={"namespace": "", "name": "*"}), "ratings.mesh1-bookinfo.svc.mesh2-exports.local"),
        (by_name(name="reviews"), None),
        (by_name(namespace="elsewhere", name="ratings"), None),
        (by_label(selector={"matchLabels": {"app": "ratings"}}), "ratings.mesh1-bookinfo.svc.mesh2-exports.local"),
        (by_label(selector={"matchLabels": {"app": "reviews"}}), None),
        (by_label(namespace="elsewhere"), None),
        (by_label(namespace="mesh1-bookinfo"), "ratings.mesh1-bookinfo.svc.mesh2-exports.local"),
        (
            by_label(selector={"matchExpressions": [{"key": "tier", "operator": "In", "values": ["back", "front"]}]}),
            "ratings.mesh1-bookinfo.svc.mesh2-exports.local",
        ),
        (by_label(selector={"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), None),
        (by_label(selector={"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}]}), None),
        (
            by_label(aliases=[{"name": "reviews", "alias": {"name": "a"}}, {"alias": {"name": "b"}}, {"alias": {}}]),
            "b.mesh1-bookinfo.svc.mesh2-exports.local",
        ),
    ],
)
def test_an_export_rule_gives_this_name(rule, hostname):
    assert exported(RATINGS, rule) == hostname


def test_the_first_rule_that_fits_names_the_service():
    first, second = by_name(alias={"name": "one"}), by_label(aliases=[{"alias": {"name": "two"}}])
    assert exported(RATINGS, first, second) == "one.mesh1-bookinfo.svc.mesh2-exports.local"
    assert exported(RATINGS, second, first) == "two.mesh1-bookinfo.svc.mesh2-exports.local"


@pytest.mark.parametrize(
    ("rule", "spec", "hostname"),
    [
        (by_name(), {}, "ratings.bookinfo.svc.mesh1-imports.local"),
        (by_name(namespace="bookinfo", alias={"namespace": "b2"}), {}, "ratings.b2.svc.mesh1-imports.local"),
        (by_name(), {"domainSuffix": "north.example"}, "ratings.bookinfo.north.example"),
        # The cluster's own suffix has svc in it: without, it is a name like any other.
        (by_name(), {"domainSuffix": "cluster.local"}, "ratings.bookinfo.cluster.local"),
        (by_name(), {"domainSuffix": "svc.cluster.local"}, None),
        (
            {**by_name(), "domainSuffix": "own.example"},
            {"domainSuffix": "north.example"},
            "ratings.bookinfo.own.example",
        ),
        (
            {**by_name(alias={"namespace": "b2"}), "importAsLocal": True, "domainSuffix": "own.example"},
            {},
            "ratings.b2.svc.cluster.local",
        ),
        (by_name(namespace="nope"), {}, None),
    ],
)
def test_an_import_rule_gives_this_name(rule, spec, hostname):
    assert imported("ratings", "bookinfo", rule, **spec) == hostname


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"type": "NameSelector"}, "null nameSelector"),
        ({**by_name(), "importAsLocal": True}, "cannot use importAsLocal without setting a fixed namespace alias"),
        (
            {**by_name(alias={"namespace": "*"}), "importAsLocal": True},
            "cannot use importAsLocal without setting a fixed namespace alias",
        ),
        (
            {**by_name(), "domainSuffix": "svc.cluster.local"},
            "cannot use domainSuffix that matches the cluster domain suffix, use importAsLocal instead",
        ),
    ],
)
def test_a_bad_import_rule_is_skipped_alone_and_said(caplog, bad, reason):
    assert imported("ratings", "bookinfo", bad, by_name()) == "ratings.bookinfo.svc.mesh1-imports.local"
    expected = f"skipping rule 0 in ServiceImports mesh2-system/mesh1: {reason}\tcomponent=federation"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.ERROR, expected)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [({"type": "NameSelector"}, "null nameSelector"), ({"type": "LabelSelector"}, "null labelSelector")],
)
def test_a_bad_export_rule_is_skipped_alone_and_said(caplog, bad, reason):
    assert exported(RATINGS, by_name(name="reviews"), bad, by_name())
    assert [record.getMessage() for record in caplog.records] == [
        f"skipping rule 1 in ServiceExports mesh1-system/mesh2: {reason}\tcomponent=federation"
    ]


def test_without_a_set_nothing_goes_over():
    assert ExportRules(None, "mesh2").name_for(RATINGS) is None
    assert ImportRules(None, "mesh1").name_for("ratings", "bookinfo") is None


def test_a_locality_with_a_gap_is_dropped_whole():
    def labels(**locality):
        return dict(locality_labels(import_set(locality=locality)))

    full = labels(region="r", zone="z", subzone="s")
    assert full == {
        "topology.kubernetes.io/region": "r",
        "topology.kubernetes.io/zone": "z",
        "topology.istio.io/subzone": "s",
    }
    assert labels(zone="z") == labels(region="r", subzone="s") == labels() == {}


def test_long_names_are_cut_to_what_kubernetes_allows_and_stay_apart():
    long = [
        import_name(peer, "productpage-rest-private", "bookinfo-production-europe", short=True)
        for peer in ("mesh1", "mesh2")
    ]
    assert [len(name) for name in long] == [63, 63]
    assert long[0] != long[1]
    assert all(name.startswith("fed-imp-productpage-rest-private-") for name in long)
    assert import_name("mesh1", "ratings", "bookinfo", short=True) == "fed-imp-ratings-bookinfo-mesh1"
    assert export_name("mesh2", "ratings", "bookinfo", short=True) == "fed-exp-ratings-bookinfo-mesh2"
    assert export_name("mesh2", "ratings", "bookinfo", short=False) == "federation-exports-mesh2-ratings-bookinfo"


def test_a_checksum_follows_the_content_and_not_the_order():
    assert checksum({"a": 1, "b": [2]}) == checksum({"b": [2], "a": 1})
    assert checksum({"a": 1, "b": [2]}) != checksum({"a": 1, "b": [3]})


@pytest.mark.parametrize(
    ("version", "resync", "short"),
    [
        ("2.1.6", 300, False),
        ("v2.1", 300, False),
        ("2.2.0", 300, True),
        ("2.4", 300, True),
        ("2.4.6", 300, True),
        ("2.4.7", 60, True),
        ("2.5.0", 300, True),
        ("2.5.1", 60, True),
        ("2.6.0", 60, True),
    ],
)
def test_versions_differ_in_resync_and_names(version, resync, short):
    assert (rules_for(version).resync, rules_for(version).short_names) == (resync, short)


def peer(**spec):
    return PeerSpec.of({"metadata": {"name": "mesh2", "namespace": "mesh1-system"}, "spec": spec})


def test_ports_that_are_not_given_are_the_products():
    assert (peer().discovery_port, peer().service_port) == (8188, 15443)
    own = peer(remote={"discoveryPort": 30028, "servicePort": 30956})
    assert (own.discovery_port, own.service_port) == (30028, 30956)


def test_another_discovery_port_is_asked_for_remotely_only():
    spec = peer(remote={"addresses": ["10.0.0.1", "lb.example"], "discoveryPort": 30028})
    made = {(item["kind"], item["name"]): item["spec"] for item in discovery_objects(spec, "istiod")}
    entry = made["ServiceEntry", "federation-discovery-mesh2"]
    routes = made["VirtualService", "federation-discovery-mesh2-egress"]["http"][0]
    rule = made["DestinationRule", "federation-discovery-mesh2-egress"]["subsets"][0]["trafficPolicy"]
    assert [(end["address"], end["ports"]) for end in entry["endpoints"]] == [
        ("10.0.0.1", {"https-discovery": 30028}),
        ("lb.example", {"https-discovery": 30028}),
    ]
    assert entry["ports"][0]["number"] == routes["route"][0]["destination"]["port"]["number"] == 30028
    assert rule["portLevelSettings"][0]["port"]["number"] == 30028
    assert routes["match"][0]["port"] == 8188


def test_without_a_client_id_exports_are_open_to_any_trusted_certificate():
    local, exported_as = ServiceKey("a.b.svc.cluster.local", "a", "b"), ServiceKey("a.b.x", "a", "b")

    def kinds(**security):
        return [item["kind"] for item in export_objects(peer(security=security), [(local, exported_as)], short=False)]

    assert kinds(clientID="td/ns/n/sa/s") == ["Gateway", "VirtualService", "AuthorizationPolicy"]
    assert kinds() == ["Gateway", "VirtualService"]
