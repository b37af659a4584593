"""Who called whom, how often and by which path, read from the ledger's records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from harness.product.envoy import ClusterName
from harness.product.mesh import ENTRY_GATEWAY
from harness.product.names import is_imported
from harness.split.ledger import LoggedLine, Record, Role
from harness.split.probe import Page

_INGRESS, _PRODUCTPAGE, _REVIEWS, _RATINGS = ENTRY_GATEWAY, "productpage", "reviews", "ratings"


@dataclass(frozen=True, order=True)
class Node:
    """One workload; the client has no mesh."""

    mesh: str
    name: str

    def __str__(self) -> str:
        return f"{self.mesh} {self.name}".strip()


CLIENT = Node("", "client")


@dataclass
class Edge:
    """Calls of one workload by another; `failed` of `requests` got no answer of 2xx."""

    source: Node
    target: Node
    requests: int = 0
    failed: int = 0


def service_graph(records: Iterable[Record], meshes: tuple[str, str]) -> list[Edge]:
    """Edges in order of the path; `meshes` are the exporting and the importing one.

    The calls up to reviews are known from the probes themselves, those of ratings from the log lines of both ends. A
    call that left by the egress gateway and was never logged on the other side has failed between the gateways.
    """
    records = list(records)
    graph = _Graph(*meshes, workloads=_workloads(records))
    for record in records:
        graph.add(record)
    return graph.edges()


def _workloads(records: Iterable[Record]) -> dict[tuple[str, str], str]:
    """By mesh and role, a workload that was seen: for calls of which only one end is known."""
    found: dict[tuple[str, str], str] = {}
    for record in records:
        for logged in record.lines:
            found.setdefault((logged.source.mesh, logged.source.role), logged.source.workload)
    return found


class _Graph:
    def __init__(self, exporter: str, importer: str, workloads: dict[tuple[str, str], str]) -> None:
        self.exporter, self.importer, self.workloads = exporter, importer, workloads
        self._edges: dict[tuple[Node, Node], Edge] = {}

    def edges(self) -> list[Edge]:
        return list(self._edges.values())

    def _count(self, source: Node, target: Node, failed: bool) -> None:
        edge = self._edges.setdefault((source, target), Edge(source, target))
        edge.requests += 1
        edge.failed += failed

    def _node(self, mesh: str, role: Role, name: str) -> Node:
        return Node(mesh, self.workloads.get((mesh, role), name))

    def add(self, record: Record) -> None:
        probe = record.probe
        gate, page = Node(self.importer, _INGRESS), Node(self.importer, _PRODUCTPAGE)
        self._count(CLIENT, gate, failed=not probe.connected)
        if not probe.connected:
            return
        calls = [logged for logged in record.lines if logged.line.is_http and logged.source.role is Role.CALLER]
        served = defaultdict(list)
        for logged in record.lines:
            if logged.line.is_http and logged.source.role is Role.RATINGS:
                served[logged.source.mesh].append(logged)
        self._count(gate, page, failed=probe.status != 200)
        reviews = self._node(self.importer, Role.CALLER, _REVIEWS)
        if calls or probe.status == 200:
            self._count(page, reviews, failed=not calls and probe.page is not Page.STARS)
        for call in calls:
            name = ClusterName.parse(call.line.upstream_cluster)
            if name and is_imported(name.host):
                self._through_gateways(reviews, call, served[self.exporter], record.path)
            else:
                self._locally(reviews, call, served[self.importer])

    def _locally(self, reviews: Node, call: LoggedLine, served: list[LoggedLine]) -> None:
        workload = served[0].source.workload if served else ""
        target = Node(self.importer, workload) if workload else self._node(self.importer, Role.RATINGS, _RATINGS)
        self._count(reviews, target, failed=not call.line.succeeded)

    def _through_gateways(
        self, reviews: Node, call: LoggedLine, served: list[LoggedLine], path: tuple[str, ...]
    ) -> None:
        egress, ingress = (
            Node(self.importer, f"{self.exporter}-egress"),
            Node(self.exporter, f"{self.importer}-ingress"),
        )
        failed = not call.line.succeeded
        if failed and not served and str(egress) not in path:
            return self._count(reviews, egress, failed=True)
        self._count(reviews, egress, failed=failed)
        self._count(egress, ingress, failed=failed and not served)
        for logged in served:
            target = Node(self.exporter, logged.source.workload)
            self._count(ingress, target, failed=not logged.line.succeeded)
        return None
