"""Rules of sets as istiod reads them: in order, the first that takes a service names it; some it leaves out.

Pure functions of specs; the product gives the reasons for what is left out in istiod's log alone, scope federation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from harness.cluster.transport import Object, Objects
from harness.diagnosis.policies import selects
from harness.product.names import CLUSTER_DOMAIN, imports_domain

LOCAL_SUFFIX = f"svc.{CLUSTER_DOMAIN}"
_ANY = (None, "", "*")
_SELECTORS = {"NameSelector": "nameSelector", "LabelSelector": "labelSelector"}
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


class Names(NamedTuple):
    """Under which a service is offered, or exists."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Rule:
    """One rule of a set.

    where: its place, such as `importRules[0]`; suffix: of the host names that an import rule gives; ignored: why
    istiod leaves it out, '' where it does not; repair: what would have it taken up.
    """

    where: str
    body: Object
    suffix: str = ""
    ignored: str = ""
    repair: str = ""

    @property
    def selector(self) -> Object:
        """What it selects by; where its type is wrong, what it would."""
        field = _SELECTORS.get(self.body.get("type", ""), "")
        found: Object = self.body.get(field) or self.body.get("nameSelector") or self.body.get("labelSelector") or {}
        return found

    @property
    def by_labels(self) -> bool:
        return self.selector is self.body.get("labelSelector")

    @property
    def asked(self) -> Names | None:
        """The one service that it names, None where it may take several."""
        if self.by_labels or not all(_fixed(self.selector.get(part)) for part in Names._fields):
            return None
        return Names(self.selector["namespace"], self.selector["name"])

    def __str__(self) -> str:
        selector = self.selector
        wanted = Names(selector.get("namespace") or "*", selector.get("name") or "*")
        what = f"{wanted.namespace}, {_labels_text(selector.get('selector'))}" if self.by_labels else str(wanted)
        return f"{self.where} ({self.body.get('type')} {what})"

    def misfit(self, service: Names, labels: Mapping[str, str]) -> str:
        """Which of its clauses does not fit a service, '' where all do."""
        selector = self.selector
        if selector.get("namespace") not in (*_ANY, service.namespace):
            return "another namespace"
        if self.by_labels:
            wanted = selector.get("selector")
            # With an operator that there is not, nobody can say whom it takes: it may well have been meant for this.
            fits = _unknown_operator(wanted) or selects(wanted, {"metadata": {"labels": dict(labels)}})
            return "" if fits else f"{service.name} is labelled {_pairs(labels) or 'with nothing'}"
        return "" if selector.get("name") in (*_ANY, service.name) else "another name"

    def names(self, service: Names) -> Names:
        """What a service that it takes is called after its alias."""
        alias = self.selector.get("alias") or {}
        if self.by_labels:
            aliases: Objects = self.selector.get("aliases") or []
            alias = next((entry.get("alias") or {} for entry in aliases if _fits(entry, service)), {})
        return Names(*(own if alias.get(part) in _ANY else alias[part] for part, own in service._asdict().items()))

    def host(self, service: Names) -> str:
        """Host name that an import rule gives a service that it takes."""
        names = self.names(service)
        return f"{names.name}.{names.namespace}.{self.suffix}"


class Choice(NamedTuple):
    """Which rule takes a service, else the first of those that would if istiod did not leave them out."""

    taken: Rule | None
    ignored: Rule | None


def choice(rules: Iterable[Rule], service: Names, labels: Mapping[str, str] | None = None) -> Choice:
    """Who decides on a service."""
    fitting = [rule for rule in rules if not rule.misfit(service, labels or {})]
    taken = next((rule for rule in fitting if not rule.ignored), None)
    return Choice(taken, next((rule for rule in fitting if rule.ignored), None))


def export_rules(found: Object) -> list[Rule]:
    """The rules of an ExportedServiceSet."""
    return _rules(found, "exportRules", lambda body: ("", *_flaw(body, tuple(_SELECTORS))))


def import_rules(found: Object, peer: str) -> list[Rule]:
    """The rules of the ImportedServiceSet for a peer."""
    usual = found["spec"].get("domainSuffix") or f"svc.{imports_domain(peer)}"

    def read(body: Object) -> tuple[str, str, str]:
        local, suffix = body.get("importAsLocal"), body.get("domainSuffix") or usual
        ignored, repair = _flaw(body, ("NameSelector",))
        alias = (body.get("nameSelector") or {}).get("alias") or {}
        if not ignored and local and alias.get("namespace") in _ANY:
            ignored, repair = "importAsLocal needs a fixed alias.namespace", "Set nameSelector.alias.namespace"
        elif not ignored and not local and suffix == LOCAL_SUFFIX:
            ignored = f"its domainSuffix is {suffix}, which is the cluster's own"
            repair = f"domainSuffix must differ from {suffix}: drop it, or set importAsLocal"
        return LOCAL_SUFFIX if local else suffix, ignored, repair

    return _rules(found, "importRules", read)


def _rules(found: Object, field: str, read: Callable[[Object], tuple[str, str, str]]) -> list[Rule]:
    bodies = found["spec"].get(field) or []
    return [Rule(f"{field}[{number}]", body, *read(body)) for number, body in enumerate(bodies)]


def _flaw(body: Object, types: tuple[str, ...]) -> tuple[str, str]:
    """Why a rule of any kind is left out, and what to do about it."""
    kind = body.get("type", "")
    if kind not in types:
        meant = next((known for known in types if known.lower() == kind.lower()), " or ".join(types))
        return f"its type is {kind!r}", f"Write type: {meant}; istiod knows no other spelling and no other type here"
    if body.get(_SELECTORS[kind]) is None:
        return f"it has no {_SELECTORS[kind]}", f"Give it a {_SELECTORS[kind]}"
    if operator := _unknown_operator(body[_SELECTORS[kind]].get("selector")):
        return f"its operator is {operator!r}", f"Use one of {', '.join(_OPERATORS)}"
    return "", ""


def _unknown_operator(selector: Object | None) -> str:
    operators = (entry["operator"] for entry in (selector or {}).get("matchExpressions") or [])
    return next((operator for operator in operators if operator not in _OPERATORS), "")


def _fixed(name: str | None) -> bool:
    return name not in _ANY


def _fits(entry: Object, service: Names) -> bool:
    return all(entry.get(part) in (*_ANY, own) for part, own in service._asdict().items())


def _labels_text(selector: Object | None) -> str:
    parts = [_pairs((selector or {}).get("matchLabels") or {})]
    for entry in (selector or {}).get("matchExpressions") or []:
        parts.append(" ".join([entry["key"], entry["operator"], *(entry.get("values") or [])]))
    return ", ".join(filter(None, parts)) or "any labels"


def _pairs(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
