"""Links of the calling side in mesh2: its sidecar, what that knows, and how it divides its calls."""

from __future__ import annotations

from collections.abc import Mapping

from harness import kinds
from harness.diagnosis.facts import MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.path import PathLook, has_sidecar
from harness.envoy import ClusterName, route_weights
from harness.mesh import SERVICE_PORT
from harness.peering import CLUSTER_DOMAIN
from harness.transport import Object

SPLIT, MONGODB = "ratings-split", "mongodb-remote"
_AUTHORITY = "ratings:9080"
_TOLERANCE = 0.001


def client(mesh: MeshFacts, path: PathLook) -> Link:
    """reviews v3 runs with a sidecar, which knows the imported ratings and sends to the egress gateway's pods."""
    look = Look("client sidecar", mesh.names.name, "reviews v3: containers, clusters and endpoints of its proxy")
    pods = mesh.app_pods("reviews", "v3")
    if not pods:
        return look.broken("backend-down", "no pod of reviews v3 runs", service="reviews v3")
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
        return look.broken("egress-endpoint-stale", f"{seen}; the gateway is at {egress}", seen=seen, **values)
    return look.ok(f"{host} at {', '.join(map(str, found))}")


def no_sidecar(look: Look, pod: Object) -> Link:
    """The link for a pod without a proxy."""
    name = pod["metadata"]["name"]
    asked = (pod["metadata"].get("annotations") or {}).get("sidecar.istio.io/inject")
    detail = f"its annotation sidecar.istio.io/inject is {asked!r}" if asked != "true" else "it is older than the mesh"
    return look.broken("sidecar-missing", f"{name} has no istio-proxy", pod=name, detail=detail)


def split(mesh: MeshFacts, path: PathLook, asked: Mapping[str, float] | None, dependent: str) -> Link:
    """ratings-split sends to hosts and subsets that exist, with the asked weights, and the sidecar routes so.

    asked: percent by mesh; None where only the VirtualService itself is the measure. dependent: what a measurement
    found wrong with the independence of picks.
    """
    name = mesh.names.name
    look = Look("split routes", name, f"VirtualService {mesh.app}/{SPLIT}, the route of reviews v3's sidecar")
    found = mesh.find(kinds.VIRTUAL_SERVICE, SPLIT, mesh.app)
    if found is None:
        return look.broken("split-missing", "there is none", name=SPLIT, namespace=mesh.app)
    routes = found["spec"].get("http") or []
    destinations = [entry for route in routes for entry in route.get("route") or []]
    hosts = {imported("ratings", mesh): mesh.names.peer, local("ratings", mesh): name}
    for entry in destinations:
        host, subset = entry["destination"]["host"], entry["destination"].get("subset")
        values = {"name": SPLIT, "share": f"{entry.get('weight', 100)} %", "host": host}
        if _full(host, mesh) not in hosts:
            return look.broken("unknown-host", host, expected=imported("ratings", mesh), **values)
        if subset and subset not in _subsets(mesh, host):
            return look.broken("unknown-subset", f"{host} subset {subset}", subset=subset, **values)
    weights = _shares({_full(e["destination"]["host"], mesh): e.get("weight", 100) for e in destinations[:2]})
    shown = {hosts[host]: share for host, share in weights.items()}
    if len(routes) > 1 or any("match" in route for route in routes):
        seen = f"{len(routes)} routes, some of which only some requests match"
        return look.broken("not-independent", seen, name=SPLIT, detail=seen)
    if asked and not _same(shown, _shares(asked)):
        seen = f"{_text(shown)} instead of {_text(_shares(asked))}"
        return look.broken("weights-differ", seen, name=SPLIT, detail=seen)
    pod = path.reviews_pod()["metadata"]["name"]
    routed = _shares(_by_host(route_weights(path.routes(), _AUTHORITY) or {}))
    if not _same(routed, weights):
        values = {"pod": pod, "name": SPLIT, "expected": _text(weights)}
        return look.broken("route-not-programmed", _text(routed), seen=_text(routed), **values)
    if dependent:
        return look.broken("not-independent", dependent, name=SPLIT, detail=dependent)
    return look.ok(_text(shown))


def mongodb(mesh: MeshFacts) -> Link:
    """mongodb's name leads to the imported mongodb."""
    look = Look("mongodb route", mesh.names.name, f"VirtualService {mesh.app}/{MONGODB}")
    found = mesh.find(kinds.VIRTUAL_SERVICE, MONGODB, mesh.app)
    expected = imported("mongodb", mesh)
    tcp = (found or {}).get("spec", {}).get("tcp") or []
    hosts = [entry["destination"]["host"] for route in tcp for entry in route.get("route") or []]
    if hosts != [expected]:
        seen = f"leads to {', '.join(hosts) or 'nothing'}" if found else "there is none"
        values = {"name": MONGODB, "namespace": mesh.app, "expected": expected}
        return look.broken("mongodb-route-missing", seen, **values)
    return look.ok(f"leads to {expected}")


def imports_of(mesh: MeshFacts) -> str:
    """Ending of the host names of imported services in `mesh`."""
    return f".{mesh.names.peer}-imports.local"


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
