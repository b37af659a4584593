"""How long an outage may be, by what explains it. What no row is about may be no outage at all."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.watch.changes import Cause

WATCHES = "watches"  # the stream of a mesh's own watch on its peer
STREAMS = ("fresh", "kept", "control", "ratings", WATCHES)
RESYNC = "resync"
_PAGES = ("fresh", "kept", "control", "ratings")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_KEYS = {"cause", "streams", "longest", "text"}


class BudgetErrors(Exception):
    """What is wrong with a file of budgets: `problems`, one sentence each. Nothing of such a file counts."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class Budget:
    """One row: outages of these streams that this cause explains may be `longest` seconds long.

    resync: instead, until the next resync of the importing mesh's version, or not at all where the gateway has two
    pods or more. text: only where what changed matches, a mark for one.
    """

    cause: Cause
    streams: tuple[str, ...]
    longest: float = 0.0
    resync: bool = False
    text: str = ""

    def is_about(self, cause: Cause, stream: str, what: str) -> bool:
        return self.cause is cause and stream in self.streams and bool(re.search(self.text, what))


DEFAULTS = (
    # Nothing drains connections on 15443, which is proxied as TCP: whoever replaces a gateway cuts what it carries.
    Budget(Cause.ENTRY_REPLACED, _PAGES, 1.0),
    Budget(Cause.INGRESS_REPLACED, _PAGES, 1.0),
    # Proxies dial the old pod's address until the importer has synced again.
    Budget(Cause.EGRESS_REPLACED, _PAGES, resync=True),
    # istiod 2.1 is without federation for a minute after its start, and tries again every minute.
    Budget(Cause.ISTIOD_REPLACED, (WATCHES,), 120.0),
    Budget(Cause.INGRESS_REPLACED, (WATCHES,), 60.0),
    Budget(Cause.EGRESS_REPLACED, (WATCHES,), 60.0),
)


def allowed(budgets: Sequence[Budget], cause: Cause, stream: str, what: str, resync: float) -> float:
    """Seconds that an outage of a stream with this explanation may last; the most generous row counts."""
    rows = [row for row in budgets if row.is_about(cause, stream, what)]
    return max((resync if row.resync else row.longest for row in rows), default=0.0)


def read_budgets(path: Path) -> tuple[Budget, ...]:
    """The rows of a file, in place of the defaults. Raises BudgetErrors with all that is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BudgetErrors([f"{path}: cannot be read ({error.strerror})"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BudgetErrors([f"{path}: is not YAML"]) from error
    if not isinstance(content, dict) or set(content) != {"budgets"} or not isinstance(content["budgets"], list):
        raise BudgetErrors([f"{path}: must hold one list, `budgets:`, of rows with cause, streams and longest"])
    problems: list[str] = []
    rows = [_row(entry, f"{path}: row {place}", problems) for place, entry in enumerate(content["budgets"], 1)]
    found = [row for row in rows if row]
    seen: set[tuple[Cause, str, str]] = set()
    for row in found:
        for stream in row.streams:
            key = row.cause, stream, row.text
            if key in seen:
                problems.append(f"{path}: {row.cause} has two rows for {stream}: which one counts is not said")
            seen.add(key)
    if problems:
        raise BudgetErrors(problems)
    return tuple(found)


def _row(entry: Any, where: str, problems: list[str]) -> Budget | None:
    if not isinstance(entry, dict):
        problems.append(f"{where}: is no mapping of cause, streams and longest")
        return None
    before = len(problems)
    if unknown := sorted(map(str, set(entry) - _KEYS)):
        problems.append(f"{where}: {', '.join(unknown)} is none of {', '.join(sorted(_KEYS))}")
    causes = [cause.value for cause in Cause]
    if entry.get("cause") not in causes:
        problems.append(f"{where}: cause {entry.get('cause')} is none of {', '.join(causes)}")
    streams = entry.get("streams", list(_PAGES))
    if not isinstance(streams, list) or not streams or not set(map(str, streams)) <= set(STREAMS):
        problems.append(f"{where}: streams {streams} must be a list of {', '.join(STREAMS)}")
    longest = _seconds(entry.get("longest"))
    if longest is None:
        problems.append(f"{where}: longest {entry.get('longest')} must be a time such as 0.5s, 3s or 5m, or {RESYNC}")
    text = entry.get("text", "")
    try:
        re.compile(text)
    except (re.error, TypeError):
        problems.append(f"{where}: text {text} is no regular expression")
    if len(problems) > before or longest is None:
        return None
    resync = entry["longest"] == RESYNC
    return Budget(Cause(entry["cause"]), tuple(streams), longest, resync, text)


def _seconds(value: Any) -> float | None:
    """Seconds of a time with its unit, 0 for RESYNC; None for anything else, a bare number but 0 among it."""
    if value == RESYNC or (value == 0 and not isinstance(value, bool)):
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value) if isinstance(value, str) else None
    seconds = float(found[1]) * _UNITS[found[2]] if found else None
    return seconds if seconds is not None and math.isfinite(seconds) else None


def duration(text: str) -> float:
    """Seconds of a time such as `40m`; raises ValueError."""
    seconds = _seconds(text)
    if seconds is None or text == RESYNC:
        raise ValueError(f"{text} is no time such as 30s, 40m or 2h")
    return seconds
