"""API servers that fail now and then; the lab's own controllers are spared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lab.faults.fault import Fault

_KINDS = {
    "api-429": (("429",), "ask clients to come again later"),
    "api-500": (("500",), "answer 500"),
    "api-503": (("503",), "answer 503"),
    "api-reset": (("reset",), "cut connections"),
    "api-watch": (("watch-end", "watch-410"), "end watches, or find them too old"),
    "api-conflict": (("conflict",), "answer writes with a conflict"),
    "api-webhook": (("webhook",), "cannot reach a webhook for writes"),
    "api-all": ((), "fail in every way there is"),
}


def _switch(kinds: tuple[str, ...]) -> Callable[[float], Mapping[str, Any]]:
    return lambda rate: {"rate": rate, "kinds": list(kinds)}


def faults() -> list[Fault]:
    """The faults of this module."""
    return [
        Fault(name, f"both API servers {what}, for a share of all requests", "F02", api=_switch(kinds))
        for name, (kinds, what) in _KINDS.items()
    ]
