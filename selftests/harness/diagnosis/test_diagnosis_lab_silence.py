"""Diagnosis on a running federation whose workloads are silent, denied or not there, and of the way to mongodb."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from harness.cluster import kinds
from harness.diagnosis import State, diagnose
from harness.product.envoy import Proxy
from selftests.support.diagnosed import Meshes, drained, in_effect, meshes, named

__all__ = ["meshes"]


@contextlib.contextmanager
def mongodb_for_its_own(meshes: Meshes) -> Iterator[None]:
    """With a policy by which mongodb's sidecar admits nobody but mesh1's application, until the block ends."""
    (sidecar, *_) = meshes.sidecars("mesh1", "app=mongodb")

    def seen(deny: bool) -> bool:
        told = "rbac" in sidecar.request("GET", "config_dump?resource=dynamic_listeners")
        return told is deny and drained(sidecar)

    own = [{"from": [{"source": {"principals": ["mesh1.local/ns/mesh1-bookinfo/sa/*"]}}]}]
    spec = {"action": "ALLOW", "selector": {"matchLabels": {"app": "mongodb"}}, "rules": own}
    policy = meshes.added("mesh1", kinds.AUTHORIZATION_POLICY, "mongodb-own", spec)
    with in_effect(policy, "mongodb's sidecar to deny", seen):
        yield


def test_a_policy_that_keeps_the_other_mesh_from_mongodb_is_named_with_whom_it_has_to_admit(meshes: Meshes) -> None:
    with mongodb_for_its_own(meshes):
        found = diagnose(meshes.clusters)
    assert named(found) == ("denied-by-policy", "mesh1"), found.summary
    assert "TCP import of mongodb" in found.sentence
    assert "mesh1-bookinfo/mongodb-own (ALLOW)" in found.sentence
    assert "mesh1.local/ns/mesh1-system/sa/mesh2-ingress-service-account" in found.remedy
    (application,) = [link for link in found.links if link.cause == "backend-failing"]
    assert "not to blame" not in application.remedy, application.remedy


def test_a_database_that_says_nothing_is_named_each_time(meshes: Meshes) -> None:
    with meshes.halted("mesh1", "mongodb", "v1"):
        found = [diagnose(meshes.clusters) for _ in range(3)]
    assert [named(each) for each in found] == [("backend-silent", "mesh1")] * 3, [each.summary for each in found]
    assert {each.sentence.partition(" does not answer")[0] for each in found} == {"mongodb of mesh1"}


@pytest.mark.parametrize("mesh", ["mesh1", "mesh2"])
def test_ratings_that_say_nothing_are_named_with_their_mesh(meshes: Meshes, mesh: str) -> None:
    with meshes.halted(mesh, "ratings", "v1"), meshes.halted(mesh, "ratings", "v2"):
        found = diagnose(meshes.clusters)
    assert named(found) == ("backend-silent", mesh), found.summary
    assert f"ratings v1 and v2 of {mesh}" in found.sentence


@contextlib.contextmanager
def full_server(address: str) -> Iterator[int]:
    """The port of a server whose queue is full: whoever comes gets no answer, as from a firewall."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((address, 0), backlog=0))
        port = server.getsockname()[1]
        for _ in range(2):  # what its queue holds
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield port


@contextlib.contextmanager
def calls_lost(meshes: Meshes) -> Iterator[None]:
    """With mesh2's egress gateway sending what is for mesh1 to a server that is full, until the block ends."""
    egress = meshes.gateway("mesh2", "mesh1-egress")
    (address,) = meshes.remote()["addresses"]

    def sends_to(port: int) -> bool:
        exports = [ends for name, ends in egress.endpoints().items() if name.endswith(".mesh2-exports.local")]
        return all(end.port == port for ends in exports for end in ends)

    with full_server(address) as port:
        lost = meshes.changed("mesh2", kinds.PEER, "mesh1", "mesh2-system", {"remote": meshes.remote(servicePort=port)})
        what = "the egress gateway to send to the full server"
        with in_effect(lost, what, lambda lost: sends_to(port if lost else 15443)):
            meshes.renew_reviews()  # which keeps the connections it has
            yield
    meshes.settle()


def test_calls_that_get_lost_between_the_gateways_are_no_silence_of_the_far_workload(meshes: Meshes) -> None:
    with calls_lost(meshes):
        found = diagnose(meshes.clusters, patience=1)
    (link,) = [link for link in found.links if (link.name, link.cause) == ("application", "calls-lost")]
    assert link.side == "mesh2"


@contextlib.contextmanager
def plaintext(meshes: Meshes) -> Iterator[None]:
    """With mutual TLS off in mesh1's application, until the block ends."""
    proxies = [meshes.gateway("mesh1", "mesh2-ingress"), *meshes.sidecars("mesh1", "app in (ratings, mongodb)")]

    def mutual(proxy: Proxy) -> set[bool]:
        clusters = proxy.request("GET", "config_dump?resource=dynamic_active_clusters")
        calls = '"sni": "outbound_.27017_._.mongodb.mesh1-bookinfo' in clusters
        serves = "require_client_certificate" in proxy.request("GET", "config_dump?resource=dynamic_listeners")
        return {calls, serves} if proxy.namespace == "mesh1-bookinfo" else {calls}

    def everywhere(off: bool) -> bool:
        return all(mutual(proxy) == {not off} and drained(proxy) for proxy in proxies)

    policy = meshes.added("mesh1", kinds.PEER_AUTHENTICATION, "plain", {"mtls": {"mode": "DISABLE"}})
    with in_effect(policy, "mesh1's proxies to speak plaintext", everywhere):
        yield


def test_mutual_tls_that_is_off_where_nothing_demands_it_harms_nobody(meshes: Meshes) -> None:
    with plaintext(meshes):
        found = diagnose(meshes.clusters)
    assert found.state is State.OK, found.summary


@contextlib.contextmanager
def half_of_the_pages_without_ratings(meshes: Meshes) -> Iterator[None]:
    """With productpage calling reviews v1, which asks for no ratings, as often as v3, until the block ends."""
    both = [{"destination": {"host": "reviews", "subset": subset}, "weight": 50} for subset in ("v1", "v3")]

    def seen(halved: bool) -> bool:
        (proxy, *_) = meshes.sidecars("mesh2", "app=productpage")
        return (len(proxy.route_weights("reviews:9080") or {}) == 2) is halved

    route = meshes.changed("mesh2", kinds.VIRTUAL_SERVICE, "reviews", "mesh2-bookinfo", {"http": [{"route": both}]})
    with in_effect(route, "productpage to call both versions", seen):
        yield


def test_pages_that_ask_for_no_ratings_are_no_failures(meshes: Meshes) -> None:
    with half_of_the_pages_without_ratings(meshes):
        found = diagnose(meshes.clusters)
    (page,) = [link for link in found.links if link.name == "productpage"]
    assert page.cause == "pages-without-ratings", page
    assert "fail" not in page.sentence
    assert "no ratings" in page.sentence


@contextlib.contextmanager
def nothing_behind_the_ingress(meshes: Meshes) -> Iterator[None]:
    """With no ratings in mesh1, as its ingress gateway knows, until the block ends."""
    ingress = meshes.gateway("mesh1", "mesh2-ingress")

    def seen(down: bool) -> bool:
        served = ingress.endpoints()["outbound|9080||ratings.mesh1-bookinfo.svc.cluster.local"]
        return len(served) == (0 if down else 2)

    with in_effect(meshes.without_ratings("mesh1"), "the ingress gateway to know that nobody is there", seen):
        yield


def test_what_closes_because_nothing_is_behind_it_is_no_second_thing_to_look_at(meshes: Meshes) -> None:
    with nothing_behind_the_ingress(meshes):
        found = diagnose(meshes.clusters)
    assert named(found) == ("backend-down", "mesh1"), found.summary
    (chain,) = [link for link in found.links if (link.name, link.side) == ("chain shown", "mesh1")]
    assert chain.state is State.UNKNOWN, chain
    assert "chain shown" not in "\n".join(found.summary)
