"""Links of what is behind the proxies: workloads, application, page, and whether the proxies write logs."""

from __future__ import annotations

import contextlib
from collections import Counter

from harness.cluster import kinds
from harness.cluster.transport import ClusterError
from harness.diagnosis import database_links
from harness.diagnosis.caller_links import imported, local, no_sidecar
from harness.diagnosis.envoy_failures import denial, unanswered
from harness.diagnosis.hop_failures import application_stops
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.policies import denial_at
from harness.diagnosis.request_path import STDOUT, PathLook
from harness.diagnosis.unready_pods import backend_down
from harness.product.names import SHARED, has_sidecar
from harness.product.status import condition_true
from harness.split.probe import Page

_APPS = {"mesh1": SHARED, "mesh2": ("productpage", "reviews", "details", "ratings")}


def workloads(facts: Facts, mesh: MeshFacts) -> Link:
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
            return backend_down(look, facts, mesh, {"app": app}, app)
        seen.append(f"{app} {ready}")
    return look.ok(f"ready endpoints: {', '.join(seen)}")


def application(facts: Facts, mesh: MeshFacts, path: PathLook) -> Link:
    """ratings of this mesh answers what it is asked."""
    look = Look("application", mesh.names.name, "answers of ratings in the log of reviews v3's sidecar")
    if off := path.unlogged(facts.mesh2):
        return look.unknown(off)
    importer = facts.mesh2
    host = (imported if mesh is facts.mesh1 else local)("ratings", importer)
    lines = path.calls()
    mine = [line for line in lines if line.upstream_cluster.endswith(f"|{host}")]
    if stop := application_stops(mine).get(host):
        who = _failing_workload(mesh, path)
        detail = f"{stop.detail} to {stop.count} of {len(mine)} calls"
        if stop.cause == "backend-silent" and mesh is facts.mesh1 and (told := _not_arrived(look, mesh, path, detail)):
            return told
        values = _denied(facts, mesh, path) if stop.cause == "denied-by-policy" else {"detail": detail}
        values |= {"blame": database_links.blame(facts, mesh, path)} if stop.cause == "backend-failing" else {}
        return look.broken(stop.cause, f"{who}: {detail}", service=who, selector="app=ratings", **values)
    failed = [line for line in mine if not line.succeeded]
    if failed:
        detail, count = Counter(line.outcome for line in failed).most_common(1)[0]
        return look.broken("requests-failing", f"{count} of {len(mine)}: {detail}", detail=detail, run=path.run)
    return look.ok(f"{len(mine)} calls answered") if mine else look.unknown("none of our calls went there")


def _denied(facts: Facts, mesh: MeshFacts, path: PathLook) -> dict[str, str]:
    """Who denies the calls, and whom it would have to admit: at home the caller, from abroad the own gateway."""
    named: Counter[str] = Counter()
    with contextlib.suppress(ClusterError):
        named.update(policy for line in path.served(mesh) if (policy := denial(line)))
    values = {"what": "ratings requests with 403"}
    values["detail"] = denial_at(mesh, named.most_common(1)[0][0] if named else "", "ratings")
    if mesh is facts.mesh1:
        return {**values, "caller": f"its federation ingress gateway, {mesh.ingress_identity()}"}
    return {**values, "caller": f"reviews, {mesh.account_identity(path.reviews_pod())}"}


def _not_arrived(look: Look, mesh: MeshFacts, path: PathLook, detail: str) -> Link | None:
    """The link where calls without an answer did not get to the workload, or nobody can say whether they did."""
    try:
        off = path.unlogged(mesh)
        arrived = any(map(unanswered, path.served(mesh)))
    except ClusterError as error:
        off, arrived = f"the log of ratings could not be read: {type(error).__name__}", False
    if arrived:
        return None
    if off:
        return look.broken("requests-failing", f"{detail}; {off}", detail=f"{detail}; {off}", run=path.run)
    # As egress says it once its attempt to connect has timed out, which takes longer than callers wait.
    return look.broken("calls-lost", detail, side=path.facts.mesh2.names.name, detail=detail)


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
    if all(probe.page in (Page.STARS, Page.NO_RATINGS) for probe in probes):
        return look.broken("pages-without-ratings", seen, detail=seen)
    return look.broken("pages-without-stars", seen, detail=seen, run=path.run)


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
