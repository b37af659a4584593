"""What stands in the statuses of peers and sets: kept per peer in memory, rendered as captured.

Traps of the product that are kept: `lastConnected` is the last attempt, `lastDisconnectStatus` outlives a reconnect,
the own watch never gets a `lastEvent`, and a remote's `lastEvent` is written together with the next other change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lab.istiod.federation.rules import ServiceKey

Object = dict[str, Any]
Clock = Callable[[], datetime]
FORGET_AFTER = timedelta(minutes=5)
"""How long a remote that went away stays listed."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Connection:
    """One direction's bookkeeping; times are None until they happened."""

    connected: bool = False
    last_connected: datetime | None = None
    last_event: datetime | None = None
    last_full_sync: datetime | None = None
    last_disconnect: datetime | None = None
    last_disconnect_status: str = ""

    def render(self, lag: timedelta = timedelta()) -> Object:
        """Fields as in the status, times earlier by `lag`; what never happened is left out."""
        shown: Object = {"connected": self.connected}
        times = {
            "lastConnected": self.last_connected,
            "lastEvent": self.last_event,
            "lastFullSync": self.last_full_sync,
            "lastDisconnect": self.last_disconnect,
        }
        shown.update({key: (time - lag).strftime("%Y-%m-%dT%H:%M:%SZ") for key, time in times.items() if time})
        if self.last_disconnect_status:
            shown["lastDisconnectStatus"] = self.last_disconnect_status
        return shown


@dataclass
class _Remote(Connection):
    streams: int = 0


@dataclass
class PeerStatus:
    """What one istiod pod knows of its watch to a peer and of the peer's watches to it.

    `changed` is called after everything that has to be written soon; `lag` is taken off the times of the own watch.
    """

    pod: str
    changed: Callable[[], None]
    now: Clock = utc_now
    lag: Callable[[], timedelta] = timedelta
    watch: Connection = field(default_factory=Connection)
    _remotes: dict[str, _Remote] = field(default_factory=dict)

    def watch_initiated(self) -> None:
        self.watch.connected = False
        self.watch.last_connected = self.now()
        self.changed()

    def watching(self) -> None:
        self.watch.connected = True
        self.changed()

    def full_sync(self) -> None:
        self.watch.last_full_sync = self.now()
        self.changed()

    def watch_terminated(self, status: str) -> None:
        """`status` is the HTTP status line's text, or the dial error."""
        if self.watch.connected:
            self.watch.last_disconnect = self.now()
        self.watch.connected = False
        self.watch.last_disconnect_status = status
        self.changed()

    def remote_connected(self, source: str) -> None:
        """`source` is the address of the remote istiod; more than one stream from it counts as one connection."""
        remote = self._remotes.setdefault(source, _Remote())
        remote.streams += 1
        remote.connected = True
        remote.last_connected = self.now()
        self.changed()

    def remote_event(self, source: str) -> None:
        if source in self._remotes:
            self._remotes[source].last_event = self.now()

    def remote_full_sync(self, source: str) -> None:
        """Ignored when this pod does not hold the watch of that source: then it is not its remote."""
        remote = self._remotes.get(source)
        if remote and remote.connected:
            remote.last_full_sync = self.now()
            self.changed()

    def remote_disconnected(self, source: str) -> None:
        remote = self._remotes[source]
        remote.streams -= 1
        if not remote.streams:
            remote.connected = False
            remote.last_disconnect = self.now()
            self.changed()

    def render(self) -> Object:
        """This pod's entry of `active` or `inactive`; remotes long gone are forgotten."""
        oldest = self.now() - FORGET_AFTER
        for source, remote in list(self._remotes.items()):
            if not remote.connected and remote.last_disconnect and remote.last_disconnect < oldest:
                del self._remotes[source]
        entry: Object = {"pod": self.pod, "watch": self.watch.render(self.lag())}
        if self._remotes:
            entry["remotes"] = [
                {"source": source, **remote.render()} for source, remote in sorted(self._remotes.items())
            ]
        return entry


def discovery_status(
    current: Mapping[str, Any] | None, own: Object, alive: frozenset[str] | None, doubles: bool = False
) -> Object:
    """`discoveryStatus` with this pod's entry in its place; a list without entries is None.

    current: the status before; alive: names of the istiod pods, given by the leader only, which drops the others;
    doubles: a pod that is new in front of others is listed twice, until whoever writes next.
    """
    known = {
        entry["pod"]: entry
        for entries in ("inactive", "active")
        for entry in ((current or {}).get("discoveryStatus") or {}).get(entries) or ()
        if alive is None or entry["pod"] in alive
    }
    twice = doubles and own["pod"] not in known and any(own["pod"] < pod for pod in known)
    known[own["pod"]] = own
    entries = [known[pod] for pod in sorted([*known, own["pod"]] if twice else known)]
    return {
        "active": [entry for entry in entries if entry["watch"]["connected"]] or None,
        "inactive": [entry for entry in entries if not entry["watch"]["connected"]] or None,
    }


def exported_services(pairs: Iterable[tuple[ServiceKey, ServiceKey]]) -> list[Object]:
    """`exportedServices` from pairs (local, exported), sorted by the local namespace and name."""
    ordered = sorted(pairs, key=lambda pair: (pair[0].namespace, pair[0].name))
    return [_service(exported, local) for local, exported in ordered]


def imported_services(pairs: Iterable[tuple[ServiceKey, ServiceKey]]) -> list[Object]:
    """`importedServices` from pairs (exported, local), sorted by the exported name."""
    return [_service(exported, local) for exported, local in sorted(pairs, key=lambda pair: pair[0].hostname)]


def _service(exported: ServiceKey, local: ServiceKey) -> Object:
    names = {"hostname": local.hostname, "name": local.name, "namespace": local.namespace}
    return {"exportedName": exported.hostname, "localService": names}
