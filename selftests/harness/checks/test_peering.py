"""The federation checks on captured and made-up answers; the conformance suite runs them on the lab."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from harness.checks import installation
from harness.checks.data_plane import ImportedEndpoints, requests_received
from harness.checks.peering import (
    agreement,
    compared_sets,
    remote_problems,
    unconnected,
    wanted_exports,
    wanted_imports,
    watch_problems,
)
from harness.cluster import kinds
from harness.cluster.forwarded import Answer
from harness.cluster.kinds import Kind
from harness.cluster.transport import ClusterError
from harness.product.discovery import Announced, DiscoveryAnswer, discovery_route
from harness.product.envoy import Endpoint
from harness.product.mesh import MESH2, SCENARIO, Federation, IngressAddress, Mesh, server_names
from harness.product.status import exported_services, imported_services
from harness.run.waiting import WaitTimeout

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

    def wait(self, what: str, *_: object, until: Any, timeout: float, **__: object) -> Any:
        answer = until([self.peer])
        if answer is None:
            raise WaitTimeout("mesh", what, timeout, "as told")
        return answer

    def exec(self, *_: object, **__: object) -> str:
        return self.proxy


def mesh(name: str, answers: Answers | Sets | None = None) -> Mesh:
    installed = {"cluster": answers or Answers(), "version": "v2.1", "release": "2.1.6", "ingress": NOWHERE}
    return Mesh(**vars(SCENARIO[name]), **installed)  # type: ignore[arg-type]


class Sets:
    """An API that has these sets: kind to object; what is not there is not found."""

    def __init__(self, **sets: dict[str, Any]) -> None:
        self.sets = sets

    def find(self, kind: Kind, *_: object) -> dict[str, Any] | None:
        return self.sets.get({kinds.EXPORTS: "exports", kinds.IMPORTS: "imports"}[kind])


def exporting(*names: str) -> dict[str, Any]:
    return {"status": {"exportedServices": [{"exportedName": name, "localService": {}} for name in names]}}


def importing(*names: str, asks: str = "trade") -> dict[str, Any]:
    rules = [{"type": "NameSelector", "nameSelector": {"namespace": asks}}]
    taken = [{"exportedName": name, "localService": {"hostname": "here"}} for name in names]
    return {"spec": {"importRules": rules}, "status": {"importedServices": taken}}


STOCK, CART = "stock.trade.svc.west-exports.local", "cart.trade.svc.east-exports.local"


@pytest.mark.parametrize(
    ("one", "two", "agree"),
    [
        ({"exports": exporting(STOCK)}, {"imports": importing(STOCK)}, True),
        ({"exports": exporting(STOCK), "imports": importing(CART)}, {"exports": exporting(CART)}, True),
        ({"exports": exporting(STOCK)}, {"imports": importing()}, False),
        ({"exports": exporting(STOCK)}, {"imports": importing(asks="elsewhere")}, True),
        ({"exports": exporting(STOCK)}, {}, True),
        ({}, {"imports": importing(STOCK)}, False),
        ({"exports": exporting(STOCK), "imports": importing()}, {"imports": importing(STOCK)}, False),
    ],
    ids=["one way", "both ways", "not taken", "not asked for", "nobody asks", "not offered", "one way is not offered"],
)
def test_what_is_offered_and_asked_for_is_taken_in_both_directions(one, two, agree):
    federation = Federation(mesh("mesh1", Sets(**one)), mesh("mesh2", Sets(**two)), one_cluster=False)
    offered, taken = agreement(federation)
    assert (offered == taken) == agree, (offered, taken)


@pytest.mark.parametrize(
    ("release", "view", "works"),
    [("2.1.6", "network-red", True), ("2.1.6", "", True), ("2.1.6", "red", False), ("2.2.13", "red", True)],
)
def test_a_network_view_works_as_captured(monkeypatch, release, view, works):
    monkeypatch.setattr(installation, "network_view", lambda _: view)
    other = replace(mesh("mesh1"), system_namespace="green-mesh", peer="red", release=release)
    assert (view in installation.working_views(other)) == works


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


SYNCED = {"lastFullSync": "2026-11-22T07:27:00Z"}


def view(pod: str, *sources: str, **watch: Any) -> dict[str, Any]:
    """What one istiod says in discoveryStatus: its own watch, connected unless said, and whose watches it serves."""
    remotes = [{"source": source, "connected": True} for source in sources]
    return {"pod": pod, "watch": {"connected": True, **watch}, "remotes": remotes}


def istiods(*numbers: int) -> list[dict[str, Any]]:
    return [pod(f"istiod-{number}", f"10.0.0.{number}") for number in numbers]


@pytest.fixture
def halved() -> Mesh:
    """mesh2 with two istiods, of which one has lost its watch; each serves one istiod of mesh1."""
    lost = {**SYNCED, "connected": False, "lastDisconnectStatus": "503 gone"}
    views = {"active": [view("istiod-1", "10.0.0.3", **SYNCED)], "inactive": [view("istiod-2", "10.0.0.4", **lost)]}
    peer = {"metadata": {"name": "mesh1"}, "status": {"discoveryStatus": views}}
    return mesh("mesh2", Answers(peer, istiods(1, 2)))


def test_the_watches_of_several_istiods_are_told_apart(halved):
    own = watch_problems(halved, lambda: SHORTLY_AFTER)
    assert own["istiod-1"] == ""
    assert "istiod-2" in own["istiod-2"]
    assert "503 gone" in own["istiod-2"]


def test_whom_several_istiods_serve_counts_together(halved):
    remote = remote_problems(halved, mesh("mesh1", Answers(pods=istiods(3, 4, 5))))
    assert [name for name, problem in remote.items() if problem] == ["istiod-5"]


def lacking(*views: dict[str, Any], pods: tuple[int, ...] = (1, 2)) -> list[str]:
    """What mesh2, whose istiods say this, lacks to be connected with istiods 3 and 4 of mesh1."""
    peer = {"metadata": {"name": "mesh1"}, "status": {"discoveryStatus": {"active": list(views)}}}
    return unconnected(MESH2, [peer], istiods(*pods), istiods(3, 4))


BOTH = view("istiod-1", "10.0.0.3", "10.0.0.4", **SYNCED)


def test_a_mesh_is_connected_when_every_istiod_of_both_sides_is():
    assert lacking(BOTH, view("istiod-2", **SYNCED)) == []


def test_a_mesh_is_not_connected_before_every_istiod_of_its_own_is_in_the_status():
    (problem,) = lacking(BOTH)
    assert problem.startswith("istiod istiod-2 is not in discoveryStatus")


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ([BOTH, view("istiod-2")], "istiod-2: own watch is connected, but no full sync"),
        (
            [view("istiod-1", "10.0.0.3", **SYNCED), view("istiod-2", **SYNCED)],
            "istiod-4 (10.0.0.4) of mesh1 has no watch connected",
        ),
    ],
    ids=["not synced", "not watched"],
)
def test_a_mesh_is_not_connected_before_every_istiod_watches_and_is_watched(views, words):
    (problem,) = lacking(*views)
    assert words in problem


def test_a_mesh_without_peer_or_istiod_is_not_connected():
    nobody = unconnected(MESH2, [], istiods(1, 2), istiods(3, 4))
    assert nobody == ["ServiceMeshPeer mesh2-system/mesh1 does not exist"]
    assert lacking(BOTH, pods=()) == ["no istiod of mesh2 is running"]


def test_an_answer_of_discovery_is_told_in_words():
    assert str(DiscoveryAnswer(403, (), "RBAC: access denied\n")) == "HTTP 403 (RBAC: access denied)"
    assert str(DiscoveryAnswer(503, (), "")) == "HTTP 503 (empty)"


def test_the_captured_sets_are_exactly_what_is_asked_for(observed):
    federation = Federation(mesh("mesh1"), mesh("mesh2"), one_cluster=False)
    exports = exported_services(observed("healthy/objects/mesh1-exportedserviceset-mesh2.json"))
    imports = imported_services(observed("healthy/objects/mesh2-importedserviceset-mesh1.json"))
    for asked, listed in ((wanted_exports(federation.mesh1), exports), (wanted_imports(federation), imports)):
        compared = compared_sets("set", asked, listed)
        assert compared.seen == compared.asked == set(asked)


def test_missing_surplus_and_absent_sets_are_told_apart(observed):
    wanted = wanted_exports(mesh("mesh1"))
    nothing = imported_services(observed("faults/import-rule-nomatch/mesh2-imports-mesh1.json"))
    assert [line.endswith("is missing") for line in compared_sets("set", wanted, nothing).problems] == [True, True]
    assert compared_sets("set", wanted[:1], wanted).problems == [f"set: {wanted[1]} was not asked for"]
    assert compared_sets("set", wanted, None).seen is None
    assert "no status" in str(compared_sets("set", wanted, None))


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
    endpoints = ImportedEndpoints("outbound|9080||ratings", found, frozenset({"10.202.0.8"})).compared
    assert (endpoints.seen == endpoints.asked) == (problem is None)
    assert (problem or "") in str(endpoints)


def test_the_headers_of_the_captured_egress_route_are_found(observed):
    routes = observed("healthy/envoy/mesh2-mesh1-egress.json")["routes"]
    dump = {"configs": [{"route_config": route} for route in routes]}
    headers, cluster = discovery_route(dump)
    assert cluster.startswith("outbound|8188|federation-discovery-mesh1-egress|")
    assert headers["discovery-service"] == "discovery.mesh2-system.svc.mesh1.local"
    assert headers["remote"].isdigit()
    assert discovery_route({"configs": []}) is None


def test_headers_written_as_newer_proxies_do_are_found_too():
    names = {"discovery-service": "discovery.a", "remote": "1"}
    match = {"headers": [{"name": name, "string_match": {"exact": text}} for name, text in names.items()]}
    dump = {"configs": [{"route_config": {"virtual_hosts": [{"routes": [{"match": match}]}]}}]}
    assert discovery_route(dump) == (names, "")


def test_an_announced_gateway_is_foreign_unless_it_is_a_way_in_to_who_announces_it():
    announced = '{"networkGatewayEndpoints": [{"port": 15443, "hostname": "10.200.0.12"}], "services": []}'
    answer = DiscoveryAnswer.of(Answer(200, announced))
    assert answer.foreign([Announced("10.200.0.11", 15443)]) == [Announced("10.200.0.12", 15443)]
    assert answer.foreign([Announced("10.200.0.12", 15443)]) == []


def test_the_server_names_are_those_of_the_captured_connections(observed):
    log = observed("healthy/tls.txt")
    mesh1 = mesh("mesh1")
    assert server_names(mesh1, 8188)[0] in log
    assert server_names(mesh1, 15443)[0] in log


def received(proxy: str) -> int:
    return requests_received(mesh("mesh1", Answers(pods=[pod("productpage-v1")], proxy=proxy)), "productpage")


@pytest.mark.parametrize(
    "statistics",
    [
        "http.inbound_0.0.0.0_9080.downstream_rq_total: 7\ncluster.inbound|9080||.upstream_rq_total: 6",
        "cluster.inbound|9080||.upstream_rq_total: 7\ncluster.outbound|9080||x.upstream_rq_total: 100",
    ],
)
def test_requests_received_are_counted_by_inbound_listeners_or_clusters(statistics):
    assert received(statistics) == 7


def test_requests_are_counted_by_inbound_hosts_where_a_proxy_has_no_other_counter():
    def cluster(name: str, count: str) -> str:
        return f'{{"name": "{name}", "host_statuses": [{{"stats": [{{"name": "rq_total", "value": "{count}"}}]}}]}}'

    assert (
        received(f'{{"cluster_statuses": [{cluster("inbound|9080||", "7")}, {cluster("outbound|9080||x", "9")}]}}') == 7
    )


def test_a_host_that_has_not_counted_yet_has_received_nothing():
    """Envoy leaves a value of 0 out."""
    host = '{"stats": [{"name": "rq_total"}]}'
    assert received(f'{{"cluster_statuses": [{{"name": "inbound|9080||", "host_statuses": [{host}]}}]}}') == 0


def test_without_any_counter_of_inbound_requests_their_number_is_unknown():
    with pytest.raises(ClusterError, match="unknown: its proxy has no counter"):
        received('{"cluster_statuses": [{"name": "inbound|9080||"}]}')
