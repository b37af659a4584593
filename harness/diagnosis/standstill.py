"""Why istiod does nothing for a peer whose object it has: it has not taken it up yet, or never will."""

from __future__ import annotations

from datetime import datetime, timedelta

from harness.diagnosis.mesh_facts import MeshFacts
from harness.diagnosis.model import Link, Look

_RESYNC = timedelta(seconds=70)  # istiod looks at every peer again within 60 s
_START = 3 * _RESYNC  # what istiod gave up when it started is taken up by then, also on a busy machine
_GIVES_UP = "(giving up)"
_NO_ROOT = '-ca-root-cert" not found'


def standstill(look: Look, mesh: MeshFacts, unknown_to_it: bool) -> Link | None:
    """The broken link where federation of `mesh` stands still without another reason; else None.

    unknown_to_it: its discovery answers 400, by which it says that it does not know its peer.

    Either istiod found its peer when it started and gave it up, as its log says, or it had the time of a resync to take
    its peer up. The peer has its root. Raises ClusterError.
    """
    pods, peer, now = mesh.istiod_pods(), mesh.peer, mesh.cluster.now()
    if peer is None or not pods or not mesh.held_pem():
        return None
    made = datetime.fromisoformat(peer["metadata"]["creationTimestamp"])
    started = max(datetime.fromisoformat(pod["status"]["startTime"]) for pod in pods)
    age, running = int((now - made).total_seconds()), now - started
    if made < started and running < _START and _gave_up(mesh, pods[0]["metadata"]["name"]):
        seconds = int(running.total_seconds())
        seen = f"istiod runs for {seconds} s and gave up its peer at its start"
        return look.broken("restarted-without-federation", seen, side=mesh.names.name, age=seconds)
    if not unknown_to_it or now - max(made, started) < _RESYNC:
        return None
    seen = f"400, {age} s after the peer was made"
    return look.broken("federation-frozen", seen, side=mesh.names.name, name=mesh.names.peer, age=age)


def _gave_up(mesh: MeshFacts, pod: str) -> bool:
    with mesh.cluster.logs(mesh.system, pod, "discovery") as stream:
        lines = [line for line in stream if _NO_ROOT in line]
    return any(_GIVES_UP in line for line in lines)
