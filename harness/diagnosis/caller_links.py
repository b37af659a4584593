"""Links of the calling side in mesh2: its sidecar, what that knows, and how it divides its calls."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from harness.cluster import kinds
from harness.cluster.transport import Object, Objects
from harness.diagnosis.commands import of_scenario
from harness.diagnosis.mesh_facts import MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.request_path import PathLook
from harness.diagnosis.unready_pods import backend_down
from harness.product.envoy import ClusterName, route_weights
from harness.product.names import CLUSTER_DOMAIN, SERVICE_PORT, has_sidecar, imports_domain

SPLIT, MONGODB, REVIEWS = "ratings-split", "mongodb-remote", "reviews"
_PINNED = "v3"
_SIDECARS = "mesh"  # the gateway by which a VirtualService means sidecars
_AUTHORITY = "ratings:9080"
_TOLERANCE = 0.001


def client(mesh: MeshFacts, path: PathLook) -> Link:
    """reviews v3 runs with a sidecar, which knows the imported ratings and sends to the egress gateway's pods."""
    look = Look("client sidecar", mesh.names.name, "reviews v3: containers, clusters and endpoints of its proxy")
    pods = mesh.app_pods("reviews", "v3")
    if not pods:
        return backend_down(look, path.facts, mesh, {"app": "reviews", "version": "v3"}, "reviews v3")
    for pod in pods:
        if not has_sidecar(pod):
            return no_sidecar(look, pod)
    name = path.reviews_pod()["metadata"]["name"]
    host = imported("ratings", mesh)
    cluster = f"outbound|9080||{host}"
    known = path.endpoints()
    values = {"pod": name, "host": host}
    if cluster not in known:
        return look.broken("import-not-in-sidecar", f"no cluster {cluster}", **values)
    found = known[cluster]
    if not found:
        return look.broken("import-without-endpoints", f"{cluster} has no endpoint", **values)
    egress = {pod["status"].get("podIP", "") for pod in mesh.gateway_pods(mesh.gateway("egress"))}
    strays = [str(end) for end in found if end.address not in egress or end.port != SERVICE_PORT]
    if strays:
        seen = ", ".join(strays)
        real = f"is at {', '.join(sorted(egress))}" if egress else "has no running pod"
        return look.broken("egress-endpoint-stale", f"{seen}; the gateway {real}", seen=seen, **values)
    return look.ok(f"{host} at {', '.join(map(str, found))}")


def no_sidecar(look: Look, pod: Object) -> Link:
    """The link for a pod without a proxy."""
    name = pod["metadata"]["name"]
    asked = (pod["metadata"].get("annotations") or {}).get("sidecar.istio.io/inject")
    detail = f"its annotation sidecar.istio.io/inject is {asked!r}" if asked != "true" else "it is older than the mesh"
    owner = next(iter(pod["metadata"].get("ownerReferences") or []), {"name": name})
    deployment = owner["name"].rpartition("-")[
        0
    ]  # of its ReplicaSet, which has the hash of the pod template at its end
    seen = f"{name} has no istio-proxy"
    return look.broken("sidecar-missing", seen, pod=name, detail=detail, deployment=deployment)


def split(mesh: MeshFacts, path: PathLook, asked: Mapping[str, float] | None, dependent: str) -> Link:
    """ratings-split sends to hosts and subsets that exist, with the asked weights, and the sidecar routes so.

    asked: percent by mesh; None where only the VirtualService itself is the measure. dependent: what a measurement
    found wrong with the independence of picks.
    """
    name = mesh.names.name
    look = Look("split routes", name, f"VirtualService {mesh.app}/{SPLIT}, the route of reviews v3's sidecar")
    right = partial(_wanted_split, mesh, asked)
    found = mesh.find(kinds.VIRTUAL_SERVICE, SPLIT, mesh.app)
    if found is None:
        return look.broken("split-missing", "there is none", name=SPLIT, object=right())
    if unheard := _unheard(look, mesh, found, "ratings"):
        return unheard
    routes = found["spec"].get("http") or []
    destinations = [entry for route in routes for entry in route.get("route") or []]
    hosts = {imported("ratings", mesh): mesh.names.peer, local("ratings", mesh): name}
    for entry in destinations:
        host, subset = entry["destination"]["host"], entry["destination"].get("subset")
        values = {"name": SPLIT, "share": f"{entry.get('weight', 100)} %", "host": host, "owner": "", "object": right()}
        if _full(host, mesh) not in hosts:
            return look.broken("unknown-host", host, expected=imported("ratings", mesh), **values)
        if subset and subset not in _subsets(mesh, host):
            return look.broken("unknown-subset", f"{host} subset {subset}", subset=subset, **values)
    weights = _shares({_full(e["destination"]["host"], mesh): e.get("weight", 100) for e in destinations[:2]})
    shown = {hosts[host]: share for host, share in weights.items()}
    if len(routes) > 1 or any("match" in route for route in routes):
        seen = f"{len(routes)} routes, some of which only some requests match"
        return look.broken("not-independent", seen, name=SPLIT, detail=seen, object=right())
    if asked and not _same(shown, _shares(asked)):
        seen = f"{_text(shown)} instead of {_text(_shares(asked))}"
        return look.broken("weights-differ", seen, name=SPLIT, detail=seen, object=right())
    pod = path.reviews_pod()["metadata"]["name"]
    routed = _shares(_by_host(route_weights(path.routes(), _AUTHORITY) or {}))
    if not _same(routed, weights):
        values = {"pod": pod, "name": SPLIT, "expected": _text(weights)}
        return look.broken("route-not-programmed", _text(routed), seen=_text(routed), **values)
    if dependent:
        return look.broken("not-independent", dependent, name=SPLIT, detail=dependent, object=right())
    return look.ok(_text(shown))


def _wanted_split(mesh: MeshFacts, asked: Mapping[str, float] | None) -> Object:
    """ratings-split of the scenario, with the asked weights where there are any."""
    shares = {name: round(share) for name, share in asked.items()} if asked else {}
    found: Object = of_scenario(mesh.names, kinds.VIRTUAL_SERVICE.kind, SPLIT) or {}
    for entry in found["spec"]["http"][0]["route"] if shares else ():
        at_home = entry["destination"]["host"] == local("ratings", mesh)
        entry["weight"] = shares[mesh.names.name if at_home else mesh.names.peer]
    return found


def mongodb(mesh: MeshFacts) -> Link:
    """mongodb's name exists, and leads to the imported mongodb."""
    look = Look("mongodb route", mesh.names.name, f"Service {mesh.app}/mongodb, VirtualService {mesh.app}/{MONGODB}")
    expected = imported("mongodb", mesh)
    values = {"name": MONGODB, "expected": expected}
    if mesh.find(kinds.SERVICE, "mongodb", mesh.app) is None:
        return look.broken("mongodb-service-missing", "there is no Service", **values)
    found = mesh.find(kinds.VIRTUAL_SERVICE, MONGODB, mesh.app)
    if found and (unheard := _unheard(look, mesh, found, "mongodb")):
        return unheard
    tcp = (found or {}).get("spec", {}).get("tcp") or []
    hosts = [entry["destination"]["host"] for route in tcp for entry in route.get("route") or []]
    if hosts != [expected]:
        seen = f"leads to {', '.join(hosts) or 'nothing'}" if found else "there is none"
        return look.broken("mongodb-route-missing", seen, **values)
    return look.ok(f"leads to {expected}")


def reviews(mesh: MeshFacts) -> Link:
    """Pages ask reviews v3 alone, which asks ratings, once."""
    look = Look("reviews route", mesh.names.name, f"VirtualServices and DestinationRules for reviews in {mesh.app}")
    owners = _owners(mesh, local("reviews", mesh))
    if not owners:
        named = mesh.find(kinds.VIRTUAL_SERVICE, REVIEWS, mesh.app)
        if named and (unheard := _unheard(look, mesh, named, "reviews")):
            return unheard
        seen = "there is no VirtualService for it"
        return look.broken("reviews-route-missing", seen, name=REVIEWS, host=local("reviews", mesh))
    name, routes = owners[0]["metadata"]["name"], owners[0]["spec"].get("http") or []
    entries = [entry for route in routes for entry in route.get("route") or []]
    destinations = [entry["destination"] for entry in entries if entry.get("weight") != 0]
    strays = [to for to in destinations if (to["host"], to.get("subset")) not in _pinned(mesh)]
    if strays or not destinations:
        seen = ", ".join(f"{to['host']} {to.get('subset') or '(no subset)'}" for to in strays) or "nowhere"
        return look.broken("reviews-not-pinned", f"{name} leads to {seen}", name=name, seen=seen)
    if _PINNED not in _subsets(mesh, "reviews"):
        values = {"name": name, "share": "100 %", "host": "reviews", "owner": "reviews", "subset": _PINNED}
        return look.broken("unknown-subset", f"reviews subset {_PINNED}", **values)
    return look.ok(f"{name} leads to {_PINNED} only")


def _pinned(mesh: MeshFacts) -> set[tuple[str, str]]:
    return {("reviews", _PINNED), (local("reviews", mesh), _PINNED)}


def _unheard(look: Look, mesh: MeshFacts, found: Object, service: str) -> Link | None:
    """The link where a VirtualService is there, but says nothing to sidecars about calls of a service; else None."""
    name, host, asked = found["metadata"]["name"], local(service, mesh), found["spec"].get("hosts") or []
    if host not in {_full(each, mesh) for each in asked}:
        seen = ", ".join(asked) or "no host"
        return look.broken(
            "route-for-another-host", f"it is for {seen}, not for {host}", seen=seen, expected=host, name=name
        )
    if detail := _hidden(mesh, found):
        return look.broken("route-not-for-sidecars", detail, detail=detail, name=name)
    if (first := _owners(mesh, host)[0]) is not found:
        owner = first["metadata"]["name"]
        seen, values = f"{mesh.app}/{owner} precedes it", {"other": f"{mesh.app}/{owner}", "owner": owner}
        return look.broken("host-owned-by-another", seen, host=host, name=name, **values)
    return None


def _owners(mesh: MeshFacts, host: str) -> Objects:
    """VirtualServices of the application that tell sidecars about a host; the first of them holds: the oldest."""
    told = [
        obj
        for obj in mesh.all(kinds.VIRTUAL_SERVICE, mesh.app)
        if host in {_full(each, mesh) for each in obj["spec"].get("hosts") or []} and not _hidden(mesh, obj)
    ]
    return sorted(told, key=lambda obj: (obj["metadata"].get("creationTimestamp", ""), obj["metadata"]["name"]))


def _hidden(mesh: MeshFacts, found: Object) -> str:
    """Why sidecars of the application do not get a VirtualService, '' where they do."""
    gateways, seen_by = found["spec"].get("gateways") or [_SIDECARS], found["spec"].get("exportTo") or ["*"]
    if _SIDECARS not in gateways:
        return f"its gateways are {', '.join(gateways)}, without {_SIDECARS}"
    return "" if {"*", ".", mesh.app} & set(seen_by) else f"it is exported to {', '.join(seen_by)} only"


def imports_of(mesh: MeshFacts) -> str:
    """Ending of the host names of imported services in `mesh`."""
    return f".{imports_domain(mesh.names.peer)}"


def imported(service: str, mesh: MeshFacts) -> str:
    """Host name of an imported service in `mesh`."""
    return f"{service}.{mesh.app}.svc{imports_of(mesh)}"


def local(service: str, mesh: MeshFacts) -> str:
    """Host name of a Service of `mesh`'s application."""
    return f"{service}.{mesh.app}.svc.{CLUSTER_DOMAIN}"


def _full(host: str, mesh: MeshFacts) -> str:
    return local(host, mesh) if "." not in host else host


def _subsets(mesh: MeshFacts, host: str) -> set[str]:
    rules = mesh.all(kinds.DESTINATION_RULE, mesh.app)
    fitting = [rule["spec"] for rule in rules if _full(rule["spec"]["host"], mesh) == _full(host, mesh)]
    return {subset["name"] for spec in fitting for subset in spec.get("subsets") or []}


def _by_host(weights: Mapping[str, int]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, weight in weights.items():
        parsed = ClusterName.parse(name)
        host = parsed.host if parsed else name
        found[host] = found.get(host, 0) + weight
    return found


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values()) or 1
    return {name: weight / total for name, weight in weights.items() if weight}


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one.keys() == other.keys() and all(abs(one[key] - other[key]) < _TOLERANCE for key in one)


def _text(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * share:g} % to {name}" for name, share in sorted(shares.items())) or "nothing"
