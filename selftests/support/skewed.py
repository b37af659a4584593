"""The suite takes this machine to be some seconds ahead of what it is; clusters have the true time.

As a plugin of pytest: by SKEW seconds, from the environment, as soon as all modules of the suite are there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo

_OURS = ("harness", "fixtures")
_session = contextlib.ExitStack()  # a block that nobody holds would be over at once


@contextlib.contextmanager
def skewed(seconds: float) -> Iterator[None]:
    """Within this block the suite's clock is ahead; for modules that are loaded already."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    true_time = time.time
    loaded = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in _OURS]
    changed = [module for module in loaded if getattr(module, "datetime", None) is datetime]
    time.time = lambda: true_time() + seconds
    for module in changed:
        module.datetime = Skewed  # type: ignore[attr-defined]
    try:
        yield
    finally:
        time.time = true_time
        for module in changed:
            module.datetime = datetime  # type: ignore[attr-defined]


def pytest_collection_finish() -> None:
    _session.enter_context(skewed(float(os.environ["SKEW"])))


def pytest_unconfigure() -> None:
    _session.close()
