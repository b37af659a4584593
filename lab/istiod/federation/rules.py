"""Export and import rules: which services match, and under which names they go.

Rules are tried in order and the first match wins. A rule that makes no sense is left out, alone, with a log line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.istiod.federation.logs import ComponentLog
from lab.istiod.federation.names import LOCAL_SUFFIX, exports_suffix, imports_suffix

log = ComponentLog("federation")
Spec = Mapping[str, Any]
ANY = ("", "*")


@dataclass(frozen=True)
class ServiceKey:
    """The names of a service; all empty where it is not known under any."""

    hostname: str = ""
    name: str = ""
    namespace: str = ""


@dataclass(frozen=True)
class Candidate:
    """A service that rules look at."""

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)


class BadRule(ValueError):
    """A rule that cannot be used; the text says why."""


def _fits(pattern: str, value: str) -> bool:
    return pattern in ANY or pattern == value


def _alias(alias: Spec | None, name: str, namespace: str) -> tuple[str, str]:
    """Applies an alias to (name, namespace); empty and `*` parts keep the original."""
    new_name, new_namespace = ((alias or {}).get(part) or "" for part in ("name", "namespace"))
    return (name if new_name in ANY else new_name), (namespace if new_namespace in ANY else new_namespace)


def labels_match(selector: Spec | None, labels: Mapping[str, str]) -> bool:
    """Whether labels match a LabelSelector; an empty one matches all."""
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_expression(expression, labels) for expression in selector.get("matchExpressions") or ())


def _expression(expression: Spec, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise BadRule(f"error creating matcher: {expression['operator']!r} is not a valid pod selector operator")


@dataclass(frozen=True)
class NameRule:
    """`nameSelector`: a name and a namespace, `*` or nothing for any, and an alias."""

    selector: Spec

    def match(self, service: Candidate) -> tuple[str, str] | None:
        """(name, namespace) after the alias, or None."""
        name, namespace = (self.selector.get(part) or "" for part in ("name", "namespace"))
        if not (_fits(name, service.name) and _fits(namespace, service.namespace)):
            return None
        return _alias(self.selector.get("alias"), service.name, service.namespace)


@dataclass(frozen=True)
class LabelRule:
    """`labelSelector`: a namespace, labels, and aliases of which the first that matches holds."""

    selector: Spec

    def __post_init__(self) -> None:
        labels_match(self.selector.get("selector"), {})
        for expression in (self.selector.get("selector") or {}).get("matchExpressions") or ():
            _expression(expression, {})

    def match(self, service: Candidate) -> tuple[str, str] | None:
        """(name, namespace) after the alias, or None."""
        if not _fits(self.selector.get("namespace") or "", service.namespace):
            return None
        if not labels_match(self.selector.get("selector"), service.labels):
            return None
        for alias in self.selector.get("aliases") or ():
            found = NameRule(alias).match(service)
            if found is not None:
                return found
        return service.name, service.namespace


class ExportRules:
    """The rules of one ExportedServiceSet (None: nothing is exported)."""

    def __init__(self, export_set: Spec | None, peer: str) -> None:
        self._suffix = exports_suffix(peer)
        self._rules = _usable(export_set, "exportRules", "ServiceExports", self._parse)

    @staticmethod
    def _parse(rule: Spec) -> NameRule | LabelRule:
        match rule.get("type"):
            case "NameSelector":
                if rule.get("nameSelector") is None:
                    raise BadRule("null nameSelector")
                return NameRule(rule["nameSelector"])
            case "LabelSelector":
                if rule.get("labelSelector") is None:
                    raise BadRule("null labelSelector")
                return LabelRule(rule["labelSelector"])
        raise BadRule(f"unknown selector type {rule.get('type')}")

    def name_for(self, service: Candidate) -> ServiceKey | None:
        """The exported names of a local service, or None."""
        for rule in self._rules:
            found = rule.match(service)
            if found is not None:
                name, namespace = found
                return ServiceKey(f"{name}.{namespace}.{self._suffix}", name, namespace)
        return None


@dataclass(frozen=True)
class _ImportRule:
    names: NameRule
    suffix: str


class ImportRules:
    """The rules of one ImportedServiceSet (None: nothing is imported)."""

    def __init__(self, import_set: Spec | None, peer: str) -> None:
        self._default = ((import_set or {}).get("spec") or {}).get("domainSuffix") or imports_suffix(peer)
        self._rules = _usable(import_set, "importRules", "ServiceImports", self._parse)

    def _parse(self, rule: Spec) -> _ImportRule:
        if rule.get("type") != "NameSelector":
            raise BadRule(f"unknown selector type {rule.get('type')}")
        selector = rule.get("nameSelector")
        if selector is None:
            raise BadRule("null nameSelector")
        suffix = rule.get("domainSuffix") or self._default
        if rule.get("importAsLocal"):
            if ((selector.get("alias") or {}).get("namespace") or "") in ANY:
                raise BadRule("cannot use importAsLocal without setting a fixed namespace alias")
            suffix = LOCAL_SUFFIX
        elif suffix == LOCAL_SUFFIX:
            raise BadRule("cannot use domainSuffix that matches the cluster domain suffix, use importAsLocal instead")
        return _ImportRule(NameRule(selector), suffix)

    def name_for(self, name: str, namespace: str) -> ServiceKey | None:
        """The local names of a service exported as `name` and `namespace`, or None."""
        for rule in self._rules:
            found = rule.names.match(Candidate(name, namespace))
            if found is not None:
                return ServiceKey(f"{found[0]}.{found[1]}.{rule.suffix}", *found)
        return None


def _usable(service_set: Spec | None, rules: str, kind: str, parse: Any) -> list[Any]:
    if service_set is None:
        return []
    meta = service_set["metadata"]
    usable = []
    for index, rule in enumerate((service_set.get("spec") or {}).get(rules) or ()):
        try:
            usable.append(parse(rule))
        except BadRule as error:
            log.error("skipping rule %d in %s %s/%s: %s", index, kind, meta.get("namespace"), meta["name"], error)
    return usable


def locality_labels(import_set: Spec | None) -> tuple[tuple[str, str], ...]:
    """Topology labels of imported endpoints; a locality with a gap (zone without region) is dropped whole."""
    locality = ((import_set or {}).get("spec") or {}).get("locality") or {}
    region, zone, subzone = (locality.get(part) or "" for part in ("region", "zone", "subzone"))
    if not region or (subzone and not zone):
        return ()
    labels = {"topology.kubernetes.io/region": region}
    if zone:
        labels["topology.kubernetes.io/zone"] = zone
    if subzone:
        labels["topology.istio.io/subzone"] = subzone
    return tuple(sorted(labels.items()))
