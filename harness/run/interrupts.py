"""Ctrl-C and SIGTERM: what they do to a run, and while it ends its work or cleans up after itself."""

from __future__ import annotations

import concurrent.futures
import math
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO_SECONDS = 0.1  # `timeout` and tox tell the process and then its group; nobody presses Ctrl-C twice that fast
_ONE_INTERRUPT_SECONDS = 2.0  # pytest, interrupted again while it writes the first one up, dies without its own end
_MISSED_SECONDS = 0.5  # at most, until a signal that woke nobody is acted upon

_REMOVING = "removing what this run made; once more to leave it behind"


class _Echo:
    """Tells signals apart from those that only repeat the one before."""

    def __init__(self) -> None:
        self._last = -math.inf

    def heard(self, seconds: float = ECHO_SECONDS) -> bool:
        """Whether one was acted upon less than so many seconds before the signal that is being handled."""
        now = time.monotonic()
        if now - self._last < seconds:
            return True
        self._last = now
        return False


_echo = _Echo()


_hurries: list[Callable[[], None]] = []


@contextmanager
def hurried_by(hurry: Callable[[], None]) -> Iterator[None]:
    """While the block runs, a run that is interrupted already answers Ctrl-C and SIGTERM with `hurry`."""
    _hurries.append(hurry)
    try:
        yield
    finally:
        _hurries.remove(hurry)


def interrupt_on_signals() -> Callable[[], None]:
    """From now on Ctrl-C and SIGTERM raise KeyboardInterrupt in the main thread; one right after does nothing.

    Gives what puts back the handlers that were there before.

    Later ones do what `hurried_by` says: raised in the midst of a teardown, KeyboardInterrupt would end it without the
    removal of what the run made.
    """
    told = False

    def handle(number: int, *_: object) -> None:
        nonlocal told
        if _echo.heard(_ONE_INTERRUPT_SECONDS):
            return
        if told and _hurries:
            for hurry in _hurries:
                _apart(hurry)
            return
        told = True
        raise KeyboardInterrupt(*(["SIGTERM"] if number == signal.SIGTERM else []))

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    return lambda: _put_back(before)


def _put_back(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, old in handlers.items():
        # None: it was not Python that had set it, and Python cannot set it again.
        signal.signal(number, signal.SIG_DFL if old is None else old)


def until_one_fails(tasks: Collection[Future[Any]]) -> set[Future[Any]]:
    """Waits until one of the tasks has raised something, or all are done; gives those that are done.

    Looks up now and then: a signal that comes just as Python's main thread begins to wait on a lock does not wake it.
    """
    while True:
        done, left = concurrent.futures.wait(tasks, _MISSED_SECONDS, concurrent.futures.FIRST_EXCEPTION)
        if not left or any(not task.cancelled() and task.exception() for task in done):
            return done


@contextmanager
def _handled_by(handle: Callable[[int], None]) -> Iterator[None]:
    # Signals belong to the main thread: elsewhere nothing is changed.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def heard(number: int, *_: object) -> None:
        if not _echo.heard():
            handle(number)

    before = {number: signal.signal(number, heard) for number in _SIGNALS}
    try:
        yield
    finally:
        _put_back(before)


def _apart(work: Callable[[], None]) -> None:
    # A handler runs in the midst of the main thread, which may hold the very lock that the work needs.
    threading.Thread(target=work, daemon=True, name="signal").start()


@contextmanager
def undisturbed(hurry: Callable[[], None]) -> Iterator[None]:
    """While the block runs, Ctrl-C and SIGTERM only call `hurry`; a KeyboardInterrupt follows at its end."""
    came = False

    def handle(_: int) -> None:
        nonlocal came
        came = True
        _apart(hurry)

    with _handled_by(handle):
        yield
    if came:
        raise KeyboardInterrupt


@contextmanager
def patient_with(
    interrupted: bool, say: Callable[[str], None], give_up: Callable[[], None], words: str = _REMOVING
) -> Iterator[None]:
    """While the block runs, the run's first Ctrl-C or SIGTERM is answered with `words`, the second one with `give_up`.

    interrupted: whether the first one was before the block.
    """
    count = int(interrupted)

    def handle(_: int) -> None:
        nonlocal count
        count += 1
        if count == 1:
            _apart(lambda: say(words))
        else:
            _apart(give_up)

    with _handled_by(handle):
        yield
