"""Accounts for every probe: which mesh's ratings served it, by which path, or why nobody can tell.

The rule, for the ratings call that a probe caused:
- The calling sidecar's line says which backend was picked and what came back. The first call decides; what a later
  retry of productpage got does not make up for it.
- A call that was not answered with 2xx has failed, whoever was picked.
- A call answered with 2xx was served by the picked mesh if a ratings sidecar of that mesh logged it too. Only one of
  the two lines, or two that contradict each other, is not enough for a pick: such a probe is unattributed, except
  that a ratings line alone counts, since it is written by who served.
- Without any line, a page that shows no stars is a failure (of the page), one with stars is unattributed.
Lines may come late (Envoy's buffer is written every 10 s), so a probe is settled at once only when its lines agree,
otherwise when `GRACE` seconds have passed since its answer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from harness.product.envoy import AccessLine, ClusterName, parse_access_line
from harness.product.versions import LOG_FLUSH
from harness.split.probe import Page, Probe, user_agent

# Seconds after its answer when a probe is settled with the lines there are: one flush and its delivery.
GRACE = LOG_FLUSH + 5.0


class Role(StrEnum):
    """What a proxy is on the path of a probe."""

    CALLER = "caller"
    RATINGS = "ratings"
    GATEWAY = "gateway"


@dataclass(frozen=True)
class Source:
    """One proxy whose log is read: `workload` such as `ratings-v1`, `address` of its pod."""

    mesh: str
    role: Role
    workload: str
    pod: str
    address: str = ""

    def __str__(self) -> str:
        return f"{self.mesh} {self.pod}"


@dataclass(frozen=True)
class LoggedLine:
    """One access-log line, where it was written, and its text."""

    source: Source
    line: AccessLine
    text: str


class Fate(StrEnum):
    SERVED = "served"
    FAILED = "failed"
    UNATTRIBUTED = "unattributed"


@dataclass(frozen=True)
class Settlement:
    """What became of one probe. `mesh` served it (only for SERVED), `why` explains the others in one line,
    `connection` tells apart the connections on which picks were made."""

    fate: Fate
    mesh: str = ""
    why: str = ""
    connection: str = ""


@dataclass(frozen=True)
class Record:
    """All that is known of one probe: `path` names the gateways it went through, `lines` are in order of time."""

    probe: Probe
    settlement: Settlement
    path: tuple[str, ...]
    lines: tuple[LoggedLine, ...]


@dataclass(frozen=True)
class Account:
    """sent = sum(served) + failed + unattributed; `reasons` counts the explanations of the last two.

    `foreign` counts, per proxy and since the first line of ours, calls of ratings that are not of this run,
    `connections` the TCP lines of gateways."""

    sent: int
    served: Mapping[str, int]
    failed: int
    unattributed: int
    reasons: Mapping[str, int]
    foreign: Mapping[str, int]
    connections: Mapping[str, int]

    @property
    def balanced(self) -> bool:
        return self.sent == sum(self.served.values()) + self.failed + self.unattributed

    def __str__(self) -> str:
        served = " + ".join(f"{count} served by {mesh}" for mesh, count in self.served.items())
        text = f"{self.sent} sent = {served} + {self.failed} failed + {self.unattributed} unattributed"
        if self.reasons:
            text += "; " + "; ".join(f"{count} x {why}" for why, count in Counter(self.reasons).most_common(5))
        if self.foreign:
            text += "; beside them " + ", ".join(
                f"{count} foreign lines of {who}" for who, count in self.foreign.items()
            )
        return text


@dataclass
class _Entry:
    probe: Probe | None = None
    calls: list[LoggedLine] = field(default_factory=list)
    served: list[LoggedLine] = field(default_factory=list)
    settlement: Settlement | None = None


class Ledger:
    """The books of one run of probes. Thread-safe.

    run: as in the probes' User-Agent; backends: host in the calling sidecar's cluster name -> mesh that is behind it;
    clock: seconds since the epoch.
    """

    def __init__(
        self, run: str, backends: Mapping[str, str], grace: float = GRACE, clock: Callable[[], float] = time.time
    ) -> None:
        self._prefix = user_agent(run, 0)[:-1]
        self._backends, self._grace, self._clock = dict(backends), grace, clock
        self._changed = threading.Condition()
        self._entries: defaultdict[int, _Entry] = defaultdict(_Entry)
        self._prefix_length = 0
        self._gateways: dict[str, Source] = {}
        self._connections: dict[str, list[LoggedLine]] = defaultdict(list)
        self._connection_count: Counter[Source] = Counter()
        self._foreign: dict[Source, list[datetime]] = defaultdict(list)
        self._first_own: dict[Source, datetime] = {}
        self._trouble: list[str] = []

    # What comes in

    def add_source(self, source: Source) -> None:
        """Makes a proxy known, so that gateways can be named by their addresses."""
        with self._changed:
            if source.role is Role.GATEWAY and source.address:
                self._gateways[source.address] = source

    def add_probe(self, probe: Probe) -> None:
        """Books a probe that was answered, or failed to be."""
        with self._changed:
            entry = self._entries[probe.index]
            entry.probe = probe
            self._settle(entry)
            self._changed.notify_all()

    def add_line(self, source: Source, text: str) -> None:
        """Books one line of a proxy's log, in any order, before or after its probe."""
        line = parse_access_line(text)
        if line is None:
            return
        logged = LoggedLine(source, line, text)
        with self._changed:
            if not line.is_http:
                if source.role is Role.GATEWAY:
                    self._connection_count[source] += 1
                    self._connections[line.upstream_local_address].append(logged)
                    self._connections[line.downstream_remote_address].append(logged)
                return
            if source.role is Role.GATEWAY or (
                source.role is Role.CALLER and line.upstream_cluster.startswith("inbound")
            ):
                return
            index = self._index_of(line)
            if index is None:
                self._foreign[source].append(line.start_time)
                return
            self._first_own[source] = min(line.start_time, self._first_own.get(source, line.start_time))
            entry = self._entries[index]
            (entry.served if source.role is Role.RATINGS else entry.calls).append(logged)
            self._settle(entry)
            self._changed.notify_all()

    def add_trouble(self, what: str) -> None:
        """Books that lines may be missing, such as an interrupted log; it is told with what is unattributed."""
        with self._changed:
            self._trouble.append(what)

    def _index_of(self, line: AccessLine) -> int | None:
        tail = line.user_agent.removeprefix(self._prefix)
        return int(tail) if tail != line.user_agent and tail.isdigit() else None

    # What comes out

    def settled(self) -> int:
        """Number of probes, from the first sent, that are all settled; settles those whose grace has passed."""
        with self._changed:
            return self._advance()

    @property
    def silent(self) -> bool:
        """Whether no request left a line in any log until now, of this run or of others."""
        with self._changed:
            return not (self._first_own or self._foreign)

    def wait(self, beyond: int, timeout: float) -> int:
        """Like `settled`, but waits up to `timeout` seconds for more than `beyond`."""
        with self._changed:
            self._changed.wait_for(lambda: self._advance() > beyond, timeout)
            return self._prefix_length

    def settlements(self, start: int, end: int) -> list[Settlement]:
        """Of probes start to end (exclusive) in send order; all of them must be settled."""
        with self._changed:
            found = [self._entries[index].settlement for index in range(start, end)]
        if None in found:
            raise LookupError(f"probes {start} to {end} are not all settled")
        return [settlement for settlement in found if settlement]

    def close(self, sent: int, timeout: float | None = None) -> None:
        """Waits until probes 0 to `sent` are settled, at most until their grace (or `timeout`) has passed."""
        end = time.monotonic() + (self._grace if timeout is None else timeout)
        with self._changed:
            while self._advance() < sent and time.monotonic() < end:
                self._changed.wait(min(0.5, max(0.0, end - time.monotonic())))
            for index in range(sent):
                self._settle(self._entries[index], closing=True)
            self._advance()

    def account(self, sent: int | None = None) -> Account:
        """The balance of the probes booked, against the number that was `sent`; unsettled ones are unattributed."""
        with self._changed:
            entries = [entry for entry in self._entries.values() if entry.probe]
            settled = [entry.settlement or Settlement(Fate.UNATTRIBUTED, why="not settled yet") for entry in entries]
            served = Counter(s.mesh for s in settled if s.fate is Fate.SERVED)
            return Account(
                len(entries) if sent is None else sent,
                {mesh: served[mesh] for mesh in dict.fromkeys(self._backends.values())},
                sum(s.fate is Fate.FAILED for s in settled),
                sum(s.fate is Fate.UNATTRIBUTED for s in settled),
                dict(Counter(s.why for s in settled if s.fate is not Fate.SERVED).most_common()),
                {str(source): count for source in self._foreign if (count := self._foreign_count(source))},
                {str(source): count for source, count in self._connection_count.items()},
            )

    def records(self) -> list[Record]:
        """Every probe with its lines, in send order."""
        with self._changed:
            return [self._record(entry) for _, entry in sorted(self._entries.items()) if entry.probe]

    def _foreign_count(self, source: Source) -> int:
        first = self._first_own.get(source) or min(self._first_own.values(), default=None)
        return sum(1 for start in self._foreign[source] if first is None or start >= first)

    def _record(self, entry: _Entry) -> Record:
        assert entry.probe
        lines = [*entry.calls, *entry.served]
        hops = [call.line.upstream_host for call in entry.calls]
        hops += [logged.line.downstream_remote_address for logged in entry.served]
        gateways = [self._gateways.get(hop.rpartition(":")[0]) for hop in hops]
        ends = [call.line.upstream_local_address for call in entry.calls]
        ends += [logged.line.downstream_remote_address for logged in entry.served]
        lines += [logged for end in ends if end for logged in self._connections.get(end, [])]
        path = tuple(dict.fromkeys(f"{gateway.mesh} {gateway.workload}" for gateway in gateways if gateway))
        settlement = entry.settlement or Settlement(Fate.UNATTRIBUTED, why="not settled yet")
        return Record(entry.probe, settlement, path, tuple(sorted(lines, key=lambda logged: logged.line.start_time)))

    # The rule

    def _advance(self) -> int:
        now = self._clock()
        while True:
            entry = self._entries.get(self._prefix_length)
            if entry is None or entry.probe is None:
                return self._prefix_length
            if entry.settlement is None and now - entry.probe.answered_at > self._grace:
                self._settle(entry, closing=True)
            if entry.settlement is None:
                return self._prefix_length
            self._prefix_length += 1

    def _settle(self, entry: _Entry, closing: bool = False) -> None:
        if entry.settlement is None and entry.probe is not None:
            entry.settlement = self._judge(entry.probe, entry, closing)

    def _judge(self, probe: Probe, entry: _Entry, closing: bool) -> Settlement | None:
        """None as long as a late line may change it."""
        if not probe.connected:
            return Settlement(Fate.FAILED, why=f"productpage was not reached: {probe.error}")
        served_by = {logged.source.mesh for logged in entry.served if logged.line.succeeded}
        if not entry.calls:
            return self._without_call(probe, served_by) if closing else None
        first = min(entry.calls, key=lambda call: call.line.start_time)
        connection = first.line.downstream_remote_address
        picked = self._picked(first.line)
        if not first.line.succeeded:
            where = f" to {picked}" if picked else ""
            return Settlement(Fate.FAILED, why=f"ratings call{where}: {first.line.outcome}", connection=connection)
        if picked is None:
            why = (
                f"ratings call went to {first.line.upstream_cluster or 'no cluster'}, which is no backend of the split"
            )
            return Settlement(Fate.UNATTRIBUTED, why=why)
        called = {self._picked(call.line) for call in entry.calls}
        if served_by - called and closing:
            why = f"the calling sidecar picked {picked}, but a ratings sidecar of {_names(served_by)} served it"
            return Settlement(Fate.UNATTRIBUTED, why=why)
        if picked in served_by and not served_by - called:
            return Settlement(Fate.SERVED, picked, connection=connection)
        if closing:
            why = (
                f"the calling sidecar got {first.line.response_code} from {picked}, no ratings sidecar there logged it"
            )
            return Settlement(Fate.UNATTRIBUTED, why=self._with_trouble(why))
        return None

    def _without_call(self, probe: Probe, served_by: set[str]) -> Settlement:
        if len(served_by) == 1:
            return Settlement(Fate.SERVED, next(iter(served_by)), why="the calling sidecar's line is missing")
        if probe.page is Page.STARS or served_by:
            return Settlement(
                Fate.UNATTRIBUTED, why=self._with_trouble("stars on the page, no log line of its ratings call")
            )
        if probe.status == 200:
            return Settlement(Fate.FAILED, why=f"page with {probe.page.value}, no log line of a ratings call")
        what = f"answered {probe.status}" if probe.status else f"gave no answer: {probe.error}"
        return Settlement(Fate.FAILED, why=f"productpage {what}, no log line of a ratings call")

    def _with_trouble(self, why: str) -> str:
        return f"{why} ({self._trouble[-1]})" if self._trouble else why

    def _picked(self, line: AccessLine) -> str | None:
        name = ClusterName.parse(line.upstream_cluster)
        return self._backends.get(name.host) if name else None


def _names(meshes: Iterable[str]) -> str:
    return " and ".join(sorted(meshes))
