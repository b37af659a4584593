"""What is installed already, as the suite sees it; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError, NotFound, Object
from harness.product.mesh import OTHER, SCENARIO, Federation, IngressAddress, Mesh, MeshNames
from harness.product.names import (
    DISCOVERY_PORT,
    SERVICE_PORT,
    discovery_server_name,
    gateway_of,
    identity_parts,
    peer_root_config_map,
)
from harness.product.topology import ClusterObjects, Finding, InstalledMesh, Link, Topology, findings, topology
from harness.product.topology.links import PeerName
from harness.product.topology.reading import Scope, read
from harness.scenario import manifests
from harness.scenario.entry import NO_WAY_IN, ingress_address, node_port_address

LABELS = ("mesh1", "mesh2")


class NothingToAdopt(Exception):
    """What is in view is no federation of two meshes, or several; says what there is, and how one is chosen."""


@dataclass(frozen=True)
class Survey:
    """What was found in the clusters; names, labels: of the two meshes that a run verifies, by `mesh1` and `mesh2`.

    labels: which cluster each of them is in, only one where the other is not in view; missing: why there are none, ''
    where there are.
    """

    topology: Topology
    findings: list[Finding]
    names: Mapping[str, MeshNames]
    labels: Mapping[str, str]
    missing: str = ""

    @property
    def own(self) -> str:
        """`mesh1` or `mesh2` where only that one is in view; '' where both are."""
        return next(iter(self.labels)) if len(self.labels) == 1 else ""


def survey(scopes: Iterable[Scope], said: Mapping[PeerName, PeerName] | None = None) -> Survey:
    """Reads all meshes of the clusters, and decides which two are meant; raises nothing that a cluster says.

    said: who is meant by a peer where a person said it; of several federations it chooses the one to verify.
    """
    found = topology(read(scopes), said)
    told, (first, *others) = findings(found), [cluster.label for cluster in found.clusters]
    try:
        names, meshes = names_in(found, bool(said))
    except NothingToAdopt as error:
        return Survey(found, told, SCENARIO, {}, str(error))
    usual = dict(zip(LABELS, (first, *others), strict=False)) if others else {}
    labels = {name: mesh.cluster if mesh else usual.get(name, "") for name, mesh in meshes.items()}
    labels = {name: label for name, label in labels.items() if label}
    return Survey(found, told, names, labels)


Installed = Mapping[str, InstalledMesh | None]
Ends = Mapping[str, tuple[InstalledMesh | None, Link | None]]


def names_in(found: Topology, chosen: bool = False) -> tuple[Mapping[str, MeshNames], Installed]:
    """The two meshes that are federated, by `mesh1` and `mesh2`: their names, and what is installed of each.

    Names are the scenario's where it is there. Raises NothingToAdopt.

    Where one of them is gone, or one does not lead to the other any more, its names are those that the other expects.
    chosen: a person has said which.
    """
    pairs = [(one, two) for one, two in found.pairs if one.to and (two or not one.tied)]
    pairs = [pair for pair in pairs if pair[0].said] if chosen else pairs
    both_ways = [pair for pair in pairs if pair[1]] or pairs
    scenario = {names.place for names in SCENARIO.values()}
    by_place = {mesh.place: mesh for mesh in found.meshes}
    if not chosen and by_place.keys() & scenario:
        return SCENARIO, {name: by_place.get(names.place) for name, names in SCENARIO.items()}
    if len(both_ways) > 1:
        told = "; ".join(f"{one.mesh} and {one.to}" for one, _ in both_ways)
        one, two = both_ways[0]
        handles = f"{one.mesh.place}:{one.peer}={one.to and one.to.place}:{two.peer if two else 'PEER'}"
        raise NothingToAdopt(
            f"a run verifies one federation of two meshes, and there are {len(both_ways)}: {told}. Choose one, as with "
            f"--federation-link {handles}"
        )
    if both_ways:
        return _named(found, _of_pair(found, *both_ways[0]))
    return _named(found, _of_what_is_left(found))


def _named(found: Topology, ends: Ends) -> tuple[Mapping[str, MeshNames], Installed]:
    ways = (LABELS, LABELS[::-1])
    names = {label: _names(found, label, *ends[label], *ends[other]) for label, other in ways}
    return names, {label: mesh for label, (mesh, _) in ends.items()}


def _of_pair(found: Topology, link: Link, back: Link | None) -> Ends:
    assert link.to
    first, second = link.mesh, link.to
    exporting = [side for side, way in ((first, link), (second, back)) if way and kinds.EXPORTS in way.sets]
    # mesh1 is the one of the first kubeconfig; in one cluster the one that exports.
    order = [cluster.label for cluster in found.clusters]
    late = order.index(first.cluster) > order.index(second.cluster)
    swapped = late if first.uid != second.uid else exporting == [second]
    ends = [(first, link), (second, back)]
    return dict(zip(LABELS, ends[::-1] if swapped else ends, strict=True))


def _of_what_is_left(found: Topology) -> Ends:
    """Where no peer leads from one mesh in view to another: one mesh of each cluster, or what its peer expects."""
    unread = [
        f"{cluster.label}: {why}" for cluster in found.clusters if (why := cluster.unread.get(kinds.CONTROL_PLANE))
    ]
    if not found.meshes and unread:
        raise NothingToAdopt(f"no {kinds.CONTROL_PLANE} could be read, so nothing is known: {'; '.join(unread)}")
    if not found.meshes:
        where = ", ".join(cluster.label for cluster in found.clusters)
        raise NothingToAdopt(f"there is no {kinds.CONTROL_PLANE} in any namespace of {where}, so nothing to adopt")
    if len(found.clusters) == 1 and len(found.links) == 1 and len(found.meshes) == 1:
        own = found.clusters[0].label if found.clusters[0].label in LABELS else LABELS[0]
        alone: Ends = {own: (found.meshes[0], found.links[0]), OTHER[own].name: (None, None)}
        return {label: alone[label] for label in LABELS}
    here = [[mesh for mesh in found.meshes if mesh.cluster == cluster.label] for cluster in found.clusters[:2]]
    if len(found.clusters) != 2 or any(len(meshes) > 1 for meshes in here):
        told = ", ".join(map(str, found.meshes))
        raise NothingToAdopt(f"none of these meshes is federated with another in view: {told}")
    meshes = dict(zip(LABELS, (some[0] if some else None for some in here), strict=True))
    return {label: (mesh, next(iter(found.links_of(mesh)), None) if mesh else None) for label, mesh in meshes.items()}


def _names(
    found: Topology,
    label: str,
    mesh: InstalledMesh | None,
    link: Link | None,
    other: InstalledMesh | None,
    back: Link | None,
) -> MeshNames:
    """Names of one mesh, whose peer object for the other is `link`, `back` being the other's for this one."""
    domain, namespace, account = _admitted(back)
    namespace = mesh.namespace if mesh else namespace
    peer = _peer(found, mesh, link, other)
    gateways = (*mesh.ingresses, *mesh.egresses) if mesh else ()
    ingress = (link and link.ingress) or (back and back.entrance) or next(iter(mesh.ingresses[-1:] if mesh else ()), "")
    watcher = other.namespace if other else _admitted(link)[1]
    return MeshNames(
        name=label,
        other=OTHER[label].name,
        peer=peer,
        control_plane=mesh.name if mesh else "",
        system_namespace=namespace,
        members=_members(found, mesh),
        trust_domain=mesh.trust_domain if mesh else domain,
        ingress_gateway=ingress or "",
        egress_gateway=(link and link.egress) or gateway_of(account),
        root_config_map=link.root_config_map if link else peer_root_config_map(peer),
        gateways=gateways,
        discovery_name=discovery_server_name(watcher, _peer(found, other, back, mesh)),
        offers=link.offers if link else (),
    )


def _admitted(link: Link | None) -> tuple[str, str, str]:
    """Trust domain, namespace and service account that a peer object admits; '' for each where it says none."""
    return identity_parts(link.client_id if link else "")


def _peer(found: Topology, mesh: InstalledMesh | None, link: Link | None, other: InstalledMesh | None) -> str:
    """What a mesh calls the other: by its peer object, else as its sets do, else by the other's namespace."""
    return link.peer if link else _peer_by_sets(found, mesh) or (other.namespace if other else "unknown")


def _peer_by_sets(found: Topology, mesh: InstalledMesh | None) -> str:
    """The name that the sets of a mesh have for a peer that is not there; '' where they have none, or several."""
    cluster = _objects(found, mesh)
    if not cluster or not mesh:
        return ""
    sets = [*cluster.all(kinds.EXPORTS, mesh.namespace), *cluster.all(kinds.IMPORTS, mesh.namespace)]
    names = {obj["metadata"]["name"] for obj in sets}
    return names.pop() if len(names) == 1 else ""


def _members(found: Topology, mesh: InstalledMesh | None) -> tuple[str, ...]:
    """The namespaces that the member roll asks for; those it has configured where it asks by a pattern.

    Without a roll those that the sets of the mesh name: they have to be members.
    """
    cluster = _objects(found, mesh)
    if not cluster or not mesh:
        return ()
    if mesh.members is None:
        return tuple(sorted(_in_rules(cluster, mesh.namespace)))
    roll = cluster.find(kinds.MEMBER_ROLL, mesh.namespace, "default") or {}
    asked = tuple((roll.get("spec") or {}).get("members") or ())
    by_pattern = not asked or any("*" in member for member in asked)
    return mesh.members if by_pattern else asked


def _in_rules(cluster: ClusterObjects, namespace: str) -> set[str]:
    """Own namespaces in the rules of sets: of what is exported, and into which is imported."""
    found = set()
    for obj in cluster.all(kinds.EXPORTS, namespace):
        found |= {(rule.get("nameSelector") or {}).get("namespace", "") for rule in _rules(obj, "exportRules")}
    for obj in cluster.all(kinds.IMPORTS, namespace):
        aliases = [((rule.get("nameSelector") or {}).get("alias")) or {} for rule in _rules(obj, "importRules")]
        found |= {alias.get("namespace", "") for alias in aliases}
    return found - {"", "*"}


def _rules(obj: Object, field: str) -> list[Object]:
    return (obj.get("spec") or {}).get(field) or []


def _objects(found: Topology, mesh: InstalledMesh | None) -> ClusterObjects | None:
    return found.objects(mesh.cluster) if mesh else None


def adopted(clusters: Mapping[str, Cluster], names: Mapping[str, MeshNames] = SCENARIO) -> Federation:
    """The federation as it is installed, nothing changed; raises ClusterError where a part is not there."""
    one_cluster = len({cluster.uid() for cluster in clusters.values()}) < len(clusters)
    meshes = []
    for mesh in (names[label] for label in LABELS):
        if mesh.name not in clusters:
            meshes.append(_not_in_view(mesh))
            continue
        cluster = clusters[mesh.name]
        if not mesh.control_plane:
            raise NotFound(mesh.name, f"find the mesh that {mesh.other} is federated with", _gone(mesh))
        service = cluster.get(kinds.SERVICE, mesh.ingress_gateway, mesh.system_namespace)
        local = manifests.cluster_local(mesh) if one_cluster else ingress_address(service)
        address = local or node_port_address(cluster, service)
        if address is None:
            raise NotFound(mesh.name, f"find the address of {mesh.ingress_gateway}", NO_WAY_IN)
        meshes.append(mesh_of(mesh, cluster, address, reachable=not one_cluster))
    return Federation(meshes[0], meshes[1], one_cluster)


class NotInView:
    """Stands for the cluster of a mesh that is somebody else's: whatever it is asked, it raises ClusterError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, asked: str) -> NoReturn:
        raise ClusterError(self.name, asked, "not in view: no kubeconfig of its cluster was given")


def _not_in_view(mesh: MeshNames) -> Mesh:
    cluster: Any = NotInView(mesh.name)
    nowhere = IngressAddress(("an address not in view",), DISCOVERY_PORT, SERVICE_PORT, "not in view")
    return Mesh(**vars(mesh), cluster=cluster, version="", release="", ingress=nowhere)


def _gone(mesh: MeshNames) -> str:
    where = f"; {mesh.other} admits requests from namespace {mesh.system_namespace}" if mesh.system_namespace else ""
    return f"{mesh.name} is gone as a whole: no namespace of its cluster has a {kinds.CONTROL_PLANE}{where}"


def mesh_of(names: MeshNames, cluster: Cluster, ingress: IngressAddress, reachable: bool) -> Mesh:
    """A mesh as it is installed; raises NotFound where it has no control plane."""
    obj = cluster.get(kinds.CONTROL_PLANE, names.control_plane, names.system_namespace)
    status = obj.get("status") or {}
    release = status.get("chartVersion") or ""
    version = obj["spec"].get("version") or ".".join(f"v{release}".split(".")[:2])
    return Mesh(**vars(names), cluster=cluster, version=version, release=release, ingress=ingress, reachable=reachable)
