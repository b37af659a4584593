"""Rules of sets as the diagnosis reads them, held against the lab's istiod, which reads the product by itself."""

from __future__ import annotations

from typing import Any

import pytest

from harness.diagnosis.set_rules import LOCAL_SUFFIX, Names, choice, export_rules, import_rules
from lab.istiod.federation.rules import Candidate, ExportRules, ImportRules

LABELS = {"app": "ratings", "tier": "back"}
Body = dict[str, Any]


def by_name(**selector: Any) -> Body:
    return {"type": "NameSelector", "nameSelector": selector}


def by_label(**selector: Any) -> Body:
    return {"type": "LabelSelector", "labelSelector": selector}


def expression(operator: str, *values: str) -> Body:
    return by_label(selector={"matchExpressions": [{"key": "tier", "operator": operator, "values": list(values)}]})


def made(field: str, *bodies: Body, **spec: Any) -> Body:
    return {"metadata": {"name": "peer", "namespace": "system"}, "spec": {field: list(bodies), **spec}}


NAMED = (
    by_name(),
    by_name(namespace="books", name="ratings"),
    by_name(namespace="*", name="*", alias={"namespace": "*", "name": "stars"}),
    by_name(namespace="books", alias={"namespace": "shelf"}),
    by_name(name="rating"),
    by_name(namespace="elsewhere"),
    {"type": "nameselector", "nameSelector": {}},
    {"type": "NameSelector"},
)
LABELLED = (
    by_label(),
    by_label(namespace="books", selector={"matchLabels": {"app": "ratings"}}),
    by_label(selector={"matchLabels": {"app": "nothing"}}),
    by_label(namespace="elsewhere"),
    by_label(aliases=[{"name": "other", "alias": {"name": "a"}}, {"alias": {"namespace": "b"}}]),
    by_label(aliases=[{"name": "other", "alias": {"name": "a"}}]),
    *(expression(operator, "back") for operator in ("In", "NotIn", "Exists", "DoesNotExist", "Like")),
    {"type": "LabelSelector"},
)


@pytest.mark.parametrize("after", [(), (by_name(alias={"name": "second"}),)], ids=["alone", "before-another"])
@pytest.mark.parametrize("body", [*NAMED, *LABELLED], ids=str)
def test_export_rules_are_read_as_istiod_reads_them(body: Body, after: tuple[Body, ...]) -> None:
    found = made("exportRules", body, *after)
    theirs = ExportRules(found, "peer").name_for(Candidate("ratings", "books", LABELS))
    service = Names("books", "ratings")
    ours = choice(export_rules(found), service, LABELS).taken
    assert (ours and ours.names(service)) == (theirs and (theirs.namespace, theirs.name))


@pytest.mark.parametrize("suffix", ["", "other.example", "cluster.local", LOCAL_SUFFIX])
@pytest.mark.parametrize("own", [{}, {"importAsLocal": True}, {"domainSuffix": LOCAL_SUFFIX}, {"domainSuffix": "a.b"}])
@pytest.mark.parametrize("body", [*NAMED, by_label()], ids=str)
def test_import_rules_are_read_as_istiod_reads_them(body: Body, own: Body, suffix: str) -> None:
    found = made("importRules", {**body, **own}, domainSuffix=suffix)
    theirs = ImportRules(found, "peer").name_for("ratings", "books")
    service = Names("books", "ratings")
    ours = choice(import_rules(found, "peer"), service).taken
    assert (ours and ours.host(service)) == (theirs and theirs.hostname)


def test_a_rule_that_is_left_out_is_found_where_it_would_take_the_service() -> None:
    service = Names("books", "ratings")
    for body, meant in ((expression("Like"), True), ({"type": "nameselector", "nameSelector": {"name": "x"}}, False)):
        taken, ignored = choice(export_rules(made("exportRules", body)), service, LABELS)
        assert (taken, bool(ignored)) == (None, meant)


def test_a_rule_is_shown_with_its_place_and_what_it_selects_by() -> None:
    bodies = (
        by_name(name="ratings"),
        by_label(namespace="books", selector={"matchLabels": LABELS}),
        expression("In", "a"),
    )
    assert [str(rule) for rule in export_rules(made("exportRules", *bodies))] == [
        "exportRules[0] (NameSelector */ratings)",
        "exportRules[1] (LabelSelector books, app=ratings, tier=back)",
        "exportRules[2] (LabelSelector *, tier In a)",
    ]
