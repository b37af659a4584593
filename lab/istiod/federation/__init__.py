"""Federation in istiod: ServiceMeshPeer, ExportedServiceSet, ImportedServiceSet and the discovery between meshes.

peers       looks at peers, keeps one FederatedPeer each
peer        exports, imports and the watch of one peer; what they add to the mesh
server      answers the peer's istiod; client and watch ask it
status      what statuses say; writer writes it; leader says who writes the sets'
rules       which services match and how they are called
objects     the Istio objects in memory
"""

from __future__ import annotations

import asyncio
import os

from lab.istiod.federation.client import DiscoveryClient
from lab.istiod.federation.leader import Leader
from lab.istiod.federation.peers import PeerController
from lab.istiod.federation.server import DiscoveryServer, self_issued
from lab.istiod.federation.versions import rules_for
from lab.istiod.federation.writer import StatusWriter
from lab.istiod.state import MeshState


async def run_federation(state: MeshState) -> None:
    """Federates the mesh of `state` until cancelled; returns at once where PILOT_ENABLE_FEDERATION is false.

    Fills `state.federation`, serves discovery on port 8188 of the pod and writes the statuses. A status is not
    written at the end: as in the product, nobody is left to say that a mesh without istiod is not connected.
    """
    if os.environ.get("PILOT_ENABLE_FEDERATION", "true").lower() in ("false", "0", "f"):
        return
    await state.synced()
    parts = _Parts(state)
    try:
        await parts.server.start(state.pod_ip, self_issued(f"istiod-{state.revision}.{state.namespace}.svc"))
        async with parts.client, asyncio.TaskGroup() as group:
            for part in (parts.leader, parts.writer, parts.peers):
                group.create_task(part.run())
    finally:
        await parts.server.stop()


class _Parts:
    """The parts of one mesh's federation and who knows whom."""

    def __init__(self, state: MeshState) -> None:
        self.client = DiscoveryClient(state.informers.services.items, state.pod_ip)
        self.leader = Leader(state.api, state.namespace, state.pod_name, lambda: self.peers.touch_all())
        rules = rules_for(state.settings.ossm_version)
        # Captured on Kubernetes 1.20; newer API servers refuse such a status.
        doubles = rules.doubles_newcomers and int(state.settings.kubernetes_version.split(".")[1]) < 21
        self.writer = StatusWriter(state, lambda name: self.peers.reported(name), lambda: self.leader.leading, doubles)
        self.peers = PeerController(state, rules, self.client, self.writer.touch, self.leader)
        self.server = DiscoveryServer(self.peers.find)
