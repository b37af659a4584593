"""What an API server of Kubernetes 1.20 takes and refuses otherwise than newer ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import crds
from selftests.support.api import Http, api_server

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DOUBLED = "topologies/c-rules/2.1/6-one-name-for-two/exportedserviceset.json"
Load = Callable[[str], Any]


def server(version: str) -> Iterator[Http]:
    with api_server(kubernetes=version) as settings:
        http = Http(settings)
        http.must("POST", CRDS, crds.load("exportedservicesets", "federation.maistra.io"))
        yield http


@pytest.fixture(scope="module")
def old() -> Iterator[Http]:
    yield from server("v1.20.2")


@pytest.fixture(scope="module")
def new() -> Iterator[Http]:
    yield from server("v1.21.0")


def written_status(http: Http, observed: Load) -> tuple[int, Any]:
    """The answer to a status with two entries of one exportedName, written as istiod 2.1 does."""
    captured = observed(DOUBLED)
    path = f"/apis/federation.maistra.io/v1/namespaces/{http.namespace()}/exportedservicesets"
    meta = {"name": captured["metadata"]["name"]}
    http.must("POST", path, {"apiVersion": "federation.maistra.io/v1", **captured, "metadata": meta, "status": None})
    return http.patch(f"{path}/{meta['name']}/status", {"status": captured["status"]})


def test_two_entries_of_one_exported_name_are_taken(old: Http, observed: Load) -> None:
    code, answer = written_status(old, observed)
    assert (code, answer["status"]) == (200, observed(DOUBLED)["status"])


def test_newer_servers_refuse_two_entries_of_one_exported_name(new: Http, observed: Load) -> None:
    code, answer = written_status(new, observed)
    (cause,) = answer["details"]["causes"]
    assert (code, cause["field"]) == (422, "status.exportedServices[1]")
    assert cause["message"] == "Duplicate value: map[exportedName:name.same.svc.west-exports.local]"


def test_a_port_without_protocol_is_refused_as_captured(old: Http) -> None:
    path = f"/api/v1/namespaces/{old.namespace()}/services/ratings"
    meta, spec = {"name": "ratings"}, {"ports": [{"name": "http", "port": 9080}]}
    code, answer = old.apply(path, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}, "one")
    assert (code, answer["message"]) == (
        500,
        "failed to create typed patch object: .spec.ports: element 0: associative list with keys has an element that "
        'omits key field "protocol" (and doesn\'t have default value)',
    )
    spec["ports"][0]["protocol"] = "TCP"  # type: ignore[index]
    code, _ = old.apply(path, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}, "one")
    assert code == 201
