"""Network gateways that peers are told: OSSM 2.2 names those of all its peers to every one, their own ones too.

Gathered at any event of a Service in a member namespace, and by an istiod that starts beside another one; then kept,
whatever becomes of them. Since meshes hand on what they were told, addresses outlive the restart of one istiod.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lab.client import Key, Object
from lab.istiod.federation.exports import Exporter
from lab.istiod.federation.messages import Gateways
from lab.istiod.knobs import GATEWAYS
from lab.istiod.state import MeshState


class Neighbour(Protocol):
    """What is needed of a peer."""

    @property
    def exporter(self) -> Exporter: ...

    @property
    def network_gateways(self) -> Gateways: ...


class NetworkGateways:
    """What all peers of a mesh are told of networks; where not `gathers`, nothing but by a knob."""

    def __init__(self, state: MeshState, gathers: bool, peers: Mapping[str, Neighbour]) -> None:
        self._state, self._gathers, self._peers = state, gathers, peers
        self._gathered: Gateways = ()
        self._unheard: set[str] = set()
        """Peers met by an istiod that started beside another one, until their first lists."""

    def begin(self) -> None:
        """To be called when istiod starts."""
        informers, namespace = self._state.informers, self._state.namespace
        if any(
            home == namespace and name != self._state.pod_name and _runs(pod)
            for (home, name), pod in informers.pods.items.items()
        ):
            self._unheard = {name for _, name in informers.peers.items}

    def service_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        """A Service came or was changed; one that went leaves all as it was."""
        if new is not None and key[0] in self._state.members and (old or {}).get("spec") != new.get("spec"):
            self._gather()

    def heard(self, peer: str) -> None:
        """The peer gave its list."""
        if peer in self._unheard:
            self._unheard.discard(peer)
            self._gather()
        elif GATEWAYS in self._state.knobs:
            self.announce()

    def announce(self) -> None:
        """Tells every peer what there is to tell, where it was told otherwise before."""
        # By the knob each once: two meshes with it would go on telling each other for ever.
        told = tuple(dict.fromkeys(self._all())) if GATEWAYS in self._state.knobs else self._gathered
        for peer in self._peers.values():
            peer.exporter.announce(told)

    def _gather(self) -> None:
        if self._gathers:
            self._gathered = self._all()
            self.announce()

    def _all(self) -> Gateways:
        return tuple(gateway for peer in self._peers.values() for gateway in peer.network_gateways)


def _runs(pod: Object) -> bool:
    meta = pod["metadata"]
    return (meta.get("labels") or {}).get("app") == "istiod" and not meta.get("deletionTimestamp")
