"""What a contract compares: what was asked for, beside what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Compared:
    """What was asked for, what was seen, and how they differ: one line each, which names mesh and object.

    Raises ValueError where a difference has no line, or a line no difference: then nobody could believe the contract.
    """

    asked: Any
    seen: Any
    problems: Sequence[str]

    def __post_init__(self) -> None:
        if (self.asked == self.seen) == bool(self.problems):
            told = "; ".join(self.problems) or "no problem"
            raise ValueError(f"asked for {self.asked}, seen {self.seen}, and yet: {told}")

    def __str__(self) -> str:
        return "\n".join(self.problems)
