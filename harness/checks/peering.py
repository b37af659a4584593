"""What the two meshes know of each other: watches, exports, imports; each check says in lines what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from harness.checks.compared import Compared
from harness.cluster import kinds
from harness.cluster.transport import Object, Objects
from harness.product.mesh import Federation, Mesh, MeshNames
from harness.product.names import SHARED, exported_name, imported_host, local_host
from harness.product.status import PeerStatus, ServiceEntry, exported_services, imported_services
from harness.run.waiting import WaitTimeout


def wanted_exports(mesh: Mesh) -> list[ServiceEntry]:
    """What an exporting mesh is asked to offer its peer."""
    return [
        ServiceEntry(exported_name(service, mesh.peer), local_host(service, mesh.app_namespace)) for service in SHARED
    ]


def wanted_imports(federation: Federation) -> list[ServiceEntry]:
    """What mesh2 is asked to import; exported names are made by mesh1, local ones by mesh2."""
    mesh1, mesh2 = federation.mesh1, federation.mesh2
    return [
        ServiceEntry(exported_name(service, mesh1.peer), imported_host(service, mesh2.app_namespace, mesh2.peer))
        for service in SHARED
    ]


def watch_problems(mesh: Mesh, now: Callable[[], datetime]) -> dict[str, str]:
    """Each istiod pod of a mesh and what is wrong, and stays wrong, with its own watch, '' where nothing is.

    `now` gives the cluster's time, in UTC. Comes back as soon as every watch is connected and freshly synced.
    """
    pods = [pod["metadata"]["name"] for pod in mesh.istiod_pods()]
    if not pods:
        return {mesh.istiod: f"{mesh.name}: no pod of {mesh.istiod} is running, so nobody keeps its status true"}

    def look(status: PeerStatus) -> dict[str, str]:
        return _own(status, pods, now(), mesh.bounds.sync_age)

    return _lasting(mesh, "its own watches to be connected and synced", pods, look)


def remote_problems(mesh: Mesh, other: Mesh) -> dict[str, str]:
    """Each istiod pod of the other mesh and why its watch on this mesh is not, and goes on not being, connected.

    '' where it is. With several istiods here a watch ends at any one of them: all their views count together.
    """
    pods = other.istiod_pods()
    if not pods:
        return {other.istiod: f"{other.name}: no pod of {other.istiod} is running, so nobody watches {mesh.name}"}
    names = [pod["metadata"]["name"] for pod in pods]
    what = f"the watches of {other.name} to be connected"
    return _lasting(mesh, what, names, lambda status: _remote(other.name, status, pods))


def unconnected(names: MeshNames, found: Objects, pods: Objects, remotes: Objects) -> list[str]:
    """What a ServiceMeshPeer (`found`, none or one) still lacks for both directions to be connected, in lines.

    pods: running istiods of its own mesh, each of which must have synced once; remotes: those of the other mesh, each
    of which must be seen by one of ours. No running istiod is something that is lacking too.
    """
    if not found:
        return [f"{_named(names)} does not exist"]
    status = PeerStatus.of(found[0])
    nobody = [
        f"no istiod of {mesh} is running" for mesh, some in ((names.name, pods), (names.peer, remotes)) if not some
    ]
    own = _own(status, [pod["metadata"]["name"] for pod in pods], datetime.now(UTC), timedelta.max)
    return [*nobody, *own.values(), *_remote(names.peer, status, remotes).values()]


def _own(status: PeerStatus, pods: Sequence[str], now: datetime, bound: timedelta) -> dict[str, str]:
    problems = {pod: status.watch_problem(pod, now, bound) for pod in pods}
    return {pod: problem for pod, problem in problems.items() if problem}


def _remote(other: str, status: PeerStatus, pods: Objects) -> dict[str, str]:
    addresses = {pod["status"].get("podIP", ""): pod["metadata"]["name"] for pod in pods}
    seen = ", ".join(source or "unnamed" for source in status.connected_sources()) or "none"
    return {
        addresses[missing]: f"{addresses[missing]} ({missing}) of {other} has no watch connected, only: {seen}"
        for missing in status.missing_remotes(addresses)
    }


def _lasting(
    mesh: Mesh, what: str, pods: Sequence[str], look: Callable[[PeerStatus], dict[str, str]]
) -> dict[str, str]:
    """Each pod and its problem, '' for none; that nothing was seen is a problem of every pod."""
    # A gateway that gets a new listener cuts the watch, which comes back by itself: only what lasts is a problem.
    last: dict[str, str] | None = None

    def healthy(found: Objects) -> bool | None:
        nonlocal last
        last = look(PeerStatus.of(found[0])) if found else dict.fromkeys(pods, "does not exist")
        return not last or None

    try:
        mesh.cluster.wait(
            what,
            kinds.PEER,
            mesh.system_namespace,
            mesh.peer,
            until=healthy,
            timeout=mesh.bounds.reconnect,
            served=True,
        )
    except WaitTimeout as error:
        if last is None:
            return dict.fromkeys(pods, f"unknown: {error}")
    problems = last or {}
    return {pod: f"{mesh.name}: {_named(mesh)}: {problem}" if (problem := problems.get(pod)) else "" for pod in pods}


def _named(names: MeshNames) -> str:
    return f"ServiceMeshPeer {names.system_namespace}/{names.peer}"


def exports_of(mesh: Mesh) -> tuple[ServiceEntry, ...] | None:
    """What the mesh says it exports to its peer; None where its ExportedServiceSet has no status."""
    return exported_services(mesh.cluster.get(kinds.EXPORTS, mesh.peer, mesh.system_namespace))


def imports_of(mesh: Mesh) -> tuple[ServiceEntry, ...] | None:
    """What the mesh says it imports from its peer; None where its ImportedServiceSet has no status."""
    return imported_services(mesh.cluster.get(kinds.IMPORTS, mesh.peer, mesh.system_namespace))


def agreement(federation: Federation) -> tuple[set[str], set[str]]:
    """Exported names as the exporters list them, and as the importers do, of both directions.

    What no import rule asks for counts as taken; where rules ask and nothing is offered, that is in the second.
    """
    offered, taken = set[str](), set[str]()
    for importer in federation.meshes:
        exporter = federation.peer_of(importer)
        offers = {entry.exported_name for entry in _listed(exporter, kinds.EXPORTS, exported_services)}
        rules = _import_rules(importer)
        taken |= {entry.exported_name for entry in _listed(importer, kinds.IMPORTS, imported_services)}
        taken |= {name for name in offers if not any(_asks_for(rule, name) for rule in rules)}
        if rules and not offers:
            taken.add(
                f"what ImportedServiceSet {importer.system_namespace}/{importer.peer} of {importer.name} asks for"
            )
        offered |= offers
    return offered, taken


def _listed(
    mesh: Mesh, kind: kinds.Kind, read: Callable[[Object], tuple[ServiceEntry, ...] | None]
) -> tuple[ServiceEntry, ...]:
    found = mesh.cluster.find(kind, mesh.peer, mesh.system_namespace)
    return (read(found) if found else None) or ()


def _import_rules(mesh: Mesh) -> list[Object]:
    found = mesh.cluster.find(kinds.IMPORTS, mesh.peer, mesh.system_namespace) or {}
    return [rule.get("nameSelector") or {} for rule in (found.get("spec") or {}).get("importRules") or []]


def _asks_for(selector: Object, exported: str) -> bool:
    """Whether an import rule takes an exported name; what it leaves out, or has a star for, takes everything."""
    name, namespace, *_ = exported.split(".")
    return selector.get("name") in (None, "", "*", name) and selector.get("namespace") in (None, "", "*", namespace)


def compared_sets(where: str, asked: Sequence[ServiceEntry], listed: Sequence[ServiceEntry] | None) -> Compared:
    """A set of services beside what was asked for: missing, surplus (an exposure), or no status at all."""
    if listed is None:
        why = "no ServiceMeshPeer of its namespace has its name, or istiod is not there"
        return Compared(set(asked), None, [f"{where} has no status: {why}"])
    missing = [f"{where}: {entry} is missing" for entry in asked if entry not in listed]
    surplus = [f"{where}: {entry} was not asked for" for entry in listed if entry not in asked]
    return Compared(set(asked), set(listed), missing + surplus)
