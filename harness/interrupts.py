"""Ctrl-C and SIGTERM while a run cleans up after itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def patient_with(interrupted: bool, say: Callable[[str], None], give_up: Callable[[], None]) -> Iterator[None]:
    """While the block runs, the run's first Ctrl-C or SIGTERM is answered with words, the second one with `give_up`.

    interrupted: whether the first one was before the block. Signals belong to the main thread: elsewhere nothing is
    changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    count = int(interrupted)

    def handle(*_: object) -> None:
        nonlocal count
        count += 1
        if count == 1:
            say("removing what this run made; once more to leave it behind")
        else:
            give_up()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
