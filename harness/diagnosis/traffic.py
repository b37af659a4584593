"""Links of the data path: egress, ingress, workloads, application, by what a few requests left in the logs."""

from __future__ import annotations

from collections import Counter

from harness import kinds
from harness.diagnosis.facts import Facts, MeshFacts
from harness.diagnosis.hops import Stop, application_stops, client_stop, egress_stop, ingress_stop
from harness.diagnosis.model import Link, Look
from harness.diagnosis.path import STDOUT, PathLook, has_sidecar
from harness.diagnosis.routes import imported, local, no_sidecar
from harness.peering import SHARED
from harness.probe import Page
from harness.provision import condition_true
from harness.transport import ClusterError

_APPS = {"mesh1": SHARED, "mesh2": ("productpage", "reviews", "details", "ratings")}


def calls(facts: Facts, path: PathLook) -> Link:
    """reviews' sidecar finds a way for every ratings call."""
    mesh = facts.mesh2
    look = Look("calls of ratings", mesh.names.name, "access log of reviews v3's sidecar")
    if off := _no_log(path, mesh):
        return look.unknown(off)
    lines = path.calls()
    stop = client_stop(lines)
    if stop is None:
        return look.ok(f"{len(lines)} calls") if lines else look.unknown("none of our requests led to a ratings call")
    seen = f"{stop.count} of {len(lines)} calls: {stop.detail}"
    values = {
        "name": "ratings-split",
        "share": f"{stop.count} of {len(lines)} calls",
        "host": stop.about or "a cluster",
        "expected": imported("ratings", mesh),
        "pod": path.reviews_pod()["metadata"]["name"],
        "seen": stop.about,
    }
    return look.broken(stop.cause, seen, **values)


def egress(facts: Facts, path: PathLook) -> Link:
    """mesh2's egress gateway knows mesh1's addresses and makes its connections."""
    mesh, gateway = facts.mesh2, facts.mesh2.gateway("egress")
    look = Look("egress", mesh.names.name, f"endpoints and access log of {gateway}")
    suffix = f".{mesh.names.peer}-imports.local"
    stop = egress_stop(path.gateway_lines(mesh, "egress"), suffix)
    if stop:
        values = {"gateway": gateway, "host": stop.about, "address": stop.about, "detail": stop.detail}
        return look.broken(stop.cause, _seen(stop), **values)
    remote = f".{facts.mesh1.names.peer}-exports.local"
    found = {name: ends for name, ends in path.egress_endpoints().items() if name.endswith(remote)}
    for name, ends in found.items():
        if not ends:
            values = {"gateway": gateway, "host": name.rpartition("|")[2]}
            return look.broken("egress-without-remote", f"{name} has no endpoint", **values)
    if not found:
        return look.unknown(f"{gateway} has no cluster of {mesh.names.peer}'s exports")
    remotes = sorted({str(end) for ends in found.values() for end in ends})
    return look.ok(f"{len(found)} exports at {', '.join(remotes)}, no failed connection")


def ingress(facts: Facts, path: PathLook) -> Link:
    """mesh1's ingress gateway lets mesh2's connections in and finds who they are for."""
    mesh, gateway = facts.mesh1, facts.mesh1.gateway("ingress")
    look = Look("ingress", mesh.names.name, f"access log of {gateway}")
    lines = path.gateway_lines(mesh, "ingress")
    stop = ingress_stop(lines, f".{mesh.names.peer}-exports.local")
    if stop:
        values = {"host": stop.about, "address": stop.about, "detail": stop.detail}
        service = stop.about.split(".")[0] or "A service"
        return look.broken(stop.cause, _seen(stop), service=service, **values)
    return look.ok("no connection refused or lost there")


def workloads(mesh: MeshFacts) -> Link:
    """Every service on the path has ready pods, with sidecars."""
    look = Look("workload", mesh.names.name, f"Endpoints and pods in {mesh.app}")
    seen = []
    for app in _APPS[mesh.names.name]:
        endpoints = mesh.find(kinds.ENDPOINTS, app, mesh.app)
        ready = sum(len(subset.get("addresses") or []) for subset in (endpoints or {}).get("subsets") or [])
        pods = mesh.app_pods(app)
        for pod in pods:
            if not has_sidecar(pod):
                return no_sidecar(look, pod)
        if not ready or not any(condition_true(pod, "Ready") for pod in pods):
            return look.broken("backend-down", f"{app}: no ready endpoint", service=app)
        seen.append(f"{app} {ready}")
    return look.ok(f"ready endpoints: {', '.join(seen)}")


def application(facts: Facts, mesh: MeshFacts, path: PathLook) -> Link:
    """ratings of this mesh answers what it is asked."""
    look = Look("application", mesh.names.name, "answers of ratings in the log of reviews v3's sidecar")
    if off := _no_log(path, facts.mesh2):
        return look.unknown(off)
    importer = facts.mesh2
    host = (imported if mesh is facts.mesh1 else local)("ratings", importer)
    lines = path.calls()
    mine = [line for line in lines if line.upstream_cluster.endswith(f"|{host}")]
    if stop := application_stops(mine).get(host):
        who = _failing_workload(mesh, path)
        detail = f"{stop.detail} to {stop.count} of {len(mine)} calls"
        return look.broken(stop.cause, f"{who}: {detail}", service=who, detail=detail)
    failed = [line for line in mine if not line.succeeded]
    if failed:
        detail, count = Counter(line.outcome for line in failed).most_common(1)[0]
        return look.broken("requests-failing", f"{count} of {len(mine)}: {detail}", detail=detail)
    return look.ok(f"{len(mine)} calls answered") if mine else look.unknown("none of our calls went there")


def _failing_workload(mesh: MeshFacts, path: PathLook) -> str:
    """Which version of ratings answered badly, where its own sidecars say so."""
    try:
        failed = {line.downstream_local_address.rpartition(":")[0] for line in path.served(mesh) if not line.succeeded}
    except ClusterError:
        return "ratings"
    versions = {
        (pod["metadata"].get("labels") or {}).get("version", "")
        for pod in mesh.app_pods("ratings")
        if pod["status"].get("podIP") in failed
    }
    return f"ratings {' and '.join(sorted(versions))}".strip()


def page(facts: Facts, path: PathLook) -> Link:
    """productpage answers, with stars."""
    mesh = facts.mesh2
    look = Look("productpage", mesh.names.name, "answers to our requests, by the page's words")
    probes = path.probes()
    answers = Counter(f"{probe.status} {probe.page}" if probe.status else probe.error for probe in probes)
    seen = ", ".join(f"{count} x {what}" for what, count in answers.most_common(3))
    good = sum(probe.page is Page.STARS for probe in probes)
    if good == len(probes):
        return look.ok(seen)
    if not any(probe.status == 200 for probe in probes):
        return look.broken("productpage-unreachable", seen, detail=seen)
    return look.broken("requests-failing", seen, detail=seen)


def access_log(mesh: MeshFacts, path: PathLook) -> Link:
    """The sidecars write access logs where they can be read."""
    look = Look("access log", mesh.names.name, "ServiceMeshControlPlane, listeners of a sidecar")
    file = ((mesh.control_plane()["spec"].get("proxy") or {}).get("accessLogging") or {}).get("file") or {}
    try:
        written = path.logging(mesh)
    except ClusterError:
        if file.get("name") != STDOUT:
            return look.broken("access-log-off", f"accessLogging.file is {file or 'not set'}")
        raise
    if STDOUT not in written:
        return look.broken("access-log-off", ", ".join(sorted(written)) or "no access log")
    return look.ok(STDOUT)


def _no_log(path: PathLook, mesh: MeshFacts) -> str:
    return "" if STDOUT in path.logging(mesh) else f"the sidecars of {mesh.names.name} write no access log"


def _seen(stop: Stop) -> str:
    return f"{stop.count} connections: {stop.detail} ({stop.about})"
