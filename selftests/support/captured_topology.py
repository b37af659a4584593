"""The captured federations with names of their own, as lists of objects; roots and nodes are made here."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path

from harness.cluster import kinds
from harness.cluster.kinds import Kind
from harness.product.names import ROOT_CONFIG_MAP
from harness.product.topology import ClusterObjects
from harness.product.topology.model import Object
from selftests.support.certificates import Authority, pem

CAPTURES = Path(__file__).parents[1] / "data" / "observed" / "topologies"
_NODES = ("10.200.0.11", "10.200.0.12")  # of the first cluster and of the second
_KINDS = {
    "smcp": kinds.CONTROL_PLANE,
    "smmr": kinds.MEMBER_ROLL,
    "servicemeshpeer": kinds.PEER,
    "exportedserviceset": kinds.EXPORTS,
    "importedserviceset": kinds.IMPORTS,
}


@dataclass
class Captured:
    """Objects of the clusters `one` and `two`, to be changed at will; `namespaces` by mesh, such as east."""

    objects: dict[str, dict[Kind, list[Object]]] = field(default_factory=dict)
    namespaces: dict[str, str] = field(default_factory=dict)

    def get(self, kind: Kind, mesh: str, name: str) -> Object:
        """An object of a mesh, to be changed in place."""
        found = [obj for objects in self.objects.values() for obj in objects[kind]]
        return next(
            obj
            for obj in found
            if (obj["metadata"]["namespace"], obj["metadata"]["name"]) == (self.namespaces[mesh], name)
        )

    def peer(self, mesh: str, name: str) -> Object:
        """spec of a ServiceMeshPeer."""
        return self.get(kinds.PEER, mesh, name)["spec"]

    def drop(self, kind: Kind, mesh: str, name: str) -> None:
        gone = self.get(kind, mesh, name)
        for objects in self.objects.values():
            objects[kind] = [obj for obj in objects[kind] if obj is not gone]

    def clusters(self, *labels: str) -> list[ClusterObjects]:
        """Both clusters, or only these."""
        return [ClusterObjects(label, f"uid-{label}", self.objects[label]) for label in labels or self.objects]


def captured(folder: str, where: dict[str, str]) -> Captured:
    """The statuses of a capture such as `a-other-names/2.1`; where: the cluster of each mesh."""
    found = Captured()
    kept = (*_KINDS.values(), kinds.SERVICE, kinds.CONFIG_MAP, kinds.NODE)
    roots = {mesh: pem(Authority.make(mesh).root) for mesh in where}
    for label, node in zip(dict.fromkeys(where.values()), _NODES, strict=False):
        found.objects[label] = {kind: [] for kind in kept}
        addresses = [{"type": "InternalIP", "address": node}]
        found.objects[label][kinds.NODE] = [{"metadata": {"name": label}, "status": {"addresses": addresses}}]
    for mesh, label in where.items():
        objects = found.objects[label]
        for path in sorted((CAPTURES / folder / "statuses").glob(f"{mesh}-*.json")):
            what, content = path.stem.split("-")[1], json.loads(path.read_text())
            if what in _KINDS:
                objects[_KINDS[what]].append(content)
                found.namespaces[mesh] = content["metadata"]["namespace"]
            else:
                objects[kinds.SERVICE] += map(_service, content)
        objects[kinds.CONFIG_MAP].append(_root(ROOT_CONFIG_MAP, found.namespaces[mesh], roots[mesh]))
        for peer in objects[kinds.PEER]:
            if peer["metadata"]["namespace"] == found.namespaces[mesh]:
                name = peer["metadata"]["name"]
                objects[kinds.CONFIG_MAP].append(_root(f"{name}-ca-root-cert", found.namespaces[mesh], roots[name]))
    return copy.deepcopy(found)


def _service(entry: Object) -> Object:
    """A Service of a capture, which is flat; its labels say whose it is."""
    spec = dict(entry)
    name, labels, status = spec.pop("name"), spec.pop("labels"), {"loadBalancer": spec.pop("loadBalancer")}
    metadata = {"name": name, "namespace": labels["maistra.io/owner"], "labels": labels}
    return {"metadata": metadata, "spec": spec, "status": status}


def _root(name: str, namespace: str, text: str) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, "data": {"root-cert.pem": text}}
