"""Waits with a deadline whose failure says what was seen last. The only place of the suite that lets time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

T = TypeVar("T")


class WaitTimeout(Exception):
    """Something did not become true in time.

    mesh: where; what: what was waited for; waited: seconds; last: the last observation in words.
    """

    def __init__(self, mesh: str, what: str, waited: float, last: str, hint: str = "") -> None:
        self.mesh, self.what, self.waited, self.last, self.hint = mesh, what, waited, last, hint
        advice = f". {hint}" if hint else ""
        super().__init__(f"{mesh}: waited {waited:.0f} s for {what}; last seen: {last or 'nothing'}{advice}")


class Cancelled(Exception):
    """The wait was given up because the run is being ended."""


@dataclass
class Deadline:
    """A moment on the monotonic clock, and since when it is being waited for."""

    timeout: float

    def __post_init__(self) -> None:
        self._start = time.monotonic()

    @property
    def waited(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.timeout - self.waited)

    @property
    def passed(self) -> bool:
        return self.left <= 0


def pause(seconds: float, cancelled: Event | None = None) -> None:
    """Lets time pass between two looks; raises Cancelled as soon as the event is set."""
    if (cancelled or Event()).wait(seconds):
        raise Cancelled


class Pauses:
    """Paces a stream that is opened again whenever it ends: at once after it gave something or lived for a while.

    While streams end at once with nothing, the pauses grow from `first` to `longest` seconds.
    """

    def __init__(self, first: float = 0.1, longest: float = 2.0) -> None:
        self._first, self._longest, self._vain, self._since = first, longest, 0, time.monotonic()

    def next(self, gave: bool) -> float:
        """Seconds to let pass now; `gave`: whether anything new came from the stream that has just ended."""
        lived = time.monotonic() - self._since
        self._vain = 0 if gave or lived > self._longest else self._vain + 1
        found = min(self._first * 2 ** min(self._vain - 1, 10), self._longest) if self._vain else 0.0
        self._since = time.monotonic() + found
        return found


def wait_for(
    what: str,
    probe: Callable[[], tuple[T | None, str]],
    timeout: float,
    mesh: str = "both meshes",
    interval: float = 0.25,
    cancelled: Event | None = None,
    hint: str = "",
    seen: Callable[[str], None] = lambda _: None,
) -> T:
    """Asks `probe` until it has an answer, for what the Kubernetes API cannot watch (sockets, HTTP, DNS).

    `probe` returns (answer, observation): the first answer that is not None is returned, the observation of the last
    try is in the WaitTimeout, `seen` is told each of them. It is asked at least once, every `interval` seconds, for
    `timeout` seconds.
    """
    deadline = Deadline(timeout)
    while True:
        answer, last = probe()
        if answer is not None:
            return answer
        seen(last)
        if deadline.passed:
            raise WaitTimeout(mesh, what, deadline.waited, last, hint)
        pause(min(interval, deadline.left), cancelled)


def settled(
    look: Callable[[], T],
    timeout: float,
    problem: Callable[[T], str],
    passing: type[Exception] | tuple[type[Exception], ...] = (),
    interval: float = 0.25,
    seen: Callable[[str], None] = lambda _: None,
) -> T:
    """What `look` finds as soon as there is no problem with it, else what it finds, or raises, when the time is over.

    For what proxies do: a status is written before they have heard of it, and whoever is connected is cut when they
    get a new listener, so only what lasts is a finding. `problem` says '' for none; `passing`: errors that may pass,
    but for those that say of themselves that they are `lasting`;
    `seen` is told of each problem. Asked at least once, every `interval` seconds, for `timeout` seconds.
    """
    deadline = Deadline(timeout)
    while True:
        last = deadline.passed
        try:
            found = look()
            trouble = problem(found)
            if last or not trouble:
                return found
        except passing as error:
            if last or getattr(error, "lasting", False):
                raise
            trouble = str(error)
        seen(trouble)
        pause(min(interval, deadline.left))
