"""What a recorded change did: outages explained and held against budgets, lasting losses, what is not as it was.

A pure function of a timeline. What could not be watched is said as such: it makes no outage, and no clean bill either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.product.versions import behaviour
from harness.watch.before_after import Comparison, compare
from harness.watch.budgets import DEFAULTS, WATCHES, Budget, allowed
from harness.watch.changes import Cause, Change, changes, differences, watches_down
from harness.watch.comparison import Outcome, nothing_seen
from harness.watch.segments import Degradation, Sample, Segment, cut
from harness.watch.timeline import FailedLine, Gap, Role, StateEvent, StreamFacts, Timeline, View
from harness.watch.versions_reached import MeshVersions, versions_reached

FOREIGN_GATEWAY = "foreign-gateway-announced"
UNSEEN = 1.0  # seconds that may be missing without a word about it: as long as two outages may be apart and be one
_AROUND = 1.0  # seconds around an outage whose log lines are about it
_LEVEL = 0.05
# What comes with a change rather than harms by itself: named where nothing else is.
_SIGNS = {Cause.MARK, Cause.WATCH_DOWN}


class State(StrEnum):
    SAFE = "safe"
    NOT_SAFE = "not safe"
    INCONCLUSIVE = "inconclusive"


class Judgement(StrEnum):
    WITHIN = "within budget"
    OVER = "over budget"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Outage:
    """One outage of a stream, or of a mesh's watch (`mesh`). lasted: seconds, to the first good probe; hop, flag: where
    most log lines say that it failed, '' where none does; allowed: seconds by the budget; open_end: it had not ended.
    """

    stream: str
    start: float
    end: float
    lasted: float
    lost: int
    sent: int
    saw: tuple[str, ...]
    explained_by: Change | None
    allowed: float
    judgement: Judgement
    hop: str = ""
    flag: str = ""
    mesh: str = ""
    open_end: bool = False


@dataclass(frozen=True)
class LastingLoss:
    """A share of probes that failed for long. cause: an id, '' where none is known; evidence: what it rests on."""

    stream: str
    found: Degradation
    cause: str
    evidence: str
    explained_by: Change | None
    hop: str = ""
    flag: str = ""

    @property
    def real(self) -> bool:
        return self.found.p_value <= _LEVEL


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was before: since when, on which mesh, what. harms: whoever relied on it is cut."""

    at: float
    mesh: str
    what: str
    harms: bool


@dataclass(frozen=True)
class StreamCount:
    """What became of a stream's probes; `bound`: where none was lost, the share that could fail unseen, at 95 %."""

    sent: int
    lost: int
    bound: float | None


@dataclass(frozen=True)
class Verdict:
    start: float
    end: float
    outages: Sequence[Outage]
    losses: Sequence[LastingLoss]
    differences: Sequence[Difference]
    gaps: Sequence[Gap]
    counts: Mapping[str, StreamCount]
    marks: Sequence[tuple[float, str]] = ()
    unread: int = 0
    comparisons: Sequence[Comparison] = ()
    versions: Sequence[MeshVersions] = ()

    @property
    def worse(self) -> list[Comparison]:
        """What is worse after the last change than before the first."""
        return [one for one in self.comparisons if one.outcome is Outcome.WORSE]

    @property
    def unreached(self) -> list[MeshVersions]:
        """Meshes whose control plane is not, or not Ready as, what it is asked to be."""
        return [one for one in self.versions if one.asked and not one.reached]

    @property
    def beyond(self) -> list[Outage]:
        """The outages that are more than their explanation allows."""
        return [outage for outage in self.outages if outage.judgement is not Judgement.WITHIN]

    @property
    def state(self) -> State:
        harmed = any(difference.harms for difference in self.differences)
        if self.beyond or any(loss.real for loss in self.losses) or harmed or self.worse or self.unreached:
            return State.NOT_SAFE
        blind = any(gap.lasted > UNSEEN for gap in self.gaps)
        unproven = not self.counts or not all(count.sent for count in self.counts.values()) or bool(self.losses)
        return State.INCONCLUSIVE if blind or unproven else State.SAFE


def judge(timeline: Timeline, budgets: Sequence[Budget] = DEFAULTS) -> Verdict:
    """The verdict on everything recorded, by the budgets."""
    found = _Judge(timeline, budgets)
    outages, losses, counts = found.streams()
    outages += found.watches()
    outages.sort(key=lambda outage: outage.start)
    return Verdict(
        timeline.start,
        timeline.end,
        outages,
        losses,
        list(found.differences()),
        timeline.gaps,
        counts,
        [(mark.at, mark.text) for mark in timeline.marks],
        timeline.unread,
        found.comparisons(outages),
        versions_reached(timeline),
    )


class _Judge:
    def __init__(self, timeline: Timeline, budgets: Sequence[Budget]) -> None:
        self._timeline, self._budgets = timeline, budgets
        self._changes = changes(timeline)
        self._blind = [gap for gap in timeline.gaps if not gap.mesh]
        self._proven = {
            name: [one for one in timeline.streams.get(name, ()) if not self._asleep(one)] for name in timeline.facts
        }

    def streams(self) -> tuple[list[Outage], list[LastingLoss], dict[str, StreamCount]]:
        outages: list[Outage] = []
        losses: list[LastingLoss] = []
        counts: dict[str, StreamCount] = {}
        for name, facts in self._timeline.facts.items():
            samples = self._proven[name]
            segments, degradations = cut(samples)
            lost = sum(not one.good for one in samples)
            bound = None if lost or not samples else nothing_seen(len(samples))
            counts[name] = StreamCount(len(samples), lost, bound)
            last = samples[-1].at if samples else 0.0
            outages += [self._outage(name, facts, segment, segment.end >= last) for segment in segments]
            losses += [self._loss(name, facts, found) for found in degradations]
        return outages, losses, counts

    def comparisons(self, outages: Sequence[Outage]) -> list[Comparison]:
        """Before the first change against after the last, without what a change was allowed to cut."""
        spans = {
            name: [(one.start, one.end) for one in outages if one.stream == name and one.judgement is Judgement.WITHIN]
            for name in self._proven
        }
        samples = {
            name: [one for one in found if not any(start <= one.at <= end for start, end in spans[name])]
            for name, found in self._proven.items()
        }
        return compare(self._timeline, self._changes, samples)

    def _asleep(self, sample: Sample) -> bool:
        """Whether a probe failed while the watch itself did not run, which proves nothing."""
        if sample.good:
            return False
        return any(sample.at <= gap.end and sample.until >= gap.start for gap in self._blind)

    def _outage(self, stream: str, facts: StreamFacts, found: Segment, open_end: bool) -> Outage:
        lasted = found.lasted + 1 / facts.rate
        change, budget = self._explanation(stream, facts, found.start, lasted)
        hop, flag = self._hop(found.start, found.end) if not facts.refused else ("", "")
        return Outage(
            stream,
            found.start,
            found.end,
            lasted,
            found.lost,
            found.sent,
            found.saw,
            change,
            budget,
            _judgement(change, lasted, budget),
            hop,
            flag,
            "",
            open_end,
        )

    def watches(self) -> list[Outage]:
        """Times in which a mesh's watch on its peer was down, as outages."""
        found = []
        for down in watches_down(self._timeline):
            lasted = down.end - down.start
            change, budget = self._explanation(WATCHES, None, down.start, lasted)
            judgement = _judgement(change, lasted, budget)
            outage = Outage(WATCHES, down.start, down.end, lasted, 0, 0, (), change, budget, judgement, mesh=down.mesh)
            found.append(outage if not down.open_end else _open(outage))
        return found

    def _explanation(
        self, stream: str, facts: StreamFacts | None, start: float, lasted: float
    ) -> tuple[Change | None, float]:
        """The change that allows for the outage, else the last one before it that may explain it; and its budget."""
        found = [change for change in self._changes if change.may_explain(start, facts)]
        if not found:
            return None, 0.0
        rated = [(self._allowed(change, stream), change) for change in found]
        # What allows for it, then the nearest before it: an effect follows its cause.
        budget, change = max(
            rated, key=lambda one: (one[0] >= lasted, one[1].cause not in _SIGNS, -abs(start - one[1].start))
        )
        return change, budget

    def _allowed(self, change: Change, stream: str) -> float:
        return allowed(self._budgets, change.cause, stream, change.what, self._resync(change))

    def _resync(self, change: Change) -> float:
        """Seconds until the importing mesh has told its proxies a new address; 0 where another pod is there."""
        known = self._timeline.at(change.start)
        version = ""
        for (mesh, kind, _, name), now in known.items():
            if mesh == change.mesh and kind == "ServiceMeshControlPlane":
                version = now.get("installed") or now.get("asked") or ""
            gateway = kind == "Deployment" and mesh == change.mesh and change.what.startswith(f"{name}:")
            if gateway and (now.get("asked") or 0) > 1:
                return 0.0
        return behaviour(version).resync

    def _hop(self, start: float, end: float) -> tuple[str, str]:
        """Where most failures are logged, and by which flag; a status is only passed on from hop to hop."""
        lines = [line for line in self._timeline.lines if start - _AROUND <= line.at <= end + _AROUND]
        told = Counter((f"{line.mesh} {line.workload}", line.flags) for line in lines)
        return max(told, key=lambda one: (not one[1].isdigit(), told[one], one)) if told else ("", "")

    def _loss(self, stream: str, facts: StreamFacts, found: Degradation) -> LastingLoss:
        begins = [change for change in self._changes if change.may_explain(found.earliest, facts)]
        change = max(begins, key=lambda one: one.start, default=None)
        foreign = self._foreign_gateway(found) if facts.crosses else ""
        hop, flag = self._hop(found.start, found.end)
        return LastingLoss(stream, found, FOREIGN_GATEWAY if foreign else "", foreign, change, hop, flag)

    def _foreign_gateway(self, found: Degradation) -> str:
        """What says that proxies were sent to a gateway that does not serve them; '' where nothing does.

        Either discovery names a gateway that is none of the mesh that answers, or an egress gateway dials the ingress
        of its own mesh, where nothing is exported to itself.
        """
        parts = [
            f"{event.mesh} announces {', '.join(foreign)} besides its own federation ingress"
            for event in self._timeline.states
            if event.kind == "Discovery" and event.at <= found.end and (foreign := self._foreign_in(event))
        ][-1:]
        own = {mesh: self._ingress_hosts(mesh, found.end) for mesh in self._timeline.roles}
        dialled = Counter(
            (line.mesh, line.workload, line.upstream)
            for line in self._timeline.lines
            if found.earliest - _AROUND <= line.at <= found.end + _AROUND and _dials(line, own.get(line.mesh, set()))
        )
        for (mesh, workload, upstream), count in dialled.most_common(1):
            parts.append(f"{mesh} {workload} dialled {upstream}, {mesh}'s own ingress, {count} times in vain")
        return "; ".join(parts)

    def _foreign_in(self, event: StateEvent) -> list[str]:
        """Gateways in a discovery answer that are not of the mesh that gave it."""
        named = list((event.now or {}).get("gateways") or ())
        own = self._ingress_hosts(event.mesh, event.at)
        return [gateway for gateway in named if own and _host(gateway) not in own]

    def _ingress_hosts(self, mesh: str, moment: float) -> set[str]:
        hosts: set[str] = set()
        for (where, kind, _, name), now in self._timeline.at(moment).items():
            if where == mesh and kind == "Service" and self._timeline.role(mesh, name) is Role.INGRESS:
                hosts |= set(now.get("addresses") or ())
        return hosts

    def differences(self) -> Iterator[Difference]:
        """What is not at the end as it was found at the begin, and since when."""
        first: dict[tuple[str, str, str, str], View | None] = {}
        last: dict[tuple[str, str, str, str], StateEvent] = {}
        for event in self._timeline.states:
            if event.kind in _COMPARED:
                first.setdefault(event.key, event.now if event.first else None)
                last[event.key] = event
        for key, event in last.items():
            words = differences(first[key], event.now, _COMPARED[event.kind])
            if words and not (first[key] is None and event.now is None):
                what = f"{event.kind} {event.name}: {words}"
                yield Difference(self._since(key), event.mesh, what, self._harms(event, first[key]))

    def _since(self, key: tuple[str, str, str, str]) -> float:
        fields = _COMPARED[key[1]]
        changed = [
            event.at
            for event in self._timeline.states
            if event.key == key and not event.first and differences(event.was, event.now, fields)
        ]
        return changed[0] if changed else self._timeline.start

    def _harms(self, event: StateEvent, was: View | None) -> bool:
        """Whether somebody who relied on how it was is cut now: something is gone, or is to be found elsewhere."""
        if was is None:
            return False
        if event.now is None:
            return True
        if event.kind == "Service" and self._timeline.role(event.mesh, event.name) not in (Role.ENTRY, Role.INGRESS):
            return False
        if event.kind == "ServiceMeshPeer":
            return False  # an edit; what it does to the watch is an outage of that
        return any(_lost(was.get(name), event.now.get(name)) for name in _COMPARED[event.kind])


_COMPARED: dict[str, tuple[str, ...]] = {
    "Service": ("ports", "addresses"),
    "Route": ("hosts",),
    "ExportedServiceSet": ("services",),
    "ImportedServiceSet": ("services",),
    "ServiceMeshMemberRoll": ("members",),
    "ConfigMap": ("roots",),
    "ServiceMeshPeer": ("remote", "identity"),
}


def _lost(was: object, now: object) -> bool:
    if isinstance(was, Mapping):
        there = now if isinstance(now, Mapping) else {}
        return any(value is not None and there.get(key) != value for key, value in was.items())
    if isinstance(was, list | tuple):
        return not set(map(str, was)) <= set(map(str, now if isinstance(now, list | tuple) else ()))
    return bool(was) and was != now


def _dials(line: FailedLine, hosts: set[str]) -> bool:
    return _host(line.upstream) in hosts


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _judgement(change: Change | None, lasted: float, budget: float) -> Judgement:
    if change is None:
        return Judgement.UNEXPLAINED
    return Judgement.WITHIN if lasted <= budget else Judgement.OVER


def _open(outage: Outage) -> Outage:
    return replace(outage, open_end=True)
