"""Looks at both clusters before anything is touched: reachable, logged in, allowed, and with an OSSM operator."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from harness.cluster import Cluster
from harness.kinds import CONFIG_MAP, CONTROL_PLANE, DEPLOYMENT, MEMBER_ROLL, NAMESPACE, POD, SERVICE, Kind
from harness.transport import ClusterError, Forbidden, NotFound

_WRITTEN = (NAMESPACE, CONFIG_MAP, SERVICE, DEPLOYMENT, CONTROL_PLANE, MEMBER_ROLL)
_PERMISSIONS: tuple[tuple[str, Kind, str], ...] = (
    *(("patch", kind, "") for kind in _WRITTEN),
    *(("create", kind, "") for kind in _WRITTEN),
    *(("delete", kind, "") for kind in _WRITTEN),
    ("list", POD, ""),
    ("get", POD, "log"),
    ("create", POD, "exec"),
    ("create", POD, "portforward"),
)


def preflight(clusters: Mapping[str, Cluster]) -> list[str]:
    """What stands in the way on either cluster, one sentence each; [] when the run may begin."""
    with ThreadPoolExecutor(len(clusters), thread_name_prefix="preflight") as pool:
        return [problem for found in pool.map(_problems, clusters.values()) for problem in found]


def _problems(cluster: Cluster) -> list[str]:
    try:
        cluster.version()
        missing = _missing_permissions(cluster)
        served = cluster.served(CONTROL_PLANE)
    except ClusterError as error:
        return [str(error)]
    if not served:
        missing.append(
            f"{cluster.name}: {cluster.server} serves no {CONTROL_PLANE} of {CONTROL_PLANE.api_version}: install the "
            "operator of OpenShift Service Mesh 2.1 to 2.6 (or Maistra)"
        )
    return missing


def _missing_permissions(cluster: Cluster) -> list[str]:
    refused = []
    for verb, kind, sub in _PERMISSIONS:
        try:
            if not cluster.allowed(verb, kind, sub):
                refused.append(f"{verb} {kind.plural}{f'/{sub}' if sub else ''}")
        except (NotFound, Forbidden):
            return []
    if not refused:
        return []
    return [f"{cluster.name}: {cluster.server} does not allow this user to {', '.join(refused)}. {Forbidden.remedy}"]
