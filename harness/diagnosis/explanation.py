"""What the failures of a run come from: the chain as it was walked at the first of them, and what later ones add."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.diagnosis import Diagnosis, State
from harness.diagnosis.model import Look
from harness.split.meter import Measurement
from harness.split.sequential import Reason

_SPLIT = "split routes"  # the link that a measured split speaks of; no other link's failure breaks it


@dataclass(frozen=True)
class Finding:
    """A walk along the chain, or a part of one, and the failed test it is about."""

    after: str
    diagnosis: Diagnosis


@dataclass
class Explanation:
    """Grows with the failures of a run.

    walks: every walk along the whole chain, in order; causes: of these, and of failed measurements, what names a cause
    that was not named before; ended: a request ended the installation, which is the cause then: of meshes that are half
    installed the chain says nothing.
    """

    walks: list[Finding] = field(default_factory=list)
    causes: list[Finding] = field(default_factory=list)
    ended: bool = False

    def end(self, after: str, side: str, message: str) -> None:
        """Takes the message of a request that ended the installation in the mesh `side`, met by the test `after`."""
        look = Look("installation", side, "what the installation asked for")
        self.add_walk(after, Diagnosis((look.broken("installation-failed", message, detail=message),)))
        self.ended = True

    def explains(self, measured: Measurement | None) -> bool:
        """Whether a failure needs no further walk. `measured`: the split that the failed test measured, if one.

        A split that is off, or cannot be told, is explained by the link of its routes only; requests that failed, as
        any other failure, by whatever is broken first.
        """
        if measured is not None and _of_its_routes(measured):
            return self._routes() is not None
        return bool(self.causes)

    def add_walk(self, after: str, diagnosis: Diagnosis) -> None:
        """Takes a walk that was made when the test `after` had failed."""
        self.walks.append(Finding(after, diagnosis))
        self._add_cause(self.walks[-1])

    def add_failure(self, after: str, measured: Measurement | None) -> None:
        """Takes a failure that the last walk has to explain: a split that is off may have its cause behind others."""
        if measured is not None and _of_its_routes(measured) and (found := self._routes()):
            self._add_cause(Finding(after, found))

    def _routes(self) -> Diagnosis | None:
        """The broken link of the split's routes alone, as the last walk saw it; None where it was not broken."""
        links = self.walks[-1].diagnosis.links if self.walks else ()
        broken = [link for link in links if link.name == _SPLIT and link.state is State.BROKEN]
        return Diagnosis((broken[0],)) if broken else None

    def _add_cause(self, found: Finding) -> None:
        known = {(cause.diagnosis.cause, cause.diagnosis.side) for cause in self.causes}
        if found.diagnosis.cause and (found.diagnosis.cause, found.diagnosis.side) not in known:
            self.causes.append(found)

    @property
    def _main(self) -> Finding:
        """The first walk that names a cause; where none does, the first."""
        return next((walk for walk in self.walks if walk.diagnosis.cause), self.walks[0])

    @property
    def summary(self) -> list[str]:
        """Causes, sides and remedies for a person; which failure they are about, where there is more than one."""
        if not self.walks:
            return []
        first = self.walks[0]
        if self.ended:  # whose message is the error that pytest shows
            said = f"cause: the installation failed, as {first.after} says above [{first.diagnosis.cause}]"
            return [said, *first.diagnosis.summary[1:]]
        shown = [first, *(cause for cause in self.causes if cause is not first)]
        vain = self.walks[-1] if self.walks[-1] not in shown else None
        if len(shown) == 1 and vain is None:
            return first.diagnosis.summary
        lines = [line for found in shown for line in (f"after {found.after} failed:", *found.diagnosis.summary)]
        return [*lines, f"after {vain.after} failed: looked again, nothing else was seen broken"] if vain else lines

    def to_dict(self) -> dict[str, Any] | None:
        """Plain data for a report, None before the first walk.

        The walk that names the first cause as Diagnosis.to_dict, with `after`, the failed test; `also`: further causes
        with the tests they are about; `walks`: the other walks.
        """
        if not self.walks:
            return None
        main = self._main
        return {
            **_plain(main),
            "also": [_cause(found) for found in self.causes if found is not main],
            "walks": [_plain(found) for found in self.walks if found is not main],
        }


def _of_its_routes(measured: Measurement) -> bool:
    """Whether a measurement failed by how requests were divided, and not by requests that failed or left no trace."""
    unattributed = measured.untraceable or (measured.verdict and measured.verdict.reason is Reason.UNATTRIBUTED)
    return not measured.passed and not unattributed


def _plain(found: Finding) -> dict[str, Any]:
    return {**found.diagnosis.to_dict(), "after": found.after}


def _cause(found: Finding) -> dict[str, Any]:
    keys = ("after", "cause", "side", "sentence", "remedy", "commands")
    return {key: value for key, value in _plain(found).items() if key in keys}
