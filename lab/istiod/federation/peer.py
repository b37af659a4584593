"""One ServiceMeshPeer at work: exports to it, imports from it, its watch, and what all this adds to the mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from lab.istiod.federation.client import DiscoveryClient
from lab.istiod.federation.exports import Export, Exporter, exports_of
from lab.istiod.federation.imports import Gateways, Imports, egress_pods, imports_of, remote_addresses
from lab.istiod.federation.logs import ComponentLog
from lab.istiod.federation.messages import ExportedService
from lab.istiod.federation.messages import Gateways as NetworkGateways
from lab.istiod.federation.names import LOCAL_SUFFIX
from lab.istiod.federation.objects import PeerSpec, discovery_objects, export_objects, import_objects
from lab.istiod.federation.rules import ExportRules, ImportRules, ServiceKey, locality_labels
from lab.istiod.federation.status import Object, PeerStatus, exported_services, imported_services
from lab.istiod.federation.versions import VersionRules
from lab.istiod.federation.watch import PeerWatch, Resyncs
from lab.istiod.knobs import SYNC
from lab.istiod.model import FederationOutput
from lab.istiod.registry import hostname_of
from lab.istiod.state import MeshState

log = ComponentLog("federation-server")
_STALE = timedelta(hours=1)
"""By how much a watch looks older than it is while a knob keeps it from syncing."""


class _Version(NamedTuple):
    """Which object it is and how often its spec changed; a set that is not there has neither."""

    uid: str | None
    generation: int | None


def _version(found: Object | None) -> _Version:
    meta = found["metadata"] if found else {}
    return _Version(meta.get("uid"), meta.get("generation"))


class FederatedPeer:
    """A peer from its first successful look on until it is deleted.

    touched: called when a status has to be written; changed: called when `output()` may have changed; heard: called
    after each list of the peer's.
    """

    def __init__(
        self,
        state: MeshState,
        rules: VersionRules,
        peer: Object,
        client: DiscoveryClient,
        touched: Callable[[], None],
        changed: Callable[[], None],
        heard: Callable[[], None],
    ) -> None:
        self._state, self._rules, self._touched, self._changed, self._heard = state, rules, touched, changed, heard
        self.uid = peer["metadata"].get("uid")
        self.leaving = False
        """Deleted; the peer may still see that nothing is exported any more."""
        self.frozen = False
        """Deleted half-way: nobody may ask for it any more, and what it exports stays."""
        self.parted = False
        """Time was given to see that."""
        self.spec = PeerSpec.of(peer)
        # Exports keep the peer as it was met first: later edits of clientID or ingress gateway do not reach them.
        self._met = self.spec
        # Imports lead through the egress gateway of the last sync, whatever the peer names since.
        self._synced = self.spec
        self._bundles: dict[str, str] = {}
        self.status = PeerStatus(state.pod_name, touched, lag=lambda: _STALE if SYNC in state.knobs else timedelta())
        self.exporter = Exporter()
        self._export_version = _version(None)
        self._export_rules = ExportRules(None, self.spec.name)
        self._import_version = _version(None)
        self._import_rules = ImportRules(None, self.spec.name)
        self._locality: tuple[tuple[str, str], ...] = ()
        self._received: list[ExportedService] | None = None
        self._gateways = Gateways()
        self._imports = Imports()
        self._unwanted: set[ServiceKey] = set()
        self._complaint = ""
        resyncs = Resyncs(rules.resync, state.settings.retry_seconds, lambda: SYNC not in state.knobs, state.held)
        self.watch = PeerWatch(self.spec, client, self.status, self._take, resyncs)
        if not self.spec.client_id:
            log.error(
                "no ClientID specified for MeshFederation %s/%s: AuthorizationPolicy for exported services "
                "will not be created",
                self.spec.namespace,
                self.spec.name,
            )

    def update(self, peer: Object, bundles: dict[str, str]) -> None:
        """Takes over the object as it is now, with the roots that were read for it."""
        self.spec = PeerSpec.of(peer)
        self._bundles = bundles
        self.watch.update(self.spec)

    def set_imports(self, import_set: Object | None) -> None:
        """Takes over the ImportedServiceSet of the peer's name and applies it to the services known already."""
        if self.note_imports(import_set):
            self._apply_imports()

    def note_imports(self, import_set: Object | None) -> bool:
        """Takes over the ImportedServiceSet for the next list of services; False where nothing changed."""
        before, now = self._import_version, _version(import_set)
        if now == before:
            return False
        if import_set is not None:
            self._import_version = now
            if self._rules.same_generation_ignored and now.generation == before.generation:
                return False
        self._import_rules = ImportRules(import_set, self.spec.name)
        self._locality = locality_labels(import_set)
        return True

    def refresh(self) -> None:
        """Looks at services, gateways and the ExportedServiceSet again."""
        state = self._state
        export_set = state.informers.exports.items.get((state.namespace, self.spec.name))
        if _version(export_set) != self._export_version:
            self._export_version = _version(export_set)
            self._export_rules = ExportRules(export_set, self.spec.name)
        exports: list[Export] = []
        if export_set is not None:
            services = state.informers.services.items
            identities = self._ingress_identities()
            exports = exports_of(self._export_rules, state.services(), services, state.namespace, identities)
            if self._rules.keeps_leavers:
                exports += self._leavers()
        if self.exporter.update(exports):
            self._touched()
            self._changed()
        if self._received is not None and not self._gateways.egress:
            self._apply_imports()

    def _leavers(self) -> list[Export]:
        """What was exported from namespaces that have left the mesh: nobody says that its services are gone."""
        namespaces = self._state.namespaces
        return [
            export
            for export in self.exporter.exports
            if export.local.namespace not in namespaces and self._export_rules.name_for(export.candidate)
        ]

    async def leave(self) -> None:
        """Ends the watch to the peer and takes back all exports; the peer hears of it on its own watch."""
        self.leaving = True
        await self.watch.stop()
        self.exporter.update(())

    async def freeze(self) -> None:
        """Ends the watch to the peer and takes one export back, of which the peer is not told."""
        self.leaving = self.frozen = True
        await self.watch.stop()
        self.exporter.exports = self.exporter.exports[1:]

    async def stop(self) -> None:
        """Ends the watch to the peer and the peer's watches."""
        await self.watch.stop()
        self.exporter.close()

    def output(self) -> FederationOutput:
        """What proxies get from this peer."""
        short = self._rules.short_names
        istiod = hostname_of(f"istiod-{self._state.revision}", self._state.namespace)
        objects = [
            *discovery_objects(self.spec, istiod),
            *export_objects(self._met, self.exporter.pairs, short=short),
            *import_objects(self._synced, self._imports.matched, short=short),
        ]
        return FederationOutput(self._imports.services, tuple(objects), dict(self._bundles))

    def exported(self) -> list[Object]:
        """`exportedServices` of the ExportedServiceSet's status."""
        return exported_services(self.exporter.pairs)

    def imported(self) -> list[Object] | None:
        """`importedServices` of the ImportedServiceSet's status; None before the first list came."""
        if self._received is None:
            return None
        if not self._rules.lists_unmatched:
            return imported_services(self._imports.matched)
        # What no rule wants is never taken off the list, though the peer withdraws it.
        gone = self._unwanted - {exported for exported, _ in self._imports.pairs}
        return imported_services([*self._imports.pairs, *((exported, ServiceKey()) for exported in gone)])

    @property
    def network_gateways(self) -> NetworkGateways:
        """The peer's own, and all it named; none before its first list came."""
        return (*self._gateways.remote, *self._gateways.told)

    async def _take(self, messages: list[ExportedService], told: NetworkGateways) -> None:
        services = self._state.informers.services.items
        addresses = await remote_addresses(self.spec.addresses, services)
        self._received, self._synced = messages, self.spec
        self._gateways = Gateways((), tuple((address, self.spec.service_port) for address in addresses), told)
        self._look_for_egress()
        self._apply_imports()
        self._heard()

    def _look_for_egress(self) -> None:
        informers = self._state.informers
        pods = egress_pods(self.spec, informers.endpoints.items, informers.pods.items, self._state.trust_domain)
        self._gateways = replace(self._gateways, egress=pods)

    def _apply_imports(self) -> None:
        if not self._gateways.egress:
            self._look_for_egress()
        messages = self._received or ()
        imports = imports_of(self.spec, messages, self._import_rules, self._gateways, self._locality)
        if imports != self._imports:
            self._imports = imports
            self._unwanted |= {exported for exported, local in imports.pairs if not local.hostname}
            self._unwanted -= {exported for exported, local in imports.pairs if local.hostname}
            self._changed()
        self._touched()

    def _ingress_identities(self) -> tuple[str, ...]:
        host = f"{self._met.ingress}.{self._state.namespace}.{LOCAL_SUFFIX}"
        for service in self._state.services():
            if service.hostname == host:
                self._complaint = ""
                by_pod = {endpoint.address: endpoint.identity for endpoint in service.endpoints if endpoint.identity}
                return tuple(by_pod.values())
        complaint = f"could not locate ingress gateway service {self._met.ingress}"
        if complaint != self._complaint:
            self._complaint = complaint
            log.error(
                "unexpected error retrieving ServiceAccount details for MeshFederation %s: %s",
                self.spec.name,
                complaint,
            )
        return ()
