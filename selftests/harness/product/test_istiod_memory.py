"""What is read of an istiod's memory, in both shapes that istiods answer in, and when they do not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from harness.cluster.transport import ClusterError
from harness.product.istiod import federation_config
from selftests.support.scripted_api import Reply, ScriptedApi


class Forwarding:
    """A cluster whose every port-forward leads to one server."""

    name = "mesh1"

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address

    def port_forward(self, *_: object) -> socket.socket:
        return socket.create_connection(self._address)


@pytest.fixture
def read(tmp_path) -> Callable[[Reply], list[dict[str, Any]]]:
    def ask(reply: Reply) -> list[dict[str, Any]]:
        api = ScriptedApi(reply)
        with api.running(tmp_path / "kubeconfig"):
            return federation_config(Forwarding(api.server.server_address), "mesh1-system", "istiod-1")

    return ask


def test_both_shapes_are_read_alike_and_only_what_federation_made_is_kept(read):
    name, spec = "fed-exp-ratings-mesh1-bookinfo-mesh2", {"servers": []}
    kubernetes = {"kind": "Gateway", "metadata": {"name": name, "namespace": "mesh1-system"}, "spec": spec}
    flat = {"kind": "Gateway", "name": name, "namespace": "mesh1-system", "spec": spec}
    users = {"kind": "Gateway", "metadata": {"name": "bookinfo-gateway", "namespace": "mesh1-bookinfo"}}
    assert read(Reply(body=[users, kubernetes])) == read(Reply(body=[flat])) == [flat]


def test_an_istiod_of_a_real_federation_has_what_it_made(read, observed):
    found = read(Reply(body=observed("healthy/discovery/mesh1-istiod-configz.json")))
    assert ("AuthorizationPolicy", "federation-exports-mesh2") in {(entry["kind"], entry["name"]) for entry in found}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(status=401, body={"error": "no"}), "HTTP 401"),
        (Reply(body={"kind": "Status"}), "not understood"),
        (Reply(status=0), "no answer"),
    ],
)
def test_an_istiod_that_does_not_tell_is_an_error_that_names_it(read, reply, why):
    with pytest.raises(ClusterError, match=f"mesh1.*istiod-1.*{why}"):
        read(reply)
