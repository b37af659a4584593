"""What the operator makes of a control plane, field by field against what the real one made of the same spec."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from lab.operator.components import stages
from lab.operator.gateways import gateways
from lab.operator.plane import ControlPlane
from lab.operator.versions import Release

MESHES = ("mesh1", "mesh2")
# Written by others: istiod, the API's own controllers, and the user.
FOREIGN = {"ior-leader", "istio-ca-root-cert", "istio-namespace-controller-election", "kube-root-ca.crt"} | {
    "servicemesh-federation",
    "mesh1-ca-root-cert",
    "mesh2-ca-root-cert",
}


def plane_of(observed, mesh: str, release: str = "2.1.6", **spec: Any) -> ControlPlane:
    smcp = copy.deepcopy(observed(f"healthy/objects/{mesh}-smcp-smmr.json")["items"][0])
    smcp["spec"] |= spec
    return ControlPlane(smcp, Release(release))


def rendered(plane: ControlPlane) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) -> object."""
    made = [each for stage in stages(plane) for template in stage.values() for each in template(plane)]
    objects = {(kind.kind, obj["metadata"]["name"]): obj for kind, obj in made}
    assert len(objects) == len(made), "two components make the same object"
    return objects


def captured(observed, mesh: str, what: str, plane: ControlPlane) -> list[dict[str, Any]]:
    """Captured objects, with the version the captured operator did not know of itself."""

    def versioned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: versioned(each) for key, each in value.items()}
        if isinstance(value, list):
            return [versioned(each) for each in value]
        return plane.mesh_version if value == "unknown-2" else value

    return [versioned(obj) for obj in observed(f"healthy/objects/{mesh}-{what}.json")["items"]]


@pytest.mark.parametrize("mesh", MESHES)
def test_services_are_those_of_the_product(observed, mesh):
    plane = plane_of(observed, mesh)
    made = {name: obj for (kind, name), obj in rendered(plane).items() if kind == "Service"}
    theirs = captured(observed, mesh, "system-services", plane)
    assert set(made) == {obj["metadata"]["name"] for obj in theirs}
    for obj in theirs:
        ours = made[obj["metadata"]["name"]]
        for field in ("labels", "annotations", "ownerReferences"):
            assert ours["metadata"][field] == obj["metadata"][field]
        given_later = {"clusterIP", "clusterIPs", "sessionAffinity", "externalTrafficPolicy"}
        wanted = {key: value for key, value in obj["spec"].items() if key not in given_later}
        for port in wanted["ports"]:
            port.pop("nodePort", None)
        assert ours["spec"] == wanted


@pytest.mark.parametrize("mesh", MESHES)
def test_deployments_are_those_of_the_product(observed, mesh):
    plane = plane_of(observed, mesh)
    made = {name: obj for (kind, name), obj in rendered(plane).items() if kind == "Deployment"}
    theirs = captured(observed, mesh, "system-deployments", plane)
    assert set(made) == {obj["metadata"]["name"] for obj in theirs}
    for obj in theirs:
        ours = made[obj["metadata"]["name"]]
        template = ours["spec"]["template"]
        assert ours["metadata"]["labels"] == obj["metadata"]["labels"]
        assert ours["spec"]["replicas"] == obj["spec"]["replicas"]
        assert ours["spec"]["selector"] == obj["spec"]["selector"]
        assert template["metadata"]["labels"] == obj["spec"]["templateLabels"]
        assert template["spec"]["serviceAccountName"] == obj["spec"]["serviceAccountName"]
        assert ("ServiceAccount", template["spec"]["serviceAccountName"]) in rendered(plane)
        (container,), (wanted,) = template["spec"]["containers"], obj["spec"]["containers"]
        assert container["name"] == wanted["name"]
        assert container["image"].partition(":")[0] == wanted["image"].partition(":")[0]
        assert container["ports"] == wanted["ports"]
        environment = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
        assert environment | {entry["name"]: entry["value"] for entry in wanted["env"]} == environment


@pytest.mark.parametrize("mesh", MESHES)
def test_routes_rules_and_policies_are_those_of_the_product(observed, mesh):
    plane = plane_of(observed, mesh)
    # The capture of mesh2 holds no DestinationRules.
    kinds = ("Route", "NetworkPolicy", "DestinationRule") if mesh == "mesh1" else ("Route", "NetworkPolicy")
    made = {key: obj for key, obj in rendered(plane).items() if key[0] in kinds}
    by_operator = [
        obj
        for obj in captured(observed, mesh, "other-objects", plane)
        if obj["metadata"]["labels"].get("maistra.io/generated-by") != "ior"
    ]
    assert set(made) == {(obj["kind"], obj["metadata"]["name"]) for obj in by_operator}
    for obj in by_operator:
        ours = made[obj["kind"], obj["metadata"]["name"]]
        assert ours["metadata"]["labels"] == obj["metadata"]["labels"]
        assert ours["spec"] == obj["spec"]


@pytest.mark.parametrize("mesh", MESHES)
def test_config_maps_are_those_of_the_product(observed, mesh):
    plane = plane_of(observed, mesh)
    made = {name: obj for (kind, name), obj in rendered(plane).items() if kind == "ConfigMap"}
    theirs = {obj["metadata"]["name"]: obj for obj in captured(observed, mesh, "system-configmaps", plane)}
    assert set(made) == set(theirs) - FOREIGN
    for name, obj in made.items():
        assert obj["metadata"]["labels"] == theirs[name]["metadata"]["labels"]
        assert set(obj.get("data", {})) == set(theirs[name]["data"])


def test_the_mesh_config_says_what_istiod_and_proxies_need(observed):
    plane = plane_of(observed, "mesh1")
    mesh = yaml.safe_load(rendered(plane)["ConfigMap", "istio-fed-export"]["data"]["mesh"])
    assert mesh["accessLogFile"] == "/dev/stdout"
    assert mesh["trustDomain"] == "mesh1.local"
    assert mesh["defaultConfig"]["discoveryAddress"] == "istiod-fed-export.mesh1-system.svc:15012"


def test_the_mesh_accepts_plain_traffic_unless_mutual_tls_is_asked_for(observed):
    made = rendered(plane_of(observed, "mesh1"))
    assert made["PeerAuthentication", "default"]["spec"] == {"mtls": {"mode": "PERMISSIVE"}}
    security = {"trust": {"domain": "mesh1.local"}, "dataPlane": {"mtls": True}}
    made = rendered(plane_of(observed, "mesh1", security=security))
    assert made["PeerAuthentication", "default"]["spec"] == {"mtls": {"mode": "STRICT"}}
    assert made["DestinationRule", "default"]["spec"]["host"] == "*.local"


def test_several_istiods_and_their_environment_can_be_asked_for(observed):
    pilot = {"deployment": {"replicas": 2}, "container": {"env": {"PILOT_ENABLE_FEDERATION": "false"}}}
    spec = rendered(plane_of(observed, "mesh1", runtime={"components": {"pilot": pilot}}))[
        "Deployment", "istiod-fed-export"
    ]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in spec["template"]["spec"]["containers"][0]["env"]}
    assert spec["replicas"] == 2
    assert environment["PILOT_ENABLE_FEDERATION"] == "false"


def test_a_gateway_keeps_the_node_ports_and_target_ports_it_asks_for(observed):
    ports = [{"name": "tls", "port": 15443, "nodePort": 31000}, {"name": "http", "port": 80, "targetPort": 8080}]
    entry = {"enabled": True, "service": {"type": "NodePort", "ports": ports}}
    made = rendered(plane_of(observed, "mesh1", gateways={"additionalIngress": {"mesh2-ingress": entry}}))
    spec = made["Service", "mesh2-ingress"]["spec"]
    assert spec["type"] == "NodePort"
    assert [(port["port"], port["targetPort"], port.get("nodePort")) for port in spec["ports"]] == [
        (15443, 15443, 31000),
        (80, 8080, None),
    ]
    container = made["Deployment", "mesh2-ingress"]["spec"]["template"]["spec"]["containers"][0]
    assert [port["containerPort"] for port in container["ports"]] == [15443, 8080, 15090]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["istio-ingressgateway", "istio-egressgateway"]),
        ({"enabled": False}, []),
        ({"egress": {"enabled": False}}, ["istio-ingressgateway"]),
        ({"additionalIngress": {"x": {}}}, ["istio-ingressgateway", "istio-egressgateway"]),
        ({"additionalEgress": {"x": {"enabled": True}}}, ["istio-ingressgateway", "istio-egressgateway", "x"]),
    ],
)
def test_additional_gateways_must_be_enabled_and_default_ones_disabled(observed, asked, names):
    assert [gateway.name for gateway in gateways(plane_of(observed, "mesh1", gateways=asked))] == names


def test_later_versions_have_no_wasm_cacher_and_another_istiod_account(observed):
    made = rendered(plane_of(observed, "mesh1", release="2.5.1", version="v2.5"))
    assert not [name for _, name in made if "wasm" in name]
    template = made["Deployment", "istiod-fed-export"]["spec"]["template"]
    assert template["spec"]["serviceAccountName"] == "istiod-fed-export"
    ports = [port["name"] for port in made["Service", "istio-ingressgateway"]["spec"]["ports"]]
    assert ports == ["status-port", "http2", "https"]


def test_an_older_version_under_a_newer_operator_gets_its_own_chart(observed):
    made = rendered(plane_of(observed, "mesh1", release="2.5.1", version="v2.4"))
    assert {obj["metadata"]["labels"]["maistra-version"] for obj in made.values()} == {"2.4.7"}
    assert {obj["metadata"]["labels"]["app.kubernetes.io/version"] for obj in made.values()} == {"2.5.1-2"}


def test_a_gateway_in_another_namespace_is_owned_by_labels_only(observed):
    entry = {"enabled": True, "namespace": "mesh1-bookinfo"}
    made = rendered(plane_of(observed, "mesh1", gateways={"additionalIngress": {"x": entry}}))
    service, deployment = made["Service", "x"], made["Deployment", "x"]
    assert service["metadata"]["namespace"] == "mesh1-bookinfo"
    assert "ownerReferences" not in service["metadata"]
    assert deployment["spec"]["template"]["metadata"]["labels"]["maistra.io/gateway"] == "x.mesh1-bookinfo"
    assert service["metadata"]["labels"]["maistra.io/owner"] == "mesh1-system"


def test_addons_are_on_unless_turned_off(observed):
    on = rendered(plane_of(observed, "mesh1", addons={}, tracing={}))
    assert {("Deployment", "prometheus"), ("Deployment", "grafana"), ("Kiali", "kiali"), ("Jaeger", "jaeger")} <= set(
        on
    )
    off = {"Kiali", "Jaeger"} & {kind for kind, _ in rendered(plane_of(observed, "mesh1"))}
    assert off == set()
