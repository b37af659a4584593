"""The weights of ratings-split are set for a measurement and put back, whatever happens in between."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import VIRTUAL_SERVICE
from harness.product.mesh import MESH1, MESH2, Federation, IngressAddress, Mesh
from harness.split.ratings_split import SPLIT, SplitMeter
from selftests.support.api import api_server

ROOT = Path(__file__).parents[3]
NAMESPACE = "mesh2-bookinfo"
MESH1_HOST, MESH2_HOST = "ratings.mesh2-bookinfo.svc.mesh1-imports.local", "ratings.mesh2-bookinfo.svc.cluster.local"


@pytest.fixture(scope="module")
def cluster():
    with api_server("mesh2") as settings:
        found = Cluster("mesh2", settings.kubeconfig)
        crd = ROOT / "lab/crds/virtualservices.networking.istio.io.yaml"
        found.apply(yaml.safe_load(crd.read_text()))
        found.wait_served(VIRTUAL_SERVICE, 10)
        found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield found
        found.close()


@pytest.fixture
def split(cluster):
    """The manifest as it stands, anew for every test."""
    (path,) = (ROOT / "manifests/mesh2").rglob("*ratings-split.yaml")
    cluster.apply(yaml.safe_load(path.read_text()))
    yield lambda: cluster.get(VIRTUAL_SERVICE, SPLIT, NAMESPACE)
    cluster.delete(VIRTUAL_SERVICE, SPLIT, NAMESPACE)


@pytest.fixture
def meter(cluster) -> SplitMeter:
    address = IngressAddress(("127.0.0.1",), 8188, 15443, "none")
    mesh1 = Mesh(**vars(MESH1), cluster=cluster, version="v2.1", release="2.1.6", ingress=address)
    mesh2 = Mesh(**vars(MESH2), cluster=cluster, version="v2.1", release="2.1.6", ingress=address)
    return SplitMeter(Federation(mesh1, mesh2, one_cluster=True), "http://127.0.0.1:1/productpage")


def weights(obj: dict) -> dict[str, int]:
    return {entry["destination"]["host"]: entry["weight"] for entry in obj["spec"]["http"][0]["route"]}


def test_weights_are_set_and_put_back(meter, split):
    before = split()
    with meter.weights((90, 10)):
        assert weights(split()) == {MESH1_HOST: 90, MESH2_HOST: 10}
    assert split()["spec"] == before["spec"]


def test_weights_are_put_back_after_a_failure(meter, split):
    before = split()
    with pytest.raises(AssertionError), meter.weights((0, 100)):
        raise AssertionError
    assert split()["spec"] == before["spec"]


def test_weights_in_force_already_are_not_touched(meter, split):
    before = split()
    with meter.weights((50, 50)):
        assert split()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert split()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_the_first_weight_is_mesh1s_in_whatever_order_destinations_stand(meter, split, cluster):
    (route,) = split()["spec"]["http"]
    cluster.patch(VIRTUAL_SERVICE, SPLIT, NAMESPACE, {"spec": {"http": [{"route": route["route"][::-1]}]}})
    with meter.weights((70, 30)):
        assert weights(split()) == {MESH1_HOST: 70, MESH2_HOST: 30}


@pytest.mark.usefixtures("split")
def test_a_caller_without_pods_is_not_measured(meter):
    told: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def waiting(what):
        yield told.setdefault(what, []).append

    impatient = replace(meter, federation=meter.federation.with_patience(0.1), waiting=waiting)
    found = impatient.measure((50, 50))
    ((what, observations),) = told.items()
    assert what.startswith("reviews-v3's own route for ratings:9080 to carry ")
    assert set(observations) == {"no pod of reviews-v3"}
    assert found.outcome == "NOT PROGRAMMED"
    assert "no pod of reviews-v3" in found.headline
    assert f"50 to {MESH1_HOST}" in found.headline
