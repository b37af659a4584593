"""Failures on demand: a share of all requests fails in chosen ways."""

from __future__ import annotations

import random
from typing import Any

from lab.api.schema.errors import StatusError, bad_request, conflict, forbidden, internal, no_such_path

KINDS = ("429", "500", "503", "reset", "watch-end", "watch-410", "conflict", "webhook")
HIDING = ("404", "403", "503", "hang", "empty")
"""Ways in which a resource is hidden from everybody but the lab: `hang` never answers, `empty` has nothing in it."""
_VERBS = {
    "watch-end": {"watch"},
    "watch-410": {"watch"},
    "conflict": {"update", "patch"},
    "webhook": {"create", "update", "patch"},
}
_FEW = {"watch-end": 4, "watch-410": 4}  # a run has few watches, long ones: so many times the rate


class Faults:
    """What `POST /lab/faults` set: {"rate", "kinds", "seed", "all", "hidden"}; the lab itself is spared unless all.

    `hidden` says which resources (`pods`, `pods/log`, `discovery` for the lists of kinds) are hidden, and how.

    The rate is that of what may happen to any request, and again of each kind that only some verbs know, so that a
    short run meets those too. The requests of a verb fail evenly, each in the way made least often until then.
    """

    def __init__(self) -> None:
        self._rate, self._kinds, self._seed, self._all = 0.0, KINDS, 0, False
        self._hidden: dict[str, str] = {}
        self._start()

    def _start(self) -> None:
        self._random = random.Random(self._seed)
        self.made: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._faults: dict[str, int] = {}
        self._next: dict[str, float] = {}

    def show(self) -> dict[str, Any]:
        return {
            "rate": self._rate,
            "kinds": list(self._kinds),
            "seed": self._seed,
            "all": self._all,
            "hidden": dict(self._hidden),
            "made": dict(self.made),
        }

    def set(self, body: Any) -> None:
        """400 for a rate outside 0..1 or kinds that do not exist."""
        if not isinstance(body, dict) or not isinstance(body.get("rate"), int | float) or not 0 <= body["rate"] <= 1:
            raise bad_request('faults: {"rate": 0..1, "kinds": [...], "seed": number, "all": true|false}')
        kinds = tuple(body.get("kinds") or KINDS)
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise bad_request(f"unknown kinds of faults {unknown}; known: {', '.join(KINDS)}")
        hidden = dict(body.get("hidden") or {})
        if unknown := sorted(set(hidden.values()) - set(HIDING)):
            raise bad_request(f"unknown ways of hiding {unknown}; known: {', '.join(HIDING)}")
        self._rate, self._kinds, self._hidden = float(body["rate"]), kinds, hidden
        self._seed, self._all = int(body.get("seed") or 0), bool(body.get("all"))
        self._start()

    def draw(self, verb: str, own: bool) -> str:
        """The fault this request meets ('' for none); `own`: a component of the lab asks."""
        fitting = [kind for kind in self._kinds if verb in _VERBS.get(kind, {verb})]
        if not self._rate or not fitting or (own and not self._all) or not self._due(verb, self._share(fitting)):
            return ""
        rarest = min(self.made.get(kind, 0) for kind in fitting)
        kind = self._random.choice([kind for kind in fitting if self.made.get(kind, 0) == rarest])
        self.made[kind] = rarest + 1
        return kind

    def hides(self, resource: str, own: bool) -> str:
        """How a resource is hidden from whoever asks, '' where it is not."""
        return "" if own and not self._all else self._hidden.get(resource, "")

    def _share(self, fitting: list[str]) -> float:
        special = [kind for kind in fitting if kind in _VERBS]
        return min(1.0, self._rate * (sum(_FEW.get(kind, 1) for kind in special) + (len(special) < len(fitting))))

    def _due(self, verb: str, share: float) -> bool:
        asked, faults = self._asked.get(verb, 0), self._faults.get(verb, 0)
        self._asked[verb] = asked + 1
        due = self._next.setdefault(verb, self._random.random() / share)
        if asked < int(due):
            return False
        self._faults[verb] = faults + 1
        self._next[verb] = (faults + 1 + self._random.random()) / share
        return True


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


def hidden(how: str, plural: str, group: str, name: str) -> StatusError | None:
    """The answer of a way of hiding that is an answer."""
    match how:
        case "404":
            return no_such_path()
        case "403":
            return forbidden(plural, group, name, "it is hidden")
        case "503":
            return failure("503", plural, group, name)
    return None
