"""Whom a ServiceMeshPeer means: four witnesses in its spec, each held against every mesh in view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from harness.cluster import kinds
from harness.product import specs
from harness.product.names import gateway_account, identity_parts
from harness.product.topology.model import (
    ClusterObjects,
    Entrance,
    InstalledMesh,
    Object,
    Vote,
)
from harness.product.trust import fingerprints, root_pem


def votes(cluster: ClusterObjects, mesh: InstalledMesh, peer: Object, meshes: Sequence[InstalledMesh]) -> list[Vote]:
    """What each witness says; `mesh` is the one that the peer object belongs to."""
    name, spec = peer["metadata"]["name"], peer.get("spec") or {}
    return [
        _addresses(mesh, spec, meshes),
        _trust_domain(spec, meshes),
        _client_id(spec, meshes),
        _root(cluster, mesh, specs.root_config_map(name, spec), meshes),
    ]


def winner(found: Sequence[Vote], own: InstalledMesh) -> tuple[InstalledMesh | None, bool]:
    """The mesh that most votes fit, and whether they are tied; no mesh and no tie: it is none of those in view.

    A vote that fits no mesh in view speaks for one that is not; one that says nothing does not count. No mesh is its
    own peer.
    """
    counted: Counter[InstalledMesh | None] = Counter(mesh for vote in found for mesh in vote.meshes if mesh != own)
    counted[None] = sum(not vote.meshes and not vote.unknown for vote in found)
    (first, most), *others = counted.most_common(2)
    if most and any(count == most for _, count in others):
        return None, True
    return first, False


def entrances_at(mesh: InstalledMesh, of: InstalledMesh, spec: Object) -> list[Entrance]:
    """Ways in to `of` that the addresses of a peer of `mesh` stand for: where the ports fit too, else by host alone."""
    hosts = specs.remote_addresses(spec)
    ways = [way for way in of.entrances if way.host in hosts and (not way.inside or mesh.uid == of.uid)]
    ports = specs.remote_ports(spec)
    fits: list[Callable[[Entrance], bool]] = [
        lambda way: (way.discovery_port, way.service_port) == ports,
        lambda way: way.discovery_port == ports[0] or way.service_port == ports[1],
        # A node has the ports of everybody: its address alone names nobody.
        lambda way: way.how != "NodePort",
    ]
    return next((some for fit in fits if (some := [way for way in ways if fit(way)])), [])


def _addresses(mesh: InstalledMesh, spec: Object, meshes: Sequence[InstalledMesh]) -> Vote:
    hosts, (discovery, service) = specs.remote_addresses(spec), specs.remote_ports(spec)
    said = f"{', '.join(hosts) or 'none'} (ports {discovery} and {service})"
    if not hosts:
        return Vote("addresses", said, (), "there are none")
    led = {other: entrances_at(mesh, other, spec) for other in meshes}
    exact = [other for other, ways in led.items() if any(_ports(way) == (discovery, service) for way in ways)]
    found = exact or [other for other, ways in led.items() if ways]
    unknown = "" if found else "no Service in view has such an address"
    return Vote("addresses", said, tuple(found), unknown)


def _ports(way: Entrance) -> tuple[int, int]:
    return way.discovery_port, way.service_port


def _trust_domain(spec: Object, meshes: Sequence[InstalledMesh]) -> Vote:
    said = specs.peer_trust_domain(spec)
    found = tuple(mesh for mesh in meshes if mesh.trust_domain == said)
    return Vote("trust domain", said or "none", found, "" if said else "there is none")


def _client_id(spec: Object, meshes: Sequence[InstalledMesh]) -> Vote:
    said = specs.client_id(spec)
    if not said:
        return Vote("clientID", "none", (), "there is none")
    # Namespace and service account only: the trust domain has a vote of its own.
    _, namespace, account = identity_parts(said)
    known = [mesh for mesh in meshes if mesh.namespace == namespace]
    exact = [mesh for mesh in known if account in map(gateway_account, mesh.egresses)]
    return Vote("clientID", said, tuple(exact or known))


def _root(cluster: ClusterObjects, mesh: InstalledMesh, name: str, meshes: Sequence[InstalledMesh]) -> Vote:
    said = f"ConfigMap {mesh.namespace}/{name}"
    if reason := cluster.unread.get(kinds.CONFIG_MAP):
        return Vote("root", said, (), reason)
    held = fingerprints(root_pem(cluster.find(kinds.CONFIG_MAP, mesh.namespace, name)))
    if not held:
        return Vote("root", said, (), "it holds no certificate, or is not there")
    return Vote("root", said, tuple(other for other in meshes if other.roots and other.roots & held))
