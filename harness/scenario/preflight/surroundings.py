"""What a run would meet in a cluster: names that exist already, other runs, load balancers, nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import CONTROL_PLANE, MEMBER_ROLL, NAMESPACE, SERVICE, Kind, kind_of
from harness.cluster.transport import Forbidden, NotFound, Object, Objects
from harness.product.mesh import MeshNames
from harness.scenario.entry import ingress_address, node_addresses
from harness.scenario.manifests import scenario
from harness.scenario.ownership import lease
from harness.scenario.ownership.remains import by_run, were_kept
from harness.scenario.ownership.removal import belongs_to_the_suite, described, held_by
from harness.scenario.preflight.findings import Finding, NoBalancer

_MEMBER_LABEL = "maistra.io/member-of"
_PENDING_FOR_GOOD = timedelta(minutes=10)  # load balancers of the big clouds have an address within three
_SHOWN = 4
_OWNER_LABELS = (
    "app.kubernetes.io/managed-by",
    "argocd.argoproj.io/instance",
    "olm.owner",
    "app.kubernetes.io/part-of",
)


def name_findings(names: MeshNames, there: Objects, adopt: bool, dead: lease.Holder | None = None) -> Iterator[Finding]:
    """Whose the names are that a run would use; `there` is what `existing` found, `dead` whose Lease has expired.

    What was kept on purpose is somebody's. Everything else that runs left is taken over, since none of them goes on.
    """
    going = [obj for obj in there if "deletionTimestamp" in obj["metadata"]]
    for obj in going:
        text = (
            f"{described(obj)} is being deleted, and is held by {held_by(obj)}. Wait until it is gone, or see to that"
        )
        yield Finding(names.name, text, True)
    staying = [obj for obj in there if obj not in going]
    if adopt:
        yield from _adopted(names, staying)
        return
    yield from _remains(names, staying, dead)
    theirs = [obj for obj in staying if not belongs_to_the_suite(obj)]
    spaces = [obj for obj in theirs if obj["kind"] == NAMESPACE.kind]
    for obj in spaces:
        name, member_of = obj["metadata"]["name"], (obj["metadata"].get("labels") or {}).get(_MEMBER_LABEL)
        if member_of and member_of != names.system_namespace:
            text = f"namespace {name} is a member of the mesh in {member_of}: take it out of that member roll"
            yield Finding(names.name, text, True)
        else:
            text = f"namespace {name} exists and is not ours{_whose(obj)}: it is used, and stays"
            yield Finding(names.name, text, note=True)
    if others := [obj for obj in theirs if obj not in spaces]:
        text = f"not created by this suite, so not touched: {_some(others, _whose)}. Verify what is installed with"
        yield Finding(names.name, f"{text} --federation-adopt, or remove it", True)


def _adopted(names: MeshNames, there: Objects) -> Iterator[Finding]:
    if not names.is_scenario:
        yield Finding(names.name, f"{names.place or 'the mesh'} is adopted as it is; nothing is created")
        return
    present = {described(obj) for obj in there}
    missing = [described(obj) for obj in scenario(names) if described(obj) not in present]
    needed = [name for name in missing if name.startswith((CONTROL_PLANE.kind, MEMBER_ROLL.kind, NAMESPACE.kind))]
    if needed:
        yield Finding(names.name, f"--federation-adopt: there is no {', no '.join(needed)} to adopt", note=True)
    yield Finding(names.name, f"{len(present)} objects are adopted as they are; nothing is created")


def _remains(names: MeshNames, there: Objects, dead: lease.Holder | None) -> Iterator[Finding]:
    for run, objects in sorted(by_run(there).items()):
        some = f"{len(objects)} objects of run {run} ({_some(objects)})"
        if were_kept(objects):
            text = f"{some} were kept with --federation-keep, so they are somebody's. Verify them with"
            yield Finding(names.name, f"{text} --federation-adopt, or remove them first with --federation-sweep", True)
            continue
        if dead and dead.run_id == run:
            why = f"{dead.who}, had no chance to remove them"
        else:
            why = "no Lease tells of that run any more, and nothing was marked as left on purpose"
        text = f"{some} remain: {why}. This run takes them over and removes them at its end"
        yield Finding(names.name, text, note=True)


def _some(objects: Objects, more_about: Callable[[Object], str] = lambda _: "") -> str:
    more = f" and {len(objects) - _SHOWN} more" if len(objects) > _SHOWN else ""
    return ", ".join(described(obj) + more_about(obj) for obj in objects[:_SHOWN]) + more


def _whose(obj: Object) -> str:
    """By what an object says who looks after it: labels, owners, else who wrote it; '' where it says nothing."""
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    found = [f"{key}={labels[key]}" for key in _OWNER_LABELS if labels.get(key)]
    found += [f"owner {owner['kind']} {owner['name']}" for owner in meta.get("ownerReferences") or ()]
    if not found:
        fields = meta.get("managedFields") or ()
        writers = dict.fromkeys(entry["manager"] for entry in fields if not entry.get("subresource"))
        found = [f"written by {', '.join(writers)}"] if writers else []
    return f" ({'; '.join(found)})" if found else ""


def plane_findings(cluster: Cluster, names: MeshNames, adopt: bool) -> Iterator[Finding]:
    """Control planes of other names where ours would be: the operator allows one in each namespace."""
    try:
        found = cluster.list(CONTROL_PLANE, names.system_namespace)
    except (Forbidden, NotFound):
        return
    if others := [obj for obj in found if obj["metadata"]["name"] != names.control_plane]:
        text = f"namespace {names.system_namespace} has another control plane: {_some(others, _whose)}"
        advice = "The operator allows one in each namespace: remove it, if it is yours to remove"
        yield Finding(names.name, f"{text}. {advice}", not adopt, note=True)


def address_findings(cluster: Cluster, names: MeshNames) -> Iterator[Finding]:
    """How the other mesh will find this one: whether a LoadBalancer ever gets an address here, else a NodePort."""
    try:
        services = [obj for obj in cluster.list(SERVICE) if obj["spec"].get("type") == "LoadBalancer"]
    except Forbidden:
        return  # said already, with the permissions
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
        text = f"LoadBalancers get no address here ({_where(stuck[0])} has none): {fallback}"
        yield NoBalancer(names.name, text, note=True)
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
