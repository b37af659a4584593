"""The link of the API server, before one that fails so many of its requests."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from harness.cluster.cluster import Cluster
from harness.diagnosis import State
from harness.diagnosis.installation_links import api
from harness.product.mesh import MESH1
from lab.settings import ClusterSettings
from selftests.support.api import Http
from selftests.support.lab import start_lab, stop_lab


@pytest.fixture(scope="module")
def server() -> Iterator[ClusterSettings]:
    lab = start_lab()
    yield lab.clusters[0]
    stop_lab(lab)


@pytest.fixture
def looked_at(server):
    """Gives a function: the link of an API server that fails this share of requests, by the dice of this seed."""
    http, cluster = Http(server), Cluster("mesh1", server.kubeconfig)

    def look(rate, seed):
        http.must("POST", "/lab/faults", {"rate": rate, "seed": seed, "kinds": ["429", "503"]})
        return api(SimpleNamespace(cluster=cluster, names=MESH1))

    yield look
    http.must("POST", "/lab/faults", {"rate": 0})
    cluster.close()


def test_an_api_server_that_fails_one_of_ten_requests_is_in_order(looked_at):
    found = [looked_at(0.1, seed) for seed in range(30)]
    assert {str(link) for link in found if link.state is not State.OK} == set()
    assert len({link.seen for link in found}) > 1, "no request failed at all"


def test_an_api_server_that_fails_half_of_its_requests_is_the_cause(looked_at):
    assert {looked_at(0.5, seed).cause for seed in range(5)} == {"api-failing"}
