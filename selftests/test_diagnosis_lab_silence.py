"""Diagnosis on a running federation whose workloads are silent, denied or not there, and of the way to mongodb."""

from __future__ import annotations

import contextlib
import socket

import pytest

from harness import kinds
from harness.diagnosis import State, diagnose
from harness.envoy import Proxy
from selftests.support.diagnosed import Meshes, drained, meshes, named, until

__all__ = ["meshes"]


def test_a_policy_that_keeps_the_other_mesh_from_mongodb_is_named_with_whom_it_has_to_admit(meshes: Meshes) -> None:
    pod = meshes.federation.mesh1.running_pods("mesh1-bookinfo", "app=mongodb")[0]["metadata"]["name"]
    sidecar = Proxy(meshes.clusters["mesh1"], "mesh1-bookinfo", pod)

    def denying() -> bool:
        return "rbac" in sidecar.request("GET", "config_dump?resource=dynamic_listeners") and drained(sidecar)

    own = [{"from": [{"source": {"principals": ["mesh1.local/ns/mesh1-bookinfo/sa/*"]}}]}]
    spec = {"action": "ALLOW", "selector": {"matchLabels": {"app": "mongodb"}}, "rules": own}
    with meshes.added("mesh1", kinds.AUTHORIZATION_POLICY, "mongodb-own", spec):
        until("mongodb's sidecar to deny", denying)
        found = diagnose(meshes.clusters)
    until("mongodb's sidecar to let everybody in again", lambda: not denying() and drained(sidecar))
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


def test_calls_that_get_lost_between_the_gateways_are_no_silence_of_the_far_workload(meshes: Meshes) -> None:
    (address,) = meshes.clusters["mesh2"].get(kinds.PEER, "mesh1", "mesh2-system")["spec"]["remote"]["addresses"]
    pod = meshes.federation.mesh2.gateway_pods("mesh1-egress")[0]["metadata"]["name"]
    egress = Proxy(meshes.clusters["mesh2"], "mesh2-system", pod)

    def sends_to(port: int) -> bool:
        exports = [ends for name, ends in egress.endpoints().items() if name.endswith(".mesh2-exports.local")]
        return all(end.port == port for ends in exports for end in ends)

    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server((address, 0), backlog=0))
        port = full.getsockname()[1]
        for _ in range(2):  # what its queue holds: whoever comes later gets no answer, as from a firewall
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        with meshes.changed("mesh2", kinds.PEER, "mesh1", "mesh2-system", {"remote": meshes.remote(servicePort=port)}):
            until("the egress gateway to send to the full server", lambda: sends_to(port))
            meshes.renew_reviews()  # which keeps the connections it has
            found = diagnose(meshes.clusters, patience=1)
        until("the egress gateway to send to the ingress again", lambda: sends_to(15443))
    meshes.settle()
    (link,) = [link for link in found.links if (link.name, link.cause) == ("application", "calls-lost")]
    assert link.side == "mesh2"


def test_mutual_tls_that_is_off_where_nothing_demands_it_harms_nobody(meshes: Meshes) -> None:
    cluster, mesh = meshes.clusters["mesh1"], meshes.federation.mesh1
    pods = [*mesh.gateway_pods("mesh2-ingress"), *mesh.running_pods("mesh1-bookinfo", "app in (ratings, mongodb)")]
    proxies = [Proxy(cluster, pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods]

    def mutual(proxy: Proxy) -> set[bool]:
        clusters = proxy.request("GET", "config_dump?resource=dynamic_active_clusters")
        calls = '"sni": "outbound_.27017_._.mongodb.mesh1-bookinfo' in clusters
        serves = "require_client_certificate" in proxy.request("GET", "config_dump?resource=dynamic_listeners")
        return {calls, serves} if proxy.namespace == "mesh1-bookinfo" else {calls}

    def everywhere(wanted: bool) -> bool:
        return all(mutual(proxy) == {wanted} and drained(proxy) for proxy in proxies)

    with meshes.added("mesh1", kinds.PEER_AUTHENTICATION, "plain", {"mtls": {"mode": "DISABLE"}}):
        until("mesh1's proxies to speak plaintext", lambda: everywhere(wanted=False))
        found = diagnose(meshes.clusters)
    until("mesh1's proxies to speak mutual TLS again", lambda: everywhere(wanted=True))
    assert found.state is State.OK, found.summary


def test_pages_that_ask_for_no_ratings_are_no_failures(meshes: Meshes) -> None:
    both = [
        {"destination": {"host": "reviews", "subset": subset}, "weight": weight}
        for subset, weight in (("v1", 50), ("v3", 50))
    ]

    def halved() -> bool:
        pod = meshes.federation.mesh2.running_pods("mesh2-bookinfo", "app=productpage")[0]["metadata"]["name"]
        proxy = Proxy(meshes.clusters["mesh2"], "mesh2-bookinfo", pod)
        return len(proxy.route_weights("reviews:9080") or {}) == 2

    with meshes.changed("mesh2", kinds.VIRTUAL_SERVICE, "reviews", "mesh2-bookinfo", {"http": [{"route": both}]}):
        until("productpage to call both versions", halved)
        found = diagnose(meshes.clusters)
    until("productpage to call reviews v3 only", lambda: not halved())
    (page,) = [link for link in found.links if link.name == "productpage"]
    assert page.cause == "pages-without-ratings", page
    assert "fail" not in page.sentence
    assert "no ratings" in page.sentence


def test_what_closes_because_nothing_is_behind_it_is_no_second_thing_to_look_at(meshes: Meshes) -> None:
    cluster = "outbound|9080||ratings.mesh1-bookinfo.svc.cluster.local"
    pod = meshes.federation.mesh1.gateway_pods("mesh2-ingress")[0]["metadata"]["name"]
    ingress = Proxy(meshes.clusters["mesh1"], "mesh1-system", pod)
    with contextlib.ExitStack() as stack:
        for version in ("v1", "v2"):
            down = meshes.changed("mesh1", kinds.DEPLOYMENT, f"ratings-{version}", "mesh1-bookinfo", {"replicas": 0})
            stack.enter_context(down)
        until("the ingress gateway to know that nobody is there", lambda: not ingress.endpoints()[cluster])
        found = diagnose(meshes.clusters)
    until("the ingress gateway to have ratings again", lambda: len(ingress.endpoints()[cluster]) == 2)
    assert named(found) == ("backend-down", "mesh1"), found.summary
    (chain,) = [link for link in found.links if (link.name, link.side) == ("chain shown", "mesh1")]
    assert chain.state is State.UNKNOWN, chain
    assert "chain shown" not in "\n".join(found.summary)
