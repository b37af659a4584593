"""A plugin of pytest: the suite takes this machine to be SKEW seconds (from the environment) ahead of what it is.

Clusters are not touched: their processes have the true time.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timedelta, tzinfo

_SKEW = float(os.environ["SKEW"])
_true_time = time.time


class _Skewed(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(seconds=_SKEW)


def pytest_collection_finish() -> None:
    """By now all modules of the suite are there."""
    time.time = lambda: _true_time() + _SKEW
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("harness", "fixtures") and getattr(module, "datetime", None) is datetime:
            module.datetime = _Skewed  # type: ignore[attr-defined]
