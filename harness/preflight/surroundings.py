"""What a run would meet in a cluster: names that exist already, other runs, load balancers, nodes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from harness import lease
from harness.cluster import Cluster
from harness.entry import ingress_address, node_addresses
from harness.kinds import CONTROL_PLANE, MEMBER_ROLL, NAMESPACE, SERVICE, Kind, kind_of
from harness.manifests import RUN_LABEL, scenario
from harness.mesh import MeshNames
from harness.ownership import belongs_to_the_suite, described
from harness.preflight.findings import Finding
from harness.transport import Forbidden, Object, Objects

_MEMBER_LABEL = "maistra.io/member-of"
_AT_ONCE = 8
_PENDING_FOR_GOOD = timedelta(minutes=10)  # load balancers of the big clouds have an address within three
_SHOWN = 4


def existing(cluster: Cluster, names: MeshNames) -> Objects:
    """The scenario's objects that are there already, with their kinds; what may not be read is left out."""

    def find(wanted: Object) -> Object | None:
        kind, meta = kind_of(wanted), wanted["metadata"]
        try:
            found = cluster.find(kind, meta["name"], meta.get("namespace"))
        except Forbidden:
            return None
        return {"kind": kind.kind, **found} if found else None

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="existing") as pool:
        return [obj for obj in pool.map(find, scenario(names)) if obj]


def name_findings(names: MeshNames, there: Objects, adopt: bool) -> Iterator[Finding]:
    """Whose the names are that a run would use; `there` is what `existing` found."""
    if adopt:
        present = {described(obj) for obj in there}
        missing = [described(obj) for obj in scenario(names) if described(obj) not in present]
        needed = [name for name in missing if name.startswith((CONTROL_PLANE.kind, MEMBER_ROLL.kind, "Namespace"))]
        if needed:
            text = f"--federation-adopt: there is no {', no '.join(needed)} to adopt"
            yield Finding(names.name, text, True)
        yield Finding(names.name, f"{len(present)} objects are adopted as they are; nothing is created")
        return
    ours = [obj for obj in there if belongs_to_the_suite(obj)]
    theirs = [obj for obj in there if not belongs_to_the_suite(obj)]
    if ours:
        runs = sorted({obj["metadata"]["labels"].get(RUN_LABEL, "?") for obj in ours})
        text = (
            f"{len(ours)} objects of run {', '.join(runs)} remain ({_some(ours)}): this run takes them over and removes"
        )
        yield Finding(names.name, f"{text} them at its end; --federation-sweep removes them now")
    spaces = [obj for obj in theirs if obj["kind"] == NAMESPACE.kind]
    for obj in spaces:
        name, member_of = obj["metadata"]["name"], (obj["metadata"].get("labels") or {}).get(_MEMBER_LABEL)
        if member_of and member_of != names.system_namespace:
            text = f"namespace {name} is a member of the mesh in {member_of}: take it out of that member roll"
            yield Finding(names.name, text, True)
        else:
            yield Finding(names.name, f"namespace {name} exists and is not ours: it is used, and stays")
    if others := [obj for obj in theirs if obj not in spaces]:
        text = f"not created by this suite, so not touched: {_some(others)}. Verify what is installed with"
        yield Finding(names.name, f"{text} --federation-adopt, or remove it", True)


def _some(objects: Objects) -> str:
    more = f" and {len(objects) - _SHOWN} more" if len(objects) > _SHOWN else ""
    return ", ".join(described(obj) for obj in objects[:_SHOWN]) + more


def lease_findings(cluster: Cluster, names: MeshNames) -> Iterator[Finding]:
    """Whether another run uses the cluster."""
    try:
        known = lease.holder(cluster)
    except Forbidden:
        return
    if known:
        told = lease.held_by(cluster, known)
        yield Finding(names.name, f"{told.what}: {told.detail}", True)


def address_findings(cluster: Cluster, names: MeshNames) -> Iterator[Finding]:
    """How the other mesh will find this one: whether a LoadBalancer ever gets an address here, else a NodePort."""
    try:
        services = [obj for obj in cluster.list(SERVICE) if obj["spec"].get("type") == "LoadBalancer"]
    except Forbidden:
        yield Finding(names.name, "whether a LoadBalancer gets an address is not known: Services may not be listed")
        return
    for obj in services:
        if address := ingress_address(obj):
            hosts = ", ".join(address.hosts)
            yield Finding(names.name, f"LoadBalancers get addresses: {_where(obj)} has {hosts}")
            return
    nodes = node_addresses(cluster)
    fallback = f"the NodePorts of node {nodes[0]} are used instead" if nodes else ""
    stuck = [obj for obj in services if cluster.now() - _created(obj) > _PENDING_FOR_GOOD]
    if stuck and not fallback:
        text = f"LoadBalancers get no address here ({_where(stuck[0])} has waited since {_created(stuck[0]):%H:%M} UTC)"
        advice = "and no node's address may be read. Install a load balancer (MetalLB), or let this user list nodes"
        yield Finding(names.name, f"{text} {advice}", True)
    elif stuck:
        yield Finding(names.name, f"LoadBalancers get no address here ({_where(stuck[0])} has none): {fallback}")
    else:
        text = "no LoadBalancer here to judge by: its address is waited for"
        yield Finding(names.name, text + (f"; without one {fallback}" if fallback else ""))


def _where(obj: Object) -> str:
    return f"Service {obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _created(obj: Object) -> datetime:
    return datetime.fromisoformat(obj["metadata"]["creationTimestamp"].replace("Z", "+00:00"))


def namespaces_there(there: Objects) -> set[str]:
    """Namespaces in what `existing` found that stay after a run, and the one of the Lease."""
    staying = {
        obj["metadata"]["name"] for obj in there if obj["kind"] == NAMESPACE.kind and not belongs_to_the_suite(obj)
    }
    return staying | {lease.NAMESPACE}


def kinds_to_create(names: MeshNames, there: Objects) -> dict[Kind, list[str]]:
    """What a run would create, by kind, as namespace/name; what is there already is left out."""
    present = {described(obj) for obj in there}
    found: dict[Kind, list[str]] = {}
    for obj in scenario(names):
        if described(obj) not in present:
            found.setdefault(kind_of(obj), []).append(described(obj).partition(" ")[2])
    return found
