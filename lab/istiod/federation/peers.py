"""Looks at every ServiceMeshPeer when it changes, and every minute, and keeps what federation adds current."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lab.client import Key
from lab.istiod.federation.client import DiscoveryClient
from lab.istiod.federation.leader import Leader
from lab.istiod.federation.logs import ComponentLog
from lab.istiod.federation.networks import NetworkGateways
from lab.istiod.federation.peer import FederatedPeer
from lab.istiod.federation.roots import RootError, root_of
from lab.istiod.federation.status import Object
from lab.istiod.federation.versions import VersionRules
from lab.istiod.knobs import CONFIG_MAP_NAME, START
from lab.istiod.model import FederationOutput
from lab.istiod.state import MeshState

log = ComponentLog("federation-discovery-controller")
_LOOK_AGAIN = 60.0
_RETRIES = 5
_FIRST_RETRY = 0.005
_FAREWELL = 1.0
"""Seconds a deleted peer may still ask for the list of exports, so that it sees it empty."""


class PeerController:
    """The peers of one mesh by name; `touch` is told the name of a peer whose statuses have to be written."""

    def __init__(
        self,
        state: MeshState,
        rules: VersionRules,
        client: DiscoveryClient,
        touch: Callable[[str], None],
        leader: Leader,
    ) -> None:
        self._leader = leader
        self._state, self._rules, self._client, self._touch = state, rules, client, touch
        self._peers: dict[str, FederatedPeer] = {}
        self._failures: dict[str, int] = {}
        self._unmet: set[str] = set()
        self._too_early: set[str] = set()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._networks = NetworkGateways(state, rules.names_all_gateways, self._peers)

    def find(self, name: str) -> FederatedPeer | None:
        """The peer that may be asked for and that others may ask."""
        peer = self._peers.get(name)
        return None if peer is None or peer.frozen else peer

    def reported(self, name: str) -> FederatedPeer | None:
        """The peer whose statuses are written: sets of a deleted one keep what they say."""
        peer = self._peers.get(name)
        return None if peer is None or peer.leaving else peer

    def touch_all(self) -> None:
        for name in self._peers:
            self._touch(name)

    async def run(self) -> None:
        """Works until cancelled; then all watches are cut."""
        await self._leader.decided.wait()
        informers = self._state.informers
        informers.peers.on_change(lambda key, *_: self._queue.put_nowait(key[1]))
        informers.imports.on_change(self._imports_changed)
        informers.config_maps.on_change(self._config_map_changed)
        informers.services.on_change(self._networks.service_changed)
        self._networks.begin()
        self._state.on_change(self._refresh)
        for _, name in informers.peers.items:
            if self._rules.starts_blind:
                self._too_early.add(name)
            self._queue.put_nowait(name)
        try:
            await asyncio.gather(self._work(), self._look_regularly())
        finally:
            await asyncio.gather(*(peer.watch.stop() for peer in self._peers.values()))

    async def _work(self) -> None:
        while True:
            name = await self._queue.get()
            try:
                await self._look(name)
            except Exception as error:
                self._failed(name, error)

    async def _look_regularly(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AGAIN)
            for _, name in self._state.informers.peers.items:
                self._queue.put_nowait(name)

    def _failed(self, name: str, error: Exception) -> None:
        failures = self._failures.get(name, 0) + 1
        where = f"{self._state.namespace}/{name}"
        if not isinstance(error, RootError):
            log.exception("unexpected failure of %s", where)
        if failures > _RETRIES:
            log.error("Error processing %s (giving up): %s", where, error)
            self._failures.pop(name, None)
            if name in self._too_early and START not in self._state.knobs:
                self._too_early.remove(name)
                again = self._state.settings.blind_seconds
                asyncio.get_running_loop().call_later(again, self._queue.put_nowait, name)
            return
        self._failures[name] = failures
        log.error("Error processing %s (will retry): %s", where, error)
        asyncio.get_running_loop().call_later(_FIRST_RETRY * 2**failures, self._queue.put_nowait, name)

    async def _look(self, name: str) -> None:
        state = self._state
        found = state.informers.peers.items.get((state.namespace, name))
        known = self._peers.get(name)
        if known and found is None and not known.leaving:
            if self._rules.freezes and known.exporter.exports:
                await known.freeze()
                self._publish(name)
                # Product defect: the only worker waits for a lock that it holds itself.
                await asyncio.Event().wait()
            await known.leave()
            self._publish(name)
            asyncio.get_running_loop().call_later(_FAREWELL, self._part, known)
            return
        if known and found is None and not known.parted:
            return
        if known and (found is None or known.uid != found["metadata"].get("uid")):
            await self._forget(name, known)
            known = None
        if found is None:
            self._unmet.discard(name)
            return
        # An istiod that follows is not told of ConfigMaps, and looks again only in its turn.
        blind = name in self._too_early or (self._rules.leader_only and self._leader.follows)
        if not blind:
            self._unmet.add(name)
        bundles = await root_of(state, found, terse=self._rules.terse_errors, blind=blind)
        self._too_early.discard(name)
        self._unmet.discard(name)
        self._failures.pop(name, None)
        if known is None:
            self._meet(name, found, bundles)
        else:
            known.update(found, bundles)
            known.set_imports(self._import_set(name))
            self._publish(name)

    def _meet(self, name: str, found: Object, bundles: dict[str, str]) -> None:
        peer = FederatedPeer(
            self._state,
            self._rules,
            found,
            self._client,
            touched=lambda: self._touch(name),
            changed=lambda: self._publish(name),
            heard=lambda: self._networks.heard(name),
        )
        peer.update(found, bundles)
        self._peers[name] = peer
        self._networks.announce()
        peer.set_imports(self._import_set(name))
        peer.refresh()
        self._publish(name)
        peer.watch.start()

    def _part(self, peer: FederatedPeer) -> None:
        peer.parted = True
        self._queue.put_nowait(peer.spec.name)

    async def _forget(self, name: str, peer: FederatedPeer) -> None:
        await peer.stop()
        del self._peers[name]
        # Proxies go on trusting the peer's root until istiod restarts, as in the product.
        self._state.federation[name] = FederationOutput(bundles=peer.output().bundles)
        self._state.changed()

    def _import_set(self, name: str) -> Object | None:
        return self._state.informers.imports.items.get((self._state.namespace, name))

    def _publish(self, name: str) -> None:
        peer = self._peers.get(name)
        if peer is None:
            return
        output = peer.output()
        if output != self._state.federation.get(name):
            self._state.federation[name] = output
            self._state.changed()

    def _refresh(self) -> None:
        for peer in self._peers.values():
            if not peer.leaving:
                peer.refresh()

    def _imports_changed(self, key: Key, *_: object) -> None:
        peer = self._peers.get(key[1])
        if peer and self._rules.edits_wait_for_sync and peer.note_imports(self._import_set(key[1])):
            regular = self._state.settings.import_seconds
            asyncio.get_running_loop().call_later(regular, peer.watch.resync_soon)

    def _config_map_changed(self, key: Key, *_: object) -> None:
        for name in self._unmet:
            self._queue.put_nowait(name)
        if key[1] == CONFIG_MAP_NAME:
            self._networks.announce()
            self.touch_all()
            for name in self._too_early:
                self._queue.put_nowait(name)
