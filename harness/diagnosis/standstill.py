"""Why istiod answers 400 to a peer whose object it has: it has not taken it up yet, or never will."""

from __future__ import annotations

from datetime import datetime, timedelta

from harness.diagnosis.mesh_facts import MeshFacts
from harness.diagnosis.model import Link, Look

_RESYNC = timedelta(seconds=70)  # istiod looks at every peer again within 60 s
_GIVES_UP = "(giving up)"
_NO_ROOT = '-ca-root-cert" not found'


def standstill(look: Look, mesh: MeshFacts) -> Link | None:
    """The broken link where federation of `mesh` stands still without another reason, which 400 says; else None.

    Its peer is older than istiod's resync and has its root. Raises ClusterError.
    """
    pods, peer, now = mesh.istiod_pods(), mesh.peer, mesh.cluster.now()
    if peer is None or not pods or not mesh.held_pem():
        return None
    age = now - datetime.fromisoformat(peer["metadata"]["creationTimestamp"])
    if age < _RESYNC:
        return None
    values = {"system": mesh.system, "name": mesh.names.peer, "restart": mesh.restart(), "side": mesh.names.name}
    running = now - max(datetime.fromisoformat(pod["status"]["startTime"]) for pod in pods)
    if running >= _RESYNC:
        return look.broken("federation-frozen", f"400, {age.seconds} s after it was made", age=age.seconds, **values)
    if _gave_up(mesh, pods[0]["metadata"]["name"]):
        seen = f"400, istiod runs for {running.seconds} s and gave up its peer at its start"
        return look.broken("restarted-without-federation", seen, age=running.seconds, **values)
    return None


def _gave_up(mesh: MeshFacts, pod: str) -> bool:
    with mesh.cluster.logs(mesh.system, pod, "discovery") as stream:
        lines = [line for line in stream if _NO_ROOT in line]
    return any(_GIVES_UP in line for line in lines)
