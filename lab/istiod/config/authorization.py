"""AuthorizationPolicies as Envoy RBAC filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lab.istiod.config.blocks import Block, typed
from lab.istiod.knobs import opens_ingress
from lab.istiod.store import Mesh, Proxy

_HTTP_ONLY = ("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths")


def http_filters(mesh: Mesh, proxy: Proxy) -> list[Block]:
    """HTTP filters for the policies that hold for a proxy: the denying one first, then the allowing one."""
    return [
        typed("envoy.filters.http.rbac", "extensions.filters.http.rbac.v3.RBAC", rules=rules)
        for rules in _rules(mesh, proxy, http=True)
    ]


def network_filters(mesh: Mesh, proxy: Proxy) -> list[Block]:
    """The same for TCP. What only HTTP has is ignored in DENY rules; ALLOW rules that need it allow nothing."""
    return [
        typed("envoy.filters.network.rbac", "extensions.filters.network.rbac.v3.RBAC", rules=rules, stat_prefix="tcp.")
        for rules in _rules(mesh, proxy, http=False)
    ]


def _rules(mesh: Mesh, proxy: Proxy, http: bool) -> list[Block]:
    if proxy.kind == "router" and opens_ingress(mesh.knobs):
        return []
    found = []
    for action in ("DENY", "ALLOW"):
        chosen = mesh.policies(proxy, action)
        if not chosen:
            continue
        policies: Block = {}
        for policy in chosen:
            for index, rule in enumerate(policy.spec.get("rules") or ()):
                if built := _policy(mesh, rule, http, action):
                    policies[f"ns[{policy.namespace}]-policy[{policy.name}]-rule[{index}]"] = built
        found.append({"action": action, "policies": policies})
    return found


def _policy(mesh: Mesh, rule: Mapping[str, Any], http: bool, action: str) -> Block | None:
    operations = [to.get("operation") or {} for to in rule.get("to") or ()]
    conditions = list(rule.get("when") or ())
    needs_http = any(name in operation for operation in operations for name in _HTTP_ONLY) or any(
        condition["key"].startswith("request.") for condition in conditions
    )
    if needs_http and not http and action == "ALLOW":
        return None
    permissions = [_operation(operation, http) for operation in operations] or [{"any": True}]
    sources = [source.get("source") or {} for source in rule.get("from") or ()]
    principals = [_source(mesh, source) for source in sources] or [{"any": True}]
    for condition in conditions if http else ():
        matcher = _condition(condition)
        principals = [{"and_ids": {"ids": [principal, matcher]}} for principal in principals]
    return {"permissions": permissions, "principals": principals}


def _both(
    spec: Mapping[str, Any], name: str, build: Callable[[str], Block], any_of: str, of: str, negate: str
) -> list[Block]:
    """The conditions for `name` and its negation `notName`, each a choice between its values."""
    found: list[Block] = []
    if values := spec.get(name):
        found.append(_any_of(values, build, any_of, of))
    if values := spec.get(f"not{name[0].upper()}{name[1:]}"):
        found.append({negate: _any_of(values, build, any_of, of)})
    return found


def _any_of(values: Iterable[str], build: Callable[[str], Block], any_of: str, of: str) -> Block:
    return {any_of: {of: [build(value) for value in values]}}


def _operation(operation: Mapping[str, Any], http: bool) -> Block:
    parts: list[Block] = []
    fields: list[tuple[str, Callable[[str], Block]]] = [("ports", lambda port: {"destination_port": int(port)})]
    if http:
        fields = [
            ("hosts", lambda host: _header(":authority", {"safe_regex": {"regex": f"(?i){_host_regex(host)}"}})),
            ("methods", lambda method: _header(":method", _string(method))),
            ("paths", lambda path: {"url_path": {"path": _string(path)}}),
            *fields,
        ]
    for name, build in fields:
        parts += _both(operation, name, build, "or_rules", "rules", "not_rule")
    return {"and_rules": {"rules": parts or [{"any": True}]}}


def _source(mesh: Mesh, source: Mapping[str, Any]) -> Block:
    fields: Iterable[tuple[str, Callable[[str], Block]]] = (
        ("principals", lambda name: _principal(_own_domain(mesh, name))),
        ("namespaces", lambda name: _authenticated({"safe_regex": {"regex": f".*/ns/{_wildcard(name)}/.*"}})),
        ("ipBlocks", lambda block: {"direct_remote_ip": _cidr(block)}),
    )
    parts: list[Block] = []
    for name, build in fields:
        parts += _both(source, name, build, "or_ids", "ids", "not_id")
    return {"and_ids": {"ids": parts or [{"any": True}]}}


def _own_domain(mesh: Mesh, principal: str) -> str:
    """`cluster.local` in a principal stands for the mesh's own trust domain."""
    domain, slash, rest = principal.partition("/")
    return f"{mesh.trust_domain}{slash}{rest}" if domain == "cluster.local" and slash else principal


def _principal(name: str) -> Block:
    if name == "*":
        return _authenticated({"safe_regex": {"regex": ".+"}})
    if name.startswith("*"):
        return _authenticated({"suffix": name[1:]})
    if name.endswith("*"):
        return _authenticated({"prefix": f"spiffe://{name[:-1]}"})
    return _authenticated({"exact": f"spiffe://{name}"})


def _authenticated(matcher: Block) -> Block:
    return {"authenticated": {"principal_name": matcher}}


def _condition(condition: Mapping[str, Any]) -> Block:
    key = condition["key"]

    def build(value: str) -> Block:
        if key.startswith("request.headers["):
            return {"header": {"name": key[len("request.headers[") : -1], "string_match": _string(value)}}
        if key == "source.principal":
            return _principal(value)
        if key == "source.namespace":
            return _authenticated({"safe_regex": {"regex": f".*/ns/{_wildcard(value)}/.*"}})
        return {"any": True}

    return {"and_ids": {"ids": _both(condition, "values", build, "or_ids", "ids", "not_id") or [{"any": True}]}}


def _header(name: str, matcher: Block) -> Block:
    return {"header": {"name": name, "string_match": matcher}}


def _string(value: str) -> Block:
    if value == "*":
        return {"safe_regex": {"regex": ".+"}}
    if value.startswith("*"):
        return {"suffix": value[1:]}
    if value.endswith("*"):
        return {"prefix": value[:-1]}
    return {"exact": value}


def _host_regex(host: str) -> str:
    return ".+" if host == "*" else _wildcard(host)


def _wildcard(text: str) -> str:
    return ".*".join(re.escape(part).replace("\\-", "-") for part in text.split("*"))


def _cidr(block: str) -> Block:
    prefix, _, length = block.partition("/")
    return {"address_prefix": prefix, "prefix_len": int(length or 32)}
