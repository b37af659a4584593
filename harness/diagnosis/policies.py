"""Which objects forbid what a proxy says is forbidden: NetworkPolicies, AuthorizationPolicies, mTLS modes.

Each function gives words for a cause's detail; what may not be read is said to be so, and is no reason to fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.cluster import kinds
from harness.cluster.transport import ClusterError, Object, Objects
from harness.diagnosis.envoy_failures import NO_POLICY
from harness.diagnosis.mesh_facts import MeshFacts
from harness.product.names import has_sidecar

_MTLS = "ISTIO_MUTUAL"


def network_policies(mesh: MeshFacts, gateway: str) -> str:
    """The NetworkPolicies that select a gateway's pods."""

    def read() -> str:
        pods = mesh.gateway_pods(gateway)
        found = [
            policy["metadata"]["name"]
            for policy in mesh.cluster.list(kinds.NETWORK_POLICY, mesh.system)
            if any(selects(policy["spec"].get("podSelector"), pod) for pod in pods)
        ]
        return f"NetworkPolicies that select {gateway} in {mesh.system}: {', '.join(sorted(found)) or 'none'}"

    return _read(read, f"the NetworkPolicies of {mesh.system}")


def denied_by(policy: str) -> str:
    """A denial in words; `policy` as `harness.diagnosis.envoy_failures.denial` gives it."""
    if policy == NO_POLICY:
        return "there are AuthorizationPolicies that allow, and none of them admits it"
    return f"AuthorizationPolicy {policy} denies it" if policy else "an AuthorizationPolicy denies it"


def denial_at(mesh: MeshFacts, policy: str, app: str) -> str:
    """A denial by the sidecar of an app in words, with the policies that hold there where the proxy names none."""
    told = denied_by(policy)
    return told if "/" in policy else f"{told}; {authorization_policies(mesh, mesh.app_pods(app))}"


def authorization_policies(mesh: MeshFacts, pods: Objects) -> str:
    """The AuthorizationPolicies that hold for these pods, with their actions."""

    def read() -> str:
        found = [
            f"{_name(policy)} ({policy['spec'].get('action') or 'ALLOW'})"
            for policy in _holding(mesh, kinds.AUTHORIZATION_POLICY, pods)
        ]
        return f"AuthorizationPolicies that hold for it: {', '.join(found) or 'none'}"

    return _read(read, f"the AuthorizationPolicies of {mesh.names.name}")


def plaintext_of(mesh: MeshFacts, pods: Objects) -> str:
    """What makes a workload serve plaintext: pods without a sidecar, PeerAuthentications that say DISABLE."""

    def read() -> str:
        bare = [pod["metadata"]["name"] for pod in pods if not has_sidecar(pod)]
        off = [_name(found) for found in _holding(mesh, kinds.PEER_AUTHENTICATION, pods) if _disables(found)]
        parts = [f"pods without a sidecar: {', '.join(bare)}"] if bare else []
        parts += [f"PeerAuthentication {', '.join(off)} turns mTLS off"] if off else []
        return "; ".join(parts) or "its pods have sidecars, and no PeerAuthentication turns mTLS off"

    return _read(read, f"the PeerAuthentications of {mesh.names.name}")


def plaintext_to(mesh: MeshFacts, host: str) -> str:
    """What makes callers in a mesh speak plaintext to an imported host: DestinationRules, mesh-wide mTLS off."""

    def read() -> str:
        rules = [*mesh.all(kinds.DESTINATION_RULE, mesh.app), *mesh.cluster.list(kinds.DESTINATION_RULE, mesh.system)]
        off = [_name(rule) for rule in rules if covers(rule["spec"].get("host", ""), host) and other_tls(rule["spec"])]
        wide = [
            _name(found)
            for found in mesh.cluster.list(kinds.PEER_AUTHENTICATION, mesh.system)
            if not found["spec"].get("selector") and _disables(found)
        ]
        parts = [f"DestinationRule {', '.join(off)} sets another TLS mode than {_MTLS}"] if off else []
        parts += [f"PeerAuthentication {', '.join(wide)} turns mTLS off"] if wide else []
        return "; ".join(parts) or f"no DestinationRule or PeerAuthentication was found that turns it off for {host}"

    return _read(read, f"the DestinationRules and PeerAuthentications of {mesh.names.name}")


def selects(selector: Mapping[str, object] | None, pod: Object) -> bool:
    """Whether a label selector takes a pod; an empty one takes all."""
    labels = pod["metadata"].get("labels") or {}
    wanted: Object = dict(selector or {})
    return (wanted.get("matchLabels") or {}).items() <= labels.items() and all(
        _matches(expression, labels) for expression in wanted.get("matchExpressions") or []
    )


def _matches(expression: Object, labels: Mapping[str, str]) -> bool:
    there, fits = expression["key"] in labels, labels.get(expression["key"]) in (expression.get("values") or [])
    return {"In": fits, "NotIn": not fits, "Exists": there, "DoesNotExist": not there}[expression["operator"]]


def covers(pattern: str, host: str) -> bool:
    """Whether the host of a rule, `*.local` included, is about a host."""
    return host.endswith(pattern[1:]) if pattern.startswith("*") else host == pattern


def other_tls(spec: Object) -> bool:
    """Whether a DestinationRule turns mutual TLS with the mesh's certificates off, anywhere in it."""
    policy = spec.get("trafficPolicy") or {}
    policies = [policy, *(policy.get("portLevelSettings") or [])]
    policies += [subset.get("trafficPolicy") or {} for subset in spec.get("subsets") or []]
    modes = {(entry.get("tls") or {}).get("mode") for entry in policies}
    return bool(modes - {None, _MTLS})


def _holding(mesh: MeshFacts, kind: kinds.Kind, pods: Objects) -> Objects:
    """Policies of a kind that hold for any of these pods of the application: its own, and those of the root."""
    found = [*mesh.cluster.list(kind, mesh.app), *mesh.cluster.list(kind, mesh.system)]
    return [policy for policy in found if any(selects(policy["spec"].get("selector"), pod) for pod in pods)]


def _disables(policy: Object) -> bool:
    spec = policy["spec"]
    modes = {(spec.get("mtls") or {}).get("mode"), *(port.get("mode") for port in _ports(spec))}
    return "DISABLE" in modes


def _ports(spec: Object) -> Objects:
    return list((spec.get("portLevelMtls") or {}).values())


def _name(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _read(read: Callable[[], str], what: str) -> str:
    try:
        return read()
    except ClusterError as error:
        return f"{what} could not be read ({type(error).__name__})"
