"""Follows the logs of all pods behind a label, across cuts, rotation and restarts; loses nothing silently."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import POD
from harness.cluster.streams import LogStream
from harness.cluster.transport import ClusterError, Object
from harness.product.envoy import Proxy, parse_access_line
from harness.product.names import SIDECAR
from harness.product.versions import LOG_FLUSH
from harness.run.waiting import Cancelled, Deadline, Pauses, pause
from harness.split.ledger import Role, Source

LOOK_SECONDS = 2.0  # seconds between two looks for pods that came or went
FLUSH_SECONDS = 1.0
_OVERLAP = timedelta(seconds=LOG_FLUSH + 5)  # re-read after a cut: one flush, and the second that sinceTime cuts off
_KNOWN_SECONDS = 2 * _OVERLAP.total_seconds() + LOG_FLUSH
_OPENING_SECONDS = 40.0  # as long as a request that is tried again once


@dataclass(frozen=True)
class Workload:
    """Whose proxies are followed: pods of one `namespace` that carry the labels; `mesh` as the ledger calls it."""

    cluster: Cluster
    mesh: str
    namespace: str
    label_selector: str
    name: str
    role: Role

    def pods(self) -> list[Object]:
        """Pods that run a proxy now; raises ClusterError."""
        found = self.cluster.list(POD, self.namespace, self.label_selector)
        return [pod for pod in found if pod.get("status", {}).get("phase") == "Running"]

    def source(self, pod: Object) -> Source:
        address = pod["status"].get("podIP", "")
        name = pod["metadata"]["name"]
        labels = pod["metadata"].get("labels") or {}
        version = labels.get("version")
        workload = f"{self.name}-{version}" if version else self.name
        return Source(self.mesh, self.role, workload, name, address)

    def proxies(self) -> list[Proxy]:
        return [self.proxy(pod) for pod in self.pods()]

    def proxy(self, pod: Object) -> Proxy:
        return Proxy(self.cluster, self.namespace, pod["metadata"]["name"], SIDECAR)


class LogFollower:
    """Hands every line of the workloads' proxies to `deliver`, from threads of its own, each line once.

    `found` gets every proxy that is followed, `trouble` one sentence for whatever may have cost lines. Lines from
    before the start are not read, but for the last one of each log and, after a cut, those of the last seconds before
    the start. `look_every`: seconds between looks for new pods.
    Use as a context manager.
    """

    def __init__(
        self,
        workloads: list[Workload],
        deliver: Callable[[Source, str], None],
        found: Callable[[Source, Proxy], None] = lambda *_: None,
        trouble: Callable[[str], None] = lambda _: None,
        look_every: float = LOOK_SECONDS,
    ) -> None:
        self._workloads, self._deliver, self._found, self._trouble = workloads, deliver, found, trouble
        self._look_every = look_every
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._streams: dict[str, LogStream] = {}
        self._followed: set[str] = set()
        self._opening: list[threading.Event] = []
        self._refused: ClusterError | None = None

    def start(self) -> None:
        """Follows what is there now, and later what comes.

        Comes back when every log that is there is open: what is written from then on is not lost. Raises ClusterError
        when pods cannot be listed, and when a log is refused for good.
        """
        for workload in self._workloads:
            self._look(workload, first=True)
        deadline = Deadline(_OPENING_SECONDS)
        if not all(opened.wait(deadline.left) for opened in self._opening):
            self._trouble(f"some logs did not open within {_OPENING_SECONDS:.0f} s")
        if self._refused:
            raise self._refused
        self._spawn(self._look_again)

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def __enter__(self) -> LogFollower:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name=f"logs {target.__name__}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _look_again(self) -> None:
        with contextlib.suppress(Cancelled):
            while True:
                pause(self._look_every, self._stopping)
                for workload in self._workloads:
                    with contextlib.suppress(ClusterError):
                        self._look(workload)

    def _look(self, workload: Workload, first: bool = False) -> None:
        for pod in workload.pods():
            key = f"{workload.cluster.name}/{pod['metadata']['uid']}"
            if key in self._followed:
                continue
            self._followed.add(key)
            source = workload.source(pod)
            self._found(source, workload.proxy(pod))
            if not first:
                self._trouble(f"{source} started while requests were being sent")
            opened = threading.Event()
            self._opening += [opened] if first else []
            self._spawn(self._follow, workload, pod, source, first, opened)

    def _follow(
        self, workload: Workload, pod: Object, source: Source, skip_past: bool, opened: threading.Event
    ) -> None:
        try:
            self._follow_until_gone(workload, pod, source, skip_past, opened)
        finally:
            opened.set()

    def _follow_until_gone(
        self, workload: Workload, pod: Object, source: Source, skip_past: bool, opened: threading.Event
    ) -> None:
        """Follows one pod's proxy until the pod is gone; a pod that is new is read from its beginning."""
        name, seen, pauses = pod["metadata"]["name"], _Seen(), Pauses()
        restarts, known = _restarts(pod), 0
        tail: int | None = 1 if skip_past else None
        with contextlib.suppress(Cancelled):
            while not self._stopping.is_set():
                try:
                    self._read(workload, name, source, seen, tail, opened)
                except ClusterError as error:
                    self._trouble(f"log of {source}: {error}")
                    self._refused = error if error.lasting else self._refused
                tail = None
                opened.set()
                pause(max(0.1, pauses.next(seen.count > known)), self._stopping)
                known = seen.count
                now = self._find(workload, pod)
                if now is None:
                    self._trouble(f"{source} is gone, what its proxy had not yet written is lost")
                    return
                if _restarts(now) > restarts:
                    restarts = _restarts(now)
                    self._trouble(f"the proxy of {source} was restarted")
                    self._read_previous(workload, name, source, seen)

    def _find(self, workload: Workload, pod: Object) -> Object | None:
        """The pod as it is now, None when it was deleted or replaced."""
        while True:
            try:
                found = workload.cluster.find(POD, pod["metadata"]["name"], workload.namespace)
            except ClusterError:
                pause(1, self._stopping)
                continue
            return found if found and found["metadata"]["uid"] == pod["metadata"]["uid"] else None

    def _read(
        self,
        workload: Workload,
        pod: str,
        source: Source,
        seen: _Seen,
        tail: int | None,
        opened: threading.Event,
    ) -> None:
        stream = workload.cluster.logs(workload.namespace, pod, SIDECAR, follow=True, since=seen.since, tail=tail)
        opened.set()
        self._deliver_all(stream, source, seen)

    def _read_previous(self, workload: Workload, pod: str, source: Source, seen: _Seen) -> None:
        """What the last container wrote after the cut."""
        try:
            stream = workload.cluster.logs(workload.namespace, pod, SIDECAR, since=seen.since, previous=True)
            self._deliver_all(stream, source, seen)
        except ClusterError as error:
            self._trouble(f"the log that the restarted proxy of {source} left: {error}")

    def _deliver_all(self, stream: LogStream, source: Source, seen: _Seen) -> None:
        key = f"{source}"
        with self._lock:
            self._streams[key] = stream
        with stream:
            if self._stopping.is_set():
                return
            for line in stream:
                if seen.is_new(line):
                    self._deliver(source, line)


class _Seen:
    """Tells lines apart that are read twice after a cut."""

    def __init__(self) -> None:
        self._texts: dict[str, float] = {}  # when each came, oldest first
        self._latest: datetime | None = None
        self.count = 0  # how many different lines there were

    @property
    def since(self) -> datetime | None:
        """From when to read again, by the clock of the pods; None before the first line."""
        return self._latest - _OVERLAP if self._latest else None

    def is_new(self, line: str) -> bool:
        if line in self._texts:
            return False
        self.count += 1
        self._texts[line] = now = time.monotonic()
        # No line that came so long before the newest one is read again after a cut.
        while now - self._texts[oldest := next(iter(self._texts))] > _KNOWN_SECONDS:
            del self._texts[oldest]
        if parsed := parse_access_line(line):
            start = parsed.start_time.astimezone(UTC)
            self._latest = max(start, self._latest or start)
        return True


def _restarts(pod: Object) -> int:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((status.get("restartCount", 0) for status in statuses if status["name"] == SIDECAR), 0)


class LogFlusher:
    """Has Envoys write their buffered access logs every `interval` seconds, one thread per proxy; ends with its block.

    An exec costs a cluster tens of milliseconds, so the interval is no shorter than a decision may be late.
    `refused` is told once per proxy that can not be asked (exec forbidden, for one): its lines come with the 10 s
    flush.
    """

    def __init__(self, refused: Callable[[str], None] = lambda _: None, interval: float = FLUSH_SECONDS) -> None:
        self._interval, self._refused = interval, refused
        self._changed = threading.Condition()
        self._hurries, self._stopping = 0, False
        self._threads: list[threading.Thread] = []

    def add(self, proxy: Proxy) -> None:
        """Begins with this proxy, from any thread."""
        with self._changed:
            if not self._stopping:
                self._threads.append(threading.Thread(target=self._serve, args=(proxy,), daemon=True))
                self._threads[-1].start()

    def __enter__(self) -> LogFlusher:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=15)

    def hurry(self) -> None:
        """Has everything that Envoys have logged until now written at once."""
        with self._changed:
            self._hurries += 1
            self._changed.notify_all()

    def _serve(self, proxy: Proxy) -> None:
        done = 0
        while True:
            with self._changed:
                if not self._stopping and self._hurries == done:
                    self._changed.wait(self._interval)
                if self._stopping:
                    return
                done = self._hurries
            try:
                proxy.write_logs()
            except ClusterError as error:
                self._refused(f"access log of {proxy.pod} comes with Envoy's 10 s flush: {error}")
                return
