"""What the user of a kubeconfig may do, by SelfSubjectAccessReview, for every verb and kind a run needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from harness import lease
from harness.cluster import Cluster
from harness.kinds import CRD, LEASE, NODE, POD, Kind, kind_of
from harness.manifests import scenario
from harness.mesh import MeshNames
from harness.preflight.findings import Finding
from harness.transport import Forbidden, NotFound

_READ = ("get", "list", "watch")
_WRITE = ("create", "patch", "delete")
_POD_PARTS = (("log", "get"), ("exec", "create"), ("portforward", "create"))
_AT_ONCE = 8


class Need(NamedTuple):
    """One verb on one kind (or a subresource of it) in one namespace; '' is the whole cluster."""

    verb: str
    kind: Kind
    namespace: str
    sub: str = ""

    @property
    def resource(self) -> str:
        """As kubectl and RBAC spell it: `servicemeshpeers.federation.maistra.io`, `pods/exec`."""
        group = self.kind.api_version.rpartition("/")[0]
        return self.kind.plural + (f".{group}" if group else "") + (f"/{self.sub}" if self.sub else "")


def needs(names: MeshNames, adopt: bool) -> Iterator[Need]:
    """Everything a run does in the cluster of one mesh; with `adopt` it installs nothing."""
    places = dict.fromkeys((kind_of(obj), obj["metadata"].get("namespace", "")) for obj in scenario(names))
    for kind, namespace in places:
        for verb in _READ if adopt else (*_READ, *_WRITE):
            yield Need(verb, kind, namespace)
    for namespace in (names.system_namespace, names.app_namespace):
        for verb in ("list", "watch"):
            yield Need(verb, POD, namespace)
        for sub, verb in _POD_PARTS:
            yield Need(verb, POD, namespace, sub)
    yield from (Need(verb, CRD, "") for verb in ("list", "watch"))
    yield from (Need(verb, LEASE, lease.NAMESPACE) for verb in ("get", *_WRITE))


def permission_findings(cluster: Cluster, names: MeshNames, adopt: bool, there: Collection[str]) -> list[Finding]:
    """What the user may not do, one finding for each kind and namespace, with the Role that would grant it.

    there: the namespaces that exist already. A cluster that answers no such reviews has no findings.
    """
    asked = list(needs(names, adopt))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="permissions") as pool:
        try:
            answers = list(
                pool.map(lambda need: cluster.allowed(need.verb, need.kind, need.sub, need.namespace), asked)
            )
            may_see_nodes = cluster.allowed("list", NODE)
        except (NotFound, Forbidden):
            return [Finding(names.name, "permissions are not known: SelfSubjectAccessReview is not answered")]
    missing: dict[tuple[str, str], list[str]] = {}
    for need, allowed in zip(asked, answers, strict=True):
        if not allowed:
            missing.setdefault((need.namespace, need.resource), []).append(need.verb)
    found = [
        Finding(names.name, _refused(cluster, namespace, resource, verbs, there), True)
        for (namespace, resource), verbs in missing.items()
    ]
    if not found:
        found.append(Finding(names.name, f"permissions: all {len(asked)} that a run needs are granted"))
    if not may_see_nodes:
        found.append(Finding(names.name, "nodes may not be listed: addresses by NodePort cannot be used"))
    return found


def _refused(cluster: Cluster, namespace: str, resource: str, verbs: list[str], there: Collection[str]) -> str:
    words = ",".join(verbs)
    one_namespace = namespace in there
    role = f"-n {namespace} create role" if one_namespace else "create clusterrole"
    return (
        f"{cluster.server} does not allow this user to {', '.join(verbs)} {resource} "
        f"{f'in namespace {namespace}' if namespace else 'in the whole cluster'}. "
        f"The {'Role' if one_namespace else 'ClusterRole'} that grants it: "
        f"kubectl {role} {lease.NAME} --verb={words} --resource={resource}"
    )
