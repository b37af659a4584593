"""Watches: where they start, what they show, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from selftests.support.api import Http, api_server, config_map, definition, widget


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with api_server() as settings:
        yield Http(settings)


@pytest.fixture
def path(http: Http) -> str:
    return f"/api/v1/namespaces/{http.namespace()}/configmaps"


def version(http: Http, path: str) -> str:
    return http.must("GET", path)["metadata"]["resourceVersion"]


def seen(http: Http, path: str, **params: Any) -> list[tuple[str, str]]:
    """(type, name) of all events until the watch ends after a second."""
    events = http.events(path, timeoutSeconds="1", **params)
    return [(event["type"], event["object"].get("metadata", {}).get("name", "")) for event in events]


def test_a_watch_without_version_begins_with_what_is_there(http: Http, path: str) -> None:
    http.must("POST", path, config_map("a"))
    events = http.events(path)
    assert next(events)["object"]["metadata"]["name"] == "a"
    http.must("POST", path, config_map("b"))
    assert next(events)["object"]["metadata"]["name"] == "b"
    http.patch(f"{path}/a", {"data": {"k": "v"}})
    event = next(events)
    assert (event["type"], event["object"]["data"]) == ("MODIFIED", {"k": "v"})


def test_a_watch_resumes_after_its_version(http: Http, path: str) -> None:
    http.must("POST", path, config_map("a"))
    start = version(http, path)
    http.must("POST", path, config_map("b"))
    last = http.patch(f"{path}/b", {"data": {"k": "v"}})[1]
    http.must("DELETE", f"{path}/b")
    events = list(http.events(path, timeoutSeconds="1", resourceVersion=start))
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert events[2]["object"]["data"] == last["data"], "a deletion shows the last state"
    assert seen(http, path, resourceVersion=str(versions[1])) == [("DELETED", "b")]


def test_a_watch_sees_one_namespace_or_all(http: Http, path: str) -> None:
    other = f"/api/v1/namespaces/{http.namespace()}/configmaps"
    start = version(http, path)
    http.must("POST", path, config_map("here"))
    http.must("POST", other, config_map("there"))
    assert seen(http, path, resourceVersion=start) == [("ADDED", "here")]
    everywhere = seen(http, "/api/v1/configmaps", resourceVersion=start)
    assert everywhere == [("ADDED", "here"), ("ADDED", "there")]


def test_a_selector_turns_changes_into_coming_and_going(http: Http, path: str) -> None:
    start = version(http, path)
    http.must("POST", path, config_map("a"))
    http.patch(f"{path}/a", {"metadata": {"labels": {"app": "x"}}})
    http.patch(f"{path}/a", {"data": {"k": "v"}})
    http.patch(f"{path}/a", {"metadata": {"labels": {"app": "y"}}})
    http.must("DELETE", f"{path}/a")
    events = list(http.events(path, timeoutSeconds="1", resourceVersion=start, labelSelector="app=x"))
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[2]["object"]["metadata"]["labels"] == {"app": "x"}
    assert int(events[2]["object"]["metadata"]["resourceVersion"]) > int(
        events[1]["object"]["metadata"]["resourceVersion"]
    )


def test_a_name_is_watched_by_field_selector(http: Http, path: str) -> None:
    start = version(http, path)
    for name in ("a", "b"):
        http.must("POST", path, config_map(name))
    assert seen(http, path, resourceVersion=start, fieldSelector="metadata.name=b") == [("ADDED", "b")]


def test_a_version_no_longer_kept_is_410_in_the_stream(http: Http, path: str) -> None:
    start = version(http, path)
    http.must("POST", path, config_map("a"))
    http.must("POST", "/lab/forget-events", {})
    (event,) = http.events(path, resourceVersion=start)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert seen(http, path, resourceVersion=version(http, path)) == [], "the listed version works"


def test_a_watcher_too_slow_for_the_log_is_told(http: Http, path: str) -> None:
    events = http.events(path, resourceVersion=version(http, path), timeoutSeconds="30")
    names = iter(range(10_000_000))
    http.must("POST", path, config_map("c", {"n": str(next(names))}))
    assert next(events)["type"] == "ADDED"
    big = "x" * 200_000
    for _ in range(60):
        http.patch(f"{path}/c", {"data": {"n": str(next(names)), "big": big}})
    http.must("POST", "/lab/forget-events", {})
    last = list(events)[-1]
    assert (last["type"], last["object"]["code"]) == ("ERROR", 410)


def test_a_future_version_is_refused(http: Http, path: str) -> None:
    status, answer = http.call("GET", path, watch="1", resourceVersion=str(int(version(http, path)) + 100_000))
    assert (status, answer["reason"]) == (504, "Timeout")
    assert http.call("GET", path, watch="1", resourceVersion="x")[0] == 422


def test_the_time_of_a_watch_ends_it_with_a_bookmark(http: Http, path: str) -> None:
    start = version(http, path)
    http.namespace()
    (event,) = http.events(path, timeoutSeconds="1", resourceVersion=start, allowWatchBookmarks="true")
    assert event["type"] == "BOOKMARK"
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(start)
    assert event["object"]["kind"] == "ConfigMap"


def test_initial_events_end_with_their_mark(http: Http, path: str) -> None:
    http.must("POST", path, config_map("a"))
    params = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    events = http.events(path, **params)
    assert next(events)["type"] == "ADDED"
    mark = next(events)
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


@pytest.mark.parametrize("spelling", ["true", "True", "1"])
def test_every_clients_spelling_of_true_is_a_watch(http: Http, path: str, spelling: str) -> None:
    http.must("POST", path, config_map("a"))
    assert next(http.events(path, watch=spelling))["type"] == "ADDED"


def test_a_watch_of_a_deleted_kind_ends(http: Http) -> None:
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    http.must("POST", crds, definition({"type": "object"}))
    http.must("POST", f"/apis/test.lab/v1/namespaces/{http.namespace()}/widgets", widget("a", {}))
    events = Http(http.settings).events("/apis/test.lab/v1/widgets", timeoutSeconds="600")
    assert next(events)["type"] == "ADDED"
    http.must("DELETE", f"{crds}/widgets.test.lab")
    assert [event["type"] for event in events] == ["DELETED"], "deleting a kind deletes its objects first"


def test_all_watchers_see_all_changes_in_order(http: Http, path: str) -> None:
    start = version(http, path)
    results: list[list[str]] = [[] for _ in range(10)]

    def follow(result: list[str]) -> None:
        for event in Http(http.settings).events(path, resourceVersion=start, timeoutSeconds="30"):
            result.append(event["object"]["data"]["n"])
            if result[-1] == "199":
                return

    threads = [threading.Thread(target=follow, args=(result,), daemon=True) for result in results]
    for thread in threads:
        thread.start()
    http.must("POST", path, config_map("a", {"n": "0"}))
    for number in range(1, 200):
        http.patch(f"{path}/a", {"data": {"n": str(number)}})
    for thread in threads:
        thread.join(20)
    assert results == [[str(number) for number in range(200)]] * 10
