"""Routes for users' Gateways, against the one the real mesh made for bookinfo."""

from __future__ import annotations

from typing import Any

import pytest

from lab.operator.routes import routes_of, service_for


def gateway(host: str = "*", **server: Any) -> dict[str, Any]:
    metadata = {"name": "bookinfo-gateway", "namespace": "mesh2-bookinfo", "resourceVersion": "1047"}
    return {
        "metadata": metadata,
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{"hosts": [host], **server}]},
    }


@pytest.fixture
def services(observed) -> list[dict[str, Any]]:
    return observed("healthy/objects/mesh2-system-services.json")["items"]


def test_the_route_of_bookinfo_is_that_of_the_product(observed, services):
    items = observed("healthy/objects/mesh2-other-objects.json")["items"]
    (real,) = [
        each for each in items if each["metadata"]["labels"].get("maistra.io/gateway-name") == "bookinfo-gateway"
    ]
    service = service_for(gateway(), services)
    (made,) = routes_of(gateway(), service, "mesh2-system")
    name, _, digest = made["metadata"]["name"].rpartition("-")
    assert name == real["metadata"]["name"].rpartition("-")[0]
    assert len(digest) == 16
    assert int(digest, 16)
    assert made["metadata"]["labels"] == real["metadata"]["labels"]
    del real["spec"]["to"]["weight"]
    assert made["spec"] == real["spec"]


def test_of_several_services_the_plainest_is_taken(services):
    assert service_for(gateway(), services)["metadata"]["name"] == "istio-ingressgateway"
    assert service_for(gateway(), list(reversed(services)))["metadata"]["name"] == "istio-ingressgateway"


def test_a_gateway_that_selects_nothing_gets_no_service(services):
    lost = gateway()
    lost["spec"]["selector"] = {"istio": "nowhere"}
    assert service_for(lost, services) is None


@pytest.mark.parametrize(
    ("host", "expected", "policy"),
    [
        ("shop.example.com", "shop.example.com", "None"),
        ("*.example.com", "wildcard.example.com", "Subdomain"),
        ("mesh2-bookinfo/shop.example.com", "shop.example.com", "None"),
    ],
)
def test_hosts_are_carried_over(services, host, expected, policy):
    (route,) = routes_of(gateway(host), service_for(gateway(), services), "mesh2-system")
    assert (route["spec"]["host"], route["spec"]["wildcardPolicy"]) == (expected, policy)


def test_tls_is_passed_through(services):
    (route,) = routes_of(gateway(tls={"mode": "SIMPLE"}), service_for(gateway(), services), "mesh2-system")
    assert route["spec"]["tls"] == {"termination": "passthrough"}
    assert route["spec"]["port"] == {"targetPort": "https"}
