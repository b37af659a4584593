"""What the operator's webhooks refuse, with the product's words; pure functions of the object and its neighbours.

Every function returns the message, or None where the object is accepted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from lab.client import Object, key_of
from lab.operator import addons
from lab.operator.gateways import EGRESS, INGRESS
from lab.operator.plane import ControlPlane, dig
from lab.operator.versions import Release, at_least

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def defaults(smcp: Object, release: Release) -> list[Object]:
    """JSON patch of what a new control plane gets where it says nothing: the newest version, profile default."""
    patch: list[Object] = []
    spec = smcp.get("spec")
    if spec is None:
        patch.append({"op": "add", "path": "/spec", "value": {}})
        spec = {}
    if not spec.get("version"):
        patch.append({"op": "add", "path": "/spec/version", "value": release.newest})
    if not spec.get("profiles"):
        patch.append({"op": "add", "path": "/spec/profiles", "value": ["default"]})
    return patch


def control_plane(smcp: Object, others: Iterable[Object], release: Release, operator_namespace: str) -> str | None:
    """Checks a control plane that is created or changed; `others` are all control planes of the cluster."""
    namespace, name = key_of(smcp)
    others = [other for other in others if key_of(other) != (namespace, name)]
    if namespace == operator_namespace:
        return "service mesh may not be installed in the same project/namespace as the operator"
    if any(key_of(other)[0] == namespace for other in others):
        return "only one service mesh may be installed per project/namespace"
    return _version(smcp, release) or _mode(smcp, others, release) or _dropped(smcp) or _gateways(smcp)


def _version(smcp: Object, release: Release) -> str | None:
    version = dig(smcp, "spec", "version", default=release.newest)
    if version == "v1.0" and at_least(release.minor, "v2.2"):
        return "support for v1.0 has been dropped"
    if version not in release.known:
        return f"invalid Version specified; supported versions are: [{' '.join(release.accepted)}]"
    if version not in release.accepted:
        return f"Only '[{' '.join(release.accepted)}]' versions are supported"
    return None


def _mode(smcp: Object, others: list[Object], release: Release) -> str | None:
    version, mode = dig(smcp, "spec", "version", default=release.newest), dig(smcp, "spec", "mode")
    if mode and not at_least(version, "v2.4"):
        return "the spec.mode field is only supported in version 2.4 and above"
    if others and "ClusterWide" in {mode, *(dig(other, "spec", "mode") for other in others)}:
        return "no other SMCPs may be created when a cluster-scoped SMCP exists"
    return None


def _dropped(smcp: Object) -> str | None:
    for section in ("policy", "telemetry"):
        if dig(smcp, "spec", section, "type") == "Mixer":
            return f"support for {section}.type Mixer has been removed in v2.1 and newer"
    for direction in ("inbound", "outbound"):
        if dig(smcp, "spec", "proxy", "networking", "protocol", "autoDetect", direction):
            return (
                f"automatic protocol detection is not supported: spec.proxy.networking.protocol.autoDetect.{direction}"
            )
    return None


def _gateways(smcp: Object) -> str | None:
    namespace, _ = key_of(smcp)
    asked = dig(smcp, "spec", "gateways", default={})
    seen: Counter[str] = Counter()
    for name, key in ((INGRESS, "ingress"), (EGRESS, "egress")):
        seen[f"{dig(asked, key, 'namespace', default=namespace)}/{name}"] += 1
    for key in ("additionalIngress", "additionalEgress"):
        for name, entry in dig(asked, key, default={}).items():
            if name in (INGRESS, EGRESS):
                return f'cannot define additional gateway named "{name}"'
            seen[f"{(entry or {}).get('namespace') or namespace}/{name}"] += 1
    for where, count in seen.items():
        if count > 1:
            return f'multiple gateways defined for "{where}"'
    return None


def reconcile_error(plane: ControlPlane) -> str | None:
    """What only shows while the control plane is installed, as ValidationError."""
    wanted = addons.enabled(plane)
    if "kiali" in wanted and "prometheus" not in wanted:
        return ".spec.addons.prometheus.enabled must be true when .spec.addons.kiali.enabled is true"
    return None


def member_roll(smmr: Object, others: Iterable[Object], release: Release) -> str | None:
    """Checks a member roll; `others` are all member rolls of the cluster."""
    namespace, name = key_of(smmr)
    if name != "default":
        return "ServiceMeshMemberRoll must be named 'default'"
    members = dig(smmr, "spec", "members", default=[])
    for member, count in Counter(members).items():
        if count > 1:
            return f"ServiceMeshMemberRoll contains a duplicate member: {member}"
        if not (member == "*" and at_least(release.minor, "v2.4")) and (
            not _NAME.fullmatch(member) or len(member) > 63
        ):
            return f"ServiceMeshMemberRoll contains an invalid member name: {member}"
    if namespace in members:
        return "mesh project/namespace cannot be listed as a member"
    if ("*" in members and len(members) > 1) or (members and dig(smmr, "spec", "memberSelectors")):
        return "members: '*' and memberSelectors cannot be combined with other members"
    taken = {
        member
        for other in others
        if key_of(other) != (namespace, name)
        for member in dig(other, "spec", "members", default=[])
    }
    if taken & set(members):
        return "one or more members are already defined in another ServiceMeshMemberRoll"
    return None


def added_members(smmr: Object, old: Object | None) -> list[str]:
    """Namespaces that a change adds to a member roll: who makes it needs `update pods` in each; '' is everywhere."""
    members = dig(smmr, "spec", "members", default=[])
    if "*" in members or dig(smmr, "spec", "memberSelectors"):
        return [""]
    known = dig(old or {}, "spec", "members", default=[])
    return [member for member in members if member not in known]


def no_access(user: str, namespaces: list[str]) -> str | None:
    """What somebody is told who has no rights in the namespaces to be added."""
    if "" in namespaces:
        return (
            "only users that are allowed to update pods at the cluster scope are allowed to use wildcards or member "
            f"selectors; user {user} does not have that permission"
        )
    if namespaces:
        return f"user '{user}' does not have permission to access namespace(s): [{' '.join(sorted(namespaces))}]"
    return None


def no_use(user: str, plane: Object) -> str:
    """What somebody is told who may not `use` the control plane that a member names."""
    return f"user '{user}' does not have permission to use ServiceMeshControlPlane {plane['namespace']}/{plane['name']}"


def member(smm: Object, old: Object | None) -> str | None:
    if key_of(smm)[1] != "default":
        return "ServiceMeshMember must be named 'default'"
    if old and dig(old, "spec", "controlPlaneRef") != dig(smm, "spec", "controlPlaneRef"):
        return "ServiceMeshMember's spec.controlPlaneRef is immutable"
    return None
