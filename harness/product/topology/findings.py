"""What the objects of a topology disagree about, in words: each finding names the objects and what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.cluster import kinds
from harness.product.topology.model import Finding, InstalledMesh, Link, Topology
from harness.product.topology.votes import entrances_at
from harness.product.trust import fingerprints, root_pem

_SETS = (kinds.EXPORTS, kinds.IMPORTS)
_SHORT = 12  # characters of a fingerprint, for people


def findings(topology: Topology) -> list[Finding]:
    """Everything at once, in the order of clusters, meshes and peers."""
    found = [*_unread(topology), *_astray(topology)]
    for link in topology.links:
        told = [*_meant(topology, link), *_reciprocal(topology, link), *_sets(link)]
        found += [Finding(link.mesh.cluster, text) for text in told]
    return list(dict.fromkeys(found))


def _unread(topology: Topology) -> Iterator[Finding]:
    """What could not be looked at, so that nothing is known of it."""
    for cluster in topology.clusters:
        reasons: dict[str, list[str]] = {}
        for kind, reason in cluster.unread.items():
            reasons.setdefault(reason, []).append(str(kind))
        for reason, unread in reasons.items():
            yield Finding(cluster.label, f"{_listed(unread)} could not be read: {reason}")


def _astray(topology: Topology) -> Iterator[Finding]:
    """Peers and sets that nobody reads: beside no control plane, or without a peer of their name."""
    for cluster in topology.clusters:
        if cluster.unread.keys() & {kinds.CONTROL_PLANE, kinds.PEER}:
            continue
        planes = {obj["metadata"]["namespace"] for obj in cluster.all(kinds.CONTROL_PLANE)}
        peers = {(obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in cluster.all(kinds.PEER)}
        for kind in (kinds.PEER, *_SETS):
            for obj in cluster.all(kind):
                namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
                what = f"{kind} {namespace}/{name}"
                if namespace not in planes:
                    text = f"{what} is beside no {kinds.CONTROL_PLANE}, so nobody reads it"
                    yield Finding(cluster.label, f"{text}; control planes are in {_listed(sorted(planes))}")
                elif kind != kinds.PEER and (namespace, name) not in peers:
                    beside = sorted(peer for space, peer in peers if space == namespace)
                    text = f"{what} has the name of no {kinds.PEER}, so nobody reads it"
                    yield Finding(cluster.label, f"{text}; peers in its namespace: {_listed(beside)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _meant(topology: Topology, link: Link) -> Iterator[str]:
    """Votes that disagree with the others; a tie with what would settle it."""
    if link.tied:
        cast = "; ".join(f"by {vote.by} ({vote.said}) {_fits(vote.meshes)}" for vote in link.votes if not vote.unknown)
        handle = f"{link.mesh.place}:{link.peer}"
        yield (
            f"{link.where} does not say clearly whom it means: {cast}. Say it with --federation-link "
            f"{handle}=MESH:PEER, where PEER is the {kinds.PEER} of MESH that leads back"
        )
    if link.to is None:
        return
    for vote in link.votes:
        if not vote.unknown and link.to not in vote.meshes:
            yield f"{link.where} means {link.to}, but its {vote.by}{_but(topology, link, link.to, vote.by, vote.said)}"
    yield from _addresses(link, link.to)


def _fits(meshes: tuple[InstalledMesh, ...]) -> str:
    return _listed(map(str, meshes)) if meshes else "no mesh in view"


def _but(topology: Topology, link: Link, to: InstalledMesh, by: str, said: str) -> str:
    """What a vote has instead, and of whom."""
    others = next(vote.meshes for vote in link.votes if vote.by == by)
    names = ["this mesh itself" if mesh == link.mesh else str(mesh) for mesh in others] or ["no mesh in view"]
    whose = f"of {_listed(names)}"
    if by == "root":
        cluster = topology.objects(link.mesh.cluster)
        found = cluster.find(kinds.CONFIG_MAP, link.mesh.namespace, link.root_config_map) if cluster else None
        held = fingerprints(root_pem(found))
        signs = f"{to} signs with {_prints(to.roots)}" if to.roots is not None else f"that of {to} could not be read"
        return f" is that {whose}: {said} holds {_prints(held)}, {signs}"
    expected = {
        "addresses": lambda: _listed(dict.fromkeys(way.host for way in to.entrances if _matters(link, to, way.inside))),
        "trust domain": lambda: to.trust_domain,
        "clientID": lambda: _listed(_identities(topology, link, to)),
    }[by]()
    return f" {said} is that {whose}; {to} has {expected}"


def _matters(link: Link, to: InstalledMesh, inside: bool) -> bool:
    return not inside or link.mesh.uid == to.uid


def _prints(roots: Iterable[str] | None) -> str:
    return _listed(sorted(found[:_SHORT] for found in roots or ())).replace("none", "no certificate")


def _identities(topology: Topology, link: Link, to: InstalledMesh) -> list[str]:
    back = topology.link(to, link.back) if link.back else None
    return [to.egress_identity(gateway) for gateway in ([back.egress] if back and back.egress else to.egresses)]


def _addresses(link: Link, to: InstalledMesh) -> Iterator[str]:
    """Addresses that lead nowhere known beside others that do, and ports that are none of the gateway's."""
    ways = entrances_at(link.mesh, to, link.spec)
    if not ways:
        return
    known = {way.host for way in ways}
    for host in link.addresses:
        if host not in known:
            yield f"{link.where} names {host}, which is no address of {to}: it has {_listed(sorted(known))}"
    for what, asked, offered in (
        ("discoveryPort", link.ports[0], sorted({way.discovery_port for way in ways})),
        ("servicePort", link.ports[1], sorted({way.service_port for way in ways})),
    ):
        if asked not in offered:
            yield f"{link.where} has {what} {asked}; {to} has {_listed(map(str, offered))} at {_listed(sorted(known))}"


def _reciprocal(topology: Topology, link: Link) -> Iterator[str]:
    """Whether the other mesh leads back, comes in by the gateway that is meant, and is who is admitted."""
    to = link.to
    if to is None:
        return
    back = topology.link(to, link.back) if link.back else None
    if back is None:
        far = topology.objects(to.cluster)
        if far and kinds.PEER in far.unread:
            return
        names = _listed(other.peer for other in topology.links_of(to))
        yield f"{link.where} means {to}, which has no {kinds.PEER} for {link.mesh} (it has: {names}): one way only"
        return
    if link.entrance and back.ingress and link.entrance != back.ingress:
        yield (
            f"{link.where} leads to gateway {link.entrance} of {to}, but {back.where} has ingress gateway "
            f"{back.ingress}: only that one has the listeners"
        )
    for direction, name, enabled in (
        ("ingress", link.ingress, link.mesh.ingresses),
        ("egress", link.egress, link.mesh.egresses),
    ):
        if name and name not in enabled:
            what = f"{direction} gateway {name}, which {link.mesh} does not have"
            yield f"{link.where} has {what}: it has {_listed(enabled)}"
    agrees = any(to in vote.meshes for vote in link.votes if vote.by == "clientID")
    real = to.egress_identity(back.egress)
    if back.egress and agrees and link.client_id != real:
        yield f"{link.where} admits {link.client_id}; {back.where} sends by {back.egress}, which is {real}"


def _sets(link: Link) -> Iterator[str]:
    for kind, listed in ((kinds.EXPORTS, link.exports), (kinds.IMPORTS, link.imports)):
        if kind in link.sets and listed is None:
            yield f"{kind} {link.mesh.namespace}/{link.peer} has no status: istiod of {link.mesh.place} has not read it"
