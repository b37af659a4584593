"""Rules of istiod's configuration, one by one, in small meshes made for each."""

from __future__ import annotations

from typing import Any

import pytest

from lab.istiod.config.authorization import http_filters, network_filters
from lab.istiod.config.clusters import clusters
from lab.istiod.config.gateways import gateway_listeners
from lab.istiod.config.listeners import sidecar_listeners
from lab.istiod.config.routes import domains, sidecar_routes
from lab.istiod.model import Endpoint, FederationOutput, Port, Service
from lab.istiod.registry import kubernetes_services, protocol_of
from lab.istiod.store import Config, Mesh, Proxy

NS, SYSTEM = "app", "mesh-system"
HTTP = Port("http", 9080, "HTTP")
RATINGS = f"ratings.{NS}.svc.cluster.local"


def service(name: str, *ports: Port, **fields: Any) -> Service:
    hostname = fields.pop("hostname", f"{name}.{NS}.svc.cluster.local")
    return Service(**{"hostname": hostname, "name": name, "namespace": NS, "ports": ports or (HTTP,), **fields})


def config(kind: str, spec: Any, name: str = "one", namespace: str = NS, created: str = "2026") -> Config:
    return Config(kind, name, namespace, spec, created)


def mesh(*services: Service, configs: tuple[Config, ...] = (), **fields: Any) -> Mesh:
    defaults: Any = {"trust_domain": "m.local", "root_namespace": SYSTEM, "version": (2, 1), "federation": {}}
    return Mesh(services=services, configs=configs, **{**defaults, **fields})


def virtual_service(*routes: tuple[str, int], **more: Any) -> Config:
    entries = [{"destination": {"host": host}, "weight": weight} for host, weight in routes]
    return config("VirtualService", {"hosts": ["ratings"], "http": [{"route": entries, **more}]})


def action(view: Mesh) -> Any:
    hosts = sidecar_routes(view, NS, 9080)["virtual_hosts"]
    [host] = [host for host in hosts if host["name"] == f"{RATINGS}:9080"]
    return host["routes"][0]["route"]


SIDECAR = Proxy("sidecar~127.20.0.9~p.app~d", "sidecar", "127.20.0.9", "p", NS, labels={"app": "ratings"})
EGRESS = Proxy("router~127.20.0.5~e.mesh-system~d", "router", "127.20.0.5", "e", SYSTEM, labels={"app": "egress"})


def test_weights_are_those_of_the_virtual_service() -> None:
    split = action(mesh(service("ratings"), configs=(virtual_service(("ratings", 90), ("other.example", 10)),)))
    assert split["weighted_clusters"]["clusters"] == [
        {"name": f"outbound|9080||{RATINGS}", "weight": 90},
        {"name": "outbound|9080||other.example", "weight": 10},
    ]


def test_a_destination_without_weight_gets_nothing() -> None:
    alone = action(mesh(service("ratings"), configs=(virtual_service(("ratings", 100), ("other.example", 0)),)))
    assert alone["cluster"] == f"outbound|9080||{RATINGS}"
    assert "weighted_clusters" not in alone


def test_an_unknown_host_and_subset_keep_their_cluster_name() -> None:
    rule = config(
        "VirtualService",
        {"hosts": ["ratings"], "http": [{"route": [{"destination": {"host": "nowhere.example", "subset": "v9"}}]}]},
    )
    view = mesh(service("ratings"), configs=(rule,))
    assert action(view)["cluster"] == "outbound|9080|v9|nowhere.example"
    assert "outbound|9080|v9|nowhere.example" not in [cluster["name"] for cluster in clusters(view, SIDECAR)]


def without_port(host: str) -> tuple[Config, Config]:
    """A Gateway on 15443, and a VirtualService that leads from it to a host and gives no port."""
    port = {"name": "tls", "number": 15443, "protocol": "TLS"}
    server = {"hosts": ["one.example"], "port": port, "tls": {"mode": "ISTIO_MUTUAL"}}
    gateway = {"selector": {"app": "egress"}, "servers": [server]}
    route = {"gateways": [f"{SYSTEM}/one"], "hosts": ["one.example"]}
    route["tcp"] = [{"route": [{"destination": {"host": host}}]}]
    return config("Gateway", gateway, namespace=SYSTEM), config("VirtualService", route, namespace=SYSTEM)


@pytest.mark.parametrize(("ports", "meant"), [((HTTP,), 9080), ((HTTP, Port("grpc", 9090, "GRPC")), 15443)])
def test_the_only_port_is_meant_and_of_several_the_one_asked_on(ports: tuple[Port, ...], meant: int) -> None:
    """Why services with two ports do not work across federation gateways: their routes give no port."""
    [listener] = gateway_listeners(mesh(service("ratings", *ports), configs=without_port(RATINGS)), EGRESS)
    target = listener["filter_chains"][0]["filters"][-1]["typed_config"]["cluster"]
    assert target == f"outbound|{meant}||{RATINGS}"


def test_a_users_virtual_service_wins_over_a_federated_one_and_the_older_over_the_younger() -> None:
    made = {"kind": "VirtualService", "name": "fed", "namespace": NS}
    made["spec"] = virtual_service(("federated.example", 100)).spec
    output = FederationOutput(objects=(made,))
    older, younger = virtual_service(("older.example", 100)), virtual_service(("younger.example", 100))
    younger = config("VirtualService", younger.spec, name="a-name-that-sorts-first", created="2027")
    view = mesh(service("ratings"), configs=(younger, older), federation={"peer": output})
    assert action(view)["cluster"] == "outbound|9080||older.example"


@pytest.mark.parametrize(
    ("view", "version", "shown"),
    [("", (2, 1), 1), ("network-peer", (2, 1), 1), ("peer-network", (2, 1), 0), ("peer-network", (2, 3), 1)],
)
def test_network_view_hides_remote_endpoints_until_2_3(view: str, version: tuple[int, int], shown: int) -> None:
    behind_peer = (Endpoint("10.0.0.1", 15443, "http", tls=True),)
    host = "ratings.b.svc.p-exports.local"
    private = service("r.remote", hostname=host, namespace=SYSTEM, source="peer", private=True, endpoints=behind_peer)
    proxy = Proxy("n", "router", "127.20.0.5", "e", SYSTEM, network_view=frozenset(filter(None, [view])))
    found = clusters(mesh(federation={"peer": FederationOutput(services=(private,))}, version=version), proxy)
    [cluster] = [entry for entry in found if entry["name"] == f"outbound|9080||{host}"]
    assert len(cluster["load_assignment"]["endpoints"]) == shown


@pytest.mark.parametrize(("address", "waits"), [("10.200.0.11", True), ("mesh1.invalid", False)])
def test_a_name_that_is_not_found_yet_keeps_no_older_cluster_in_use(address: str, waits: bool) -> None:
    outside = service("outside", resolution="DNS", endpoints=(Endpoint(address, 9080, "http"),))
    [cluster] = [entry for entry in clusters(mesh(outside), SIDECAR) if entry["name"].endswith(outside.hostname)]
    assert cluster["type"] == "STRICT_DNS"
    assert cluster.get("wait_for_warm_on_init", True) is waits


def test_private_services_are_for_gateways_only() -> None:
    private = service("x", hostname="x.b.svc.p-exports.local", namespace=SYSTEM, source="peer", private=True)
    view = mesh(federation={"peer": FederationOutput(services=(private,))})
    name = f"outbound|9080||{private.hostname}"
    assert name in [cluster["name"] for cluster in clusters(view, EGRESS)]
    assert name not in [cluster["name"] for cluster in clusters(view, SIDECAR)]


def ratings_at(address: str, port: int, identity: str, **fields: Any) -> Service:
    """ratings with one endpoint of this identity."""
    endpoint = Endpoint(address, port, "http", True, identity)
    return service("ratings", endpoints=(endpoint,), identities=(identity,), **fields)


def test_import_as_local_joins_local_pods_and_the_egress_gateway() -> None:
    local = ratings_at("127.20.0.9", 9080, "spiffe://m.local/a")
    imported = ratings_at("127.20.0.5", 15443, "spiffe://m.local/e", source="peer")
    merged = mesh(local, federation={"peer": FederationOutput(services=(imported,))}).service(RATINGS)
    assert merged
    assert {endpoint.address for endpoint in merged.endpoints} == {"127.20.0.9", "127.20.0.5"}
    assert merged.identities == ("spiffe://m.local/a", "spiffe://m.local/e")


def kube_service(*ports: dict[str, Any]) -> Any:
    """The Service `ratings` as Kubernetes has it."""
    spec = {"selector": {"app": "ratings"}, "ports": list(ports)}
    return {"metadata": {"name": "ratings", "namespace": NS}, "spec": spec}


def inbound(view: Mesh) -> Any:
    """The listener of the sidecar for what comes in."""
    [found] = [entry for entry in sidecar_listeners(view, SIDECAR) if entry["name"] == "virtualInbound"]
    return found


def peer_authentication(mode: str, **more: Any) -> Config:
    return config("PeerAuthentication", {"mtls": {"mode": mode}, **more}, namespace=more.pop("namespace", NS))


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ((), ["tls", "raw_buffer"]),
        ((peer_authentication("STRICT"),), ["tls"]),
        ((peer_authentication("DISABLE"),), [None]),
        (
            (
                peer_authentication("STRICT"),
                peer_authentication("DISABLE", selector={"matchLabels": {"app": "ratings"}}),
            ),
            [None],
        ),
        ((peer_authentication("STRICT", selector={"matchLabels": {"app": "other"}}),), ["tls", "raw_buffer"]),
        (
            (
                peer_authentication(
                    "STRICT",
                    selector={"matchLabels": {"app": "ratings"}},
                    portLevelMtls={"9080": {"mode": "PERMISSIVE"}},
                ),
            ),
            ["tls", "raw_buffer"],
        ),
    ],
)
def test_servers_accept_what_peer_authentication_says(policies: tuple[Config, ...], expected: list[Any]) -> None:
    kube = kube_service({"name": "http", "port": 9080})
    chains = inbound(mesh(service("ratings"), configs=policies, workload_services=[kube]))["filter_chains"]
    assert [chain["filter_chain_match"].get("transport_protocol") for chain in chains] == expected


def test_one_inbound_listener_takes_every_port_the_workload_serves() -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 9080}, {"name": "tcp-x", "port": 7000, "targetPort": 7001}]
    known = service("ratings", Port("http", 80, "HTTP"), Port("tcp-x", 7000, "TCP"))
    view = mesh(known, workload_services=[kube_service(*ports)])
    bound = [inbound(view)["address"], *[entry["address"] for entry in inbound(view)["additional_addresses"]]]
    assert [entry["socket_address"]["port_value"] for entry in bound] == [7001, 9080]
    served = [cluster["name"] for cluster in clusters(view, SIDECAR) if cluster["name"].startswith("inbound")]
    assert served == ["inbound|7001||", "inbound|9080||"]


def test_of_several_tcp_services_on_a_port_the_nearest_is_served() -> None:
    """One address stands for all ClusterIPs in the lab."""
    mongo = Port("mongo", 27017, "Mongo")
    own = service("mongodb", mongo, cluster_ip="10.0.0.9")
    imported = service("a", mongo, hostname="a.imports.local", namespace=SYSTEM, source="peer")
    elsewhere = service("b", mongo, hostname="b.another.svc.cluster.local", namespace="another", cluster_ip="10.0.0.8")
    [listener] = sidecar_listeners(mesh(imported, elsewhere, own), SIDECAR)
    assert listener["name"] == "10.0.0.9_27017"
    [proxy] = listener["filter_chains"][0]["filters"]
    assert proxy["typed_config"]["cluster"] == f"outbound|27017||{own.hostname}"


@pytest.mark.parametrize(
    ("tls", "kind"),
    [
        ({}, "auto"),
        ({"mode": "DISABLE"}, "none"),
        ({"mode": "SIMPLE"}, "tls"),
        ({"mode": "ISTIO_MUTUAL", "sni": "other.example"}, "other.example"),
    ],
)
def test_clients_secure_connections_as_destination_rules_say(tls: Any, kind: str) -> None:
    rule = config("DestinationRule", {"host": "ratings", "trafficPolicy": {"tls": tls}})
    view = mesh(service("ratings"), configs=(rule,))
    [cluster] = [entry for entry in clusters(view, SIDECAR) if entry["name"] == f"outbound|9080||{RATINGS}"]
    socket = cluster.get("transport_socket", {}).get("typed_config", {})
    found = socket.get("sni") or ("tls" if socket else "auto" if "transport_socket_matches" in cluster else "none")
    assert found == kind


def test_plain_text_to_hosts_of_a_mesh_without_mutual_tls() -> None:
    disabled = config("PeerAuthentication", {"mtls": {"mode": "DISABLE"}}, namespace=SYSTEM)
    [cluster] = [
        entry
        for entry in clusters(mesh(service("ratings"), configs=(disabled,)), SIDECAR)
        if entry["name"] == f"outbound|9080||{RATINGS}"
    ]
    assert "transport_socket_matches" not in cluster


@pytest.mark.parametrize(("subset", "expected"), [("two", ["127.20.0.8"]), ("", ["127.20.0.7", "127.20.0.8"])])
def test_subsets_hold_the_endpoints_with_their_labels(subset: str, expected: list[str]) -> None:
    pods = (("127.20.0.7", "v1"), ("127.20.0.8", "v2"))
    endpoints = tuple(Endpoint(address, 9080, "http", labels=(("version", version),)) for address, version in pods)
    rule = config("DestinationRule", {"host": "ratings", "subsets": [{"name": "two", "labels": {"version": "v2"}}]})
    found = clusters(mesh(service("ratings", endpoints=endpoints), configs=(rule,)), SIDECAR)
    [cluster] = [entry for entry in found if entry["name"] == f"outbound|9080|{subset}|{RATINGS}"]
    near = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert [entry["endpoint"]["address"]["socket_address"]["address"] for entry in near] == expected


def test_allow_rules_that_need_http_allow_nothing_on_tcp() -> None:
    rule = {"to": [{"operation": {"methods": ["GET"]}}]}
    policy = config("AuthorizationPolicy", {"action": "ALLOW", "rules": [rule]})
    view = mesh(service("ratings"), configs=(policy,))
    name = f"ns[{NS}]-policy[one]-rule[0]"
    [http], [network] = http_filters(view, SIDECAR), network_filters(view, SIDECAR)
    assert list(http["typed_config"]["rules"]["policies"]) == [name]
    assert network["typed_config"]["rules"] == {"action": "ALLOW", "policies": {}}


def test_policies_hold_for_the_workloads_they_select() -> None:
    elsewhere = config("AuthorizationPolicy", {"action": "DENY", "rules": [{}]}, namespace="other")
    other_app = config(
        "AuthorizationPolicy", {"action": "DENY", "rules": [{}], "selector": {"matchLabels": {"app": "x"}}}
    )
    assert http_filters(mesh(configs=(elsewhere, other_app)), SIDECAR) == []
    mesh_wide = config("AuthorizationPolicy", {"action": "DENY", "rules": [{}]}, namespace=SYSTEM)
    assert len(http_filters(mesh(configs=(mesh_wide,)), SIDECAR)) == 1


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("http", "HTTP"), ("http-web", "HTTP"), ("mongo", "Mongo"), ("tcp", "TCP"), ("", "TCP"), ("httpweb", "TCP")],
)
def test_the_port_name_tells_the_protocol(name: str, protocol: str) -> None:
    assert protocol_of({"name": name, "port": 1}) == protocol


def test_a_service_of_another_namespace_is_not_known_by_its_short_name() -> None:
    forms = domains(service("ratings"), "10.0.0.1", "elsewhere", 9080)
    assert "ratings" not in forms
    assert {"ratings.app", "ratings.app.svc", RATINGS, f"{RATINGS}:9080", "10.0.0.1:9080"} <= set(forms)


def account_pod(name: str, **labels: str) -> tuple[tuple[str, str], Any]:
    """A pod with a ServiceAccount of its own name, as its key and object."""
    return (NS, name), {"metadata": {"labels": labels}, "spec": {"serviceAccountName": name}}


def endpoints_of(**addresses: str) -> dict[tuple[str, str], Any]:
    """Endpoints of ratings: pods and their addresses."""
    listed = [{"ip": ip, "targetRef": {"name": name, "namespace": NS}} for name, ip in addresses.items()]
    return {(NS, "ratings"): {"subsets": [{"addresses": listed, "ports": [{"name": "http", "port": 9080}]}]}}


def test_endpoints_know_their_pods_identity_and_whether_it_speaks_mutual_tls() -> None:
    pods = dict([account_pod("a", **{"security.istio.io/tlsMode": "istio"}), account_pod("b")])
    kube, endpoints = kube_service({"name": "http", "port": 80}), endpoints_of(a="127.20.0.5", b="127.20.0.6")
    [found] = kubernetes_services([kube], endpoints, pods, "m.local")
    told = [(endpoint.address, endpoint.port, endpoint.tls, endpoint.identity) for endpoint in found.endpoints]
    assert told == [
        ("127.20.0.5", 9080, True, f"spiffe://m.local/ns/{NS}/sa/a"),
        ("127.20.0.6", 9080, False, f"spiffe://m.local/ns/{NS}/sa/b"),
    ]
    assert found.identities == (f"spiffe://m.local/ns/{NS}/sa/a", f"spiffe://m.local/ns/{NS}/sa/b")
