"""What a watch recorded, as it is read back: streams of probes, states of objects, marks, and gaps of the watch itself.

Times are seconds since 1970 by the watching machine's clock at its start, and go on evenly whatever is done to that
clock later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.watch.segments import Sample

View = Mapping[str, Any]


class Role(StrEnum):
    """What a workload is to a federation."""

    ENTRY = "entry gateway"
    INGRESS = "federation ingress"
    EGRESS = "federation egress"
    ISTIOD = "istiod"
    APPLICATION = "application"


@dataclass(frozen=True)
class StreamFacts:
    """What a stream of probes is: by which mesh its requests come in, whether they cross the federation from there,
    keep their connections, must be refused."""

    rate: float
    mesh: str = "mesh2"
    crosses: bool = True
    kept: bool = False
    refused: bool = False


@dataclass(frozen=True)
class StateEvent:
    """One object as it became: `was` is None for one that came, `now` for one that went; `first`: as it was found."""

    at: float
    mesh: str
    kind: str
    name: str
    namespace: str
    was: View | None
    now: View | None
    first: bool = False

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.mesh, self.kind, self.namespace, self.name


@dataclass(frozen=True)
class Mark:
    at: float
    text: str


@dataclass(frozen=True)
class Gap:
    """A time in which something could not be seen: all, or only what `mesh` says of itself."""

    start: float
    end: float
    why: str
    mesh: str = ""

    @property
    def lasted(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class FailedLine:
    """An access-log line that tells of a failure, and whose proxy wrote it."""

    at: float
    mesh: str
    workload: str
    flags: str
    upstream: str
    text: str


@dataclass(frozen=True)
class Timeline:
    """All that was recorded. `roles`: by mesh and workload; `unread`: lines of the record that are broken."""

    start: float
    end: float
    streams: Mapping[str, Sequence[Sample]]
    facts: Mapping[str, StreamFacts]
    states: Sequence[StateEvent] = ()
    marks: Sequence[Mark] = ()
    gaps: Sequence[Gap] = ()
    lines: Sequence[FailedLine] = ()
    roles: Mapping[str, Mapping[str, Role]] = field(default_factory=dict)
    unread: int = 0

    def role(self, mesh: str, workload: str) -> Role | None:
        return self.roles.get(mesh, {}).get(workload)

    def at(self, moment: float) -> dict[tuple[str, str, str, str], View]:
        """Every object as it was known at a moment."""
        found: dict[tuple[str, str, str, str], View] = {}
        for event in self.states:
            if event.at > moment:
                break
            if event.now is None:
                found.pop(event.key, None)
            else:
                found[event.key] = event.now
        return found
