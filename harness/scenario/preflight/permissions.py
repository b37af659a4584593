"""What the user of a kubeconfig may do, by SelfSubjectAccessReview, for every verb and kind a run needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import (
    CLUSTER_VERSION,
    CRD,
    DEPLOYMENT,
    ENDPOINTS,
    EVENT,
    EXPORTS,
    GATEWAY,
    IMPORTS,
    LEASE,
    NAMESPACE,
    NODE,
    POD,
    POLICY_KINDS,
    ROUTE,
    SERVICE,
    VIRTUAL_SERVICE,
    WEBHOOK_KINDS,
    Kind,
    kind_of,
)
from harness.cluster.transport import Forbidden, NotFound
from harness.product.mesh import SCENARIO, MeshNames
from harness.scenario.manifests import scenario
from harness.scenario.ownership import lease
from harness.scenario.preflight.findings import Finding
from harness.scenario.preflight.grants import Grant, manifest, user_of
from harness.scenario.preflight.product import OPERATOR_NAMESPACE

_READ = ("get", "list", "watch")
_WRITE = ("create", "patch", "delete")
# Over a websocket these are a GET, which servers before 1.35 ask `get` for and later ones `create` too (KEP-4006).
_STREAMED = ("exec", "portforward")
_MEMBERS = "the operator asks that of whoever puts the namespace into a member roll"
_LESS_EVIDENCE = "a failure is explained with less evidence"
_AT_ONCE = 8


class Need(NamedTuple):
    """One verb on one kind (or a subresource of it) in one namespace; '' is the whole cluster.

    why: where no request of a run shows it.
    """

    verb: str
    kind: Kind
    namespace: str
    sub: str = ""
    why: str = ""

    @property
    def group(self) -> str:
        """'' for the core group."""
        return self.kind.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """As RBAC has it: `servicemeshpeers`, `pods/exec`."""
        return self.kind.plural + (f"/{self.sub}" if self.sub else "")

    @property
    def spelled(self) -> str:
        """As kubectl has it: `servicemeshpeers.federation.maistra.io`, `pods/exec`."""
        return self.kind.plural + (f".{self.group}" if self.group else "") + (f"/{self.sub}" if self.sub else "")


def needs(names: MeshNames, adopt: bool, there: Collection[str] = ()) -> Iterator[Need]:
    """What no run can do without in the cluster of one mesh, each once; with `adopt` it installs nothing.

    there: the namespaces that exist already and stay as they are.
    """
    yield from dict.fromkeys(_needs(names, adopt, there))


def _needs(names: MeshNames, adopt: bool, there: Collection[str]) -> Iterator[Need]:
    own = SCENARIO[names.name]
    spaces = {own.system_namespace: names.system_namespace, own.app_namespace: names.app_namespace, "": ""}
    wanted = ((kind_of(obj), spaces[obj["metadata"].get("namespace", "")]) for obj in scenario(own))
    places = dict.fromkeys(place for place in wanted if place[1] or not place[0].namespaced)
    spaces_stay = {names.system_namespace, names.app_namespace} <= set(there)
    for kind, namespace in places:
        reading = adopt or (kind == NAMESPACE and spaces_stay)
        for verb in _READ if reading else (*_READ, *_WRITE):
            yield Need(verb, kind, namespace)
    if not adopt:
        yield Need("update", POD, names.app_namespace, why=_MEMBERS)
    # What the operator makes of the control plane.
    for kind in (SERVICE, DEPLOYMENT):
        yield from (Need(verb, kind, names.system_namespace) for verb in _READ)
    for namespace in (names.system_namespace, names.app_namespace):
        # The audit at the end compares them with what was there before.
        yield from (
            Need("list", kind, namespace) for kind in dict.fromkeys(kind for kind, _ in places) if kind.namespaced
        )
        yield from (Need(verb, POD, namespace) for verb in _READ)
        yield Need("get", POD, namespace, "log")
        yield from (Need(verb, POD, namespace, sub) for sub in _STREAMED for verb in ("get", "create"))
    # The walk along the chain, which every run makes, also looks where this mesh should have nothing.
    yield Need("list", ENDPOINTS, names.app_namespace)
    yield Need("list", IMPORTS if names.exports else EXPORTS, names.system_namespace)
    yield from (Need(verb, CRD, "") for verb in ("list", "watch"))
    yield from (Need(verb, LEASE, lease.NAMESPACE) for verb in ("get", *_WRITE))


def done_without(names: MeshNames) -> Iterator[tuple[Need, str]]:
    """What a run goes on without, and what is lost by that."""
    yield Need("list", NODE, ""), "addresses by NodePort cannot be used"
    yield Need("list", SERVICE, ""), "whether LoadBalancers get addresses here is not known beforehand"
    yield Need("get", CLUSTER_VERSION, ""), "the version of OpenShift is not known"
    for need in (Need("get", DEPLOYMENT, OPERATOR_NAMESPACE), Need("list", DEPLOYMENT, "")):
        yield need, "the operator may not be found, and its release is not known"
    for need in (*(Need("list", kind, "") for kind in WEBHOOK_KINDS), Need("get", ENDPOINTS, OPERATOR_NAMESPACE)):
        yield need, "whether the operator's webhooks are ready is not known beforehand"
    if not names.exports:
        yield Need("get", ROUTE, names.system_namespace), "productpage is not reached by its Route"
    for namespace in (names.system_namespace, names.app_namespace):
        for kind in (EVENT, *POLICY_KINDS):
            yield Need("list", kind, namespace), _LESS_EVIDENCE
    yield Need("list", ENDPOINTS, names.system_namespace), _LESS_EVIDENCE
    # What this mesh has none of, unless somebody made some.
    foreign = (VIRTUAL_SERVICE, GATEWAY) if names.exports else ()
    yield from ((Need("list", kind, names.app_namespace), _LESS_EVIDENCE) for kind in foreign)


def permission_findings(cluster: Cluster, names: MeshNames, adopt: bool, there: Collection[str]) -> list[Finding]:
    """What the user may not do, one finding for each kind and namespace, then what an administrator can grant it with.

    there: the namespaces that exist already and stay: a Role in another would go away with it. A cluster that answers
    no such reviews has no findings.
    """
    asked, groups = list(needs(names, adopt, there)), cluster.groups()
    spared = {need: loss for need, loss in done_without(names) if _is_served(need, groups)}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="permissions") as pool:
        try:
            wanted = [*asked, *spared]
            answers = pool.map(lambda need: cluster.allowed(need.verb, need.kind, need.sub, need.namespace), wanted)
            missing = [need for need, allowed in zip(wanted, answers, strict=True) if not allowed]
        except (NotFound, Forbidden):
            text = "permissions are not known: SelfSubjectAccessReview is not answered"
            return [Finding(names.name, text, note=True)]
    found = [Finding(names.name, text, note=True) for text in _losses(spared, missing)]
    if lacking := [need for need in missing if need not in spared]:
        return [*_refusals(cluster, names, asked, lacking, there), *found]
    return [Finding(names.name, f"permissions: all {len(asked)} that a run needs are granted"), *found]


def _is_served(need: Need, groups: Collection[str]) -> bool:
    return not need.group.endswith(".openshift.io") or need.group in groups


def _losses(spared: Mapping[Need, str], missing: Iterable[Need]) -> list[str]:
    """One sentence for each loss, with what would have to be allowed."""
    by_loss: dict[str, list[str]] = {}
    for need in missing:
        if need in spared:
            by_loss.setdefault(spared[need], []).append(f"{need.verb} {need.spelled} {_where(need.namespace)}")
    return [f"{loss}: this user may not {', '.join(wanted)}" for loss, wanted in by_loss.items()]


def _refusals(
    cluster: Cluster, names: MeshNames, asked: Iterable[Need], lacking: Iterable[Need], there: Collection[str]
) -> Iterator[Finding]:
    alike: dict[tuple[str, str], list[Need]] = {}
    for need in lacking:
        alike.setdefault((need.namespace, need.spelled), []).append(need)
    for (namespace, spelled), missing in alike.items():
        verbs = ", ".join(need.verb for need in missing)
        text = f"{cluster.server} does not allow this user to {verbs} {spelled} {_where(namespace)}"
        reasons = "; ".join(f"{need.verb}: {need.why}" for need in missing if need.why)
        yield Finding(names.name, text + (f" ({reasons})" if reasons else ""), True)
    # All that is needed in such a place: applied over the one of another day, a Role must not take anything away.
    grants = [
        Grant(need.namespace if need.namespace in there else "", need.group, need.resource, need.verb) for need in asked
    ]
    places = {namespace if namespace in there else "" for namespace, _ in alike}
    wanted = [grant for grant in grants if grant.namespace in places]
    granting = manifest(wanted, f"{lease.NAME}-{names.name}", user_of(cluster))
    text = f"an administrator of {cluster.server} grants all of that with `kubectl apply -f FILE`, where FILE holds"
    yield Finding(names.name, f"{text}\n{granting}", True)


def _where(namespace: str) -> str:
    return f"in namespace {namespace}" if namespace else "in the whole cluster"
