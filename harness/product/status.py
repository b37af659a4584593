"""Typed, frozen views of the product's statuses.

The traps of these statuses live here and nowhere else (OSSM 2.1 to 2.6, read from the product and from captures):

* `watch` is this mesh's own outbound watch, `remotes` are the other mesh's watches on us; only both together are a
  federation. A search for `connected: true` anywhere would be satisfied by one direction.
* `lastConnected` is the last attempt, `lastDisconnectStatus` is never cleared, `lastEvent` of a watch is never set:
  `lastFullSync` is the only sign of life. A connected watch polls up to two minutes for its first full sync: one that
  is older than the attempt says that the peer lets the watch in but not the poll.
* A pod may stand in `active` and in `inactive` at once (a defect with several istiods): its newest sync counts.
* Each remote istiod's watch lands on one local pod: remotes are a union over pods.
* An import that no rule takes may be listed with an empty local service: it is not imported.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

Object = dict[str, Any]


def parse_time(text: str | None) -> datetime | None:
    """RFC 3339 as Kubernetes writes it; None for absent, null and empty."""
    if not text:
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


@dataclass(frozen=True)
class Condition:
    """One status condition; a condition that is not there has status `Unknown` and reason ``."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""

    def __str__(self) -> str:
        text = f"{self.type}={self.status}"
        if self.reason:
            text += f" {self.reason}"
        return f"{text}: {self.message}" if self.message else text


def condition(obj: Object, kind: str) -> Condition:
    """The condition of type `kind` of any object."""
    for entry in (obj.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind:
            return Condition(kind, entry.get("status", "Unknown"), entry.get("reason", ""), entry.get("message", ""))
    return Condition(kind)


def ended(pod: Object) -> bool:
    """Whether nothing of a pod runs any more, as of a Job that is done; its address may be another pod's by now."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def condition_true(obj: Object, condition: str) -> bool:
    """Whether a status condition is True."""
    found = (obj.get("status") or {}).get("conditions") or []
    return any(entry["type"] == condition and entry["status"] == "True" for entry in found)


def is_current(obj: Object) -> bool:
    """Whether the status speaks of the spec as it is now."""
    observed = (obj.get("status") or {}).get("observedGeneration")
    return observed is None or observed >= obj["metadata"].get("generation", 0)


@dataclass(frozen=True)
class ControlPlaneStatus:
    """A ServiceMeshControlPlane: what it is asked to be and how far it is.

    `version` is spec.version (`v2.1`), `chart_version` the installed one (`2.1.6`); `observed` says that the status
    is about the current generation.
    """

    name: str
    version: str
    chart_version: str
    ready: Condition
    observed: bool
    unready: tuple[str, ...]

    @classmethod
    def of(cls, obj: Object) -> ControlPlaneStatus:
        status = obj.get("status") or {}
        components = (status.get("readiness") or {}).get("components") or {}
        return cls(
            name=obj["metadata"]["name"],
            version=obj.get("spec", {}).get("version", ""),
            chart_version=status.get("chartVersion", ""),
            ready=condition(obj, "Ready"),
            observed=status.get("observedGeneration") == obj["metadata"].get("generation"),
            unready=(*(components.get("unready") or ()), *(components.get("pending") or ())),
        )

    @property
    def is_ready(self) -> bool:
        return self.ready.status == "True" and self.observed

    def __str__(self) -> str:
        waiting = f", waiting for {', '.join(self.unready)}" if self.unready else ""
        stale = "" if self.observed else ", status is of an older generation"
        return f"ServiceMeshControlPlane {self.name} {self.ready}{waiting}{stale}"


@dataclass(frozen=True)
class MemberRollStatus:
    """A ServiceMeshMemberRoll: who is asked for, who is configured, who is pending."""

    asked: tuple[str, ...]
    configured: tuple[str, ...]
    pending: tuple[str, ...]
    ready: Condition

    @classmethod
    def of(cls, obj: Object) -> MemberRollStatus:
        status = obj.get("status") or {}
        return cls(
            asked=tuple(obj.get("spec", {}).get("members") or ()),
            configured=tuple(status.get("configuredMembers") or ()),
            pending=tuple(status.get("pendingMembers") or ()),
            ready=condition(obj, "Ready"),
        )

    def __str__(self) -> str:
        return f"configured {list(self.configured)}, pending {list(self.pending)}, {self.ready}"


@dataclass(frozen=True)
class Connection:
    """A watch as one side records it. Times are UTC or None; `source` is the remote istiod's address (inbound only)."""

    connected: bool
    last_attempt: datetime | None
    last_full_sync: datetime | None
    last_disconnect: datetime | None
    last_disconnect_status: str
    source: str = ""

    @classmethod
    def of(cls, entry: Object) -> Connection:
        return cls(
            connected=entry.get("connected") is True,
            last_attempt=parse_time(entry.get("lastConnected")),
            last_full_sync=parse_time(entry.get("lastFullSync")),
            last_disconnect=parse_time(entry.get("lastDisconnect")),
            last_disconnect_status=entry.get("lastDisconnectStatus") or "",
            source=entry.get("source") or "",
        )

    @property
    def unread(self) -> bool:
        """Whether no full sync was completed since the last attempt: a watch that connects begins with one."""
        return bool(self.last_full_sync and self.last_attempt and self.last_full_sync < self.last_attempt)


@dataclass(frozen=True)
class IstiodView:
    """What one istiod pod says of a peer: its own watch on it, and the peer's watches that landed on this pod."""

    pod: str
    watch: Connection
    remotes: tuple[Connection, ...]

    @classmethod
    def of(cls, entry: Object) -> IstiodView:
        remotes = tuple(Connection.of(remote) for remote in entry.get("remotes") or ())
        return cls(entry.get("pod", ""), Connection.of(entry.get("watch") or {}), remotes)


@dataclass(frozen=True)
class PeerStatus:
    """A ServiceMeshPeer's discovery status, one view per istiod pod."""

    name: str
    views: tuple[IstiodView, ...]

    @classmethod
    def of(cls, obj: Object) -> PeerStatus:
        discovery = (obj.get("status") or {}).get("discoveryStatus") or {}
        newest: dict[str, IstiodView] = {}
        for group in ("inactive", "active"):
            for view in map(IstiodView.of, discovery.get(group) or ()):
                known = newest.get(view.pod)
                if known is None or _sync_of(view) >= _sync_of(known):
                    newest[view.pod] = view
        return cls(obj["metadata"]["name"], tuple(newest[pod] for pod in sorted(newest)))

    def view(self, pod: str) -> IstiodView | None:
        return next((view for view in self.views if view.pod == pod), None)

    def connected_sources(self) -> list[str]:
        """Addresses of the remote istiods whose watches are connected, over all pods."""
        return [remote.source for view in self.views for remote in view.remotes if remote.connected]

    def watch_problem(self, pod: str, now: datetime, bound: timedelta) -> str | None:
        """Why the own watch of istiod `pod` is not healthy, or None: connected, synced since then and within bound."""
        if not self.views:
            return "status is empty: istiod has not processed this ServiceMeshPeer (root certificate? namespace?)"
        view = self.view(pod)
        if view is None:
            return f"istiod {pod} is not in discoveryStatus (it lists {[v.pod for v in self.views]})"
        watch = view.watch
        if not watch.connected:
            last = watch.last_disconnect_status or "no answer recorded"
            inbound = " (the other mesh's watch on us is connected)" if any(r.connected for r in view.remotes) else ""
            return f"istiod {pod}: own watch is not connected, last answer: {last}{inbound}"
        if watch.last_full_sync is None:
            return f"istiod {pod}: own watch is connected, but no full sync was ever completed"
        if watch.unread:
            since, last = (f"{moment:%H:%M:%S}Z" for moment in (watch.last_attempt, watch.last_full_sync) if moment)
            return f"istiod {pod}: own watch is connected since {since}, but its last full sync is older, of {last}"
        age = now - watch.last_full_sync
        if age > bound:
            return f"istiod {pod}: last full sync is {_seconds(age)} old, at most {_seconds(bound)} is healthy: stale"
        return None

    def missing_remotes(self, addresses: Collection[str]) -> list[str]:
        """Which of the other mesh's istiod addresses have no connected watch on us.

        A connected watch without a source (legal: no X-Forwarded-For) stands for any one of them.
        """
        sources = self.connected_sources()
        missing = [address for address in addresses if address not in sources]
        anonymous = sources.count("")
        return missing[anonymous:]


def _sync_of(view: IstiodView) -> datetime:
    return view.watch.last_full_sync or datetime.min.replace(tzinfo=UTC)


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"


@dataclass(frozen=True)
class ServiceEntry:
    """One exported or imported service; `hostname` is the local name, '' where no rule takes an offered service."""

    exported_name: str
    hostname: str

    def __str__(self) -> str:
        return f"{self.exported_name} as {self.hostname or 'nothing'}"


def _entries(obj: Object, field: str) -> tuple[ServiceEntry, ...] | None:
    listed = (obj.get("status") or {}).get(field)
    if listed is None:
        return None
    return tuple(ServiceEntry(e["exportedName"], (e.get("localService") or {}).get("hostname") or "") for e in listed)


def exported_services(obj: Object) -> tuple[ServiceEntry, ...] | None:
    """What an ExportedServiceSet says is exported; None where istiod never wrote a status."""
    return _entries(obj, "exportedServices")


def imported_services(obj: Object) -> tuple[ServiceEntry, ...] | None:
    """What an ImportedServiceSet says is imported, without what no rule takes; None where there is no status."""
    listed = _entries(obj, "importedServices")
    return None if listed is None else tuple(entry for entry in listed if entry.hostname)
