"""Links of what the meshes offer each other: exports, imports, and what is exposed beyond them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.cluster import kinds
from harness.cluster.transport import ClusterError, Object, Objects
from harness.diagnosis.commands import of_scenario
from harness.diagnosis.installation_links import absent
from harness.diagnosis.leader import missing_writer
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.set_rules import LOCAL_SUFFIX, Names, Rule, choice, export_rules, import_rules
from harness.product.names import ALIAS_NAMESPACE, CLUSTER_DOMAIN, SHARED, exported_name, imported_host, imports_domain
from harness.product.status import PeerStatus, ServiceEntry, exported_services, imported_services

Listed = Sequence[ServiceEntry]


def exports(facts: Facts) -> Link:
    """mesh1 exports ratings and mongodb; what else it exports breaks no request, see `exposure`."""
    mesh, kind = facts.mesh1, kinds.EXPORTS
    look = Look("exports", mesh.names.name, f"{kind} {mesh.system}/{mesh.names.peer}, Services in {mesh.app}")
    found = mesh.find(kind, mesh.names.peer)
    if found is None:
        return absent(look, mesh, kind, "export-set-misnamed", of_scenario(mesh.names, kind.kind, mesh.names.peer))
    listed = exported_services(found)
    if listed is None and (unwritten := _unwritten(look, mesh)):
        return unwritten
    if broken := _of_all({name: _not_exported(look, mesh, found, listed, name) for name in SHARED}):
        return broken
    if listed is None:
        return look.broken("not-exported-yet", "it has no status", name=mesh.names.peer)
    return look.ok(_text(listed))


def _put_first(mesh: MeshFacts, found: Object, field: str) -> Objects:
    """The JSON patch by which the scenario's rules come first in a set, where they decide; the others stay."""
    wanted = of_scenario(mesh.names, found["kind"], mesh.names.peer)
    right: Objects = wanted["spec"][field] if wanted else []
    if found["spec"].get("domainSuffix"):
        right = [{**rule, "domainSuffix": f"svc.{imports_domain(mesh.names.peer)}"} for rule in right]
    if not isinstance(found["spec"].get(field), list):
        return [{"op": "add", "path": f"/spec/{field}", "value": right}]
    return [{"op": "add", "path": f"/spec/{field}/0", "value": rule} for rule in reversed(right)]


def _not_exported(look: Look, mesh: MeshFacts, found: Object, listed: Listed | None, name: str) -> Link | None:
    """The link where a set does not offer a service under its name, or None."""
    rules, names, expected = export_rules(found), Names(mesh.app, name), exported_name(name, mesh.names.peer)
    values: dict[str, Any]
    service = mesh.find(kinds.SERVICE, name, mesh.app)
    if service is None:
        return look.broken("export-service-missing", f"there is no Service {names}", service=name, names=names)
    labels = service["metadata"].get("labels") or {}
    rule, ignored = choice(rules, names, labels)
    if rule is None and ignored:
        return _ignored(look, "export-rule-ignored", ignored, name, _put_first(mesh, found, "exportRules"))
    if rule is None:
        known = {Names(mesh.app, obj["metadata"]["name"]) for obj in mesh.all(kinds.SERVICE, mesh.app)}
        detail = f"no rule takes Service {names}; {_misfits(rules, names, labels, known)}"
        values = {"service": name, "names": names, "rules": _put_first(mesh, found, "exportRules")}
        return look.broken("export-rule-no-match", detail, detail=detail, **values)
    alias = rule.names(names)
    values = {"service": name, "rule": rule, "expected": expected}
    if alias != Names(ALIAS_NAMESPACE, name):
        seen = f"{alias.name}.{alias.namespace}.{expected.split('.', 2)[2]}"
        values |= {"alias": ALIAS_NAMESPACE, "rules": _put_first(mesh, found, "exportRules")}
        return look.broken("exported-under-another-name", f"{seen} instead of {expected}", seen=seen, **values)
    if listed is not None and ServiceEntry(expected, f"{name}.{mesh.app}.svc.{CLUSTER_DOMAIN}") not in listed:
        detail = f"{expected} is not listed, only: {_text(listed)}"
        return look.broken("export-not-listed", detail, detail=detail, **values)
    return None


def exposure(facts: Facts) -> Link:
    """mesh1 exports nothing that it was not asked for."""
    mesh, kind = facts.mesh1, kinds.EXPORTS
    look = Look("exposure", mesh.names.name, f"{kind} {mesh.system}/{mesh.names.peer}")
    found = mesh.find(kind, mesh.names.peer)
    listed = exported_services(found) if found else None
    if listed is None:
        return look.unknown("nothing says what is exported")
    wanted = {f"{name}.{mesh.app}.svc.{CLUSTER_DOMAIN}" for name in SHARED}
    if surplus := [entry for entry in listed if entry.hostname not in wanted]:
        names = ", ".join(entry.hostname.split(".")[0] or entry.exported_name for entry in surplus)
        return look.broken("surplus-export", names, service=names)
    return look.ok(f"nothing beyond {', '.join(SHARED)}")


def imports(facts: Facts) -> Link:
    """mesh2 imports ratings and mongodb under the names that its routes use."""
    mesh, kind = facts.mesh2, kinds.IMPORTS
    look = Look("imports", mesh.names.name, f"{kind} {mesh.system}/{mesh.names.peer}")
    found = mesh.find(kind, mesh.names.peer)
    if found is None:
        return absent(look, mesh, kind, "import-set-misnamed", of_scenario(mesh.names, kind.kind, mesh.names.peer))
    listed = imported_services(found)
    if listed is None and (unwritten := _unwritten(look, mesh)):
        return unwritten
    if broken := _of_all({name: _not_imported(look, facts, found, listed or (), name) for name in SHARED}):
        return broken
    return look.ok(_text(listed or ()))


def _not_imported(look: Look, facts: Facts, found: Object, listed: Listed, name: str) -> Link | None:
    """The link where a set does not give a service the name that routes use, or None."""
    mesh, names = facts.mesh2, Names(ALIAS_NAMESPACE, name)
    rules = import_rules(found, mesh.names.peer)
    expected = imported_host(name, mesh.app, mesh.names.peer)
    rule, ignored = choice(rules, names)
    if rule is None and ignored:
        return _ignored(look, "import-rule-ignored", ignored, name, _put_first(mesh, found, "importRules"))
    if rule is None:
        detail = f"no rule takes {names}, as which {mesh.names.peer} offers it; {_misfits(rules, names)}"
        if any(rule.selector.get("namespace") == facts.mesh1.app for rule in rules):
            detail += f"; rules see the alias {ALIAS_NAMESPACE}, not {facts.mesh1.app}"
        first = _put_first(mesh, found, "importRules")
        return look.broken("import-rule-no-match", detail, service=name, detail=detail, rules=first)
    if rule.body.get("importAsLocal"):
        hosts = ", ".join(entry.hostname for entry in listed if entry.exported_name.startswith(f"{name}."))
        seen = hosts or "importAsLocal"
        first = _put_first(mesh, found, "importRules")
        return look.broken("import-as-local", seen, service=name, seen=seen, expected=expected, rules=first)
    values: dict[str, Any] = {"service": name, "rule": rule, "expected": expected}
    if (seen := rule.host(names)) != expected:
        change = _change(rule, names, mesh)
        values["rules"] = _put_first(mesh, found, "importRules")
        return look.broken(
            "imported-under-another-name", f"{seen} instead of {expected}", seen=seen, change=change, **values
        )
    if not any(entry.hostname == expected for entry in listed):
        detail = f"{expected} is not listed, only: {_text(listed)}"
        return look.broken("not-imported-yet", detail, detail=detail, **values)
    return None


def _change(rule: Rule, names: Names, mesh: MeshFacts) -> str:
    """What would have a rule give the name that routes use."""
    alias, parts = rule.names(names), []
    if alias.name != names.name:
        parts.append(f"drop nameSelector.alias.name {alias.name} of {rule.where}")
    if alias.namespace != mesh.app:
        parts.append(f"set nameSelector.alias.namespace: {mesh.app} in {rule.where}")
    if rule.suffix != f"svc.{imports_domain(mesh.names.peer)}":
        owner = rule.where if rule.body.get("domainSuffix") else "the set"
        parts.append(f"drop domainSuffix {rule.suffix} of {owner}")
        if LOCAL_SUFFIX.endswith(rule.suffix):
            parts.append(f"domainSuffix must differ from {rule.suffix}, where the cluster's own Services are")
    return "; ".join(parts)


def _unwritten(look: Look, mesh: MeshFacts) -> Link | None:
    """The link where a set has no status because nobody writes any: istiod's pods still write that of the peer."""
    if not mesh.peer or not PeerStatus.of(mesh.peer).views:
        return None
    with contextlib.suppress(ClusterError):
        if reason := missing_writer(mesh):
            return look.broken("leader-missing", f"it has no status; {reason}", detail=reason)
    return None


def _of_all(found: Mapping[str, Link | None]) -> Link | None:
    """The first service's broken link, which names the other services that are broken too; None where none is."""
    broken = {name: link for name, link in found.items() if link}
    if not broken:
        return None
    first, *others = broken.values()
    same = [name for name, link in broken.items() if link is not first and link.cause == first.cause]
    more = [f"So it is with {', '.join(same)}."] if same else []
    more += [link.sentence for link in others if link.cause != first.cause]
    return replace(first, sentence=" ".join([first.sentence, *more]))


def _ignored(look: Look, cause: str, rule: Rule, service: str, first: Objects) -> Link:
    seen, values = f"{rule} is left out: {rule.ignored}", {"detail": rule.ignored, "repair": rule.repair}
    return look.broken(cause, seen, rule=rule, service=service, rules=first, **values)


def _misfits(
    rules: Sequence[Rule],
    names: Names,
    labels: Mapping[str, str] | None = None,
    known: Collection[Names] = (),
) -> str:
    """Which clause of each rule does not fit; `known`: the Services of the namespace, where rules select Services."""

    def clause(rule: Rule) -> str:
        asked = rule.asked
        if known and asked and asked.namespace == names.namespace and asked not in known:
            return f"there is no Service {asked}"
        return rule.misfit(names, labels or {})

    return "; ".join(f"{rule}: {clause(rule)}" for rule in rules) or "it has no rules"


def _text(listed: Listed) -> str:
    return ", ".join(map(str, listed)) or "nothing"
