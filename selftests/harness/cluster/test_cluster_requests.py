"""Requests to a troubled API server: what is repeated, what is not, and what people are told."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.cluster import streams, transport
from harness.cluster.cluster import Cluster
from harness.cluster.errors import QuotaExceeded, WebhookFailed
from harness.cluster.kinds import CONFIG_MAP, PEER, POD
from harness.cluster.transport import (
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    KubeconfigError,
    NotFound,
    ServerError,
    Unauthorized,
    Unreachable,
)
from harness.run.waiting import Cancelled, WaitTimeout, pause, wait_for
from selftests.support.scripted_api import Reply, ScriptedApi

FOUND = Reply(body={"metadata": {"name": "x"}})


@pytest.fixture
def scripted(tmp_path):
    """A Cluster and the scripted server behind it."""
    with contextlib.ExitStack() as stack:

        def build(*replies, patience=30.0, context=None):
            api = ScriptedApi(*replies)
            file = stack.enter_context(api.running(tmp_path / "kubeconfig"))
            cluster = Cluster("mesh1", file, context, patience)
            stack.callback(cluster.close)
            return cluster, api

        yield build


def listed(version, *names):
    items = [{"metadata": {"name": name, "resourceVersion": version}} for name in names]
    return Reply(body={"metadata": {"resourceVersion": version}, "items": items})


def event(kind, name, version):
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": version}}}


@pytest.mark.parametrize("trouble", [Reply(429, headers={"retry-after": "0"}), Reply(500), Reply(503), Reply(0)])
def test_a_read_is_repeated_until_it_is_answered(scripted, trouble):
    cluster, api = scripted(trouble, trouble, FOUND)
    assert cluster.get(POD, "x", "n")["metadata"]["name"] == "x"
    assert len(api.requests) == 3


def test_an_apply_is_repeated_since_it_may_be(scripted):
    cluster, api = scripted(Reply(500, {"message": "failed calling webhook"}), FOUND)
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n"}})
    assert [method for method, _, _ in api.requests] == ["PATCH", "PATCH"]


@pytest.mark.parametrize(
    ("reply", "error", "advice"),
    [
        (Reply(403, {"message": 'services "x" is forbidden: exceeded quota: few'}), QuotaExceeded, "ResourceQuota"),
        (Reply(403, {"message": 'services "x" is forbidden: User "u" cannot'}), Forbidden, "a Role with this"),
        (
            Reply(500, {"message": 'failed calling webhook "smcp.x.io": connection refused'}),
            WebhookFailed,
            "they listen",
        ),
    ],
    ids=["quota", "no Role", "webhook"],
)
def test_what_refuses_a_write_is_told_apart_by_its_remedy(scripted, reply, error, advice):
    cluster, _ = scripted(reply, reply, patience=0.0)
    with pytest.raises(error, match=advice) as raised:
        cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "n"}})
    assert type(raised.value) is error


@pytest.mark.timeout(25)  # a log that is silent has 60 s, where somebody has as much patience
def test_a_log_that_stays_silent_ends_with_the_patience(scripted, monkeypatch):
    monkeypatch.setattr(streams, "CONNECT_SECONDS", 1.0)
    cluster, api = scripted(Reply(late=True), patience=1.0)
    try:
        with pytest.raises(Unreachable):
            list(cluster.logs("n", "pod", "c"))
    finally:
        api.end.set()


def test_a_webhook_that_fails_is_no_sign_that_the_api_server_is_gone(scripted):
    refused = Reply(500, {"message": 'failed calling webhook "smcp.x.io": connection refused'})
    cluster, _ = scripted(refused, refused, patience=0.0)
    with pytest.raises(WebhookFailed) as raised:
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n"}})
    assert (raised.value.webhook, raised.value.lasting) == ("smcp.x.io", False)


@pytest.mark.parametrize(("trouble", "error"), [(Reply(503), ServerError), (Reply(0), Unreachable)])
def test_a_create_that_may_have_happened_is_not_repeated(scripted, trouble, error):
    cluster, api = scripted(trouble, FOUND)
    with pytest.raises(error):
        cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n"}})
    assert len(api.requests) == 1


@pytest.mark.parametrize("write", ["apply", "patch", "delete"])
def test_a_write_that_met_another_one_is_repeated(scripted, write):
    cluster, api = scripted(Reply(409, {"message": "changed"}), FOUND)
    if write == "apply":
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n"}})
    elif write == "patch":
        cluster.patch(CONFIG_MAP, "x", "n", {"data": {"a": "b"}})
    else:
        cluster.delete(CONFIG_MAP, "x", "n")
    assert len(api.requests) == 2


def test_a_write_on_a_version_that_is_gone_is_not_repeated(scripted):
    cluster, api = scripted(Reply(409, {"message": "changed"}), FOUND)
    with pytest.raises(Conflict):
        cluster.patch(CONFIG_MAP, "x", "n", {"metadata": {"resourceVersion": "1"}, "data": {"a": "b"}})
    assert len(api.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_command_that_did_not_begin_is_asked_for_again(scripted, status):
    cluster, api = scripted(Reply(status), Reply(status), Reply(403))
    with pytest.raises(ClusterError, match="403"):
        cluster.exec("n", "pod", "c", ["true"])
    assert len(api.requests) == 3


def test_a_create_that_was_turned_away_is_repeated(scripted):
    cluster, api = scripted(Reply(429, headers={"retry-after": "0"}), FOUND)
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n"}})
    assert len(api.requests) == 2


def test_trouble_that_persists_is_reported_with_mesh_and_words(scripted):
    cluster, _ = scripted(Reply(500, {"message": "etcd is on fire"}), patience=0)
    with pytest.raises(ServerError, match=r"mesh1: GET http://.*pods/x.*: 500 etcd is on fire"):
        cluster.get(POD, "x", "n")


def test_a_server_with_which_patience_was_in_vain_gets_it_again_once_it_answers(scripted, monkeypatch):
    monkeypatch.setattr(transport, "_GONE_PATIENCE", 0.05)
    cluster, api = scripted(Reply(503), patience=1.0)
    asked = []
    for then in (Reply(503), Reply(503), FOUND, Reply(503)):
        api.replies[:], before = [then], len(api.requests)
        with contextlib.suppress(ServerError):
            cluster.get(POD, "x", "n")
        asked.append(len(api.requests) - before)
    assert asked[1:3] == [2, 1]
    assert min(asked[0], asked[3]) > 2


def test_a_refused_token_is_read_again_from_the_kubeconfig(scripted):
    cluster, api = scripted(Reply(401), FOUND)
    api.write_kubeconfig(cluster.kubeconfig, "second")
    cluster.get(POD, "x", "n")
    assert [token for _, _, token in api.requests] == ["first", "second"]


@pytest.mark.parametrize(
    ("status", "error"), [(403, Forbidden), (404, NotFound), (409, Conflict), (422, Invalid), (400, Invalid)]
)
def test_what_the_server_refuses_is_not_asked_twice(scripted, status, error):
    cluster, api = scripted(Reply(status, {"message": "because"}), context="admin")
    with pytest.raises(error, match=r"context admin.*because"):
        cluster.get(PEER, "mesh2", "mesh1-system")
    assert len(api.requests) == 1


def test_an_error_says_what_to_do(scripted):
    cluster, _ = scripted(Reply(403, {"message": "pods is forbidden"}))
    with pytest.raises(Forbidden, match="Ask an administrator"):
        cluster.list(POD, "n")


@pytest.mark.parametrize(
    ("reply", "words"),
    [(Reply(0), "Connection aborted: Remote end closed"), (Reply(late=True), "Read timed out. (read timeout=0.2)")],
)
def test_no_answer_is_told_without_the_client_s_own_objects(scripted, monkeypatch, reply, words):
    monkeypatch.setattr(transport, "READ_SECONDS", 0.2)
    cluster, _ = scripted(reply, patience=0)
    with pytest.raises(Unreachable, match=re.escape(f"no answer: {words}")) as error:
        cluster.get(POD, "x", "n")
    assert not re.search(r"<|\bobject\b|HTTPS?Connection|Error\(", str(error.value))


def test_an_unknown_context_is_an_error_of_the_kubeconfig(scripted):
    with pytest.raises(KubeconfigError, match="context nowhere"):
        scripted(FOUND, context="nowhere")


def test_a_wait_goes_on_when_the_watch_ends(scripted):
    replies = [listed("1"), Reply(lines=[event("ADDED", "a", "2")]), Reply(lines=[event("ADDED", "b", "3")])]
    cluster, api = scripted(*replies)
    found = cluster.wait("two", POD, "n", until=lambda pods: len(pods) == 2 and pods, timeout=30)
    assert {pod["metadata"]["name"] for pod in found} == {"a", "b"}
    assert "resourceVersion=2" in api.requests[-1][1]


GONE_AGAIN = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
ENDS_AT_ONCE = {
    "nothing": (listed("1"), Reply(lines=[])),
    "bookmarks": (listed("1"), Reply(lines=[{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "1"}}}])),
    "what is known": (listed("1"), Reply(lines=[event("ADDED", "a", "2")])),
    "no version": (*(listed("1"), Reply(lines=[GONE_AGAIN])) * 20, listed("1")),
}


@pytest.mark.parametrize("replies", ENDS_AT_ONCE.values(), ids=ENDS_AT_ONCE)
def test_a_watch_that_ends_at_once_is_opened_again_after_growing_pauses(scripted, replies):
    cluster, api = scripted(*replies)
    with pytest.raises(WaitTimeout):
        cluster.wait("two", POD, "n", until=lambda pods: len(pods) == 2, timeout=1.5)
    opened = [when for when, (_, path, _) in zip(api.times, api.requests, strict=True) if "watch=" in path]
    pauses = [after - before for before, after in itertools.pairwise(opened)]
    assert len(opened) <= 7, pauses


def test_a_wait_lists_again_when_its_version_is_too_old(scripted):
    gone = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    cluster, api = scripted(listed("1", "a"), Reply(lines=[gone]), listed("9"))
    assert cluster.wait("no pods", POD, "n", until=lambda pods: not pods, timeout=30)
    assert "watch" not in api.requests[-1][1]


@pytest.mark.parametrize("trouble", [Reply(0), Reply(500), Reply(503)])
def test_a_wait_goes_on_where_it_was_when_a_watch_cannot_be_opened(scripted, trouble):
    cluster, api = scripted(listed("1"), trouble, Reply(lines=[event("ADDED", "a", "2")]))
    assert cluster.wait("a pod", POD, "n", until=lambda pods: bool(pods), timeout=30)
    assert ["watch" in path for _, path, _ in api.requests] == [False, True, True]


def test_a_wait_tells_of_trouble_while_it_lasts_and_when_it_is_over(scripted):
    trouble = Reply(500, body={"message": "etcd is down"})
    cluster, _ = scripted(
        *(trouble, Reply(0), listed("1"), trouble, trouble),
        *(Reply(lines=[]), Reply(lines=[event("ADDED", "a", "2")])),
    )
    seen: list[str] = []
    cluster.wait("a", POD, "n", until=lambda found: len(found) or None, timeout=10, seen=seen.append)
    down = "the API of mesh1 answers 500 etcd is down"
    assert seen[0] == down
    assert seen[1].startswith("the API of mesh1 gives no answer: ")
    assert [text for text in seen[2:] if text != "no such object"] == [down, down, "a without status"]
    assert seen[-2] == "no such object"


def test_a_watch_is_opened_again_when_the_server_says_so(scripted):
    turned_away = Reply(429, headers={"retry-after": "1"})
    cluster, api = scripted(listed("1"), turned_away, Reply(lines=[event("ADDED", "a", "2")]))
    assert cluster.wait("a pod", POD, "n", until=lambda pods: bool(pods), timeout=30)
    assert ["watch" in path for _, path, _ in api.requests] == [False, True, True]
    assert api.times[2] - api.times[1] >= 1


def test_a_command_is_asked_for_again_when_the_server_says_so(scripted):
    cluster, api = scripted(Reply(429, headers={"retry-after": "1"}), Reply(403))
    with pytest.raises(Forbidden):
        cluster.exec("n", "pod", "c", ["true"])
    assert api.times[1] - api.times[0] >= 1


def test_a_wait_has_no_more_patience_than_time(scripted):
    cluster, api = scripted(listed("1"), Reply(503, {"message": "starting"}), patience=600)
    with pytest.raises(WaitTimeout, match="503 starting"):
        cluster.wait("a pod", POD, "n", until=lambda pods: bool(pods), timeout=0.5)
    assert len(api.requests) > 2


def test_a_log_is_opened_again_by_an_api_server_in_trouble(scripted):
    cluster, api = scripted(Reply(503), Reply(429, headers={"retry-after": "0"}), Reply(0), Reply(lines=["said"]))
    assert list(cluster.logs("n", "pod", "c")) == ['"said"']
    assert len(api.requests) == 4


OPENINGS = {
    "watch": lambda cluster: cluster.wait("a pod", POD, "n", until=lambda pods: bool(pods), timeout=30),
    "log": lambda cluster: list(cluster.logs("n", "pod", "c")),
    "exec": lambda cluster: cluster.exec("n", "pod", "c", ["true"]),
    "port-forward": lambda cluster: cluster.port_forward("n", "pod", 9080),
}


@pytest.mark.parametrize("opening", OPENINGS)
def test_an_opening_with_a_token_that_expired_reads_the_kubeconfig_again(scripted, opening):
    last = Reply(403) if opening in ("exec", "port-forward") else Reply(lines=[event("ADDED", "a", "2")])
    first = [listed("1")] if opening == "watch" else []
    cluster, api = scripted(*first, Reply(401), last)
    api.write_kubeconfig(cluster.kubeconfig, "second")
    with pytest.raises(Forbidden) if last.status == 403 else contextlib.nullcontext():
        OPENINGS[opening](cluster)
    assert [token for _, _, token in api.requests[len(first) :]] == ["first", "second"]


@pytest.mark.parametrize("opening", OPENINGS)
def test_an_opening_with_a_token_that_stays_refused_says_so(scripted, opening):
    first = [listed("1")] if opening == "watch" else []
    cluster, api = scripted(*first, Reply(401, {"message": "Unauthorized"}))
    with pytest.raises(Unauthorized, match="Log in again"):
        OPENINGS[opening](cluster)
    assert len(api.requests) == len(first) + 2


def test_a_wait_counts_a_kind_that_is_not_served_as_empty(scripted):
    cluster, _ = scripted(Reply(404), listed("1", "a"))
    assert cluster.wait("a peer", PEER, "n", until=lambda peers: bool(peers), timeout=30)


def test_a_wait_ends_at_once_when_it_may_not_look(scripted):
    cluster, _ = scripted(Reply(403))
    with pytest.raises(Forbidden):
        cluster.wait("a pod", POD, "n", until=lambda _: None, timeout=600)


def test_a_wait_that_fails_tells_the_last_conditions(scripted):
    condition = {"type": "Ready", "status": "False", "reason": "Slow", "message": "still pulling"}
    pod = {"metadata": {"name": "a", "resourceVersion": "1"}, "status": {"conditions": [condition]}}
    cluster, _ = scripted(Reply(body={"metadata": {"resourceVersion": "1"}, "items": [pod]}))
    with pytest.raises(WaitTimeout, match=r"mesh1: .*a ready pod.*a Ready=False \(Slow still pulling\)"):
        cluster.wait("a ready pod", POD, "n", until=lambda _: None, timeout=0)


def wait_in_vain(cluster, looked, ended):
    """Waits until it is cancelled, which it tells by `ended`; `looked` is set by every look."""
    with contextlib.suppress(Cancelled):
        cluster.wait("never", CONFIG_MAP, "n", until=lambda _: looked.set(), timeout=600)
        return
    ended.append(True)


def test_an_interrupt_ends_waits_in_other_threads_and_spares_later_ones(scripted):
    cluster, api = scripted(listed("1"), Reply(lines=[], hold=True))
    looked, ended = threading.Event(), []
    thread = threading.Thread(target=wait_in_vain, args=[cluster, looked, ended])
    thread.start()
    looked.wait()
    cluster.interrupt()
    thread.join(30)
    assert ended == [True]
    api.replies[:] = [listed("2", "a")]
    assert cluster.wait("a", CONFIG_MAP, "n", until=bool, timeout=30)


APPLIED = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n"}}
READS = {
    **OPENINGS,
    "get": lambda cluster: cluster.get(POD, "x", "n"),
    "delete": lambda cluster: cluster.delete(POD, "x", "n"),
}


@contextlib.contextmanager
def in_flight(api, ask):
    """The future of a request that the server has got and does not answer."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        wait_for("the request", lambda: (bool(api.requests) or None, "none"), 30)
        yield answer


@pytest.mark.parametrize("read", ["get", "log"])
def test_an_answer_may_take_longer_than_a_connection(scripted, monkeypatch, read):
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.2)
    cluster, api = scripted(Reply(body={}, late=True))
    with in_flight(api, lambda: READS[read](cluster)) as answer:
        pause(0.5)
        api.end.set()
        answer.result(30)
    assert len(api.requests) == 1


@pytest.mark.parametrize("read", READS)
def test_an_interrupt_ends_what_a_hung_server_does_not_answer(scripted, read):
    cluster, api = scripted(Reply(late=True))
    with in_flight(api, lambda: READS[read](cluster)) as answer:
        cluster.interrupt()
        with pytest.raises(Cancelled):
            answer.result(10)


def test_an_interrupt_lets_a_write_in_flight_come_to_its_end(scripted):
    cluster, api = scripted(Reply(body={"metadata": {"name": "x"}}, late=True))
    with in_flight(api, lambda: cluster.apply(APPLIED)) as answer:
        cluster.interrupt()
        api.end.set()
        assert answer.result(30)["metadata"]["name"] == "x"


def test_an_interrupt_that_does_not_care_ends_writes_too(scripted):
    cluster, api = scripted(Reply(late=True))
    with in_flight(api, lambda: cluster.apply(APPLIED)) as answer:
        cluster.interrupt(writes=True)
        with pytest.raises(Cancelled):
            answer.result(10)
