"""The manifests ask for what was captured from the real federation, name by name and field by field."""

from __future__ import annotations

import pytest
import yaml

from harness.cluster.kinds import JAEGER, KIALI, ROUTE, kind_of
from harness.product.mesh import MESH1, MESH2, IngressAddress
from harness.scenario import manifests
from harness.scenario.ownership.removal import is_ours
from lab.api.objects.apply import keyless
from lab.api.objects.kinds import register
from lab.api.objects.registry import Registry
from lab.operator.plane import typed

BOTH = pytest.mark.parametrize("mesh", [MESH1, MESH2], ids=lambda mesh: mesh.name)
ROOT_PEM = "-----BEGIN CERTIFICATE-----\n"


def named(objects, kind, name):
    return next(obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] == name)


def everything(mesh):
    address = IngressAddress(("10.0.0.1",), 1, 2, "")
    return [
        *manifests.control_plane(mesh, None, set()),
        *manifests.federation(mesh, address, ROOT_PEM),
        *manifests.bookinfo(mesh),
    ]


def contained(asked, found, path=""):
    """Where `found` lacks what `asked` has; more in `found` is fine (defaults)."""
    if isinstance(asked, dict) and isinstance(found, dict):
        return [p for key, value in asked.items() for p in contained(value, found.get(key), f"{path}.{key}")]
    if isinstance(asked, list) and isinstance(found, list) and len(asked) == len(found):
        pairs = enumerate(zip(asked, found, strict=True))
        return [p for n, (a, f) in pairs for p in contained(a, f, f"{path}[{n}]")]
    return [] if asked == found else [f"{path}: asked for {asked}, captured {found}"]


def test_every_file_holds_one_object_of_a_known_kind():
    for path in manifests.DIRECTORY.rglob("*.yaml"):
        [obj] = yaml.safe_load_all(path.read_text())
        assert kind_of(obj).kind == obj["kind"]


def test_no_object_is_asked_for_twice():
    for mesh in (MESH1, MESH2):
        keys = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in everything(mesh)]
        assert len(keys) == len(set(keys))


@BOTH
def test_the_control_plane_is_what_was_captured(mesh, observed):
    captured = observed(f"healthy/objects/{mesh.name}-smcp-smmr.json")["items"]
    asked = manifests.control_plane(mesh, "v2.1", set())
    plane = named(asked, "ServiceMeshControlPlane", mesh.control_plane)
    # Captured on clusters with Routes of no router: productpage was reached from inside.
    plane["spec"]["gateways"].pop("ingress", None)
    found = named(captured, "ServiceMeshControlPlane", mesh.control_plane)
    # It was asked for without targetPort; 0 is what the operator wrote back.
    for direction in ("additionalIngress", "additionalEgress"):
        for gateway in plane["spec"]["gateways"][direction].values():
            for port in gateway["service"]["ports"]:
                port["targetPort"] = 0
    assert contained(plane["spec"], found["spec"]) == []
    roll = named(captured, "ServiceMeshMemberRoll", "default")
    assert contained(named(asked, "ServiceMeshMemberRoll", "default")["spec"], roll["spec"]) == []


@BOTH
def test_the_peer_is_what_was_captured(mesh, observed):
    captured = observed(f"healthy/objects/{mesh.name}-servicemeshpeer-{mesh.peer}.json")
    remote = captured["spec"]["remote"]
    address = IngressAddress(tuple(remote["addresses"]), remote["discoveryPort"], remote["servicePort"], "")
    peer = named(manifests.federation(mesh, address, ROOT_PEM), "ServiceMeshPeer", mesh.peer)
    assert peer["spec"] == captured["spec"]
    assert peer["metadata"]["namespace"] == captured["metadata"]["namespace"]


@pytest.mark.parametrize(
    ("mesh", "kind", "file"),
    [
        (MESH1, "ExportedServiceSet", "mesh1-exportedserviceset-mesh2"),
        (MESH2, "ImportedServiceSet", "mesh2-importedserviceset-mesh1"),
    ],
)
def test_the_sets_are_what_was_captured(mesh, kind, file, observed):
    captured = observed(f"healthy/objects/{file}.json")
    found = named(manifests.federation(mesh, manifests.cluster_local(mesh), ""), kind, mesh.peer)
    assert found["spec"] == captured["spec"]


@BOTH
def test_bookinfo_services_and_deployments_are_what_was_captured(mesh, observed):
    asked = manifests.bookinfo(mesh)
    services = observed(f"healthy/objects/{mesh.name}-bookinfo-services.json")["items"]
    assert {o["metadata"]["name"] for o in asked if o["kind"] == "Service"} == {
        service["metadata"]["name"] for service in services
    }
    for service in services:
        found = named(asked, "Service", service["metadata"]["name"])
        assert contained(found["spec"], service["spec"]) == []
    deployments = observed(f"healthy/objects/{mesh.name}-bookinfo-deployments.json")["items"]
    for captured in deployments:
        spec = named(asked, "Deployment", captured["metadata"]["name"])["spec"]
        pod = spec["template"]
        assert contained(spec["selector"], captured["spec"]["selector"]) == []
        assert pod["metadata"]["labels"] == captured["spec"]["templateLabels"]
        assert pod["spec"].get("serviceAccountName") == captured["spec"]["serviceAccountName"]
        assert [c["image"] for c in pod["spec"]["containers"]] == [c["image"] for c in captured["spec"]["containers"]]
    assert sum(obj["kind"] == "Deployment" for obj in asked) == len(deployments)


@BOTH
def test_mesh_configuration_is_what_istiod_held(mesh, observed):
    held = observed(f"healthy/discovery/{mesh.name}-istiod-configz.json")
    captured = {(o["kind"], o["name"]): o["spec"] for o in held if o["namespace"] == mesh.app_namespace}
    asked = {
        (o["kind"], o["metadata"]["name"]): o["spec"]
        for o in manifests.bookinfo(mesh)
        if o["apiVersion"].startswith("networking.istio.io/")
    }
    # The capture's ratings rule also had subsets for versions that no deployment has.
    subsets = captured["DestinationRule", "ratings"]["subsets"]
    captured["DestinationRule", "ratings"]["subsets"] = [s for s in subsets if s["name"] in ("v1", "v2")]
    assert asked == captured


def test_every_pod_asks_for_a_sidecar():
    for mesh in (MESH1, MESH2):
        for obj in manifests.bookinfo(mesh):
            if obj["kind"] == "Deployment":
                annotations = obj["spec"]["template"]["metadata"]["annotations"]
                assert annotations["sidecar.istio.io/inject"] == "true", obj["metadata"]["name"]


def test_addons_are_off_without_their_kinds_and_on_with_them():
    def spec(served):
        objects = manifests.control_plane(MESH1, None, served)
        return named(objects, "ServiceMeshControlPlane", "fed-export")["spec"]

    off = spec({KIALI, JAEGER})
    assert (off["addons"]["kiali"], off["tracing"]["type"]) == ({"enabled": False}, "None")
    on = spec({KIALI, JAEGER, ROUTE})
    assert all(on["addons"][name]["enabled"] for name in ("kiali", "prometheus", "grafana"))
    assert on["tracing"]["type"] == "Jaeger"


def test_a_version_is_asked_for_only_when_it_is_given():
    def plane(version):
        return named(manifests.control_plane(MESH2, version, set()), "ServiceMeshControlPlane", "fed-import")

    assert "version" not in plane(None)["spec"]
    assert plane("v2.4")["spec"]["version"] == "v2.4"


def test_labels_say_whose_an_object_is_and_leave_the_manifest_alone():
    [obj, *_] = manifests.load("mesh1/control-plane")
    labelled = manifests.labelled(obj, "run-1")
    assert is_ours(labelled, "run-1")
    assert not is_ours(labelled, "run-2")
    assert not is_ours(obj, "run-1")


def test_every_port_of_a_service_and_of_a_container_names_its_protocol():
    for mesh in (MESH1, MESH2):
        for obj in manifests.bookinfo(mesh):
            pod = obj["spec"].get("template", {}).get("spec", {}) if obj["kind"] == "Deployment" else {}
            ports = obj["spec"].get("ports", []) if obj["kind"] == "Service" else []
            ports = [*ports, *(port for each in pod.get("containers", []) for port in each["ports"])]
            assert {port.get("protocol") for port in ports} <= {"TCP"}, obj["metadata"]["name"]


@BOTH
def test_a_control_plane_comes_back_from_the_operator_as_it_was_asked_for(mesh):
    plane = named(manifests.control_plane(mesh, None, set()), "ServiceMeshControlPlane", mesh.control_plane)
    assert typed(plane["spec"]) == plane["spec"]


@BOTH
def test_an_api_server_without_a_default_for_protocol_takes_every_port(mesh):
    registry = Registry()
    register(registry)
    for group, plural, kind in (("", "services", "Service"), ("apps", "deployments", "Deployment")):
        found = registry.get(group, plural)
        node = found.versions[found.storage].node
        for obj in manifests.bookinfo(mesh):
            assert obj["kind"] != kind or keyless(obj, node) == "", obj["metadata"]["name"]
