"""Custom resources: definitions, schemas, and what they do to objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from selftests.support.api import Http, api_server, definition, widget

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
        "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "code": {"type": "string", "pattern": "^[a-z]+$"},
        "port": {"x-kubernetes-int-or-string": True},
        "maybe": {"type": "string", "nullable": True},
        "loose": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
            },
        },
    },
}


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with api_server() as settings:
        client = Http(settings)
        columns = [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]
        client.must("POST", CRDS, definition(SPEC, additionalPrinterColumns=columns))
        yield client


@pytest.fixture
def path(http: Http) -> str:
    return f"/apis/test.lab/v1/namespaces/{http.namespace()}/widgets"


def test_a_definition_is_established_and_discoverable(http: Http) -> None:
    found = http.must("GET", f"{CRDS}/widgets.test.lab")
    assert {c["type"]: c["status"] for c in found["status"]["conditions"]} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    assert found["status"]["storedVersions"] == ["v1"]
    resources = http.must("GET", "/apis/test.lab/v1")["resources"]
    assert {resource["name"] for resource in resources} == {"widgets", "widgets/status"}
    assert "test.lab" in {group["name"] for group in http.must("GET", "/apis")["groups"]}


def test_defaults_are_filled_in_and_unknown_fields_pruned(http: Http, path: str) -> None:
    spec = {"size": 3, "typo": 1, "loose": {"any": {"thing": 1}}, "parts": [{"name": "a", "extra": 2}]}
    made = http.must("POST", path, widget("a", spec, other=1))
    assert made["spec"] == {
        "size": 3,
        "color": "red",
        "loose": {"any": {"thing": 1}},
        "parts": [{"name": "a", "count": 1}],
    }
    assert "other" not in made
    assert made["metadata"]["generation"] == 1


def test_null_counts_only_where_it_is_allowed(http: Http, path: str) -> None:
    made = http.must("POST", path, widget("a", {"size": 3, "maybe": None, "color": None, "code": None}))
    assert made["spec"] == {"size": 3, "maybe": None, "color": "red"}


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({}, "spec.size", "FieldValueRequired"),
        ({"size": "3"}, "spec.size", "FieldValueTypeInvalid"),
        ({"size": 10}, "spec.size", "FieldValueInvalid"),
        ({"size": 0}, "spec.size", "FieldValueInvalid"),
        ({"size": 3, "color": "green"}, "spec.color", "FieldValueNotSupported"),
        ({"size": 3, "code": "A1"}, "spec.code", "FieldValueInvalid"),
        ({"size": 3, "port": True}, "spec.port", "FieldValueTypeInvalid"),
        ({"size": 3, "labels": {"a": 1}}, "spec.labels.a", "FieldValueTypeInvalid"),
        ({"size": 3, "parts": [{"count": 2}]}, "spec.parts[0].name", "FieldValueRequired"),
        ({"size": 3, "parts": [{"name": "a"}, {"name": "a"}]}, "spec.parts[1]", "FieldValueDuplicate"),
        ([], "spec", "FieldValueTypeInvalid"),
    ],
)
def test_invalid_objects_name_the_field(http: Http, path: str, spec: Any, field: str, reason: str) -> None:
    status, answer = http.call("POST", path, widget("a", spec))
    assert (status, answer["reason"]) == (422, "Invalid"), answer
    assert (reason, field) in {(cause["reason"], cause["field"]) for cause in answer["details"]["causes"]}
    assert f'Widget.test.lab "a" is invalid: {field}: ' in answer["message"]


def test_all_findings_are_told_at_once(http: Http, path: str) -> None:
    answer = http.call("POST", path, widget("a", {"size": 10, "color": "green"}))[1]
    assert {cause["field"] for cause in answer["details"]["causes"]} == {"spec.size", "spec.color"}


@pytest.mark.parametrize("port", [80, "http"])
def test_int_or_string_takes_both(http: Http, path: str, port: Any) -> None:
    assert http.must("POST", path, widget("a", {"size": 1, "port": port}))["spec"]["port"] == port


def test_field_validation_has_three_modes(http: Http, path: str) -> None:
    body = widget("a", {"size": 1, "typo": 1})
    status, answer = http.call("POST", path, body, fieldValidation="Strict")
    assert (status, answer["reason"]) == (400, "BadRequest")
    assert 'unknown field "spec.typo"' in answer["message"]
    for mode, warned in (("Warn", True), ("Ignore", False)):
        url = f"{http.settings.server}{path}?fieldValidation={mode}&dryRun=All"
        headers = http.session.post(url, json=body, timeout=10).headers
        assert ('unknown field \\"spec.typo\\"' in headers.get("Warning", "")) is warned, mode


def test_apply_refuses_undeclared_fields(http: Http, path: str) -> None:
    status, answer = http.apply(f"{path}/a", widget("a", {"size": 1, "typo": 1}), "one")
    assert status == 500
    assert ".spec.typo: field not declared in schema" in answer["message"]
    assert http.apply(f"{path}/a", widget("a", {"size": 1}), "one")[0] == 201


def test_apply_merges_keyed_lists_of_the_schema(http: Http, path: str) -> None:
    http.apply(f"{path}/a", widget("a", {"size": 1, "parts": [{"name": "x"}]}), "one")
    both = http.apply(f"{path}/a", widget("a", {"parts": [{"name": "y", "count": 5}]}), "two")[1]
    assert both["spec"]["parts"] == [{"name": "x", "count": 1}, {"name": "y", "count": 5}]


def test_status_and_generation(http: Http, path: str) -> None:
    made = http.must("POST", path, widget("a", {"size": 1}, status={"phase": "faked"}))
    assert "status" not in made
    changed = http.must("PUT", f"{path}/a/status", {**made, "spec": {"size": 5}, "status": {"phase": "Ready"}})
    assert (changed["status"], changed["spec"]["size"], changed["metadata"]["generation"]) == ({"phase": "Ready"}, 1, 1)
    changed = http.patch(f"{path}/a", {"spec": {"size": 2}, "status": {"phase": "faked"}})[1]
    assert (changed["status"], changed["metadata"]["generation"]) == ({"phase": "Ready"}, 2)


def test_a_replace_needs_the_version(http: Http, path: str) -> None:
    http.must("POST", path, widget("a", {"size": 1}))
    status, answer = http.call("PUT", f"{path}/a", widget("a", {"size": 2}))
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "metadata.resourceVersion")


def test_strategic_merge_is_for_built_in_kinds(http: Http, path: str) -> None:
    http.must("POST", path, widget("a", {"size": 1}))
    assert http.patch(f"{path}/a", {"spec": {"size": 2}}, "strategic")[0] == 415


def test_lists_of_custom_objects_carry_their_kind(http: Http, path: str) -> None:
    http.must("POST", path, widget("a", {"size": 1}))
    found = http.must("GET", path)
    assert (found["kind"], found["items"][0]["kind"]) == ("WidgetList", "Widget")


def test_printer_columns(http: Http, path: str) -> None:
    http.must("POST", path, widget("a", {"size": 7}))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    found = http.session.get(http.settings.server + path, headers=accept, timeout=10).json()
    assert [column["name"] for column in found["columnDefinitions"]] == ["Name", "Size"]
    assert found["rows"][0]["cells"] == ["a", 7]


def other(name: str) -> dict[str, Any]:
    """Another definition, `<name>s.other.lab`, so that tests can change and delete it."""
    crd = definition({"type": "object", "properties": {"a": {"type": "string"}}})
    crd["metadata"]["name"] = f"{name}s.other.lab"
    crd["spec"] |= {"group": "other.lab", "names": {"plural": f"{name}s", "kind": name.capitalize()}}
    return crd


def test_objects_are_read_under_every_served_version(http: Http) -> None:
    crd = other("gadget")
    crd["spec"]["versions"].append({**crd["spec"]["versions"][0], "name": "v1beta1", "storage": False})
    http.must("POST", CRDS, crd)
    place = f"namespaces/{http.namespace()}/gadgets"
    body = {"apiVersion": "other.lab/v1beta1", "kind": "Gadget", "metadata": {"name": "a"}, "spec": {"a": "b"}}
    assert http.must("POST", f"/apis/other.lab/v1beta1/{place}", body)["apiVersion"] == "other.lab/v1beta1"
    assert http.must("GET", f"/apis/other.lab/v1/{place}/a")["apiVersion"] == "other.lab/v1"
    assert http.must("GET", f"/apis/other.lab/v1beta1/{place}")["items"][0]["apiVersion"] == "other.lab/v1beta1"
    old = http.must("GET", f"/apis/other.lab/v1beta1/{place}/a")
    assert http.must("PUT", f"/apis/other.lab/v1beta1/{place}/a", old) == old


def test_a_deleted_definition_takes_everything_with_it(http: Http) -> None:
    http.must("POST", CRDS, other("gizmo"))
    path = f"/apis/other.lab/v1/namespaces/{http.namespace()}/gizmos"
    body = {"apiVersion": "other.lab/v1", "kind": "Gizmo", "metadata": {"name": "a", "finalizers": ["test.lab/hold"]}}
    http.must("POST", path, body)
    http.must("DELETE", f"{CRDS}/gizmos.other.lab")
    conditions = http.must("GET", f"{CRDS}/gizmos.other.lab")["status"]["conditions"]
    assert "Terminating" in {condition["type"] for condition in conditions}
    assert http.must("GET", f"{path}/a")["metadata"]["deletionTimestamp"]
    assert http.call("POST", path, {**body, "metadata": {"name": "b"}})[0] == 405
    http.patch(f"{path}/a", {"metadata": {"finalizers": None}})
    assert http.call("GET", f"{CRDS}/gizmos.other.lab")[0] == 404
    assert http.call("GET", path)[0] == 404


def test_a_changed_schema_holds_at_once(http: Http) -> None:
    http.must("POST", CRDS, other("doodad"))
    path = f"/apis/other.lab/v1/namespaces/{http.namespace()}/doodads"
    body = {"apiVersion": "other.lab/v1", "kind": "Doodad", "metadata": {"name": "a"}, "spec": {"b": "c"}}
    assert http.must("POST", path, body)["spec"] == {}
    crd = http.must("GET", f"{CRDS}/doodads.other.lab")
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["b"] = {
        "type": "string"
    }
    http.must("PUT", f"{CRDS}/doodads.other.lab", crd)
    assert http.patch(f"{path}/a", {"spec": {"b": "c"}})[1]["spec"] == {"b": "c"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scope": "Everywhere"}, "spec.scope"),
        ({"group": "another.lab"}, "metadata.name"),
        ({"versions": []}, "spec.versions"),
        ({"names": {"plural": "bads"}}, "spec.names.kind"),
    ],
)
def test_bad_definitions_are_refused(http: Http, change: dict, field: str) -> None:
    crd = other("bad")
    crd["spec"] |= change
    status, answer = http.call("POST", CRDS, crd)
    assert status == 422
    assert field in {cause["field"] for cause in answer["details"]["causes"]}
