"""Create, read, replace and delete: what a Kubernetes API promises about every object."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from selftests.support.api import Http, api_server, config_map


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with api_server() as settings:
        yield Http(settings)


@pytest.fixture
def path(http: Http) -> str:
    return f"/api/v1/namespaces/{http.namespace()}/configmaps"


def pod(name: str, **spec: object) -> dict:
    containers = [{"name": "main", "image": "app:1"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def test_a_new_object_gets_its_metadata(http: Http, path: str) -> None:
    status, made = http.call("POST", path, config_map("a", {"k": "v"}, uid="mine", deletionTimestamp=None))
    assert status == 201
    assert made["metadata"]["uid"] != "mine"
    assert {"uid", "creationTimestamp", "resourceVersion", "namespace"} <= made["metadata"].keys()
    assert http.must("GET", f"{path}/a") == made


def test_a_second_object_of_a_name_is_refused(http: Http, path: str) -> None:
    http.must("POST", path, config_map("a"))
    status, answer = http.call("POST", path, config_map("a"))
    assert (status, answer["reason"]) == (409, "AlreadyExists")
    assert answer["message"] == 'configmaps "a" already exists'


def test_what_is_not_there_is_not_found(http: Http, path: str) -> None:
    status, answer = http.call("GET", f"{path}/nobody")
    assert (status, answer["reason"], answer["details"]) == (404, "NotFound", {"name": "nobody", "kind": "configmaps"})
    for unknown in ("/apis/nothing.here/v1/things", "/api/v1/things", "/nowhere", f"{path}/a/status"):
        assert http.call("GET", unknown)[0] == 404, unknown


def test_missing_and_ending_namespaces_take_no_objects(http: Http) -> None:
    status, answer = http.call("POST", "/api/v1/namespaces/missing/configmaps", config_map("a"))
    assert (status, answer["message"]) == (404, 'namespaces "missing" not found')
    name = http.namespace()
    ending = http.must("DELETE", f"/api/v1/namespaces/{name}")
    assert ending["status"]["phase"] == "Terminating"
    status, answer = http.call("POST", f"/api/v1/namespaces/{name}/configmaps", config_map("a"))
    assert (status, answer["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")


def test_a_namespace_goes_when_its_finalizer_is_taken_out(http: Http) -> None:
    path = f"/api/v1/namespaces/{http.namespace()}"
    ending = http.must("DELETE", path)
    ending["spec"]["finalizers"] = []
    http.must("PUT", path, {**ending, "spec": {}})
    assert http.call("GET", path)[0] == 200, "only /finalize may take finalizers of a namespace out"
    ending["metadata"].pop("resourceVersion")
    http.must("PUT", f"{path}/finalize", ending)
    assert http.call("GET", path)[0] == 404


def test_a_stale_replace_is_a_conflict(http: Http, path: str) -> None:
    first = http.must("POST", path, config_map("a", {"k": "1"}))
    http.must("PUT", f"{path}/a", {**first, "data": {"k": "2"}})
    status, answer = http.call("PUT", f"{path}/a", {**first, "data": {"k": "3"}})
    assert (status, answer["reason"]) == (409, "Conflict")
    assert "the object has been modified" in answer["message"]
    assert http.must("PUT", f"{path}/a", config_map("a", {"k": "4"}))["data"] == {"k": "4"}, "no version, no check"


def test_a_replace_keeps_identity(http: Http, path: str) -> None:
    first = http.must("POST", path, config_map("a"))
    second = http.must("PUT", f"{path}/a", config_map("a", {"k": "v"}))
    for field in ("uid", "creationTimestamp"):
        assert second["metadata"][field] == first["metadata"][field]
    status, answer = http.call("PUT", f"{path}/a", config_map("a", uid="another"))
    assert (status, answer["reason"]) == (409, "Conflict")


def test_a_write_that_changes_nothing_keeps_the_version(http: Http, path: str) -> None:
    first = http.must("POST", path, config_map("a", {"k": "v"}))
    assert http.must("PUT", f"{path}/a", first) == first
    assert http.patch(f"{path}/a", {"data": {"k": "v"}})[1] == first


def test_generation_counts_changes_of_the_spec_only(http: Http) -> None:
    path = f"/apis/apps/v1/namespaces/{http.namespace()}/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}

    def generation(change: dict, sub: str = "") -> int:
        return http.patch(f"{path}/d{sub}", change)[1]["metadata"]["generation"]

    assert http.must("POST", path, body)["metadata"]["generation"] == 1
    assert generation({"metadata": {"labels": {"x": "y"}}}) == 1
    assert generation({"status": {"replicas": 5}}, "/status") == 1
    assert generation({"spec": {"replicas": 2}}) == 2
    http.patch(f"{path}/d", {"metadata": {"finalizers": ["test.lab/hold"]}})
    assert http.must("DELETE", f"{path}/d")["metadata"]["generation"] == 3


def test_status_and_spec_are_written_apart(http: Http) -> None:
    path = f"/api/v1/namespaces/{http.namespace()}/pods"
    made = http.must("POST", path, {**pod("p"), "status": {"podIP": "1.2.3.4"}})
    assert "podIP" not in made["status"]
    status = {"metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "n"}, "status": {"podIP": "1.2.3.4"}}
    changed = http.patch(f"{path}/p/status", status)[1]
    assert changed["status"]["podIP"] == "1.2.3.4"
    assert "labels" not in changed["metadata"]
    assert "nodeName" not in changed["spec"]
    assert http.patch(f"{path}/p", {"status": {"podIP": "6.6.6.6"}})[1]["status"]["podIP"] == "1.2.3.4"


def test_names_are_made_of_a_prefix(http: Http, path: str) -> None:
    names = {http.must("POST", path, {"metadata": {"generateName": "x-"}})["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("x-") and len(name) == 7 for name in names)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (config_map("Upper"), "metadata.name"),
        (config_map("a", labels={"x": "not a value"}), "metadata.labels"),
        (config_map("a", {"k": 5}), "data[k]"),
        ({"metadata": {}}, "metadata.name"),
    ],
)
def test_invalid_objects_say_which_field(http: Http, path: str, body: dict, field: str) -> None:
    status, answer = http.call("POST", path, body)
    assert (status, answer["reason"]) == (422, "Invalid")
    assert [cause["field"] for cause in answer["details"]["causes"]] == [field]


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"kind":"Secret","apiVersion":"v1"}', '{"metadata":{"labels":{"a":1}}}', '{"metadata":[]}']
)
def test_nonsense_is_a_bad_request(http: Http, path: str, body: str) -> None:
    status, answer = http.call("POST", path, body)
    assert (status, answer["reason"]) == (400, "BadRequest")


def test_protobuf_is_refused_with_415(http: Http, path: str) -> None:
    status, answer = http.call("POST", path, "k8s", "application/vnd.kubernetes.protobuf")
    assert (status, answer["reason"]) == (415, "UnsupportedMediaType")


def test_dry_run_changes_nothing(http: Http, path: str) -> None:
    assert http.call("POST", path, config_map("a"), dryRun="All")[0] == 201
    assert http.call("GET", f"{path}/a")[0] == 404
    first = http.must("POST", path, config_map("a", {"k": "1"}))
    assert http.patch(f"{path}/a", {"data": {"k": "2"}}, dryRun="All")[1]["data"] == {"k": "2"}
    assert http.call("DELETE", f"{path}/a", dryRun="All")[0] == 200
    assert http.must("GET", f"{path}/a") == first


def test_lists_have_their_kind_and_one_version_for_everything(http: Http, path: str) -> None:
    for name in ("b", "a"):
        http.must("POST", path, config_map(name))
    found = http.must("GET", path)
    assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a", "b"]
    assert not any("kind" in item for item in found["items"])
    http.namespace()
    assert int(http.must("GET", path)["metadata"]["resourceVersion"]) > int(found["metadata"]["resourceVersion"])


def test_pages_are_complete(http: Http, path: str) -> None:
    wanted = [f"c{number:02}" for number in range(25)]
    for name in wanted:
        http.must("POST", path, config_map(name))
    seen, token, pages = [], "", 0
    while (token or not pages) and pages < 10:
        page = http.must("GET", path, limit="10", **({"continue": token} if token else {}))
        seen += [item["metadata"]["name"] for item in page["items"]]
        token, pages = page["metadata"].get("continue", ""), pages + 1
    assert (seen, pages) == (wanted, 3)
    assert http.call("GET", path, **{"continue": "garbage"})[0] == 400


def test_an_old_page_token_is_gone(http: Http, path: str) -> None:
    for name in ("a", "b"):
        http.must("POST", path, config_map(name))
    token = http.must("GET", path, limit="1")["metadata"]["continue"]
    http.must("POST", path, config_map("c"))
    http.must("POST", "/lab/forget-events", {})
    status, answer = http.call("GET", path, **{"limit": "1", "continue": token})
    assert (status, answer["reason"]) == (410, "Expired")


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=a", "12"),
        ("app==a,tier=x", "1"),
        ("app!=a", "34"),
        ("app in (a, b)", "123"),
        ("app notin (a)", "34"),
        ("tier", "1"),
        ("!tier", "234"),
        ("app in (a),!tier", "2"),
    ],
)
def test_label_selectors(http: Http, path: str, selector: str, names: str) -> None:
    for name, labels in {"1": {"app": "a", "tier": "x"}, "2": {"app": "a"}, "3": {"app": "b"}, "4": {}}.items():
        http.must("POST", path, config_map(name, labels=labels))
    found = http.must("GET", path, labelSelector=selector)["items"]
    assert "".join(item["metadata"]["name"] for item in found) == names


def test_field_selectors(http: Http, path: str) -> None:
    for name in ("a", "b"):
        http.must("POST", path, config_map(name))
    for selector, names in (("metadata.name=a", ["a"]), ("metadata.name!=a", ["b"]), ("metadata.name=c", [])):
        found = http.must("GET", path, fieldSelector=selector)["items"]
        assert [item["metadata"]["name"] for item in found] == names
    assert http.call("GET", path, fieldSelector="data.k=v")[0] == 400
    assert http.call("GET", path, labelSelector="a=b=c")[0] == 400


def test_finalizers_hold_an_object_until_the_last_is_gone(http: Http, path: str) -> None:
    http.must("POST", path, config_map("a", finalizers=["test.lab/one", "test.lab/two"]))
    pending = http.must("DELETE", f"{path}/a")
    assert pending["metadata"]["deletionTimestamp"]
    status, answer = http.patch(f"{path}/a", {"metadata": {"finalizers": ["test.lab/one", "test.lab/new"]}})
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "metadata.finalizers")
    assert http.patch(f"{path}/a", {"metadata": {"finalizers": ["test.lab/one"]}})[0] == 200
    assert http.must("DELETE", f"{path}/a")["metadata"] == http.must("GET", f"{path}/a")["metadata"]
    assert http.patch(f"{path}/a", {"metadata": {"finalizers": None}})[0] == 200
    assert http.call("GET", f"{path}/a")[0] == 404


def test_deletion_answers(http: Http, path: str) -> None:
    made = http.must("POST", path, config_map("a"))
    wrong = {"preconditions": {"uid": "another"}}
    assert http.call("DELETE", f"{path}/a", wrong)[0] == 409
    answer = http.must("DELETE", f"{path}/a", {"preconditions": {"uid": made["metadata"]["uid"]}})
    assert (answer["kind"], answer["status"], answer["details"]["uid"]) == (
        "Status",
        "Success",
        made["metadata"]["uid"],
    )
    assert http.call("DELETE", f"{path}/a")[0] == 404


def test_a_running_pod_has_time_to_end(http: Http) -> None:
    path = f"/api/v1/namespaces/{http.namespace()}/pods"
    http.must("POST", path, pod("p", nodeName="node1", terminationGracePeriodSeconds=7))
    ending = http.must("DELETE", f"{path}/p")
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 7
    assert http.must("GET", f"{path}/p")["metadata"]["deletionTimestamp"]
    http.must("DELETE", f"{path}/p", gracePeriodSeconds="0")
    assert http.call("GET", f"{path}/p")[0] == 404
    http.must("POST", path, pod("idle"))
    http.must("DELETE", f"{path}/idle")
    assert http.call("GET", f"{path}/idle")[0] == 404, "a pod that runs nowhere goes at once"


def test_a_selected_collection_is_deleted(http: Http, path: str) -> None:
    for name, app in (("a", "x"), ("b", "y"), ("c", "x")):
        http.must("POST", path, config_map(name, labels={"app": app}))
    http.must("DELETE", path, labelSelector="app=x")
    assert [item["metadata"]["name"] for item in http.must("GET", path)["items"]] == ["b"]


def test_orphaned_objects_lose_their_owner(http: Http, path: str) -> None:
    owner = http.must("POST", path, config_map("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    http.must("POST", path, config_map("owned", ownerReferences=[reference]))
    http.must("DELETE", f"{path}/owner", propagationPolicy="Orphan")
    assert "ownerReferences" not in http.must("GET", f"{path}/owned")["metadata"]


def test_scale_is_a_view_of_replicas(http: Http) -> None:
    path = f"/apis/apps/v1/namespaces/{http.namespace()}/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    http.must(
        "POST",
        path,
        {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}},
    )
    scale = http.must("GET", f"{path}/d/scale")
    assert (scale["kind"], scale["spec"]["replicas"], scale["status"]["selector"]) == ("Scale", 1, "a=b")
    http.must("PUT", f"{path}/d/scale", {**scale, "spec": {"replicas": 0}})
    assert http.must("GET", f"{path}/d")["spec"]["replicas"] == 0
    assert http.call("PUT", f"{path}/d/scale", {**scale, "spec": {"replicas": 3}})[0] == 409, "stale"


def test_secrets_take_plain_text(http: Http) -> None:
    path = f"/api/v1/namespaces/{http.namespace()}/secrets"
    made = http.must("POST", path, {"metadata": {"name": "s"}, "stringData": {"k": "plain"}})
    assert (made["data"], made["type"]) == ({"k": "cGxhaW4="}, "Opaque")
    assert http.patch(f"{path}/s", {"data": {"k": "not base64!"}})[0] == 422


def test_tables_for_kubectl(http: Http, path: str) -> None:
    http.must("POST", path, config_map("a", {"k": "v"}))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    url = http.settings.server + path
    found = http.session.get(url, headers=accept, timeout=10).json()
    assert (found["kind"], [column["name"] for column in found["columnDefinitions"]]) == (
        "Table",
        ["Name", "Data", "Age"],
    )
    assert found["rows"][0]["cells"][:2] == ["a", 1]
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    assert "data" not in http.session.get(url, headers=accept, timeout=10).json()["items"][0]
