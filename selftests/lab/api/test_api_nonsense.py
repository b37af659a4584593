"""Whatever clients send, the API answers with a Status of theirs, and goes on."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from selftests.support.api import Http, api_server, definition, widget

_CONTAINERS = [
    {
        "name": "c",
        "image": "i:1",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
    }
]
_TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": _CONTAINERS, "volumes": [{"name": "v"}]}}
_META = {"labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": []}
_BODIES: dict[str, dict[str, Any]] = {
    "api/v1 pods": {"spec": _TEMPLATE["spec"], "status": {"phase": "Running"}},
    "api/v1 services": {"spec": {"ports": [{"port": 80, "name": "http"}], "selector": {"a": "b"}, "type": "ClusterIP"}},
    "api/v1 configmaps": {"data": {"a": "b"}},
    "api/v1 secrets": {"data": {"a": "Yg=="}, "stringData": {"b": "c"}},
    "api/v1 endpoints": {"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 80}]}]},
    "api/v1 events": {"involvedObject": {"kind": "Pod", "name": "p"}, "lastTimestamp": "2026-01-01T00:00:00Z"},
    "apis/apps/v1 deployments": {
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"a": "b"}},
            "template": _TEMPLATE,
            "strategy": {"type": "RollingUpdate"},
        }
    },
    "apis/rbac.authorization.k8s.io/v1 rolebindings": {
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}],
    },
    "apis/networking.k8s.io/v1 networkpolicies": {"spec": {"podSelector": {}, "egress": []}},
    "apis/test.lab/v1 widgets": {"spec": {"size": 1, "list": [{"name": "a", "deep": {"er": "x"}}]}},
}
_JUNK = [None, 0, -1, 1.5, True, "", "x", "ä\n", [], ["x"], [[]], {}, {"x": []}, {"": None}, 2**40]


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with api_server() as settings:
        client = Http(settings)
        item = {"type": "object", "properties": {"name": {"type": "string"}, "deep": {"type": "object"}}}
        items = {
            "type": "array",
            "items": item,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        }
        spec = {"type": "object", "properties": {"size": {"type": "integer"}, "list": items}}
        client.must("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(spec))
        yield client


def broken(body: Any, dice: random.Random) -> Any:
    """The body with one place of it replaced by junk."""
    body = copy.deepcopy(body)
    current, places = body, []
    stack = [body]
    while stack:
        current = stack.pop()
        keys = list(current) if isinstance(current, dict) else range(len(current))
        places += [(current, key) for key in keys]
        stack += [current[key] for key in keys if isinstance(current[key], dict | list)]
    target, key = dice.choice(places)
    target[key] = dice.choice(_JUNK)
    return body


@pytest.mark.parametrize("kind", _BODIES)
def test_broken_objects_are_the_clients_fault(http: Http, kind: str) -> None:
    dice = random.Random(kind)
    prefix, plural = kind.split()
    path = f"/{prefix}/namespaces/{http.namespace()}/{plural}"
    named = widget("x", {}) if plural == "widgets" else {}
    for number in range(60):
        name = f"n{number}"
        good = {**named, "metadata": {**_META, "name": name}, **_BODIES[kind]}
        answers = [
            ("create", http.call("POST", path, broken(good, dice))),
            ("good", http.call("POST", path, good)),
            ("replace", http.call("PUT", f"{path}/{name}", broken(good, dice))),
            ("merge", http.patch(f"{path}/{name}", broken(good, dice))),
            ("strategic", http.patch(f"{path}/{name}", broken(good, dice), "strategic")),
            ("json", http.patch(f"{path}/{name}", broken([{"op": "add", "path": "/data", "value": {}}], dice), "json")),
        ]
        for what, (status, answer) in answers:
            assert status < 500, f"{what} answered {answer}"
    for accept in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
        answer = http.session.get(http.settings.server + path, headers={"Accept": accept}, timeout=20)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("kind", ["api/v1 services", "apis/apps/v1 deployments", "apis/test.lab/v1 widgets"])
def test_broken_configurations_are_refused_by_apply(http: Http, kind: str) -> None:
    dice = random.Random(kind)
    prefix, plural = kind.split()
    path = f"/{prefix}/namespaces/{http.namespace()}/{plural}"
    names = {"services": "Service", "deployments": "Deployment", "widgets": "Widget"}
    head = {"apiVersion": prefix.split("/", 1)[1], "kind": names[plural], "metadata": {**_META, "name": "n"}}
    for _ in range(80):
        status, answer = http.apply(f"{path}/n", broken({**head, **_BODIES[kind]}, dice), "me", force="true")
        assert status < 500 or "field not declared in schema" in answer["message"], answer


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "/api/v1/namespaces/a/b/c/d/e/f",
        "/apis//v1/x",
        "/api/v2/pods",
        "/apis/apps/v1/pods",
        "/openapi/v2",
        "/openapi/v3/apis/none/v1",
        "/lab/none",
        "/api/v1/namespaces/default/pods/p/unknown",
        "/api/v1/nodes/n/log",
        "/api/v1/namespaces/%00/pods/%2e%2e",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_strange_paths_and_methods_are_refused(http: Http, method: str, path: str) -> None:
    status, _ = http.call(method, path, {} if method != "GET" else None)
    assert status < 500


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "x"},
        {"timeoutSeconds": "-1", "watch": "1"},
        {"resourceVersion": "x", "watch": "1"},
        {"labelSelector": "((("},
        {"fieldSelector": "=,="},
        {"continue": "e30="},
    ],
)
def test_strange_parameters_are_refused(http: Http, params: dict[str, str]) -> None:
    status, answer = http.call("GET", "/api/v1/configmaps", **params)
    assert 400 <= status < 500, answer


def test_broken_definitions_break_nothing_else(http: Http) -> None:
    dice = random.Random("definitions")
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    path = f"/apis/broken.lab/v1/namespaces/{http.namespace()}/widgets"
    item = {"type": "object", "properties": {"name": {"type": "string", "enum": ["a"], "maxLength": 5}}}
    items = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    good = definition({"type": "object", "required": ["list"], "properties": {"list": items, "n": {"minimum": 1}}})
    good["metadata"]["name"] = "widgets.broken.lab"
    good["spec"]["group"] = "broken.lab"
    body = {**widget("a", {"list": [{"name": "a"}], "n": 3}), "apiVersion": "broken.lab/v1"}
    for _ in range(150):
        status, answer = http.call("POST", crds, broken(good, dice))
        assert status < 500, answer
        for method, target, sent in (("POST", path, body), ("GET", path, None), ("GET", "/openapi/v3", None)):
            status, answer = http.call(method, target, sent)
            assert status < 500, answer
        status, answer = http.apply(f"{path}/b", {**body, "metadata": {"name": "b"}}, "me")
        assert status < 500 or "field not declared in schema" in answer["message"], answer
        for made in http.must("GET", crds)["items"]:
            http.must("DELETE", f"{crds}/{made['metadata']['name']}")
