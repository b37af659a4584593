"""Attribution without access logs: differences of `istio_requests_total` of the ratings sidecars, batch by batch.

The order of the picks and the single probe are lost: a batch is attributed as a whole or, where the counters do not
add up to what was sent, not at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.run.waiting import pause

_SAMPLE = re.compile(r"^istio_requests_total\{(?P<labels>.*)\} (?P<value>[0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def requests_answered(statistics: str) -> float | None:
    """Requests that this proxy's service answered with 2xx: destination reporter, all callers together.

    None where the proxy has no such metric (it appears with the first request).
    """
    found = None
    for sample in _SAMPLE.finditer(statistics):
        labels = dict(_LABEL.findall(sample["labels"]))
        if labels.get("reporter") != "destination":
            continue
        found = found or 0.0
        if labels.get("response_code", "").startswith("2"):
            found += float(sample["value"])
    return found


@dataclass(frozen=True)
class Reading:
    """Requests answered by mesh and pod at one moment; `unread` says why the counters of a pod could not be read.

    `silent` are the meshes in which no pod has the metric.
    """

    requests: Mapping[tuple[str, str], float]
    unread: Mapping[tuple[str, str], str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()

    @classmethod
    def of(cls, answered: Mapping[tuple[str, str], float | None], unread: Mapping[tuple[str, str], str]) -> Reading:
        """From what each pod's counters say, None for a pod without the metric, which is at 0."""
        counted = {mesh for (mesh, _), value in answered.items() if value is not None}
        silent = frozenset(mesh for mesh, _ in answered if mesh not in counted)
        return cls({key: value or 0.0 for key, value in answered.items()}, unread, silent)


@dataclass(frozen=True)
class BatchCount:
    """served + unattributed = sent; `why` explains what is unattributed."""

    served: Mapping[str, int]
    unattributed: int
    why: str = ""


def attribute(sent: int, before: Reading, after: Reading) -> BatchCount:
    """What `sent` requests between two readings came to."""
    meshes = {mesh: 0 for mesh, _ in {**before.requests, **before.unread}}
    for (_, pod), why in {**before.unread, **after.unread}.items():
        return BatchCount(meshes, sent, f"counters of {pod} could not be read: {why}")
    gone = before.requests.keys() ^ after.requests.keys()
    if gone:
        pods = ", ".join(sorted(pod for _, pod in gone))
        return BatchCount(meshes, sent, f"ratings pods came or went while requests were sent: {pods}")
    fallen = sorted(pod for (mesh, pod), value in before.requests.items() if after.requests[mesh, pod] < value)
    if fallen:
        return BatchCount(meshes, sent, f"counters of {', '.join(fallen)} were reset while requests were sent")
    served = Counter(meshes)
    for (mesh, pod), value in before.requests.items():
        served[mesh] += round(after.requests[mesh, pod] - value)
    counted = served.total()
    if counted > sent:
        return BatchCount(
            meshes, sent, f"ratings answered {counted} requests while {sent} were sent: others' or retries"
        )
    why = f"ratings answered {counted} requests while {sent} were sent" if counted < sent else ""
    if why and after.silent:
        why += f"; ratings of {' and '.join(sorted(after.silent))} have no istio_requests_total"
    return BatchCount(dict(served), sent - counted, why)


class CounterBook:
    """Attributes batch after batch; `read` takes a Reading now.

    A proxy counts a request at its end, which may be after the answer: while requests are missing, the counters are
    read again up to `patience` times, every `pause` seconds.
    """

    def __init__(self, read: Callable[[], Reading], patience: int = 5, pause: float = 0.2) -> None:
        self._read, self._patience, self._pause = read, patience, pause
        self._last = read()

    def close_batch(self, sent: int) -> BatchCount:
        """Attributes the `sent` requests since the last call; all of them must be answered."""
        before, self._last = self._last, self._read()
        found = attribute(sent, before, self._last)
        for _ in range(self._patience):
            if sum(found.served.values()) in (0, sent):
                break
            pause(self._pause)
            self._last = self._read()
            found = attribute(sent, before, self._last)
        return found
