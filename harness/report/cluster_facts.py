"""Facts a run records about its clusters: versions, and what the peers say while time passes."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError, Objects
from harness.product.mesh import SCENARIO, MeshNames
from harness.product.status import PeerStatus
from harness.report.run_record import PeerState, RunRecord
from harness.run.waiting import Cancelled, WaitTimeout

_LONGEST_RUN = 24 * 3600.0


def record_versions(record: RunRecord, cluster: Cluster, meshes: Mapping[str, MeshNames] = SCENARIO) -> None:
    """Reads what is installed in one cluster, as far as it can be read."""
    names, mesh = meshes[cluster.name], record.mesh(cluster.name)
    mesh.server = cluster.server
    try:
        mesh.kubernetes = cluster.version()
        known = names.control_plane
        plane = cluster.find(kinds.CONTROL_PLANE, known, names.system_namespace) if known else None
    except (ClusterError, Cancelled) as error:
        mesh.problem = error.sentence if isinstance(error, ClusterError) else "not looked at, the run was interrupted"
        return
    if plane is None:
        mesh.problem = (
            f"there is no ServiceMeshControlPlane {names.place if names.control_plane else 'in any namespace'}"
        )
        return
    mesh.asked = plane["spec"].get("version", "")
    mesh.ossm = (plane.get("status") or {}).get("chartVersion", "")


class PeerRecorder:
    """Records every change of what the ServiceMeshPeers say, until closed; needs Cluster objects of its own.

    A peer that is not there is a peer whose watches are not connected. What cannot be read is not recorded.
    """

    def __init__(
        self, record: RunRecord, clusters: Mapping[str, Cluster], meshes: Mapping[str, MeshNames] = SCENARIO
    ) -> None:
        self._record, self._clusters, self._meshes = record, dict(clusters), meshes
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=(cluster,), name=f"peer status {name}", daemon=True)
            for name, cluster in self._clusters.items()
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closing.set()
        for cluster in self._clusters.values():
            cluster.interrupt()
        for thread in self._threads:
            thread.join(5)

    def _follow(self, cluster: Cluster) -> None:
        names = self._meshes[cluster.name]
        last: PeerState | None = None

        def note(found: Objects) -> bool:
            nonlocal last
            now = peer_state(self._record.now(), names, found)
            if last is None or (now.watch, now.remote) != (last.watch, last.remote):
                self._record.peers.append(now)
                last = now
            return self._closing.is_set()

        while not self._closing.is_set():
            try:
                cluster.wait(
                    "the end of the run",
                    kinds.PEER,
                    names.system_namespace,
                    name=names.peer,
                    until=note,
                    timeout=_LONGEST_RUN,
                )
            except (Cancelled, ClusterError, WaitTimeout):
                return


def peer_state(seconds: float, names: MeshNames, found: Objects) -> PeerState:
    """What the peer objects of one mesh say."""
    views = [view for obj in found for view in PeerStatus.of(obj).views]
    watch = any(view.watch.connected and view.watch.last_full_sync for view in views)
    remote = any(remote.connected for view in views for remote in view.remotes)
    return PeerState(seconds, names.name, watch, remote)
