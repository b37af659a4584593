"""What a look at a cluster came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One sentence about one mesh's cluster; `blocking`: the run cannot begin like this."""

    mesh: str
    text: str
    blocking: bool = False

    def __str__(self) -> str:
        return f"{self.mesh}: {self.text}"


def blocking(findings: Iterable[Finding]) -> list[str]:
    """What stands in the way, one line each, without repetitions."""
    return list(dict.fromkeys(str(finding) for finding in findings if finding.blocking))


def report(findings: Iterable[Finding]) -> list[str]:
    """Everything, one line each, what stands in the way marked and first."""
    ordered = sorted(findings, key=lambda finding: not finding.blocking)
    return list(dict.fromkeys(f"{'NO' if finding.blocking else 'ok'}  {finding}" for finding in ordered))
