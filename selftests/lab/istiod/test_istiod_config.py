"""What istiod configures in its proxies, held against the proxies of the captured federation."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.istiod.config.clusters import clusters
from lab.istiod.store import Mesh, Proxy
from lab.istiod.xds import proxy_listeners, proxy_routes
from lab.node.images import envoy_path
from selftests.support.captured_mesh import captured_mesh, captured_proxy, comparable

Load = Callable[[str], Any]
GATEWAYS = {
    "mesh1-mesh2-ingress": ("mesh1", "mesh2", "mesh2-ingress", ""),
    "mesh2-mesh1-egress": ("mesh2", "mesh1", "mesh1-egress", ""),
    "mesh2-istio-ingressgateway": ("mesh2", "mesh1", "istio-ingressgateway", ""),
}
SIDECARS = {
    "mesh2-reviews-v3": ("mesh2", "mesh1", "reviews", "v3"),
    "mesh1-ratings-v1": ("mesh1", "mesh2", "ratings", "v1"),
}
PROXIES = GATEWAYS | SIDECARS


@pytest.fixture
def given(observed: Load) -> Callable[[str], tuple[Mesh, Proxy, Any]]:
    """Mesh, proxy and captured configuration by the capture's name."""

    def build(name: str) -> tuple[Mesh, Proxy, Any]:
        mesh, peer, app, version = PROXIES[name]
        proxy = captured_proxy(observed, mesh, app, version)
        return captured_mesh(observed, mesh, peer), proxy, observed(f"healthy/envoy/{name}.json")

    return build


def _without(entries: list[Any], *fields: str) -> list[Any]:
    return [{key: value for key, value in comparable(entry).items() if key not in fields} for entry in entries]


def _by_name(entries: list[Any]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in entries}


@pytest.mark.parametrize("name", GATEWAYS)
def test_gateways_listen_as_captured(name: str, given: Callable[[str], tuple[Mesh, Proxy, Any]]) -> None:
    mesh, proxy, captured = given(name)
    ours = proxy_listeners(mesh, proxy)
    assert _without(ours, "@type", "address") == _without(captured["listeners"], "@type", "address")
    bound = {(entry["address"]["socket_address"]["address"]) for entry in ours}
    assert bound == {proxy.ip}, "a gateway listens on its pod's address only"


@pytest.mark.parametrize("name", GATEWAYS)
def test_gateways_route_as_captured(name: str, given: Callable[[str], tuple[Mesh, Proxy, Any]]) -> None:
    mesh, proxy, captured = given(name)
    names = [entry["name"] for entry in captured["routes"]]
    assert _without(proxy_routes(mesh, proxy, names), "@type") == _without(captured["routes"], "@type")


def test_a_sidecar_calls_and_routes_as_captured(given: Callable[[str], tuple[Mesh, Proxy, Any]]) -> None:
    mesh, proxy, captured = given("mesh2-reviews-v3")
    ours, theirs = _by_name(proxy_listeners(mesh, proxy)), _by_name(captured["listeners"])
    outbound = "0.0.0.0_9080"
    assert _without([ours[outbound]], "address") == _without([theirs[outbound]], "@type", "address")

    def without_virtual_addresses(route: Any) -> Any:
        # the product assigns addresses of 240.241.0.0/16 in no fixed order
        for host in route["virtual_hosts"]:
            host["domains"] = [domain for domain in host["domains"] if not domain.startswith("240.241.")]
        return route

    [ours_9080], [theirs_9080] = proxy_routes(mesh, proxy, ["9080"]), _without(captured["routes"], "@type")
    assert without_virtual_addresses(comparable(ours_9080)) == without_virtual_addresses(theirs_9080)


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_serves_as_captured(name: str, given: Callable[[str], tuple[Mesh, Proxy, Any]]) -> None:
    mesh, proxy, captured = given(name)

    def chains(listeners: list[Any]) -> list[Any]:
        inbound = comparable(_by_name(listeners)["virtualInbound"])["filter_chains"]
        return [chain for chain in inbound if chain["filter_chain_match"].get("destination_port") == 9080]

    ours = chains(proxy_listeners(mesh, proxy))
    assert ours == chains(captured["listeners"])
    assert len(ours) == 2, "mutual TLS and plain text are told apart"


@pytest.mark.parametrize("name", PROXIES)
def test_clusters_are_the_captured_ones(name: str, given: Callable[[str], tuple[Mesh, Proxy, Any]]) -> None:
    """Captures hold the clusters on the path only, with endpoints apart from them."""
    mesh, proxy, captured = given(name)
    ours, theirs = _by_name(clusters(mesh, proxy)), _by_name(captured["clusters"])
    assert set(theirs) - set(ours) == set()
    told_apart = {"@type", "type", "eds_cluster_config", "load_assignment", "lb_policy"}
    outdated = {"dns_refresh_rate", "respect_dns_ttl"}
    for cluster_name, captured_cluster in theirs.items():
        [expected] = _without([captured_cluster], *told_apart, *outdated)
        assert _without([ours[cluster_name]], *told_apart) == [expected], cluster_name


@pytest.mark.parametrize("name", [name for name in PROXIES if name != "mesh1-ratings-v1"])
def test_endpoints_are_the_captured_ones(
    name: str, given: Callable[[str], tuple[Mesh, Proxy, Any]], observed: Load
) -> None:
    mesh, proxy, captured = given(name)
    lines = [line.split("::") for line in observed(f"healthy/envoy/{name}-clusters.txt").splitlines()]
    shown = {line[0]: set() for line in lines if line[0].startswith("outbound")}
    for line in lines:
        if line[0] in shown and len(line) > 2 and line[2] == "health_flags":
            shown[line[0]].add(line[1])
    ours = _by_name(clusters(mesh, proxy))
    assert shown, "the capture shows clusters"
    for cluster_name in set(shown) & {entry["name"] for entry in captured["clusters"]}:
        endpoints = [
            entry["endpoint"]["address"]["socket_address"]
            for locality in ours[cluster_name]["load_assignment"]["endpoints"]
            for entry in locality["lb_endpoints"]
        ]
        assert {f"{entry['address']}:{entry['port_value']}" for entry in endpoints} == shown[cluster_name], cluster_name


@pytest.mark.parametrize("name", PROXIES)
def test_envoy_accepts_what_is_configured(
    name: str, given: Callable[[str], tuple[Mesh, Proxy, Any]], tmp_path: Path
) -> None:
    mesh, proxy, captured = given(name)
    listeners = proxy_listeners(mesh, proxy)
    names = [entry["name"] for entry in captured.get("routes", ())]
    inline = iter(proxy_routes(mesh, proxy, names))
    for listener in listeners:
        for part in (part for chain in listener["filter_chains"] for part in chain["filters"]):
            if part["typed_config"].get("rds", {}).get("route_config_name") in names:
                del part["typed_config"]["rds"]
                part["typed_config"]["route_config"] = next(inline)
    xds = {"name": "xds-grpc", "type": "STATIC", "load_assignment": {"cluster_name": "xds-grpc"}}
    file = tmp_path / "envoy.json"
    resources = {"listeners": listeners, "clusters": [*clusters(mesh, proxy), xds]}
    file.write_text(json.dumps({"node": {"id": "n", "cluster": "c"}, "static_resources": resources}))
    command = [str(envoy_path()), "--mode", "validate", "-l", "warning", "-c", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "eprecated" not in told.stderr, "this Envoy has newer names for some of these fields"
