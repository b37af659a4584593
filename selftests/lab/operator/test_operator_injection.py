"""Sidecar injection, against the pods the real mesh injected."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest

from lab.operator.inject import make_injector

ADDED_LABELS = {
    "istio.io/rev",
    "maistra-version",
    "security.istio.io/tlsMode",
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
    "topology.istio.io/subzone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
}


class Mesh:
    """The captured namespaces and control plane of mesh2, as the injector sees them."""

    def __init__(self, observed) -> None:
        namespaces = copy.deepcopy(observed("healthy/objects/mesh2-namespaces.json")["items"])
        self.smcp = copy.deepcopy(observed("healthy/objects/mesh2-smcp-smmr.json")["items"][0])
        self.namespaces = {("", each["metadata"]["name"]): each for each in namespaces}
        labels = {"topology.kubernetes.io/region": "region2", "topology.kubernetes.io/zone": "zone2"}
        self.nodes = {("", "node2"): {"metadata": {"name": "node2", "labels": labels}}}

    def inject(self, pod: dict[str, Any]) -> dict[str, Any]:
        seen = {("mesh2-system", "fed-import"): self.smcp}
        informers = [SimpleNamespace(items=items) for items in (self.namespaces, seen, self.nodes)]
        return make_injector(*informers, operator_version="2.1.6")(pod)


@pytest.fixture
def mesh(observed) -> Mesh:
    return Mesh(observed)


def pod(namespace: str = "mesh2-bookinfo", inject: str | None = "true", **labels: str) -> dict[str, Any]:
    annotations = {} if inject is None else {"sidecar.istio.io/inject": inject}
    labels = {"app": "details", "version": "v1", "pod-template-hash": "6cd699df8c", **labels}
    owner = {"kind": "ReplicaSet", "name": "details-v1-6cd699df8c", "controller": True}
    metadata = {"name": "details-v1-6cd699df8c-x", "namespace": namespace, "labels": labels, "annotations": annotations}
    container = {"name": "details", "ports": [{"containerPort": 9080, "protocol": "TCP"}]}
    return {
        "metadata": {**metadata, "ownerReferences": [owner]},
        "spec": {"nodeName": "node2", "containers": [container]},
    }


@pytest.mark.parametrize("index", range(6))
def test_an_injected_pod_looks_like_the_real_one(observed, mesh, index):
    real = observed("healthy/objects/mesh2-bookinfo-pods.json")["items"][index]
    plain = pod()
    labels = real["metadata"]["labels"]
    plain["metadata"]["labels"] = {key: value for key, value in labels.items() if key not in ADDED_LABELS}
    (app,) = set(real["spec"]["containers"]) - {"istio-proxy"}
    plain["spec"]["containers"] = [{"name": app}]
    made = mesh.inject(plain)
    assert made["metadata"]["labels"] == labels
    assert sorted(made["metadata"]["annotations"]) == real["metadata"]["annotationKeys"]
    assert {each["name"] for each in made["spec"]["containers"]} == set(real["spec"]["containers"])


def test_the_sidecar_knows_its_control_plane_and_its_workload(mesh):
    sidecar = mesh.inject(pod())["spec"]["containers"][1]
    environment = {entry["name"]: entry.get("value") for entry in sidecar["env"]}
    assert sidecar["image"].startswith("quay.io/maistra/proxyv2-ubi8:")
    assert sidecar["args"][:2] == ["proxy", "sidecar"]
    assert environment["CA_ADDR"] == "istiod-fed-import.mesh2-system.svc:15012"
    assert environment["ISTIO_META_WORKLOAD_NAME"] == "details-v1"
    assert json.loads(environment["ISTIO_META_POD_PORTS"]) == [{"containerPort": 9080, "protocol": "TCP"}]


def test_the_given_pod_is_left_alone(mesh):
    given = pod()
    before = copy.deepcopy(given)
    mesh.inject(given)
    assert given == before


@pytest.mark.parametrize(
    "plain",
    [pod(inject=None), pod(inject="false"), pod(namespace="mesh2-system"), pod(namespace="elsewhere")],
    ids=["not asked for", "refused", "control plane namespace", "no member"],
)
def test_other_pods_get_no_sidecar(mesh, plain):
    assert mesh.inject(plain) is plain


def test_the_control_plane_namespace_is_left_alone_also_where_nothing_says_ignore(mesh):
    del mesh.namespaces["", "mesh2-system"]["metadata"]["labels"]["maistra.io/ignore-namespace"]
    assert len(mesh.inject(pod(namespace="mesh2-system"))["spec"]["containers"]) == 1


def test_a_pod_gets_one_sidecar_only(mesh):
    once = mesh.inject(pod())
    assert mesh.inject(once) is once


def test_a_mesh_may_inject_without_being_asked(mesh):
    mesh.smcp["spec"]["proxy"]["injection"] = {"autoInject": True}
    assert len(mesh.inject(pod(inject=None))["spec"]["containers"]) == 2
    assert len(mesh.inject(pod(inject="false"))["spec"]["containers"]) == 1


def test_a_namespace_that_left_the_mesh_gets_no_sidecars(mesh):
    del mesh.namespaces["", "mesh2-bookinfo"]["metadata"]["labels"]["maistra.io/member-of"]
    assert len(mesh.inject(pod())["spec"]["containers"]) == 1
