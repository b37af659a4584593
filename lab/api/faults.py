"""Failures on demand: a share of all requests fails in chosen ways."""

from __future__ import annotations

import random
from typing import Any

from lab.api.errors import StatusError, bad_request, conflict, internal

KINDS = ("429", "500", "503", "reset", "watch-end", "watch-410", "conflict", "webhook")
_VERBS = {
    "watch-end": {"watch"},
    "watch-410": {"watch"},
    "conflict": {"update", "patch"},
    "webhook": {"create", "update", "patch"},
}


class Faults:
    """What `POST /lab/faults` set: {"rate", "kinds", "seed", "all"}; the lab's own components are spared unless all."""

    def __init__(self) -> None:
        self._rate, self._kinds, self._seed, self._all = 0.0, KINDS, 0, False
        self._random = random.Random(0)
        self.made: dict[str, int] = {}

    def show(self) -> dict[str, Any]:
        return {
            "rate": self._rate,
            "kinds": list(self._kinds),
            "seed": self._seed,
            "all": self._all,
            "made": dict(self.made),
        }

    def set(self, body: Any) -> None:
        """400 for a rate outside 0..1 or kinds that do not exist."""
        if not isinstance(body, dict) or not isinstance(body.get("rate"), int | float) or not 0 <= body["rate"] <= 1:
            raise bad_request('faults: {"rate": 0..1, "kinds": [...], "seed": number, "all": true|false}')
        kinds = tuple(body.get("kinds") or KINDS)
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise bad_request(f"unknown kinds of faults {unknown}; known: {', '.join(KINDS)}")
        self._rate, self._kinds = float(body["rate"]), kinds
        self._seed, self._all = int(body.get("seed") or 0), bool(body.get("all"))
        self._random = random.Random(self._seed)
        self.made = {}

    def draw(self, verb: str, own: bool) -> str:
        """The fault this request meets ('' for none); `own`: a component of the lab asks."""
        if not self._rate or (own and not self._all) or self._random.random() >= self._rate:
            return ""
        fitting = [kind for kind in self._kinds if verb in _VERBS.get(kind, {verb})]
        if not fitting:
            return ""
        kind = self._random.choice(fitting)
        self.made[kind] = self.made.get(kind, 0) + 1
        return kind


def failure(kind: str, plural: str, group: str, name: str) -> StatusError | None:
    """The answer of a fault that is an answer."""
    match kind:
        case "429":
            text = "the server has received too many requests and has asked us to try again later"
            return StatusError(429, "TooManyRequests", text, {"retryAfterSeconds": 1}, {"Retry-After": "1"})
        case "500":
            return internal("injected fault")
        case "503":
            return StatusError(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        case "conflict":
            return conflict(plural, group, name)
        case "webhook":
            return internal('failed calling webhook "injected.fault": failed to call webhook: connection refused')
    return None
