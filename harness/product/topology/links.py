"""From lists of objects to a topology: which meshes there are, and whom each ServiceMeshPeer means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.cluster import kinds
from harness.product.status import exported_services, imported_services
from harness.product.topology.model import (
    ClusterObjects,
    InstalledMesh,
    Link,
    Object,
    Topology,
    installed_mesh,
)
from harness.product.topology.votes import entrances_at, votes, winner

_SETS = (kinds.EXPORTS, kinds.IMPORTS)
PeerName = tuple[str, str]  # label, namespace or namespace/name of a mesh, and the name of one of its peers


def topology(clusters: Iterable[ClusterObjects], said: Mapping[PeerName, PeerName] | None = None) -> Topology:
    """Meshes and links of these clusters; what is in a cluster that is given twice counts once.

    said: who is meant where a person said it, (mesh, peer) by (mesh, peer), in both directions.
    """
    found: list[ClusterObjects] = []
    once: dict[tuple[str, str], tuple[ClusterObjects, InstalledMesh]] = {}
    for cluster in clusters:
        found += [cluster] if cluster not in found else []
        for obj in cluster.all(kinds.CONTROL_PLANE):
            mesh = installed_mesh(cluster, obj)
            once.setdefault((mesh.uid, mesh.place), (cluster, mesh))
    meshes = [mesh for _, mesh in once.values()]
    links = [
        _link(cluster, mesh, peer, meshes)
        for cluster, mesh in once.values()
        for peer in cluster.all(kinds.PEER, mesh.namespace)
    ]
    links = [_as_said(link, meshes, said or {}) for link in links]
    return Topology(tuple(found), tuple(meshes), tuple(_with_back(link, links) for link in links))


def named(meshes: Sequence[InstalledMesh], name: str) -> list[InstalledMesh]:
    """The meshes that a person may mean by a name: a cluster's label, a namespace, or `namespace/name`."""
    return [mesh for mesh in meshes if name in (mesh.cluster, mesh.namespace, mesh.place)]


def _link(cluster: ClusterObjects, mesh: InstalledMesh, peer: Object, meshes: Sequence[InstalledMesh]) -> Link:
    name = peer["metadata"]["name"]
    cast = votes(cluster, mesh, peer, meshes)
    to, tied = winner(cast, mesh)
    exports, imports = (cluster.find(kind, mesh.namespace, name) for kind in _SETS)
    return Link(
        mesh=mesh,
        peer=name,
        spec=peer.get("spec") or {},
        votes=tuple(cast),
        to=to,
        tied=tied,
        said=False,
        back="",
        entrance="",
        sets=frozenset(kind for kind, obj in zip(_SETS, (exports, imports), strict=True) if obj),
        exports=exported_services(exports) if exports else None,
        imports=imported_services(imports) if imports else None,
        offers=tuple(_offers(cluster, exports)) if exports else (),
    )


def _offers(cluster: ClusterObjects, exports: Object) -> Iterable[tuple[int, str]]:
    """Port and exported name of everything that an ExportedServiceSet lists, as far as its Services are in view."""
    for entry in exported_services(exports) or ():
        name, namespace, *_ = [*entry.hostname.split("."), "", ""]
        service = cluster.find(kinds.SERVICE, namespace, name) or {}
        for port in (service.get("spec") or {}).get("ports") or ():
            yield port["port"], entry.exported_name


def _as_said(link: Link, meshes: Sequence[InstalledMesh], said: Mapping[PeerName, PeerName]) -> Link:
    for (mesh, peer), (other, _) in said.items():
        if peer == link.peer and link.mesh in named(meshes, mesh):
            return replace(link, to=next(iter(named(meshes, other)), None), tied=False, said=True)
    return link


def _with_back(link: Link, links: Sequence[Link]) -> Link:
    if link.to is None:
        return link
    back = next((other.peer for other in links if other.mesh == link.to and other.to == link.mesh), "")
    ways = entrances_at(link.mesh, link.to, link.spec)
    return replace(link, back=back, entrance=ways[0].gateway if ways else "")
