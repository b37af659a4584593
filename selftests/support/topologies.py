"""Federations with names of their own, from `selftests/topologies/`, brought up on a pair of clusters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import kind_of
from harness.product.names import ROOT_CONFIG_MAP
from harness.product.status import PeerStatus, condition_true, exported_services, imported_services
from harness.scenario.entry import ingress_address

SHAPES = Path(__file__).parents[1] / "topologies"
_SECONDS = 120.0
Object = dict[str, Any]


def shape(folder: str) -> dict[str, list[Object]]:
    """The objects of each mesh of a shape, by the name of its file, in the order of the file."""
    return {path.stem: list(yaml.safe_load_all(path.read_text())) for path in sorted((SHAPES / folder).glob("*.yaml"))}


@dataclass
class Federated:
    """Brings up the two meshes of a shape, each in a cluster of its own, and waits until they know each other.

    clusters: by mesh; objects: by mesh, to be changed before `bring_up`.
    """

    clusters: Mapping[str, Cluster]
    objects: dict[str, list[Object]]

    def bring_up(self) -> None:
        """Control planes first, then what needs the other's root and address, then until both sets are full."""
        self._each(self._install)
        self._each(self._join)
        self._each(self._settle)

    def _each(self, work: Callable[[str], None]) -> None:
        with ThreadPoolExecutor(len(self.clusters)) as pool:
            list(pool.map(work, self.clusters))

    def one(self, mesh: str, kind: kinds.Kind) -> Object:
        """The only object of a kind of a mesh, as it is in the shape."""
        return next(obj for obj in self.objects[mesh] if obj["kind"] == kind.kind)

    def space(self, mesh: str) -> str:
        return self.one(mesh, kinds.CONTROL_PLANE)["metadata"]["namespace"]

    def _other(self, mesh: str) -> str:
        return next(name for name in self.clusters if name != mesh)

    def _install(self, mesh: str) -> None:
        cluster, namespace = self.clusters[mesh], self.space(mesh)
        first = (kinds.NAMESPACE, kinds.CONTROL_PLANE)
        for obj in self.objects[mesh]:
            if kind_of(obj) in first:
                cluster.apply(obj)
        name = self.one(mesh, kinds.CONTROL_PLANE)["metadata"]["name"]
        self._wait(mesh, kinds.CONTROL_PLANE, namespace, name, lambda obj: condition_true(obj, "Ready"))
        cluster.apply(self.one(mesh, kinds.MEMBER_ROLL))

    def _join(self, mesh: str) -> None:
        cluster, other = self.clusters[mesh], self._other(mesh)
        far, space = self.clusters[other], self.space(other)
        peer = copy.deepcopy(self.one(mesh, kinds.PEER))
        gateway = self.one(other, kinds.PEER)["spec"]["gateways"]["ingress"]["name"]
        address = self._wait(other, kinds.SERVICE, space, gateway, ingress_address)
        ports = {"discoveryPort": address.discovery_port, "servicePort": address.service_port}
        peer["spec"].setdefault("remote", {"addresses": list(address.hosts), **ports})
        chain = peer["spec"]["security"]["certificateChain"]["name"]
        root = far.get(kinds.CONFIG_MAP, ROOT_CONFIG_MAP, space)["data"]
        here = {"name": chain, "namespace": self.space(mesh)}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": here, "data": root})
        cluster.apply(peer)
        done = (kinds.NAMESPACE, kinds.CONTROL_PLANE, kinds.MEMBER_ROLL, kinds.PEER)
        for obj in self.objects[mesh]:
            if kind_of(obj) not in done:
                cluster.apply(obj)

    def _settle(self, mesh: str) -> None:
        space, peer = self.space(mesh), self.one(mesh, kinds.PEER)["metadata"]["name"]

        def connected(obj: Object) -> bool:
            return any(view.watch.connected and view.watch.last_full_sync for view in PeerStatus.of(obj).views)

        self._wait(mesh, kinds.PEER, space, peer, connected)
        self._wait(mesh, kinds.EXPORTS, space, peer, exported_services)
        self._wait(mesh, kinds.IMPORTS, space, peer, imported_services)
        for obj in self.objects[mesh]:
            if kind_of(obj) == kinds.DEPLOYMENT:
                meta = obj["metadata"]
                self._wait(
                    mesh,
                    kinds.DEPLOYMENT,
                    meta["namespace"],
                    meta["name"],
                    lambda obj: condition_true(obj, "Available"),
                )

    def _wait(self, mesh: str, kind: kinds.Kind, namespace: str, name: str, ready: Callable[[Object], Any]) -> Any:
        return self.clusters[mesh].wait(
            f"{kind} {namespace}/{name} of {mesh}",
            kind,
            namespace,
            name=name,
            until=lambda found: (ready(found[0]) if found else None) or None,
            timeout=_SECONDS,
        )
