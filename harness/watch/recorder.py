"""Runs a watch: probes, objects and refusals of both meshes into one record, until somebody ends it."""

from __future__ import annotations

import contextlib
import functools
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from harness.checks.data_plane import stranger_at
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import ROUTE, SERVICE, Kind
from harness.cluster.transport import ClusterError
from harness.product.mesh import ENTRY_GATEWAY, MESH2, Bookinfo, Federation
from harness.product.names import DISCOVERY_PORT, SERVICE_PORT
from harness.run.redact import redacted_text
from harness.run.waiting import Cancelled, pause
from harness.scenario.adopt import adopted
from harness.scenario.entry import productpage_entry
from harness.watch.failed_lines import FailedLines
from harness.watch.probing import Prober, ProbeResult, page_streams
from harness.watch.state_recorder import StateRecorder, roles
from harness.watch.steady_time import Pulse, SteadyTime
from harness.watch.store import GAPS, LINES, PROBES, RUNS, STATES, Store
from harness.watch.timeline import StreamFacts

_PULSE = 0.5  # seconds between two beats of the watch itself
_REFUSALS = 10.0  # seconds between two looks whether strangers are refused
_ENTRY_TRIES, _ENTRY_PAUSE = 10, 1.0
STRANGER, PLAINTEXT = "stranger", "plaintext"
# mesh2 exports nothing, so nobody answers strangers at its port for services.
_DOORS = (("mesh1", DISCOVERY_PORT), ("mesh1", SERVICE_PORT), ("mesh2", DISCOVERY_PORT))


@dataclass
class Standing:
    """How the watch stands, for its live line."""

    sent: int = 0
    good: int = 0
    outages: int = 0
    last_event: str = "none yet"
    _failing: set[str] = field(default_factory=set)

    def take(self, result: ProbeResult) -> None:
        self.sent += 1
        self.good += result.good
        if result.good:
            self._failing.discard(result.stream)
        elif result.stream not in self._failing:
            self._failing.add(result.stream)
            self.outages += 1

    def line(self, seconds: float) -> str:
        """Rate, good, outages so far, and what happened last."""
        rate = self.sent / seconds if seconds else 0.0
        good = f"{self.good / self.sent:.2%}" if self.sent else "-"
        return f"{seconds:6.0f} s  {rate:.0f} probes/s, {good} good, {self.outages} outages; last: {self.last_event}"


class Recorder:
    """One run of a watch. It changes nothing in the clusters. Use as a context manager.

    rate: probes a second of each stream of pages; told: takes sentences for people. Entering raises ClusterError where
    the federation, or a way to its productpage, is not found, and OSError or RecordError where nothing can be written.
    """

    def __init__(
        self, clusters: Mapping[str, Cluster], store: Store, time: SteadyTime, rate: float, told: Callable[[str], None]
    ) -> None:
        self._clusters, self._store, self._time, self._told = clusters, store, time, told
        self._streams = page_streams(rate)
        self._prober = Prober(self._streams, secrets.token_hex(4), self._probed, time.now)
        self._states = StateRecorder(clusters, time.now, self._write_state, self._note, told, self._changed)
        self._federation: Federation | None = None
        self._entry: Bookinfo | None = None
        self._moved = threading.Event()
        self._stopping = threading.Event()
        self._open = contextlib.ExitStack()
        self._threads: list[threading.Thread] = []
        self.standing = Standing()

    def __enter__(self) -> Recorder:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._moved.set()
        self._open.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _begin(self) -> None:
        for cluster in self._clusters.values():
            cluster.knock()
        self._federation = adopted(self._clusters)
        self._entry = productpage_entry(self._clusters["mesh2"], MESH2, self._open, say=self._told)
        refused = {name: StreamFacts(1 / _REFUSALS, crosses=False, refused=True) for name in self._refusal_streams()}
        facts = {stream.name: stream.facts for stream in self._streams} | refused
        self._store.begin(
            {
                "streams": {name: asdict(of) for name, of in facts.items()},
                "roles": roles(self._clusters),
                "meshes": {mesh.name: {"release": mesh.release} for mesh in self._federation.meshes},
                "entry": self._entry.productpage_url,
            }
        )
        self._told(f"productpage is at {self._entry.productpage_url} ({self._entry.entry})")
        self._prober.aim(self._entry.productpage_url)
        self._open.callback(self._states.stop)
        for unseen in self._states.start():
            self._told(unseen)
        # Pods that come and go are this watch's subject, so what the follower says of them is no news.
        write = functools.partial(self._store.write, LINES)
        self._open.enter_context(FailedLines(self._clusters, write, lambda _: None))
        self._open.enter_context(self._prober)
        for target in (self._beat, self._follow_entry, self._knock):
            thread = threading.Thread(target=self._until_cancelled, args=(target,), daemon=True, name=target.__name__)
            self._threads.append(thread)
            thread.start()

    def _until_cancelled(self, target: Callable[[], None]) -> None:
        with contextlib.suppress(Cancelled):
            target()

    def ended(self, why: str) -> None:
        """Notes that the run ended as it should."""
        self._store.write(RUNS, {"t": self._time.now(), "ended": why})

    # What is written

    def _probed(self, result: ProbeResult) -> None:
        self.standing.take(result)
        line = {"t": round(result.at, 4), "s": result.stream, "d": round(result.took, 4), "good": result.good}
        self._store.write(PROBES, line if result.good else {**line, "saw": result.saw, "agent": result.agent})

    def _write_state(self, line: Mapping[str, object]) -> None:
        self._store.write(STATES, line)
        if not line.get("first"):
            self.standing.last_event = f"{line['mesh']} {line['kind']} {line['name']}"

    def _note(self, gap: Mapping[str, object]) -> None:
        self._store.write(GAPS, {**gap, "why": redacted_text(str(gap["why"]))})

    # Threads

    def _beat(self) -> None:
        pulse = Pulse(self._time)
        while True:
            pause(_PULSE, self._stopping)
            missed, step = pulse.beat(_PULSE)
            if missed:
                self._note({"from": missed.start, "to": missed.end, "why": missed.why})
                self._told(f"not watched for {missed.end - missed.start:.1f} s: {missed.why}")
            if step:
                now = self._time.now()
                self._note({"from": now, "to": now, "why": f"this machine's clock was set by {step:+.1f} s"})
                self._told(f"this machine's clock was set by {step:+.1f} s; times in the record go on evenly")

    def _changed(self, mesh: str, kind: Kind, name: str) -> None:
        if mesh == "mesh2" and kind in (SERVICE, ROUTE) and name == ENTRY_GATEWAY:
            self._moved.set()

    def _follow_entry(self) -> None:
        """Finds productpage again whenever the Service or the Route in front of it has changed."""
        while not self._stopping.is_set():
            self._moved.wait()
            self._moved.clear()
            if self._stopping.is_set():
                return
            found = self._entry_again()
            before = self._entry
            if found is None or before is None or found.productpage_url == before.productpage_url:
                continue
            self._entry = found
            self._prober.aim(found.productpage_url)
            was, now = ({"url": one.productpage_url, "how": one.entry} for one in (before, found))
            line = {"mesh": "mesh2", "kind": "Entry", "name": "productpage", "ns": ""}
            self._write_state({"t": self._time.now(), **line, "was": was, "is": now})
            self._told(f"productpage moved to {found.productpage_url} ({found.entry})")

    def _entry_again(self) -> Bookinfo | None:
        """Where productpage is now; by the same way as before, if that is open again within some seconds."""
        found = None
        for _ in range(_ENTRY_TRIES):
            with contextlib.suppress(ClusterError):
                found = productpage_entry(self._clusters["mesh2"], MESH2, self._open)
                if self._entry and found.entry == self._entry.entry:
                    return found
            pause(_ENTRY_PAUSE, self._stopping)
        return found

    def _refusal_streams(self) -> Iterator[str]:
        for mesh, port in _DOORS:
            yield from (f"{kind} at {mesh} {port}" for kind in (STRANGER, PLAINTEXT))

    def _knock(self) -> None:
        """Looks again and again whether who must be refused still is. Where nobody answers, nobody was refused."""
        while True:
            for mesh, port in _DOORS:
                self._knock_at(mesh, port)
            pause(_REFUSALS, self._stopping)

    def _knock_at(self, mesh: str, port: int) -> None:
        at = self._time.now()
        try:
            assert self._federation is not None
            stranger = stranger_at(self._federation.mesh(mesh), port)
        except ClusterError:
            with contextlib.suppress(ClusterError):
                self._federation = adopted(self._clusters)  # its address may have moved
            return
        took = self._time.now() - at
        reason = stranger.refused.reason if stranger.refused else "let in"
        for kind, good, saw in (
            (STRANGER, stranger.refused is not None, reason),
            (PLAINTEXT, not stranger.plaintext, "answered"),
        ):
            line = {"t": at, "s": f"{kind} at {mesh} {port}", "d": round(took, 3), "good": good}
            self._store.write(PROBES, line if good else {**line, "saw": saw})
