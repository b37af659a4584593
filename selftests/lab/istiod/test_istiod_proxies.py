"""istiod's configuration at work: real Envoys of two federated meshes, configured and changed while they run."""

from __future__ import annotations

import re
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.node.bootstrap import ADMIN_PORT
from selftests.support.live_meshes import EXPORTED, INGRESS_ID, LiveFederation, split


@pytest.fixture(scope="module")
def federation(observed: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFederation]:
    with LiveFederation(observed, tmp_path_factory.mktemp("meshes")) as live:
        yield live


@pytest.fixture
def weights(federation: LiveFederation) -> Iterator[Callable[[int, int], None]]:
    """Sets the split; 50/50 again afterwards."""

    def set_split(remote: int, local: int) -> None:
        mesh = federation.mesh2
        federation.change(
            lambda: mesh.put("virtual_services", mesh.bookinfo, "ratings-split", spec=split(remote, local))
        )

    yield set_split
    set_split(50, 50)


def served_by(federation: LiveFederation) -> str:
    status, answer = federation.ask()
    return answer["served by"] if status == 200 else str(status)


def test_requests_are_served_by_both_meshes_with_the_right_identities(federation: LiveFederation) -> None:
    answers = [federation.ask() for _ in range(40)]
    assert {status for status, _ in answers} == {200}
    by = {answer["served by"]: answer["xfcc"] for _, answer in answers}
    assert set(by) == {"mesh1", "mesh2"}, "each side is left out of 40 calls once in 10^12"
    assert f"URI={INGRESS_ID}" in by["mesh1"], "mesh1's ratings sees its own ingress gateway, not the caller"
    assert "URI=spiffe://mesh2.local/ns/mesh2-bookinfo/sa/bookinfo-reviews" in by["mesh2"]


def test_changed_weights_hold_and_wake_no_cluster_or_listener(
    federation: LiveFederation, weights: Callable[[int, int], None]
) -> None:
    server = federation.mesh2.server
    assert server
    [reviews] = [entry for entry in server.connections.values() if entry.proxy.name == "reviews"]
    before = dict(reviews.sent)
    weights(100, 0)
    federation.until("all from mesh1", lambda: {served_by(federation) for _ in range(20)} == {"mesh1"})
    weights(0, 100)
    federation.until("all from mesh2", lambda: {served_by(federation) for _ in range(20)} == {"mesh2"})
    unchanged = {label: version for label, version in before.items() if not label.startswith("RDS")}
    assert {label: reviews.sent[label] for label in unchanged} == unchanged
    assert reviews.sent["RDS:9080"] != before["RDS:9080"]


def test_a_host_that_does_not_exist_fails_its_share(
    federation: LiveFederation, weights: Callable[[int, int], None]
) -> None:
    weights(50, 50)
    spec = split(50, 50)
    spec["http"][0]["route"][0]["destination"]["host"] = "nowhere.mesh2-bookinfo.svc.mesh1-imports.local"
    mesh = federation.mesh2
    federation.change(lambda: mesh.put("virtual_services", mesh.bookinfo, "ratings-split", spec=spec))
    federation.until("503 beside mesh2", lambda: {served_by(federation) for _ in range(40)} == {"503", "mesh2"})


def test_only_the_clients_with_the_named_identity_are_let_in(
    federation: LiveFederation, weights: Callable[[int, int], None]
) -> None:
    weights(100, 0)
    federation.until("served by mesh1", lambda: served_by(federation) == "mesh1")
    other = "mesh2.local/ns/mesh2-system/sa/someone-else"
    federation.change(lambda: federation.federate(client_id=other))
    try:
        federation.until("refused", lambda: served_by(federation) == "503")
    finally:
        federation.change(federation.federate)
    federation.until("served again", lambda: served_by(federation) == "mesh1")


def test_a_client_without_a_certificate_is_refused(federation: LiveFederation) -> None:
    """While a client with one is served on the same port."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    for port, name in ((15443, f"outbound_.9080_._.{EXPORTED}"), (8188, "discovery.mesh2-system.svc.mesh1.local")):
        with socket.create_connection((federation.ingress, port), timeout=10) as raw:
            stranger = tls.wrap_socket(raw, server_hostname=name)
            with pytest.raises((ssl.SSLError, ConnectionError)):  # noqa: PT012
                stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert stranger.recv(1) == b""
                raise ConnectionError("closed without an answer")
    federation.until("served by mesh1", lambda: served_by(federation) == "mesh1")


def test_gateways_of_a_removed_member_are_no_longer_listened_for(federation: LiveFederation) -> None:
    mesh = federation.mesh2
    server = {"port": {"name": "http", "number": 7080, "protocol": "HTTP"}, "hosts": ["*"]}
    spec = {"selector": {"app": "mesh1-egress"}, "servers": [server]}

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((federation.egress, 7080)) == 0

    federation.change(lambda: mesh.put("gateways", mesh.bookinfo, "extra", spec=spec))
    federation.until("the Gateway's port is open", listens)
    federation.change(lambda: mesh.put("smmr", mesh.system, "default", status={"configuredMembers": []}))
    try:
        federation.until("the Gateway's port is closed", lambda: not listens())
    finally:
        members = {"configuredMembers": [mesh.bookinfo]}
        federation.change(lambda: mesh.put("smmr", mesh.system, "default", status=members))
        federation.change(lambda: mesh.remove("gateways", mesh.bookinfo, "extra"))
    federation.until("served again", lambda: served_by(federation) in ("mesh1", "mesh2"))


@pytest.fixture
def federation_22(observed: Callable[[str], Any], tmp_path: Any) -> Iterator[LiveFederation]:
    with LiveFederation(observed, tmp_path, "2.2.13") as live:
        yield live


def inbound(clusters: str) -> list[str]:
    """What a proxy says of its inbound cluster, without values; its host's address is `host`."""
    found = [line for line in clusters.splitlines() if line.startswith("inbound|9080||::")]
    return [re.sub(r"::[\d.]+:9080::", "::host::", line).rpartition("::")[0] for line in found]


def test_inbound_clusters_of_2_2_have_their_host_from_the_first_request_on_as_captured(
    federation_22: LiveFederation, observed: Callable[[str], Any]
) -> None:
    def shown() -> list[str]:
        with urllib.request.urlopen(f"http://{federation_22.ratings}:{ADMIN_PORT}/clusters") as answer:
            return inbound(answer.read().decode())

    captured = inbound(observed("healthy-2.2/envoy/mesh1-ratings-v1-clusters.txt"))
    assert shown() == [line for line in captured if "::host" not in line]
    federation_22.until("served by mesh2", lambda: served_by(federation_22) == "mesh2")
    assert shown() == captured
