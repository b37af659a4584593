"""What cannot be seen is never green: by the page that the command makes, and check by check on an API that hides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.checks import installation, peering
from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError, resource_of
from harness.product.mesh import MESH1, MESH2, Federation, IngressAddress, Mesh, MeshNames
from harness.report.catalogue import catalogue
from harness.scenario.snapshot import snapshot
from mutants.blind import HEADING, SEES, WAYS, BlindRun
from mutants.suite import Results
from selftests.support.recorded_api import RecordedApi, items, refused

PAGE = Path(__file__).parents[3] / "docs" / "faults.md"
NOWHERE = IngressAddress(("192.0.2.1",), 8188, 15443, "test")
# An empty list, and where a watch is asked for an event that says nothing.
EMPTY = {**items(), "type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "1"}}}
HIDDEN = {
    "404": refused(404, "the server could not find the requested resource"),
    "403": refused(403, "forbidden"),
    "503": refused(503, "unavailable"),
    "empty": EMPTY,
}
# What each contract rests on that looks at the API alone: a problem, or '' and [] for none.
LOOKS: dict[str, Callable[[Federation], Any]] = {
    "INSTALL-001": lambda both: installation.federation_kinds(both.mesh1).problems,
    "INSTALL-002": lambda both: installation.control_plane(both.mesh1, "v2.1").problems,
    "INSTALL-003": lambda both: installation.members(both.mesh1).problems,
    "INSTALL-004": lambda both: installation.deployments(both.mesh1).problems,
    "INSTALL-005": lambda both: installation.gateway_ports(both.mesh1).problems,
    "INSTALL-006": lambda both: installation.network_view(both.mesh1) != "network-mesh2",
    "INSTALL-008": lambda both: installation.trust_domain(both.mesh1) == installation.trust_domain(both.mesh2),
    "INSTALL-009": lambda both: installation.root(both.mesh1).problems,
    "INSTALL-010": lambda both: not installation.own_fingerprints(both.mesh1),
    "INSTALL-011": lambda both: installation.root_of_peer(both, both.mesh1).problems,
    "INSTALL-013": lambda both: installation.bookinfo_pods(both.mesh1).problems,
    "INSTALL-014": lambda both: not snapshot({mesh.name: mesh.cluster for mesh in both.meshes}),
    "FED-001": lambda both: "".join(peering.watch_problems(both.mesh1, lambda: datetime.now(UTC)).values()),
    "FED-002": lambda both: "".join(peering.remote_problems(both.mesh1, both.mesh2).values()),
    "FED-003": lambda both: peering.compared_sets("mesh1", [], peering.exports_of(both.mesh1)).problems,
    "FED-004": lambda both: peering.compared_sets("mesh2", [], peering.imports_of(both.mesh2)).problems,
}
PLURALS = {kind.plural for kind in vars(kinds).values() if isinstance(kind, kinds.Kind)}


def mesh_on(names: MeshNames, cluster: Cluster) -> Mesh:
    return Mesh(*vars(names).values(), cluster, "v2.1", "2.1.6", NOWHERE, patience=0.2)


@pytest.fixture
def api() -> RecordedApi:
    return RecordedApi({})


@pytest.fixture
def federation(api: RecordedApi, tmp_path: Path) -> Iterator[Federation]:
    """Both meshes on one API that knows nothing yet."""
    with api.running(tmp_path) as kubeconfig:
        clusters = [Cluster(name, kubeconfig, patience=0.1) for name in ("mesh1", "mesh2")]
        yield Federation(mesh_on(MESH1, clusters[0]), mesh_on(MESH2, clusters[1]), one_cluster=False)
        for cluster in clusters:
            cluster.close()


def istiods(api: RecordedApi) -> None:
    """Each mesh has one istiod running."""
    for names in (MESH1, MESH2):
        pod = {"metadata": {"name": f"{names.istiod}-1"}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}
        api.answers[kinds.POD.path(names.system_namespace)] = items(pod)


@pytest.mark.parametrize("how", HIDDEN)
@pytest.mark.parametrize("contract", LOOKS)
def test_a_check_that_sees_nothing_finds_a_problem_or_says_that_it_sees_nothing(api, federation, contract, how):
    if contract.startswith("FED"):
        istiods(api)
    known = dict(api.answers)
    api.answers = _Hiding(known, HIDDEN[how])
    try:
        problem = LOOKS[contract](federation)
    except ClusterError as error:
        problem = str(error)
    assert problem


class _Hiding(dict):
    """Gives every path that is not known the same answer; a single object of an empty cluster is not there."""

    def __init__(self, known: dict[str, Any], answer: Any) -> None:
        super().__init__(known)
        self._answer = answer

    def get(self, path: str, default: Any = None) -> Any:
        if not path.startswith("/"):  # of one method only
            return default
        listed = path.rsplit("/", 1)[-1] in PLURALS
        return super().get(path, self._answer if listed or self._answer != EMPTY else default)


def test_a_kind_that_is_not_served_is_not_waited_for(api, federation):
    istiods(api)
    with pytest.raises(ClusterError, match="404"):
        peering.watch_problems(federation.mesh1, lambda: datetime.now(UTC))
    assert len([path for path in api.asked if "servicemeshpeers" in path]) == 1


def test_every_contract_is_described_by_what_it_looks_at():
    assert sorted(SEES) == sorted(requirement.id for requirement in catalogue())


def row(contract: str) -> list[str]:
    """The cells of a contract on the page."""
    part = PAGE.read_text().partition(HEADING)[2]
    line = re.search(rf"^\| {contract} \|(.*)\|$", part, re.MULTILINE)
    return [cell.strip() for cell in line[1].split("|")] if line else []


@pytest.mark.parametrize("contract", [requirement.id for requirement in catalogue()])
def test_the_page_shows_each_contract_never_green_where_it_cannot_see(contract):
    cells = row(contract)
    assert len(cells) == len(WAYS), "a way is missing"
    assert set(cells) <= {"fails", "green", "not run"}
    assert set(cells) != {"not run"}, "never driven"


def run_with(way: str, *passed: str, seconds: float = 1.0) -> BlindRun:
    return BlindRun(way, Results(frozenset(), frozenset(passed), frozenset(), seconds), seconds)


def test_green_is_blind_only_where_something_is_hidden_that_the_contract_looks_at():
    assert run_with("objects 404", "FED-001[mesh1]").cell("FED-001") == "GREEN BLIND"
    assert run_with("objects 404", "FED-009").cell("FED-009") == "green"
    assert run_with("objects 404", "NEW-001").cell("NEW-001") == "GREEN BLIND"
    assert run_with("objects 404").cell("FED-001") == "not run"


def test_a_blind_run_is_to_be_short():
    assert run_with("objects 404", "FED-009").good
    assert not run_with("objects 404", "FED-009", seconds=100.0).good
    assert not run_with("objects 404", "FED-001").good


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/namespaces/n/pods", "pods"),
        ("/api/v1/namespaces/n/pods/x/exec", "pods/exec"),
        ("/api/v1/namespaces/n", "namespaces"),
        ("/apis/federation.maistra.io/v1/namespaces/n/servicemeshpeers/p", "servicemeshpeers"),
        ("/apis/apps/v1/deployments", "deployments"),
        ("/version", "/version"),
    ],
)
def test_what_is_asked_for_is_known_without_its_names(path, resource):
    assert resource_of(path) == resource


def test_a_server_that_was_asked_in_vain_gets_little_patience_until_that_is_answered(api, federation):
    cluster, path = federation.mesh1.cluster, kinds.POD.path("n")
    transport = cluster._transport
    api.answers = {"/version": {"gitVersion": "v1.30"}, path: refused(503, "unavailable")}
    with pytest.raises(ClusterError):
        cluster.list(kinds.POD, "n")
    transport.patience = 10.0
    cluster.version()
    assert transport.patience_left < 10.0
    assert transport.try_seconds("pods", 30.0) < transport.try_seconds("services", 30.0) < 30.0
    api.answers[path] = items()
    cluster.list(kinds.POD, "n")
    assert transport.patience_left == 10.0
