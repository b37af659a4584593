"""Links of the watches by which the meshes hear of each other's services."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from harness.cluster import kinds
from harness.cluster.transport import ClusterError, Forbidden, Object, Objects
from harness.diagnosis.envoy_failures import Stop, denial
from harness.diagnosis.hop_failures import answered, discovery_stop
from harness.diagnosis.identity_links import admits
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.policies import denied_by, network_policies
from harness.diagnosis.request_path import PathLook
from harness.diagnosis.standstill import standstill
from harness.product.envoy import AccessLine
from harness.product.status import PeerStatus
from harness.run.waiting import WaitTimeout

_UNEXPLAINED = "watch-not-connected"
# What the other side of an istiod without federation sees: its gateway loses the route, then the listener.
_WITHOUT_FEDERATION = (
    *("peer-object-unknown", "discovery-without-route", "peer-istiod-unreachable", "peer-refuses-connections"),
    _UNEXPLAINED,
)


@dataclass(frozen=True)
class Watches:
    """A mesh's own watches, one per istiod pod: the peer object they were read from, and what stays wrong with them."""

    peer: Object
    pods: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def status(self) -> PeerStatus:
        return PeerStatus.of(self.peer)


def settled(mesh: MeshFacts) -> Watches | None:
    """The watches as they are, or as they are after the time a cut one gets to come back; None without peer or istiod.

    A gateway that gets a new listener cuts them, and they come back by themselves: only what lasts is a problem.
    """
    return mesh.once("watches", lambda: _settled(mesh))


def _settled(mesh: MeshFacts) -> Watches | None:
    pods = tuple(pod["metadata"]["name"] for pod in mesh.istiod_pods())
    peer, bounds = mesh.peer, mesh.bounds()
    if not pods or peer is None:
        return None

    def look(peer: Object) -> Watches:
        status, now = PeerStatus.of(peer), mesh.cluster.now()
        problems = [problem for pod in pods if (problem := status.watch_problem(pod, now, bounds.sync_age))]
        return Watches(peer, pods, tuple(problems))

    last = look(peer)

    def healthy(found: Objects) -> bool | None:
        nonlocal last
        last = look(found[0]) if found else last
        return not last.problems or None

    if last.problems:
        # Who may list but not watch has to make do with the first look.
        with contextlib.suppress(WaitTimeout, Forbidden):
            what, kind = "the watches to be connected and synced", kinds.PEER
            mesh.cluster.wait(what, kind, mesh.system, mesh.names.peer, until=healthy, timeout=bounds.reconnect)
    return last


def connected(mesh: MeshFacts) -> bool:
    """Whether a watch of the mesh on its peer is connected, or comes back soon enough."""
    found = settled(mesh)
    return found is not None and any(view.watch.connected for view in found.status.views)


def watch(mesh: MeshFacts, path: PathLook) -> Link:
    """Every istiod of the mesh watches the other mesh and synced lately."""
    look = Look("watch", mesh.names.name, f"ServiceMeshPeer {mesh.system}/{mesh.names.peer}, status; egress log")
    if not mesh.istiod_pods():
        return look.unknown(f"no pod of {mesh.names.istiod} runs, so the status may be old")
    found = settled(mesh)
    if found is None:
        return look.unknown("there is no peer object")
    if not found.problems:
        synced = [view.watch.last_full_sync for view in found.status.views if view.watch.last_full_sync]
        return look.ok(f"connected, last full sync {max(synced):%H:%M:%S}Z")
    try:
        lines = path.discovery_lines(mesh)
    except ClusterError:
        lines = []
    stop = watch_stop(found.peer, found.pods, mesh.cluster.now(), mesh.bounds().sync_age, lines)
    about = {"name": mesh.names.peer, "gateway": mesh.gateway("egress"), "address": stop.about or "the peer"}
    if still := _standstill(look, mesh, path, stop):
        return still
    if stop.cause == "discovery-denied":
        about |= _about_client_id(path.facts, path.facts.other(mesh), path)
    return look.broken(stop.cause, "; ".join(found.problems), detail=_detail(mesh, path, stop), **about)


def _standstill(look: Look, mesh: MeshFacts, path: PathLook, stop: Stop) -> Link | None:
    """The link where a watch stopped since istiod of this mesh, or of the other one, takes up no peer; else None."""
    if stop.cause == "peer-not-processed":
        with contextlib.suppress(ClusterError):
            return standstill(look, mesh, path.discovery_answer(mesh).status == HTTPStatus.BAD_REQUEST)
        return standstill(look, mesh, False)
    if stop.cause in _WITHOUT_FEDERATION:
        return standstill(look, path.facts.other(mesh), stop.cause == "peer-object-unknown")
    return None


def _about_client_id(facts: Facts, mesh: MeshFacts, path: PathLook) -> dict[str, str]:
    """What a 403 of `mesh` has to do with its clientID, and what follows."""
    policies = f"See the AuthorizationPolicies at {mesh.names.name}'s federation ingress"
    try:
        fits = admits(facts, mesh, path)
    except ClusterError:
        return {"admitted": "; its clientID could not be looked at", "remedy": f"{policies}, and the clientID"}
    if fits:
        remedy = f"{policies}; its istiod may not have taken up the clientID"
        return {"admitted": ", although its clientID fits", "remedy": remedy}
    return {"admitted": ", which its clientID does not admit", "remedy": "Put the clientID right"}


def _detail(mesh: MeshFacts, path: PathLook, stop: Stop) -> str:
    """What stopped the watch, with the objects that may have done it."""
    other = path.facts.other(mesh)
    if stop.cause == "egress-unreachable":
        return f"{stop.detail}; {network_policies(mesh, mesh.gateway('egress'))}"
    if stop.cause == "peer-refuses-connections":
        return f"{stop.detail}; {network_policies(other, other.gateway('ingress'))}"
    if stop.cause == "discovery-denied":
        with contextlib.suppress(ClusterError):
            denied = [policy for line in path.discovery_lines(other, "ingress") if (policy := denial(line)) is not None]
            return denied_by(denied[-1]) if denied else stop.detail
    return stop.detail


def watch_stop(peer: Object, pods: Sequence[str], now: datetime, bound: timedelta, lines: Sequence[AccessLine]) -> Stop:
    """Why the watches of these istiods are not in order, from the peer's status and its egress gateway's log.

    At least one of them must have a problem. A 503 or a 404 in the status may be anything; the gateway knows more.
    """
    status = PeerStatus.of(peer)
    if not status.views:
        return Stop("peer-not-processed", "it has no status")
    pod = next(pod for pod in pods if status.watch_problem(pod, now, bound))
    problem = status.watch_problem(pod, now, bound) or ""
    view = status.view(pod)
    if view is None:
        return Stop("peer-not-processed", problem)
    if view.watch.connected:
        since = view.watch.last_attempt
        polls = discovery_stop([line for line in lines if since is None or line.start_time >= since])
        return polls if polls and polls.cause != _UNEXPLAINED else Stop("stale-sync", problem)
    said = view.watch.last_disconnect_status
    if "dial tcp" in said or "no such host" in said:
        return Stop("egress-unreachable", said)
    logged = discovery_stop(lines)
    if logged and logged.cause != _UNEXPLAINED:
        return logged
    if said[:3] in ("400", "403"):  # nobody on the way but the peer says these
        return Stop(answered(int(said[:3])), said)
    if any(remote.connected for remote in view.remotes):
        return Stop("one-direction", logged.detail if logged else problem)
    return Stop(_UNEXPLAINED, problem)
