"""What a diagnosis consists of: links, each looked at once, and the first broken one as the cause."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from harness.diagnosis.causes import CAUSES

_OTHER = {"mesh1": "mesh2", "mesh2": "mesh1"}


class State(StrEnum):
    """`unknown` is never `ok`: it could not be looked at."""

    OK = "ok"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Link:
    """One link of the chain.

    side: where it was looked at, `mesh1`, `mesh2` or `both`; a broken link's side is where it is to be put right.
    cause: an id of `harness.diagnosis.causes.CAUSES` for a broken link, else ''.
    seen_in: where it was looked at, whatever its side.
    follows: names of links any of which, where it is broken, is why this one could not be looked at.
    commands: lines for a shell, which put a broken link right or show more of it; see `Cause.told`.
    """

    name: str
    side: str
    state: State
    looked_at: str
    seen: str
    cause: str = ""
    sentence: str = ""
    remedy: str = ""
    follows: tuple[str, ...] = ()
    seen_in: str = ""
    commands: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.state:7}  {self.side:5}  {self.name}: {self.seen}"


@dataclass(frozen=True)
class Look:
    """Where a link is being looked at; makes Links of what was seen."""

    name: str
    side: str
    at: str

    def ok(self, seen: str) -> Link:
        return Link(self.name, self.side, State.OK, self.at, seen)

    def unknown(self, seen: str, follows: tuple[str, ...] = ()) -> Link:
        return Link(self.name, self.side, State.UNKNOWN, self.at, seen, follows=follows)

    def broken(self, cause: str, seen: str, /, side: str = "", **values: object) -> Link:
        """`values` go into the cause's sentence and remedy; `side` where the cause alone does not say it."""
        found = CAUSES[cause]
        side = side or (_OTHER.get(self.side, self.side) if found.elsewhere else self.side)
        seen = seen if self.side in (side, "both") else f"{seen} (seen in {self.side})"
        sentence, remedy, commands = found.told(side, values)
        return Link(self.name, side, State.BROKEN, self.at, seen, cause, sentence, remedy, commands=commands)


@dataclass(frozen=True)
class Diagnosis:
    """All links in the order of the chain; `cause`, `side`, `sentence`, `remedy` of the first broken one, or ''."""

    links: tuple[Link, ...]
    seconds: float = 0.0

    @property
    def first_broken(self) -> Link | None:
        return next((link for link in self.links if link.state is State.BROKEN), None)

    @property
    def broken(self) -> list[Link]:
        """All broken links, in the order of the chain."""
        return [link for link in self.links if link.state is State.BROKEN]

    @property
    def unseen(self) -> list[Link]:
        """Links that could not be looked at."""
        return [link for link in self.links if link.state is State.UNKNOWN]

    def link(self, name: str, mesh: str) -> Link:
        """The link of this name that was looked at in a mesh; raises KeyError where the chain has none."""
        found = [link for link in self.links if (link.name, link.seen_in) == (name, mesh)]
        if not found:
            raise KeyError(f"{name} of {mesh}")
        return found[0]

    @property
    def cause(self) -> str:
        return self.first_broken.cause if self.first_broken else ""

    @property
    def side(self) -> str:
        return self.first_broken.side if self.first_broken else ""

    @property
    def sentence(self) -> str:
        return self.first_broken.sentence if self.first_broken else ""

    @property
    def remedy(self) -> str:
        return self.first_broken.remedy if self.first_broken else ""

    @property
    def commands(self) -> tuple[str, ...]:
        return self.first_broken.commands if self.first_broken else ()

    @property
    def state(self) -> State:
        """broken where a link is, else unknown where one could not be looked at."""
        if self.first_broken:
            return State.BROKEN
        return State.UNKNOWN if any(link.state is State.UNKNOWN for link in self.links) else State.OK

    @property
    def summary(self) -> list[str]:
        """Cause, side, remedy and commands for a person, a few lines."""
        if broken := self.first_broken:
            ends = {link.name for link in self.links if link.state is State.BROKEN}
            before = [link for link in self.links[: self.links.index(broken)] if ends.isdisjoint(link.follows)]
            unknown = [link for link in before if link.state is State.UNKNOWN]
            lines = [f"cause: {broken.sentence} [{broken.cause}]", f"side: {broken.side}", f"remedy: {broken.remedy}"]
            lines += [f"{'run' if CAUSES[broken.cause].heals else 'see'}: {command}" for command in broken.commands]
            return [*lines, *_doubts(unknown, "before it on the path, not looked at: ")]
        if self.state is State.UNKNOWN:
            told = "cause: nothing broken was seen, but not everything could be seen"
            return [told, *_doubts(self.unseen, "not seen: ")]
        return ["cause: none, every link of the chain is in order now"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a report: state, cause, side, sentence, remedy, commands, seconds, links (list of dicts)."""
        return {
            "state": str(self.state),
            "cause": self.cause,
            "side": self.side,
            "sentence": self.sentence,
            "remedy": self.remedy,
            "commands": list(self.commands),
            "seconds": round(self.seconds, 2),
            "links": [_plain(link) for link in self.links],
        }


def _plain(link: Link) -> dict[str, Any]:
    plain = {**asdict(link), "state": str(link.state), "commands": list(link.commands)}
    del plain["follows"], plain["seen_in"]  # they only say how to read the others
    return plain


def _doubts(links: Iterable[Link], prefix: str) -> list[str]:
    return [f"{prefix}{link.side} {link.name} ({link.seen})" for link in links]
