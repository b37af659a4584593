"""Links of what the meshes offer each other: exports, imports."""

from __future__ import annotations

import contextlib

from harness import kinds
from harness.diagnosis.facts import Facts, MeshFacts
from harness.diagnosis.leader import missing_writer
from harness.diagnosis.model import Link, Look
from harness.peering import CLUSTER_DOMAIN, SHARED, exported_name
from harness.status import PeerStatus, ServiceEntry, exported_services, imported_services
from harness.transport import ClusterError, Object


def _sets(mesh: MeshFacts, kind: kinds.Kind) -> tuple[Object | None, str]:
    """The set that belongs to the peer, and the names of those that do not."""
    others = [obj["metadata"]["name"] for obj in mesh.all(kind) if obj["metadata"]["name"] != mesh.names.peer]
    return mesh.find(kind, mesh.names.peer), f", only {', '.join(others)}" if others else ""


def _unwritten(look: Look, mesh: MeshFacts) -> Link | None:
    """The link where a set has no status because nobody writes any: istiod's pods still write that of the peer."""
    if not mesh.peer or not PeerStatus.of(mesh.peer).views:
        return None
    with contextlib.suppress(ClusterError):
        if reason := missing_writer(mesh):
            return look.broken("leader-missing", f"it has no status; {reason}", detail=reason, istiod=mesh.names.istiod)
    return None


def exports(facts: Facts) -> Link:
    """mesh1 exports ratings and mongodb, and nothing else."""
    mesh, kind = facts.mesh1, kinds.EXPORTS
    look = Look("exports", mesh.names.name, f"{kind} {mesh.system}/{mesh.names.peer}")
    found, detail = _sets(mesh, kind)
    if found is None:
        values = {"name": mesh.names.peer, "system": mesh.system, "detail": detail}
        return look.broken("export-set-misnamed", f"there is none{detail}", **values)
    wanted = [
        ServiceEntry(exported_name(name, mesh.names.peer), f"{name}.{mesh.app}.svc.{CLUSTER_DOMAIN}") for name in SHARED
    ]
    listed = exported_services(found)
    if listed is None and (unwritten := _unwritten(look, mesh)):
        return unwritten
    for name, entry in zip(SHARED, wanted, strict=True):
        if not any(_exports(rule, mesh.app, name) for rule in found["spec"].get("exportRules") or []):
            rules = _rules(found, "exportRules")
            seen = f"no rule takes {mesh.app}/{name}; rules: {rules}"
            return look.broken("export-rule-no-match", seen, service=name, detail=seen)
        if listed is not None and entry not in listed:
            seen = f"{entry} is not listed, only: {', '.join(map(str, listed)) or 'nothing'}"
            return look.broken("export-rule-no-match", seen, service=name, detail=seen)
    if listed is None:
        return look.broken("not-exported-yet", "it has no status", name=mesh.names.peer)
    if surplus := [entry for entry in listed if entry not in wanted]:
        names = ", ".join(entry.hostname.split(".")[0] or entry.exported_name for entry in surplus)
        return look.broken("surplus-export", names, service=names)
    return look.ok(", ".join(map(str, listed)))


def imports(facts: Facts) -> Link:
    """mesh2 imports ratings and mongodb under the names that its routes use."""
    mesh, kind = facts.mesh2, kinds.IMPORTS
    look = Look("imports", mesh.names.name, f"{kind} {mesh.system}/{mesh.names.peer}")
    found, detail = _sets(mesh, kind)
    if found is None:
        values = {"name": mesh.names.peer, "system": mesh.system, "detail": detail}
        return look.broken("import-set-misnamed", f"there is none{detail}", **values)
    listed = imported_services(found)
    if listed is None and (unwritten := _unwritten(look, mesh)):
        return unwritten
    listed = listed or ()
    for name in SHARED:
        wanted = f"{name}.{mesh.app}.svc.{mesh.names.peer}-imports.local"
        rules = [rule for rule in found["spec"].get("importRules") or [] if _imports(rule, "bookinfo", name)]
        if not rules:
            seen = f"no rule takes bookinfo/{name}; rules: {_rules(found, 'importRules')}"
            return look.broken("import-rule-no-match", seen, service=name, detail=seen)
        if rules[0].get("importAsLocal"):
            hosts = ", ".join(entry.hostname for entry in listed if entry.exported_name.startswith(f"{name}."))
            seen = hosts or "importAsLocal"
            return look.broken("import-as-local", seen, service=name, seen=seen, expected=wanted)
        if not any(entry.hostname == wanted for entry in listed):
            seen = f"{name} is not listed, only: {', '.join(map(str, listed)) or 'nothing'}"
            return look.broken("not-imported-yet", seen, service=name)
    return look.ok(", ".join(map(str, listed)))


def _exports(rule: Object, namespace: str, name: str) -> bool:
    """Whether an export rule takes a service; of a label selector only the namespace is looked at."""
    selector = rule.get("nameSelector") or {}
    if rule.get("type") == "LabelSelector":
        return (rule.get("labelSelector") or {}).get("namespace") in (None, "", "*", namespace)
    return rule.get("type") == "NameSelector" and _takes(selector, namespace, name)


def _imports(rule: Object, namespace: str, name: str) -> bool:
    """Whether an import rule takes an exported name."""
    return rule.get("type") == "NameSelector" and _takes(rule.get("nameSelector") or {}, namespace, name)


def _takes(selector: Object, namespace: str, name: str) -> bool:
    return selector.get("namespace") in (None, "", "*", namespace) and selector.get("name") in (None, "", "*", name)


def _rules(found: Object, field: str) -> str:
    shown = []
    for rule in found["spec"].get(field) or []:
        selector = rule.get("nameSelector") or rule.get("labelSelector") or {}
        shown.append(f"{rule.get('type')} {selector.get('namespace') or '*'}/{selector.get('name') or '*'}")
    return ", ".join(shown) or "none"
