"""Reads what a topology is made of: every cluster at once, and of each all that can be asked at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import Kind
from harness.cluster.transport import ClusterError, Forbidden, NotFound
from harness.product.names import ROOT_CONFIG_MAP
from harness.product.specs import root_config_map
from harness.product.topology.model import READ_EVERYWHERE, ClusterObjects, Object
from harness.run.interrupts import until_one_fails

T = TypeVar("T")
_THREADS = 16  # of one cluster


@dataclass(frozen=True)
class Scope:
    """What is looked at of one cluster; namespace, control_plane: only this one, None for all there are.

    home: the namespace that is looked at where the user may not see all of them, '' for none.
    """

    cluster: Cluster
    namespace: str | None = None
    control_plane: str | None = None
    home: str = ""


def read(scopes: Iterable[Scope]) -> list[ClusterObjects]:
    """The objects of each cluster, in two rounds of requests; what cannot be read is in `unread`. Changes nothing."""
    wanted = list(scopes)
    with ThreadPoolExecutor(max(1, len(wanted)), thread_name_prefix="topology") as pool:
        tasks = [pool.submit(_read, scope) for scope in wanted]
        until_one_fails(tasks)
        return [task.result() for task in tasks]


def _read(scope: Scope) -> ClusterObjects:
    try:
        scope.cluster.knock()  # one that does not answer is asked no more
    except ClusterError as error:
        return ClusterObjects(scope.cluster.name, "", {}, dict.fromkeys(READ_EVERYWHERE, error.sentence))
    reading = _Reading(scope)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix=f"topology {scope.cluster.name}") as pool:
        uid = pool.submit(_uid, scope.cluster)
        listed = {
            kind: pool.submit(reading.everything, kind, scope.namespace) for kind in (*READ_EVERYWHERE, kinds.NODE)
        }
        objects = {kind: task.result() for kind, task in listed.items()}
        if scope.control_plane:
            objects[kinds.CONTROL_PLANE] = [
                obj for obj in objects[kinds.CONTROL_PLANE] if obj["metadata"]["name"] == scope.control_plane
            ]
        planes = sorted({obj["metadata"]["namespace"] for obj in objects[kinds.CONTROL_PLANE]})
        exporting = _exporting(objects[kinds.EXPORTS])
        services = [pool.submit(reading.everything, kinds.SERVICE, space) for space in sorted({*planes, *exporting})]
        roots = [(namespace, ROOT_CONFIG_MAP) for namespace in planes]
        for peer in objects[kinds.PEER]:
            meta = peer["metadata"]
            if meta["namespace"] in planes:
                roots.append((meta["namespace"], root_config_map(meta["name"], peer.get("spec") or {})))
        maps = [pool.submit(reading.find, kinds.CONFIG_MAP, *root) for root in dict.fromkeys(roots)]
        objects[kinds.SERVICE] = _joined(services)
        objects[kinds.CONFIG_MAP] = _joined(maps)
        return ClusterObjects(scope.cluster.name, uid.result(), objects, reading.unread)


def _exporting(exports: Iterable[Object]) -> set[str]:
    """Namespaces of the Services behind what is exported."""
    listed = [entry for obj in exports for entry in (obj.get("status") or {}).get("exportedServices") or ()]
    local = [entry.get("localService") or {} for entry in listed]
    return {service["namespace"] for service in local if service.get("namespace")}


def _joined(tasks: Iterable[Future[list[Object]]]) -> list[Object]:
    return [obj for task in tasks for obj in task.result()]


def _uid(cluster: Cluster) -> str:
    """'' where it may not be read: then the server's address tells clusters apart."""
    try:
        return cluster.uid()
    except Forbidden:
        return cluster.server
    except ClusterError:
        return ""


@dataclass
class _Reading:
    """Reads of one cluster; `unread`: why objects of a kind are not known."""

    scope: Scope
    unread: dict[Kind, str] = field(default_factory=dict)

    def everything(self, kind: Kind, namespace: str | None) -> list[Object]:
        cluster, home = self.scope.cluster, self.scope.home

        def read() -> list[Object]:
            try:
                return cluster.list(kind, namespace if kind.namespaced else None)
            except Forbidden:
                if namespace or not (home and kind.namespaced):
                    raise
                return cluster.list(kind, home)

        return self._noted(kind, read)

    def find(self, kind: Kind, namespace: str, name: str) -> list[Object]:
        def read() -> list[Object]:
            found = self.scope.cluster.find(kind, name, namespace)
            return [found] if found else []

        return self._noted(kind, read)

    def _noted(self, kind: Kind, read: Callable[[], list[Object]]) -> list[Object]:
        try:
            return read()
        except NotFound:
            self.unread[kind] = "the cluster does not serve this kind"
        except ClusterError as error:
            self.unread[kind] = error.sentence
        return []
