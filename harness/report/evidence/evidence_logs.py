"""The newest part of a log, and the times it begins and ends at: each log is cut at its own place, and says so."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

# Access logs in text begin with it in brackets, in JSON it is a field; istiod's lines begin with it, and so do Envoy's
# own, with a blank in between and no zone.
_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")


def newest(lines: Iterable[str], limit: int) -> tuple[list[str], bool]:
    """The last lines that fit into `limit` bytes, line ends included, and whether older ones were left out."""
    kept: deque[tuple[str, int]] = deque()
    held, cut = 0, False
    for line in lines:
        size = len(line.encode()) + 1
        kept.append((line, size))
        held += size
        while held > limit:
            held -= kept.popleft()[1]
            cut = True
    return [line for line, _ in kept], cut


def span(lines: Sequence[str]) -> tuple[str, str]:
    """The times of the first and the last line that have one, as written there; '' where none has."""
    return next(_times(lines), ""), next(_times(reversed(lines)), "")


def _times(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if found := _TIME.search(line):
            yield found[0]
