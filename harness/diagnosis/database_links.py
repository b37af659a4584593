"""Links of the way from mesh2's ratings v2 to the imported mongodb: by TCP, through both gateways."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from harness.cluster import kinds
from harness.cluster.transport import ClusterError, Object
from harness.diagnosis.caller_links import MONGODB, imported, imports_of
from harness.diagnosis.caller_links import mongodb as mongodb_route
from harness.diagnosis.envoy_failures import Stop, host_of, unanswered, without_answer
from harness.diagnosis.hop_failures import mongodb_stop, silent
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look, State
from harness.diagnosis.policies import denial_at
from harness.diagnosis.request_links import not_left
from harness.diagnosis.request_path import PathLook
from harness.product.envoy import AccessLine
from harness.product.names import has_sidecar
from harness.product.status import ended

ASKING = "v2"  # the version of ratings that reads mongodb
_NONE = "no connection of mesh2's ratings v2 to mongodb ended while we looked"


def calls(facts: Facts, path: PathLook) -> Link:
    """ratings v2's sidecar in mesh2 finds a way for every connection to mongodb, and takes it to the imported one."""
    mesh = facts.mesh2
    look = Look("calls of mongodb", mesh.names.name, "access log of ratings v2's sidecar, TCP to port 27017")
    if off := path.unlogged(mesh):
        return look.unknown(off)
    lines, expected = path.mongodb_calls(mesh), imported("mongodb", mesh)
    pods = [pod for pod in mesh.app_pods("ratings", ASKING) if has_sidecar(pod)]
    strays = {host_of(line.upstream_cluster) for line in lines if line.upstream_cluster}
    if strays := {host for host in strays if not host.endswith(imports_of(mesh))}:
        seen = f"connections to mongodb go to {', '.join(sorted(strays))}"
        return _strayed(look, mesh, pods, seen, expected)
    if pods and (broken := not_left(look, mesh, lines, pods, "mongodb", MONGODB)):
        return broken
    if not lines:
        return look.unknown(_NONE, follows=("mongodb",))
    lost = sum(map(without_answer, lines))
    return look.ok(f"{len(lines)} connections to {expected}" + (f", {lost} of them without an answer" if lost else ""))


def _strayed(look: Look, mesh: MeshFacts, pods: Sequence[Object], seen: str, expected: str) -> Link:
    values = {"name": MONGODB, "expected": expected}
    if mongodb_route(mesh).state is State.OK and pods:
        pod = pods[0]["metadata"]["name"]
        return look.broken("route-not-programmed", seen, pod=pod, seen=seen, **values)
    return look.broken("mongodb-route-missing", seen, **values)


def served(facts: Facts, path: PathLook) -> Link:
    """mongodb of mesh1 lets in and answers who asks it, the ingress gateway for mesh2 among them."""
    mesh = facts.mesh1
    look = Look(
        "mongodb", mesh.names.name, "access logs of mongodb's sidecar, of the ingress, of ratings v2's sidecars"
    )
    unread = ""
    try:
        here = path.mongodb_served()
        if stop := mongodb_stop(here):
            return _stopped(look, facts, stop, len(here))
    except ClusterError as error:
        here, unread = [], f"; the log of mongodb's sidecar could not be read: {type(error).__name__}"
    if count := _silent(facts, path, here):
        seen = f"{count} connections took a question and sent no answer"
        return look.broken("backend-silent", seen, service="mongodb", selector="app=mongodb", detail=seen)
    asked = path.mongodb_calls(facts.mesh2)
    lost = [line for line in asked if without_answer(line)]
    if lost:
        seen = f"{len(lost)} of {len(asked)}{unread}"
        return look.broken("mongodb-unanswered", seen, detail=seen)
    return look.ok(f"{len(asked)} connections of mesh2 answered{unread}") if asked else look.unknown(f"{_NONE}{unread}")


def _stopped(look: Look, facts: Facts, stop: Stop, count: int) -> Link:
    mesh, seen = facts.mesh1, f"{stop.count} of {count} connections"
    if stop.cause != "denied-by-policy":
        values = {"service": "mongodb", "selector": "app=mongodb", "address": stop.about, "detail": stop.detail}
        return look.broken(stop.cause, f"{seen}: {stop.detail}", proxy="The sidecar of mongodb", **values)
    gateways = {pod["status"].get("podIP") for pod in mesh.gateway_pods(mesh.gateway("ingress"))}
    foreign = stop.about in gateways
    caller = f"its federation ingress gateway, {mesh.ingress_identity()}" if foreign else _account_at(mesh, stop.about)
    who = "the TCP import of mongodb, which ratings v2 of mesh2 needs" if foreign else "connections to its mongodb"
    detail = denial_at(mesh, stop.detail, "mongodb")
    return look.broken("denied-by-policy", f"{seen} of {caller}: {detail}", what=who, detail=detail, caller=caller)


def _account_at(mesh: MeshFacts, address: str) -> str:
    """The identity of the application's pod at an address."""
    for pod in mesh.all(kinds.POD, mesh.app):
        if (pod.get("status") or {}).get("podIP") == address and not ended(pod):
            return f"{pod['metadata']['name']}, {mesh.account_identity(pod)}"
    return f"the caller at {address}"


def _silent(facts: Facts, path: PathLook, served_lines: Sequence[AccessLine]) -> int:
    """Connections to mongodb without an answer: those that ended, and those on which ratings v2 still waits."""
    mesh1 = facts.mesh1
    here: list[AccessLine] = [*served_lines]
    with contextlib.suppress(ClusterError):
        here += path.mongodb_calls(mesh1)
    with contextlib.suppress(ClusterError):
        to_mongodb = f"mongodb.{mesh1.app}."
        lines = path.gateway_lines(mesh1, "ingress")
        here += [line for line in lines if host_of(line.upstream_cluster).startswith(to_mongodb)]
    waiting = 0
    with contextlib.suppress(ClusterError):
        # Without a call that waits, what is open is somebody else's and about to be answered.
        if any(_hung(mesh, path) for mesh in facts.meshes):
            waiting = path.open_to_mongodb()
    return silent(here) + waiting


def _hung(mesh: MeshFacts, path: PathLook) -> bool:
    """Whether ratings v2 of a mesh left a call without an answer."""
    asking = {pod["status"].get("podIP") for pod in mesh.app_pods("ratings", ASKING)}
    with contextlib.suppress(ClusterError):
        served_by = [line for line in path.served(mesh) if unanswered(line)]
        return any(line.downstream_local_address.rpartition(":")[0] in asking for line in served_by)
    return False


def blame(facts: Facts, mesh: MeshFacts, path: PathLook) -> str:
    """What the connections to mongodb say of who is to blame where ratings of a mesh answers badly."""
    if mesh is facts.mesh1:
        return "the calls got there, and its database is in the same mesh: federation is not to blame"
    try:
        lines = path.mongodb_calls(mesh)
    except ClusterError as error:
        return f"whether ratings v2 got to its database in mesh1 could not be seen ({type(error).__name__})"
    if lost := sum(map(without_answer, lines)):
        return f"{lost} of {len(lines)} connections of ratings v2 to mongodb of mesh1, an import, got no answer"
    if not lines:
        return "no connection to mongodb left it, which ratings v2 needs: see its MONGO_DB_URL"
    return f"mongodb of mesh1 answered all its {len(lines)} connections, so federation is not to blame"
