"""What a cause consists of."""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """`sentence` and `remedy` are templates: `{mesh}` is the side to put right, `{peer}` the other mesh; other
    placeholders come from the link that found it.

    elsewhere: it is observed in one mesh and put right in the other, as when a peer rejects a certificate.
    """

    sentence: str
    remedy: str
    elsewhere: bool = False
