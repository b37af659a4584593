"""The federation checks on captured and made-up answers; the conformance suite runs them on the lab."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from harness.dataplane import ImportedEndpoints, requests_received, server_name
from harness.discovery import DiscoveryAnswer, route_headers
from harness.envoy import Endpoint
from harness.mesh import MESH2, Federation, IngressAddress, Mesh
from harness.peering import (
    remote_problems,
    set_problems,
    unconnected,
    wanted_exports,
    wanted_imports,
    watch_problems,
)
from harness.status import exported_services, imported_services
from harness.waiting import WaitTimeout

SHORTLY_AFTER = datetime(2026, 11, 22, 7, 28, tzinfo=UTC)
NOWHERE = IngressAddress(("192.0.2.1",), 8188, 15443, "test")


@dataclass
class Answers:
    """A cluster that knows one peer, its pods, and one proxy's answer."""

    peer: dict[str, Any] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    proxy: str = ""

    def list(self, *_: object) -> list[dict[str, Any]]:
        return self.pods

    def wait(self, what: str, *_: object, until: Any, timeout: float) -> Any:
        answer = until([self.peer])
        if answer is None:
            raise WaitTimeout("mesh", what, timeout, "as told")
        return answer

    def exec(self, *_: object, **__: object) -> str:
        return self.proxy


def mesh(name: str, answers: Answers | None = None) -> Mesh:
    peer, control_plane = {"mesh1": ("mesh2", "fed-export"), "mesh2": ("mesh1", "fed-import")}[name]
    return Mesh(name, peer, control_plane, answers or Answers(), "v2.1", "2.1.6", NOWHERE)  # type: ignore[arg-type]


def pod(name: str, address: str = "10.0.0.1") -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": "Running", "podIP": address}}


def captured_peer(observed, path: str) -> dict[str, Any]:
    obj = observed(path)
    obj.setdefault("metadata", {"name": "peer"})
    return obj


def test_the_captured_federation_has_no_peering_problem(observed):
    peer = captured_peer(observed, "healthy/objects/mesh2-servicemeshpeer-mesh1.json")
    mesh2 = mesh("mesh2", Answers(peer, [pod("istiod-fed-import-7fbb9d5cd8-knvn6")]))
    mesh1 = mesh("mesh1", Answers(pods=[pod("istiod-fed-export-56cf785495-ck7qs", "10.201.0.4")]))
    assert watch_problems(mesh2, lambda: SHORTLY_AFTER) == {"istiod-fed-import-7fbb9d5cd8-knvn6": ""}
    assert remote_problems(mesh2, mesh1) == {"istiod-fed-export-56cf785495-ck7qs": ""}


def test_a_lost_watch_is_told_with_mesh_object_and_last_answer(observed):
    peer = captured_peer(observed, "faults/wrong-clientid-export/mesh2-peer-mesh1.json")
    mesh2 = mesh("mesh2", Answers(peer, [pod("istiod-fed-import-7fbb9d5cd8-gqdbw")]))
    (problem,) = watch_problems(mesh2, lambda: SHORTLY_AFTER).values()
    assert problem.startswith("mesh2: ServiceMeshPeer mesh2-system/mesh1: ")
    assert "403 Forbidden" in problem


def test_a_remote_that_does_not_watch_is_told_by_pod_and_address(observed):
    peer = captured_peer(observed, "faults/egress-down-import/mesh1-peer-mesh2.json")
    mesh2 = mesh("mesh2", Answers(pods=[pod("istiod-fed-import-x", "10.202.0.4")]))
    (problem,) = remote_problems(mesh("mesh1", Answers(peer)), mesh2).values()
    assert "istiod-fed-import-x (10.202.0.4) of mesh2" in problem


def test_without_a_running_istiod_a_status_proves_nothing(observed):
    peer = captured_peer(observed, "faults/istiod-export-down/mesh1-peer-mesh2.json")
    (problem,) = watch_problems(mesh("mesh1", Answers(peer)), lambda: SHORTLY_AFTER).values()
    assert "nobody keeps its status true" in problem


def test_several_istiods_are_told_apart_and_their_views_count_together():
    def entry(pod: str, connected: bool, *sources: str) -> dict[str, Any]:
        watch = {"connected": connected, "lastFullSync": "2026-11-22T07:27:00Z", "lastDisconnectStatus": "503 gone"}
        return {"pod": pod, "watch": watch, "remotes": [{"source": s, "connected": True} for s in sources]}

    views = {"active": [entry("istiod-a", True, "10.0.0.3")], "inactive": [entry("istiod-b", False, "10.0.0.4")]}
    peer = {"metadata": {"name": "mesh1"}, "status": {"discoveryStatus": views}}
    mesh2 = mesh("mesh2", Answers(peer, [pod("istiod-a"), pod("istiod-b", "10.0.0.2")]))
    mesh1 = mesh("mesh1", Answers(pods=[pod(f"istiod-{n}", f"10.0.0.{n}") for n in (3, 4, 5)]))
    own, remote = watch_problems(mesh2, lambda: SHORTLY_AFTER), remote_problems(mesh2, mesh1)
    assert own["istiod-a"] == ""
    assert "istiod-b" in own["istiod-b"]
    assert "503 gone" in own["istiod-b"]
    assert [name for name, problem in remote.items() if problem] == ["istiod-5"]


def test_a_mesh_is_connected_when_every_istiod_of_both_sides_is_and_not_before():
    def entry(pod: str, synced: bool, *sources: str) -> dict[str, Any]:
        watch = {"connected": True} | ({"lastFullSync": "2026-11-22T07:27:00Z"} if synced else {})
        return {"pod": pod, "watch": watch, "remotes": [{"source": s, "connected": True} for s in sources]}

    def lacking(*entries: dict[str, Any]) -> list[str]:
        status = {"discoveryStatus": {"active": list(entries)}}
        return unconnected(MESH2, [{"metadata": {"name": "mesh1"}, "status": status}], pods, remotes)

    pods = [pod("istiod-a"), pod("istiod-b", "10.0.0.2")]
    remotes = [pod(f"istiod-{n}", f"10.0.0.{n}") for n in (3, 4)]
    assert lacking(entry("istiod-a", True, "10.0.0.3", "10.0.0.4"), entry("istiod-b", True)) == []
    (problem,) = lacking(entry("istiod-a", True, "10.0.0.3", "10.0.0.4"))
    assert problem.startswith("istiod istiod-b is not in discoveryStatus")
    (problem,) = lacking(entry("istiod-a", True, "10.0.0.3", "10.0.0.4"), entry("istiod-b", False))
    assert "istiod-b: own watch is connected, but no full sync" in problem
    (problem,) = lacking(entry("istiod-a", True, "10.0.0.3"), entry("istiod-b", True))
    assert "istiod-4 (10.0.0.4) of mesh1 has no watch connected" in problem
    assert unconnected(MESH2, [], pods, remotes) == ["ServiceMeshPeer mesh2-system/mesh1 does not exist"]
    pods = []
    assert lacking(entry("istiod-a", True, "10.0.0.3", "10.0.0.4")) == ["no istiod of mesh2 is running"]


def test_an_answer_of_discovery_is_told_in_words():
    assert str(DiscoveryAnswer(403, (), "RBAC: access denied\n")) == "HTTP 403 (RBAC: access denied)"
    assert str(DiscoveryAnswer(503, (), "")) == "HTTP 503 (empty)"


def test_the_captured_sets_are_exactly_what_is_asked_for(observed):
    federation = Federation(mesh("mesh1"), mesh("mesh2"), one_cluster=False)
    exports = exported_services(observed("healthy/objects/mesh1-exportedserviceset-mesh2.json"))
    imports = imported_services(observed("healthy/objects/mesh2-importedserviceset-mesh1.json"))
    assert set_problems("exports", wanted_exports(federation.mesh1), exports) == []
    assert set_problems("imports", wanted_imports(federation), imports) == []


def test_missing_surplus_and_absent_sets_are_told_apart(observed):
    wanted = wanted_exports(mesh("mesh1"))
    nothing = imported_services(observed("faults/import-rule-nomatch/mesh2-imports-mesh1.json"))
    assert [line.endswith("is missing") for line in set_problems("set", wanted, nothing)] == [True, True]
    assert set_problems("set", wanted[:1], wanted) == [f"set: {wanted[1]} was not asked for"]
    assert "no status" in set_problems("set", wanted, None)[0]


HEALTHY = Endpoint("10.202.0.8", 15443, ())


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ((HEALTHY,), None),
        (None, "the import never reached it"),
        ((), "has no endpoint"),
        ((Endpoint("10.202.0.8", 15443, ("failed_eds_health",)),), "is not healthy"),
        ((Endpoint("10.202.0.99", 15443, ()),), "is no pod of the egress gateway (10.202.0.8:15443)"),
        ((HEALTHY, Endpoint("10.202.0.8", 9080, ())), "10.202.0.8:9080 is no pod of the egress gateway"),
    ],
)
def test_imported_endpoints_are_the_egress_gateway_and_healthy(found, problem):
    problems = ImportedEndpoints("outbound|9080||ratings", found, frozenset({"10.202.0.8"})).problems
    assert problem in problems[0] if problem else problems == []


def test_the_headers_of_the_captured_egress_route_are_found(observed):
    routes = observed("healthy/envoy/mesh2-mesh1-egress.json")["routes"]
    dump = {"configs": [{"route_config": route} for route in routes]}
    headers = route_headers(dump)
    assert headers["discovery-service"] == "discovery.mesh2-system.svc.mesh1.local"
    assert headers["remote"].isdigit()
    assert route_headers({"configs": []}) == {}


def test_headers_written_as_newer_proxies_do_are_found_too():
    names = {"discovery-service": "discovery.a", "remote": "1"}
    match = {"headers": [{"name": name, "string_match": {"exact": text}} for name, text in names.items()]}
    dump = {"configs": [{"route_config": {"virtual_hosts": [{"routes": [{"match": match}]}]}}]}
    assert route_headers(dump) == names


def test_the_server_names_are_those_of_the_captured_connections(observed):
    log = observed("healthy/tls.txt")
    mesh1, mesh2 = mesh("mesh1"), mesh("mesh2")
    assert server_name(mesh1, mesh2, 8188) in log
    assert server_name(mesh1, mesh2, 15443) in log


def test_requests_received_counts_inbound_clusters_only():
    def cluster(name: str, count: str) -> str:
        return f'{{"name": "{name}", "host_statuses": [{{"stats": [{{"name": "rq_total", "value": "{count}"}}]}}]}}'

    proxy = f'{{"cluster_statuses": [{cluster("inbound|9080||", "7")}, {cluster("outbound|9080||x", "100")}]}}'
    assert requests_received(mesh("mesh1", Answers(pods=[pod("productpage-v1")], proxy=proxy)), "productpage") == 7
