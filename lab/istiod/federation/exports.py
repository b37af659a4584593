"""What a mesh exports to one peer, and the streams that tell the peer of changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.client import Key, Object
from lab.istiod.federation.logs import ComponentLog
from lab.istiod.federation.messages import ExportedService, Gateways, encode_event, list_checksum
from lab.istiod.federation.rules import Candidate, ExportRules, ServiceKey
from lab.istiod.model import Service

log = ComponentLog("federation-server")
_EXPORT_TO = "networking.istio.io/exportTo"


@dataclass(frozen=True)
class Export:
    """One exported service: its local names, its exported names and what the peer is told."""

    candidate: Candidate
    exported: ServiceKey
    message: ExportedService
    local: ServiceKey


def exports_of(
    rules: ExportRules,
    services: Iterable[Service],
    objects: Mapping[Key, Object],
    namespace: str,
    identities: tuple[str, ...],
) -> list[Export]:
    """The services of the mesh that the rules export.

    objects: the Kubernetes Services, for labels and `exportTo`; namespace: the control plane's;
    identities: the SPIFFE ids of the ingress gateway's pods, one per pod.
    """
    found = []
    for service in services:
        meta = (objects.get((service.namespace, service.name)) or {}).get("metadata") or {}
        if not _visible((meta.get("annotations") or {}).get(_EXPORT_TO), service.namespace, namespace):
            continue
        candidate = Candidate(service.name, service.namespace, meta.get("labels") or {})
        exported = rules.name_for(candidate)
        if exported is None:
            continue
        local = ServiceKey(service.hostname, service.name, service.namespace)
        message = ExportedService(exported.name, exported.namespace, exported.hostname, service.ports, identities)
        found.append(Export(candidate, exported, message, local))
    return found


def _visible(export_to: str | None, home: str, namespace: str) -> bool:
    if not export_to:
        return True
    allowed = {part.strip() for part in export_to.split(",")}
    return "*" in allowed or namespace in allowed or ("." in allowed and home == namespace)


class Exporter:
    """The current exports to one peer, and the peer's open watches."""

    def __init__(self) -> None:
        self.exports: tuple[Export, ...] = ()
        self.gateways: Gateways = ()
        self._streams: set[asyncio.Queue[bytes | None]] = set()

    @property
    def messages(self) -> list[ExportedService]:
        return [export.message for export in self.exports]

    @property
    def pairs(self) -> list[tuple[ServiceKey, ServiceKey]]:
        """(local, exported) of every export."""
        return [(export.local, export.exported) for export in self.exports]

    def update(self, exports: Iterable[Export]) -> bool:
        """Takes over the exports and tells the watches, one event per service; False when nothing changed."""
        new = tuple(exports)
        if new == self.exports:
            return False
        before = {message.hostname: message for message in self.messages}
        self.exports = new
        after = {message.hostname: message for message in self.messages}
        known = dict(before)
        for hostname in sorted(before.keys() | after.keys()):
            old, message = before.get(hostname), after.get(hostname)
            if message is None and old is not None:
                del known[hostname]
                self._send(encode_event("delete", old, list_checksum(known.values(), self.gateways)))
            elif message is not None and message != old:
                known[hostname] = message
                self._send(
                    encode_event("update" if old else "add", message, list_checksum(known.values(), self.gateways))
                )
        return True

    def announce(self, gateways: Gateways) -> None:
        """Takes over the network gateways the peer is told, and tells the watches where they changed."""
        if gateways != self.gateways:
            self.gateways = gateways
            self._send(encode_event("update", None, list_checksum(self.messages, gateways)))

    def subscribe(self) -> asyncio.Queue[bytes | None]:
        """A queue of encoded events; None ends the stream."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._streams.discard(queue)

    def close(self) -> None:
        """Ends all streams in good order."""
        for queue in self._streams:
            queue.put_nowait(None)

    def _send(self, event: bytes) -> None:
        for queue in self._streams:
            queue.put_nowait(event)
