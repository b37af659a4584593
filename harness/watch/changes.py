"""What changed, and what it may explain: a pure function of the recorded states and marks.

A change explains an outage that begins while the change lasts. How long that is follows from what it does: a gateway's
connections are cut until its old pod is gone, while an address that istiod has told proxies may be stale until the
next resync.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.watch.timeline import Role, StateEvent, StreamFacts, Timeline, View

SETTLING = 5.0  # seconds after a change in which its effect may still begin; what a busy API server is late by too
_LONGEST_RESYNC = 300.0


class Cause(StrEnum):
    """Kinds of change, as budgets name them."""

    ENTRY_REPLACED = "entry-gateway-replaced"
    INGRESS_REPLACED = "ingress-replaced"
    EGRESS_REPLACED = "egress-replaced"
    ISTIOD_REPLACED = "istiod-replaced"
    APPLICATION_REPLACED = "application-replaced"
    SERVICE_EDITED = "service-edited"
    ROUTE_EDITED = "route-edited"
    ENTRY_MOVED = "entry-moved"
    WATCH_DOWN = "watch-down"
    SETS_CHANGED = "sets-changed"
    MEMBERS_CHANGED = "members-changed"
    ROOT_CHANGED = "root-changed"
    PEER_EDITED = "peer-edited"
    CONTROL_PLANE = "control-plane-changed"
    MARK = "mark"


_BY_ROLE = {
    Role.ENTRY: Cause.ENTRY_REPLACED,
    Role.INGRESS: Cause.INGRESS_REPLACED,
    Role.EGRESS: Cause.EGRESS_REPLACED,
    Role.ISTIOD: Cause.ISTIOD_REPLACED,
    Role.APPLICATION: Cause.APPLICATION_REPLACED,
}
# What only harms what crosses the federation, and then in the mesh that calls, or in the one that is called.
_OF_CALLER, _OF_CALLED = {Cause.EGRESS_REPLACED}, {Cause.INGRESS_REPLACED}
_CROSSING = {*_OF_CALLER, *_OF_CALLED, Cause.WATCH_DOWN, Cause.SETS_CHANGED, Cause.PEER_EDITED}
_OF_ENTRY = {Cause.ENTRY_REPLACED, Cause.ENTRY_MOVED, Cause.ROUTE_EDITED}
_ON_WATCHES = {
    Cause.ISTIOD_REPLACED,
    Cause.INGRESS_REPLACED,
    Cause.EGRESS_REPLACED,
    Cause.PEER_EDITED,
    Cause.ROOT_CHANGED,
    Cause.MARK,
}


@dataclass(frozen=True)
class Change:
    """One change: from when to when what it does may begin, and what it is in words; last_sign: its own end, where
    that is sooner."""

    start: float
    end: float
    cause: Cause
    mesh: str
    what: str
    last_sign: float | None = None

    @property
    def seen_last(self) -> float:
        """When the change itself was over, whatever it may still do."""
        return self.end if self.last_sign is None else self.last_sign

    def __str__(self) -> str:
        return f"{self.mesh} {self.what}".strip()

    def may_explain(self, moment: float, facts: StreamFacts | None) -> bool:
        """Whether an outage that begins at this moment may come of it; `facts` of its stream, None for a watch."""
        if not self.start - SETTLING <= moment <= self.end + SETTLING:
            return False
        if facts is None:
            return self.cause in _ON_WATCHES
        if facts.refused or (self.cause in _CROSSING and not facts.crosses):
            return False
        there = self.mesh == facts.mesh
        if self.cause in _OF_CALLER | _OF_ENTRY or not facts.crosses:
            return there or self.cause is Cause.MARK
        return not (self.cause in _OF_CALLED and there)


def changes(timeline: Timeline) -> list[Change]:
    """All changes in order of their begin; what was there when the watch began is none."""
    found = [*_replaced_pods(timeline), *_edits(timeline), *_watches_down(timeline)]
    found += [Change(mark.at, mark.at, Cause.MARK, "", mark.text) for mark in timeline.marks]
    return sorted(found, key=lambda change: change.start)


def _replaced_pods(timeline: Timeline) -> Iterator[Change]:
    """A pod that came or went, from its first sign to its end; an old egress gateway's address is stale for longer."""
    first_sign: dict[tuple[str, str], float] = {}
    pods = [event for event in timeline.states if event.kind == "Pod"]
    for event in pods:
        seen = event.now or event.was or {}
        role = timeline.role(event.mesh, seen.get("workload", ""))
        if role is None or event.first:
            continue
        key = event.mesh, event.name
        if _going(event):
            first_sign.setdefault(key, event.at)
        if event.now is None:
            start = first_sign.pop(key, event.at)
            yield _pod_change(timeline, event, role, start, event.at, "gone")
        elif event.was is None or _restarted(event):
            word = "came" if event.was is None else "restarted"
            yield _pod_change(timeline, event, role, event.at, _ready_at(pods, event), word)
    for (mesh, name), start in first_sign.items():  # still terminating at the end of the record
        event = next(one for one in pods if (one.mesh, one.name) == (mesh, name))
        role = timeline.role(mesh, (event.now or {}).get("workload", ""))
        if role:
            yield _pod_change(timeline, event, role, start, timeline.end, "terminating")


def _going(event: StateEvent) -> bool:
    was, now = event.was or {}, event.now or {}
    ends = now.get("terminating") and not was.get("terminating")
    return bool(ends or (was.get("ready") and not now.get("ready")))


def _restarted(event: StateEvent) -> bool:
    return bool(event.was and event.now and event.now.get("restarts", 0) > event.was.get("restarts", 0))


def _ready_at(pods: list[StateEvent], came: StateEvent) -> float:
    later = (event for event in pods if event.key == came.key and event.at >= came.at)
    return next((event.at for event in later if event.now and event.now.get("ready")), came.at)


def _pod_change(timeline: Timeline, event: StateEvent, role: Role, start: float, end: float, word: str) -> Change:
    last_sign = end
    if role is Role.EGRESS and word != "came":
        end = max(end, start + _LONGEST_RESYNC)
    seen = event.now or event.was or {}
    what = f"{seen['workload']}: {event.name} {word}"
    return Change(start, min(end, timeline.end), _BY_ROLE[role], event.mesh, what, last_sign)


_EDITS = {
    "Service": (Cause.SERVICE_EDITED, ("ports", "addresses", "type")),
    "Route": (Cause.ROUTE_EDITED, ("hosts",)),
    "Entry": (Cause.ENTRY_MOVED, ("url",)),
    "ExportedServiceSet": (Cause.SETS_CHANGED, ("services",)),
    "ImportedServiceSet": (Cause.SETS_CHANGED, ("services",)),
    "ServiceMeshMemberRoll": (Cause.MEMBERS_CHANGED, ("members",)),
    "ConfigMap": (Cause.ROOT_CHANGED, ("roots",)),
    "ServiceMeshPeer": (Cause.PEER_EDITED, ("remote", "identity")),
    "ServiceMeshControlPlane": (Cause.CONTROL_PLANE, ("asked", "installed")),
}


def _edits(timeline: Timeline) -> Iterator[Change]:
    for event in timeline.states:
        cause, fields = _EDITS.get(event.kind, (None, ()))
        if cause is None or event.first:
            continue
        words = differences(event.was, event.now, fields)
        if words:
            what = f"{event.kind} {event.name}: {words}"
            yield Change(event.at, event.at, cause, event.mesh, what)


def differences(was: View | None, now: View | None, fields: tuple[str, ...]) -> str:
    """Which of the fields differ, in words; '' where none does."""
    if was is None or now is None:
        return "came" if now is not None else "is gone"
    parts = []
    for name in fields:
        a, b = was.get(name), now.get(name)
        if a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
            parts.append(f"{name} " + ", ".join(f"{key} {_word(a.get(key))} -> {_word(b.get(key))}" for key in keys))
        else:
            parts.append(f"{name} {_word(a)} -> {_word(b)}")
    return ", ".join(parts)


def _word(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)


def connected(peer: View, leaving: Collection[str] = ()) -> bool:
    """Whether a mesh's own watch on its peer is up, by any of its istiods that is not about to go.

    Statuses list pods that are gone for a minute or so, and as connected.
    """
    return any(up for pod, up in (peer.get("watches") or {}).items() if pod not in leaving)


@dataclass(frozen=True)
class WatchDown:
    """A time in which no istiod of a mesh was connected to its peer; `open_end`: it still was not at the end."""

    mesh: str
    start: float
    end: float
    open_end: bool = False


def watches_down(timeline: Timeline) -> list[WatchDown]:
    """When the own watch of each mesh was down."""
    found: list[WatchDown] = []
    since: dict[str, float] = {}
    peers: dict[str, View | None] = {}
    leaving: set[str] = set()
    for event in timeline.states:
        if event.kind == "ServiceMeshPeer":
            peers[event.mesh] = event.now
        elif event.kind == "Pod" and (event.now is None or event.now.get("terminating")):
            leaving.add(event.name)
        if event.kind not in ("ServiceMeshPeer", "Pod") or event.mesh not in peers:
            continue
        up = connected(peers[event.mesh] or {}, leaving)
        if up and event.mesh in since:
            found.append(WatchDown(event.mesh, since.pop(event.mesh), event.at))
        elif not up:
            since.setdefault(event.mesh, event.at)
    found += [WatchDown(mesh, start, timeline.end, True) for mesh, start in since.items()]
    return sorted(found, key=lambda down: down.start)


def _watches_down(timeline: Timeline) -> Iterator[Change]:
    for down in watches_down(timeline):
        yield Change(down.start, down.end, Cause.WATCH_DOWN, down.mesh, "watch on its peer down")
