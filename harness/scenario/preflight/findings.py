"""What a look at a cluster came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One sentence about one mesh's cluster.

    blocking: the run cannot begin like this; note: it can, but whoever runs it should know.
    """

    mesh: str
    text: str
    blocking: bool = False
    note: bool = False

    def __str__(self) -> str:
        return f"{self.mesh}: {self.text}"


class NoBalancer(Finding):
    """LoadBalancers get no address in this mesh's cluster, so that nobody need wait for one."""


class BrokenOff(Finding):
    """The look at this mesh's cluster ended here: whatever else it were asked, it would say the same."""


def answering(meshes: Iterable[str], findings: Iterable[Finding]) -> list[str]:
    """Those of the meshes whose clusters can be asked more, by what was found."""
    silent = {finding.mesh for finding in findings if isinstance(finding, BrokenOff)}
    return [mesh for mesh in meshes if mesh not in silent]


def balanced(meshes: Iterable[str], findings: Iterable[Finding]) -> set[str]:
    """Those of the meshes whose LoadBalancers may get addresses, by what was found."""
    return set(meshes) - {finding.mesh for finding in findings if isinstance(finding, NoBalancer)}


def blocking(findings: Iterable[Finding]) -> list[str]:
    """What stands in the way, one line each, without repetitions."""
    return list(dict.fromkeys(str(finding) for finding in findings if finding.blocking))


def notes(findings: Iterable[Finding]) -> list[str]:
    """What does not stand in the way and yet is told in every run, one line each."""
    return list(dict.fromkeys(str(finding) for finding in findings if finding.note and not finding.blocking))


def report(findings: Iterable[Finding]) -> list[str]:
    """Everything, one line each: what stands in the way first (NO), then what is to be noted (!!), then the rest."""
    ordered = sorted(findings, key=lambda finding: (not finding.blocking, not finding.note))
    return list(dict.fromkeys(f"{_mark(finding)}  {finding}" for finding in ordered))


def _mark(finding: Finding) -> str:
    if finding.blocking:
        return "NO"
    return "!!" if finding.note else "ok"
