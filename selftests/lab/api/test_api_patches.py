"""The four kinds of patch: JSON, merge, strategic merge and server-side apply."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from lab.api.objects.apply import apply
from lab.api.objects.kinds import register
from lab.api.objects.patch import strategic_patch
from lab.api.objects.registry import Registry
from lab.api.schema import fieldsets
from lab.api.schema.errors import StatusError
from lab.api.schema.fieldsets import Manager, Managers
from lab.api.schema.schema import Node
from selftests.support.api import Http, api_server, config_map


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with api_server() as settings:
        yield Http(settings)


@pytest.fixture
def path(http: Http) -> str:
    return f"/api/v1/namespaces/{http.namespace()}/configmaps"


def test_a_merge_patch_sets_and_removes(http: Http, path: str) -> None:
    made = http.must("POST", path, config_map("a", {"keep": "1", "drop": "2"}))
    changed = http.patch(f"{path}/a", {"data": {"drop": None, "new": "3"}})[1]
    assert changed["data"] == {"keep": "1", "new": "3"}
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"x": "y"}}
    assert http.patch(f"{path}/a", stale)[1]["reason"] == "Conflict"
    assert http.patch(f"{path}/nobody", {"data": {}})[0] == 404
    assert http.patch(f"{path}/a", {"metadata": {"name": "b"}})[0] == 400


def test_a_json_patch_tests_first(http: Http, path: str) -> None:
    http.must("POST", path, config_map("a", {"k": "1"}))
    replace = {"op": "replace", "path": "/data/k", "value": "2"}
    failing = [{"op": "test", "path": "/data/k", "value": "9"}, replace]
    assert http.patch(f"{path}/a", failing, "json")[0] == 422
    assert http.patch(f"{path}/a", [{"op": "remove", "path": "/data/none"}], "json")[0] == 422
    assert http.patch(f"{path}/a", {"op": "add"}, "json")[0] == 400
    passing = [{"op": "test", "path": "/data/k", "value": "1"}, replace]
    assert http.patch(f"{path}/a", passing, "json")[1]["data"] == {"k": "2"}


def test_other_patch_types_are_refused(http: Http, path: str) -> None:
    http.must("POST", path, config_map("a"))
    assert http.call("PATCH", f"{path}/a", {}, "application/json")[0] == 415


def node_of(group: str, plural: str) -> Node:
    registry = Registry()
    register(registry)
    kind = registry.get(group, plural)
    assert kind is not None
    return kind.versions["v1"].node


POD_SPEC = {
    "containers": [
        {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
        {"name": "b", "image": "b:1", "args": ["one", "two"]},
    ]
}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        pytest.param(
            {"containers": [{"name": "b", "image": "b:2"}]},
            [POD_SPEC["containers"][0], {"name": "b", "image": "b:2", "args": ["one", "two"]}],
            id="items-by-name",
        ),
        pytest.param(
            {"containers": [{"name": "b", "$patch": "delete"}]}, [POD_SPEC["containers"][0]], id="delete-directive"
        ),
        pytest.param(
            {"containers": [{"name": "b", "args": ["three"]}]},
            [POD_SPEC["containers"][0], {"name": "b", "image": "b:1", "args": ["three"]}],
            id="plain-lists-are-replaced",
        ),
        pytest.param(
            {"containers": [{"name": "a", "env": [{"name": "Y", "value": "3"}, {"name": "Z", "value": "4"}]}]},
            [
                {
                    "name": "a",
                    "image": "a:1",
                    "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}, {"name": "Z", "value": "4"}],
                },
                POD_SPEC["containers"][1],
            ],
            id="nested-keys",
        ),
        pytest.param(
            {"containers": [{"$patch": "replace"}, {"name": "c", "image": "c:1"}]},
            [{"name": "c", "image": "c:1"}],
            id="replace-directive",
        ),
        pytest.param(
            {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]},
            [POD_SPEC["containers"][1], POD_SPEC["containers"][0]],
            id="order",
        ),
    ],
)
def test_strategic_merge_knows_the_lists_of_pods(patch: dict, expected: list) -> None:
    target = {"spec": copy.deepcopy(POD_SPEC)}
    result = strategic_patch(target, {"spec": patch}, node_of("", "pods"))
    assert result["spec"]["containers"] == expected
    assert target == {"spec": POD_SPEC}, "the object before must stay as it was"


def test_strategic_merge_unites_finalizers() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}}
    node = node_of("", "configmaps")
    assert strategic_patch(target, {"metadata": {"finalizers": ["c"]}}, node)["metadata"]["finalizers"] == [
        "a",
        "b",
        "c",
    ]
    drop = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic_patch(target, drop, node)["metadata"]["finalizers"] == ["b"]


def test_a_strategic_patch_reaches_service_ports(http: Http) -> None:
    path = f"/api/v1/namespaces/{http.namespace()}/services"
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    http.must("POST", path, {"metadata": {"name": "s"}, "spec": {"ports": ports}})
    changed = http.patch(f"{path}/s", {"spec": {"ports": [{"port": 81, "targetPort": 8081}]}}, "strategic")[1]
    assert [(port["name"], port["targetPort"]) for port in changed["spec"]["ports"]] == [("a", 80), ("b", 8081)]


def managers(obj: dict) -> dict[tuple[str, str], dict]:
    return {(e["manager"], e["operation"]): e["fieldsV1"] for e in obj["metadata"]["managedFields"]}


def test_apply_creates_and_owns(http: Http, path: str) -> None:
    status, made = http.apply(f"{path}/a", config_map("a", {"k": "1"}, labels={"x": "y"}), "one")
    assert status == 201
    assert managers(made) == {("one", "Apply"): {"f:data": {"f:k": {}}, "f:metadata": {"f:labels": {"f:x": {}}}}}
    assert http.apply(f"{path}/a", config_map("a", {"k": "1"}, labels={"x": "y"}), "one") == (200, made)


def test_apply_needs_a_manager(http: Http, path: str) -> None:
    status, answer = http.patch(f"{path}/a", config_map("a"), "apply")
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "fieldManager")


def test_apply_reads_yaml(http: Http, path: str) -> None:
    body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  day: '2026-01-01'\n"
    status, made = http.call("PATCH", f"{path}/a", body, "application/apply-patch+yaml", fieldManager="one")
    assert (status, made["data"]) == (201, {"day": "2026-01-01"})


def test_what_another_owns_is_a_conflict_until_forced(http: Http, path: str) -> None:
    http.apply(f"{path}/a", config_map("a", {"k": "1", "l": "1"}), "one")
    status, answer = http.apply(f"{path}/a", config_map("a", {"k": "2", "l": "2"}), "two")
    assert (status, answer["reason"]) == (409, "Conflict")
    causes = {(cause["reason"], cause["field"]) for cause in answer["details"]["causes"]}
    assert causes == {("FieldManagerConflict", ".data.k"), ("FieldManagerConflict", ".data.l")}
    assert 'conflicts with "one"' in answer["message"]
    status, forced = http.apply(f"{path}/a", config_map("a", {"k": "2"}), "two", force="true")
    assert (status, forced["data"]) == (200, {"k": "2", "l": "1"})
    assert managers(forced) == {("one", "Apply"): {"f:data": {"f:l": {}}}, ("two", "Apply"): {"f:data": {"f:k": {}}}}


def test_equal_values_are_owned_together(http: Http, path: str) -> None:
    http.apply(f"{path}/a", config_map("a", {"k": "1"}), "one")
    http.apply(f"{path}/a", config_map("a", {"k": "1"}), "two")
    left = http.apply(f"{path}/a", config_map("a"), "one")[1]
    assert left["data"] == {"k": "1"}, "two still owns it"
    gone = http.apply(f"{path}/a", config_map("a"), "two")[1]
    assert "data" not in gone
    assert "managedFields" not in gone["metadata"]


def test_an_update_takes_ownership_of_what_it_changes(http: Http, path: str) -> None:
    http.apply(f"{path}/a", config_map("a", {"k": "1", "l": "1"}), "one")
    changed = http.patch(f"{path}/a", {"data": {"k": "2", "m": "3"}}, fieldManager="editor")[1]
    assert managers(changed) == {
        ("one", "Apply"): {"f:data": {"f:l": {}}},
        ("editor", "Update"): {"f:data": {"f:k": {}, "f:m": {}}},
    }
    changed = http.patch(f"{path}/a", {"data": {"m": None}}, fieldManager="editor")[1]
    assert managers(changed)["editor", "Update"] == {"f:data": {"f:k": {}}}, "what is gone belongs to nobody"
    status, answer = http.apply(f"{path}/a", config_map("a", {"k": "1"}), "one")
    assert status == 409
    assert 'conflict with "editor" using v1: .data.k' in answer["message"]


def test_keyed_lists_are_merged_and_dropped_by_key(http: Http) -> None:
    path = f"/api/v1/namespaces/{http.namespace()}/services"

    def service(*ports: int) -> dict:
        listed = [{"name": f"p{port}", "port": port} for port in ports]
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": listed}}

    def ports(answer: tuple[int, Any]) -> list[int]:
        assert answer[0] < 300, answer
        return [port["port"] for port in answer[1]["spec"]["ports"]]

    assert ports(http.apply(f"{path}/s", service(80, 81), "one")) == [80, 81]
    assert ports(http.apply(f"{path}/s", service(82), "two")) == [80, 81, 82]
    assert ports(http.apply(f"{path}/s", service(81), "one")) == [81, 82]


def test_status_is_applied_apart(http: Http) -> None:
    path = f"/api/v1/namespaces/{http.namespace()}/pods"
    spec = {"containers": [{"name": "c", "image": "i:1"}]}
    pod: dict = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    http.apply(f"{path}/p", pod, "user")
    condition = {"type": "Ready", "status": "True"}
    status = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {"conditions": [condition]}}
    changed = http.apply(f"{path}/p/status", status, "kubelet")[1]
    assert changed["status"]["conditions"] == [condition]
    entry = next(e for e in changed["metadata"]["managedFields"] if e["manager"] == "kubelet")
    assert entry["subresource"] == "status"
    assert http.apply(f"{path}/p", pod, "user")[1]["status"]["conditions"] == [condition]


@pytest.mark.parametrize("seed", range(60))
def test_apply_keeps_its_promises_on_random_objects(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was applied is there, what others own stays, a second apply changes nothing, all gone leaves nothing."""
    seconds = itertools.count()
    monkeypatch.setattr(fieldsets, "now", lambda: str(next(seconds)))
    dice, node = random.Random(seed), node_of("", "services")
    live: dict = {}
    owners, wanted = Managers(), {}
    for _ in range(12):
        name = dice.choice(["one", "two", "three"])
        manager = Manager(name, "Apply", "v1", "")
        config = random_service(dice)
        try:
            live, owners = apply(live, config, node, owners, manager, dice.random() < 0.7)
        except StatusError:
            continue
        wanted[name] = config
        assert apply(live, config, node, owners, manager, False) == (live, owners)
        assert includes(live, config), (live, config)
        mentioned = {port["port"] for other in wanted.values() for port in other["spec"]["ports"]}
        assert {port["port"] for port in live["spec"].get("ports", [])} <= mentioned
    for name in wanted:
        live, owners = apply(live, {"metadata": {"name": "s"}}, node, owners, Manager(name, "Apply", "v1", ""), False)
    assert (live, owners) == ({"metadata": {"name": "s"}}, {})


def random_service(dice: random.Random) -> dict:
    ports = [{"port": port, "name": dice.choice("xyz")} for port in dice.sample(range(80, 84), dice.randint(1, 3))]
    labels = {key: dice.choice("12") for key in dice.sample("abc", dice.randint(1, 2))}
    return {"metadata": {"name": "s", "labels": labels}, "spec": {"ports": ports}}


def includes(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(k in whole and includes(whole[k], v) for k, v in part.items())
    if isinstance(part, list):
        return all(any(includes(found, item) for found in whole) for item in part)
    return bool(whole == part)
