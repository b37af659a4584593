"""Who may do what, injected failures, and admission webhooks."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from lab.settings import ClusterSettings
from selftests.support.api import Http, api_server, config_map


@pytest.fixture(scope="module")
def settings() -> Iterator[ClusterSettings]:
    with api_server() as running:
        yield running


@pytest.fixture
def http(settings: ClusterSettings) -> Http:
    return Http(settings)


@pytest.fixture
def path(http: Http) -> str:
    return f"/api/v1/namespaces/{http.namespace()}/configmaps"


def test_strangers_are_unauthorized(settings: ClusterSettings) -> None:
    for token in ("wrong", " "):
        status, answer = Http(settings, token).call("GET", "/api/v1/namespaces")
        assert (status, answer["reason"]) == (401, "Unauthorized")
    assert Http(settings, "wrong").call("GET", "/readyz") == (200, "ok")


def test_a_client_certificate_is_an_identity(settings: ClusterSettings) -> None:
    url = f"{settings.server}/apis/authentication.k8s.io/v1/selfsubjectreviews"
    files = (str(settings.path / "admin.crt"), str(settings.path / "admin.key"))
    answer = requests.post(url, json={}, cert=files, verify=str(settings.ca_file), timeout=10)
    user = answer.json()["status"]["userInfo"]
    assert (user["username"], "system:masters" in user["groups"]) == ("system:admin", True)


@pytest.fixture
def viewer(http: Http) -> Iterator[Http]:
    """A user who may neither list nor watch ConfigMaps, nor run anything in pods."""
    deny = [{"verbs": ["list", "watch"], "resources": ["configmaps"]}, {"resources": ["pods/exec"]}]
    http.must("POST", "/lab/users", {"token": "t1", "name": "viewer", "deny": deny})
    yield Http(http.settings, "t1")
    http.must("DELETE", "/lab/users", {"token": "t1"})


def test_restricted_users_are_told_what_is_missing(viewer: Http, path: str) -> None:
    status, answer = viewer.call("GET", path)
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert answer["message"] == (
        'configmaps is forbidden: User "viewer" cannot list resource "configmaps" '
        f'in API group "" in the namespace "{path.split("/")[4]}"'
    )


def test_restricted_users_may_do_the_rest(viewer: Http, path: str) -> None:
    assert viewer.call("POST", path, config_map("a"))[0] == 201
    assert viewer.call("POST", "/lab/faults", {"rate": 1})[0] == 403


@pytest.mark.parametrize(
    ("attributes", "allowed"),
    [
        ({"verb": "watch", "resource": "configmaps"}, False),
        ({"verb": "get", "resource": "configmaps"}, True),
        ({"verb": "create", "resource": "pods", "subresource": "exec"}, False),
    ],
)
def test_users_can_ask_what_they_may(viewer: Http, path: str, attributes: dict[str, str], allowed: bool) -> None:
    spec = {"resourceAttributes": {"namespace": path.split("/")[4], **attributes}}
    review = viewer.must("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": spec})
    assert review["status"]["allowed"] is allowed


def test_a_user_who_was_removed_is_a_stranger(http: Http, viewer: Http, path: str) -> None:
    http.must("DELETE", "/lab/users", {"token": "t1"})
    assert viewer.call("GET", path)[0] == 401


def test_a_service_account_token_is_an_identity(http: Http) -> None:
    namespace = http.namespace()
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    http.must("POST", path, {"metadata": {"name": "bot"}})
    token = http.must("POST", f"{path}/bot/token", {"spec": {}})["status"]["token"]
    review = Http(http.settings, token).must("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert review["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:bot"


@pytest.fixture
def faulty(http: Http) -> Iterator[Callable[..., None]]:
    def start(**body: Any) -> None:
        http.must("POST", "/lab/faults", body)

    yield start
    http.must("POST", "/lab/faults", {"rate": 0})


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("429", 429, "TooManyRequests"),
        ("500", 500, "InternalError"),
        ("503", 503, "ServiceUnavailable"),
    ],
)
def test_faults_answer_as_troubled_servers_do(
    http: Http, path: str, faulty: Callable[..., None], kind: str, status: int, reason: str
) -> None:
    faulty(rate=1, kinds=[kind])
    assert http.call("GET", path)[0] == status
    assert http.call("GET", path)[1]["reason"] == reason
    assert http.must("GET", "/lab/faults")["made"] == {kind: 2}


@pytest.mark.parametrize(("how", "status"), [("404", 404), ("403", 403), ("503", 503)])
def test_a_hidden_resource_is_refused_to_all_but_the_lab(
    http: Http, path: str, faulty: Callable[..., None], how: str, status: int
) -> None:
    plural = path.rsplit("/", 1)[-1]
    faulty(rate=0, hidden={plural: how})
    assert (http.call("GET", path)[0], http.call("GET", f"{path}/x")[0]) == (status, status)
    http.session.headers["X-Lab-Component"] = "selftest"
    assert http.call("GET", path)[0] == 200
    del http.session.headers["X-Lab-Component"]


def test_an_emptied_resource_has_no_objects(http: Http, path: str, faulty: Callable[..., None]) -> None:
    http.must("POST", path, {"metadata": {"name": "hidden"}})
    faulty(rate=0, hidden={path.rsplit("/", 1)[-1]: "empty"})
    assert http.must("GET", path)["items"] == []
    assert http.call("GET", f"{path}/hidden")[0] == 404


def test_a_busy_server_says_when_to_come_back(http: Http, path: str, faulty: Callable[..., None]) -> None:
    faulty(rate=1, kinds=["429"])
    assert http.session.get(http.settings.server + path, timeout=10).headers["Retry-After"] == "1"


def test_conflicts_are_injected_into_writes_only(http: Http, path: str, faulty: Callable[..., None]) -> None:
    http.must("POST", path, config_map("a"))
    faulty(rate=1, kinds=["conflict"])
    assert http.call("GET", f"{path}/a")[0] == 200
    assert http.patch(f"{path}/a", {"data": {}})[1]["reason"] == "Conflict"


def test_connections_are_reset(http: Http, path: str, faulty: Callable[..., None]) -> None:
    faulty(rate=1, kinds=["reset"])
    with pytest.raises(requests.ConnectionError):
        http.call("GET", path)


def test_watches_end_early_or_expire(http: Http, path: str, faulty: Callable[..., None]) -> None:
    faulty(rate=1, kinds=["watch-end"])
    assert list(http.events(path, timeoutSeconds="600")) == []
    faulty(rate=1, kinds=["watch-410"])
    (event,) = http.events(path, timeoutSeconds="600")
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_the_share_of_failures_is_the_one_asked_for_and_repeatable(
    http: Http, path: str, faulty: Callable[..., None]
) -> None:
    runs = []
    for _ in range(2):
        faulty(rate=0.3, kinds=["500"], seed=7)
        runs.append([http.call("GET", path)[0] for _ in range(200)])
    assert runs[0] == runs[1]
    assert 30 < runs[0].count(500) < 90


def test_the_labs_own_components_are_spared(http: Http, path: str, faulty: Callable[..., None]) -> None:
    faulty(rate=1, kinds=["500"])
    http.session.headers["X-Lab-Component"] = "operator"
    assert http.call("GET", path)[0] == 200
    http.must("POST", "/lab/faults", {"rate": 1, "kinds": ["500"], "all": True})
    assert http.call("GET", path)[0] == 500


@pytest.mark.parametrize("body", [{"rate": 2}, {"rate": 0.5, "kinds": ["flood"]}, {}, []])
def test_bad_faults_are_refused(http: Http, body: Any) -> None:
    assert http.call("POST", "/lab/faults", body)[0] == 400


class Hook:
    """An admission webhook; `answer(request)` gives the response, or an HTTP status instead."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.seen: list[dict] = []
        self.answer: Callable[[dict], dict | int] = lambda _: {"allowed": True}
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.seen.append(review["request"])
                response = hook.answer(review["request"])
                self.send_response(response if isinstance(response, int) else 200)
                self.end_headers()
                if isinstance(response, dict):
                    response = {"uid": review["request"]["uid"], **response}
                    self.wfile.write(json.dumps({**review, "response": response}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((settings.block.node, 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(settings.path / "webhook.crt", settings.path / "webhook.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://{settings.block.node}:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def hook(settings: ClusterSettings) -> Iterator[Hook]:
    running = Hook(settings)
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def configure(http: Http, hook: Hook, path: str) -> Iterator[Callable[..., None]]:
    made: list[str] = []

    def create(kind: str, **changes: Any) -> None:
        rule = {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["configmaps"],
            "operations": ["CREATE", "UPDATE"],
        }
        bundle = base64.b64encode(http.settings.ca_file.read_bytes()).decode()
        webhook = {
            "name": "config.test.lab",
            "clientConfig": {"url": hook.url, "caBundle": bundle},
            "rules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": path.split("/")[4]}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            **changes,
        }
        target = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations"
        http.must("POST", target, {"metadata": {"name": "test"}, "webhooks": [webhook]})
        made.append(f"{target}/test")

    yield create
    for target in made:
        http.must("DELETE", target)


def adding(data: dict[str, str]) -> Callable[[dict], dict]:
    """The answer of a webhook that gives every object this data."""
    patch = base64.b64encode(json.dumps([{"op": "add", "path": "/data", "value": data}]).encode()).decode()
    return lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": patch}


def test_a_webhook_changes_objects(http: Http, path: str, hook: Hook, configure: Callable[..., None]) -> None:
    hook.answer = adding({"from": "hook"})
    configure("mutating")
    assert http.must("POST", path, config_map("a"))["data"] == {"from": "hook"}
    http.patch(f"{path}/a", {"metadata": {"labels": {"x": "y"}}})
    create, update = hook.seen
    assert (create["operation"], create["oldObject"], create["object"]["metadata"]["name"]) == ("CREATE", None, "a")
    assert (update["operation"], update["oldObject"]["data"]) == ("UPDATE", {"from": "hook"})
    assert create["userInfo"]["username"] == "system:admin"


def test_a_webhook_denies(http: Http, path: str, hook: Hook, configure: Callable[..., None]) -> None:
    hook.answer = lambda _: {"allowed": False, "status": {"message": "not like this", "code": 403}}
    configure("validating")
    status, answer = http.call("POST", path, config_map("a"))
    assert status == 403
    assert answer["message"] == 'admission webhook "config.test.lab" denied the request: not like this'
    assert http.apply(f"{path}/a", config_map("a"), "one")[0] == 403
    assert http.call("GET", f"{path}/a")[0] == 404
    elsewhere = f"/api/v1/namespaces/{http.namespace()}/configmaps"
    assert http.call("POST", elsewhere, config_map("a"))[0] == 201, "not of the namespaces it asks for"
    assert http.call("POST", path.replace("configmaps", "secrets"), {"metadata": {"name": "a"}})[0] == 201


def test_a_broken_webhook_fails_or_is_ignored(
    http: Http, path: str, hook: Hook, configure: Callable[..., None]
) -> None:
    hook.answer = lambda _: 500
    configure("validating")
    status, answer = http.call("POST", path, config_map("a"))
    assert (status, answer["reason"]) == (500, "InternalError")
    assert 'failed calling webhook "config.test.lab"' in answer["message"]
    configuration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/test"
    http.patch(configuration, [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}], "json")
    assert http.call("POST", path, config_map("a"))[0] == 201


class Slow:
    """The answer of a webhook that thinks about the first object with data `slow` until it may `proceed`."""

    def __init__(self) -> None:
        self.reached, self.proceed = threading.Event(), threading.Event()

    def __call__(self, request: dict) -> dict:
        if request["object"]["data"].get("slow") and not self.reached.is_set():
            self.reached.set()
            self.proceed.wait(10)
        return {"allowed": True}


def test_changes_made_while_a_webhook_thinks_are_not_lost(
    http: Http, path: str, hook: Hook, configure: Callable[..., None]
) -> None:
    http.must("POST", path, config_map("a", {"k": "0"}))
    hook.answer = slow = Slow()
    configure("validating")
    first = threading.Thread(target=Http(http.settings).patch, args=(f"{path}/a", {"data": {"slow": "1"}}))
    first.start()
    assert slow.reached.wait(10)
    http.patch(f"{path}/a", {"data": {"fast": "1"}})
    slow.proceed.set()
    first.join(10)
    assert http.must("GET", f"{path}/a")["data"] == {"k": "0", "slow": "1", "fast": "1"}
