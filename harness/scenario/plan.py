"""What a run would do, in lines for people; nothing is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError, Objects
from harness.product.mesh import MESH1, MESH2, MeshNames
from harness.product.topology import InstalledMesh, Link
from harness.scenario.adopt import Survey
from harness.scenario.ownership.lease import NAME, NAMESPACE
from harness.scenario.ownership.remains import existing
from harness.scenario.preflight.surroundings import kinds_to_create


def adoption(found: Survey) -> Iterator[str]:
    """The meshes in view, who offers what to whom, both ways, and which of it a run would verify."""
    for mesh in found.topology.meshes:
        yield f"mesh {mesh}: {_described(mesh)}"
    for one, two in found.topology.pairs:
        back = f" and which calls it {two.peer}" if two else ""
        yield f"{one.mesh} and {_far(one)}, which it calls {one.peer}{back}"
        yield from _offered(one, two)
        yield from _offered(two, one)
    if not found.missing:
        yield from (f"{names.name} is {_adopted(found, names)}" for names in found.names.values())
    yield f"would be created: Lease {NAMESPACE}/{NAME} in each cluster, for as long as the run lasts"


def _described(mesh: InstalledMesh) -> str:
    release = f"OSSM {mesh.release or 'not installed yet'} ({mesh.version or 'no version asked for'})"
    members = "no member roll" if mesh.members is None else f"members {_listed(mesh.members)}"
    ways = f"gateways in {_listed(mesh.ingresses)}, out {_listed(mesh.egresses)}"
    return f"{release}, trust domain {mesh.trust_domain}, {mesh.mode}, {members}; {ways}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _far(link: Link) -> str:
    return str(link.to) if link.to else "a mesh that its objects do not tell" if link.tied else "a mesh not in view"


def _offered(exporter: Link | None, importer: Link | None) -> Iterator[str]:
    """What one mesh offers the other, and as what that one takes it; unknown where one is not in view."""
    if exporter:
        from_, to = str(exporter.mesh), _far(exporter)
        offered = [entry.exported_name for entry in exporter.exports or ()]
    elif importer:
        from_, to = _far(importer), str(importer.mesh)
        offered = [entry.exported_name for entry in importer.imports or ()]
    else:
        return
    taken = {entry.exported_name: entry.hostname for entry in (importer.imports if importer else None) or ()}
    unknown = "" if exporter else " (as far as the importer tells)"
    yield f"    {from_} offers {to}: {len(offered)} service{'' if len(offered) == 1 else 's'}{unknown}"
    for name in offered:
        as_what = f"taken as {taken.get(name) or 'nothing'}" if importer else "whether it is taken is not in view"
        yield f"        {name}, {as_what}"


def _adopted(found: Survey, names: MeshNames) -> str:
    if names.name not in found.labels:
        return "not in view: only what the other side can tell is judged"
    if not names.control_plane:
        return "gone as a whole"
    return f"{names.place}: peer {names.peer}, ingress {names.ingress_gateway}, egress {names.egress_gateway}"


def plan(clusters: Mapping[str, Cluster] | None) -> Iterator[str]:
    """What would be created in each mesh, by kind. `clusters` lacks those that give no answer; None: an empty lab."""
    for names in (MESH1, MESH2):
        there: Objects = []
        if clusters is not None:
            try:
                there = existing(clusters[names.name], names)
            except (KeyError, ClusterError):
                continue  # said already, by the look at that cluster
        yield f"{names.name}: would be created, and removed after the run:"
        yield f"    Lease: {NAMESPACE}/{NAME}"
        for kind, created in kinds_to_create(names, there).items():
            yield f"    {kind}: {', '.join(created)}"
