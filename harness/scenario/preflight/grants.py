"""Roles that grant what is missing, with their bindings, ready to be applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import yaml

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import SELF_SUBJECT_REVIEW, USER
from harness.cluster.transport import ClusterError, Object

_API_GROUP = "rbac.authorization.k8s.io"
UNKNOWN_USER = "NAME-OF-THIS-USER"


class Grant(NamedTuple):
    """One verb on one resource (`pods/exec`) of one API group ('' for the core group); namespace '': a ClusterRole."""

    namespace: str
    group: str
    resource: str
    verb: str


def user_of(cluster: Cluster) -> str:
    """Whom the API server takes us for; `UNKNOWN_USER` where it does not say."""
    review: Object = {"apiVersion": SELF_SUBJECT_REVIEW.api_version, "kind": SELF_SUBJECT_REVIEW.kind, "metadata": {}}
    try:
        return cluster.create(review)["status"]["userInfo"]["username"]
    except (ClusterError, KeyError):
        pass  # before Kubernetes 1.28; OpenShift has a way of its own
    try:
        return cluster.get(USER, "~")["metadata"]["name"]
    except (ClusterError, KeyError):
        return UNKNOWN_USER


def manifest(grants: Iterable[Grant], name: str, user: str) -> str:
    """YAML for `kubectl apply -f -`: one Role for each namespace, or ClusterRole, and its binding to `user`."""
    by_namespace: dict[str, list[Grant]] = {}
    for grant in grants:
        by_namespace.setdefault(grant.namespace, []).append(grant)
    objects = [obj for place, wanted in sorted(by_namespace.items()) for obj in _objects(place, wanted, name, user)]
    return yaml.safe_dump_all(objects, default_flow_style=None, sort_keys=False, width=110)


def _rules(grants: Iterable[Grant]) -> list[Object]:
    verbs: dict[tuple[str, str], dict[str, None]] = {}
    for grant in grants:
        verbs.setdefault((grant.group, grant.resource), {})[grant.verb] = None
    rules: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, resource), wanted in verbs.items():
        rules.setdefault((group, tuple(wanted)), []).append(resource)
    return [
        {"apiGroups": [group], "resources": resources, "verbs": list(wanted)}
        for (group, wanted), resources in rules.items()
    ]


def _objects(namespace: str, grants: Iterable[Grant], name: str, user: str) -> Iterator[Object]:
    kind = "Role" if namespace else "ClusterRole"
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    yield {
        "apiVersion": f"{_API_GROUP}/v1",
        "kind": kind,
        "metadata": dict(meta),
        "rules": _rules(grants),
    }
    yield {
        "apiVersion": f"{_API_GROUP}/v1",
        "kind": f"{kind}Binding",
        "metadata": dict(meta),
        "roleRef": {"apiGroup": _API_GROUP, "kind": kind, "name": name},
        # A service account is a user too, by its full name.
        "subjects": [{"apiGroup": _API_GROUP, "kind": "User", "name": user}],
    }
