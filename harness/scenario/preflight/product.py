"""Which product a cluster has: Kubernetes, OpenShift, the operator and its release; OSSM 3 and Istio by their names."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import CLUSTER_VERSION, CONTROL_PLANE, DEPLOYMENT, ENDPOINTS, FEDERATION_KINDS, WEBHOOK_KINDS
from harness.cluster.transport import Forbidden, Invalid, NotFound, Object, WebhookFailed
from harness.product.mesh import MeshNames
from harness.product.versions import KNOWN, is_before_federation, refused_istiods, supported_versions
from harness.scenario.preflight.findings import Finding

_OPERATOR = "istio-operator"
OPERATOR_NAMESPACE = "openshift-operators"
_FEDERATION_SINCE = f"OpenShift Service Mesh {KNOWN[0].removeprefix('v')}"
_PRODUCT_GROUPS = {
    "sailoperator.io": "OpenShift Service Mesh 3 (API group sailoperator.io)",
    "install.istio.io": "upstream Istio (API group install.istio.io)",
    "networking.istio.io": "Istio (API group networking.istio.io)",
}


def product_findings(cluster: Cluster, names: MeshNames, version: str | None, istiods: int = 1) -> Iterator[Finding]:
    """Kubernetes and OpenShift version, operator, webhooks, kinds.

    version: the `spec.version` asked for, if any; istiods: how many pods of istiod are.
    """
    yield Finding(names.name, f"{cluster.server} is Kubernetes {cluster.version()}{_openshift(cluster)}")
    groups = cluster.groups()
    foreign = next((text for group, text in _PRODUCT_GROUPS.items() if group in groups), "")
    if not cluster.served(CONTROL_PLANE):
        yield Finding(names.name, _no_control_planes(cluster, foreign), True)
        return
    if "sailoperator.io" in groups:
        yield Finding(
            names.name, f"{_PRODUCT_GROUPS['sailoperator.io']} is there too; it does not take part", note=True
        )
    release = yield from _operator(cluster, names)
    yield from _webhooks(cluster, names)
    unserved = [str(kind) for kind in FEDERATION_KINDS if not cluster.served(kind)]
    later = f"{', '.join(unserved)} not served yet: the operator brings them with the first control plane"
    yield Finding(names.name, later if unserved else "the federation kinds are served")
    if not version and (refusal := refused_istiods("".join(supported_versions(release)[-1:]), istiods)):
        yield Finding(names.name, refusal, True)
    if version and not is_before_federation(release):
        yield from _asked_version(cluster, names, version, release)


def _openshift(cluster: Cluster) -> str:
    try:
        found = cluster.find(CLUSTER_VERSION, "version")
    except Forbidden:
        return ""
    version = (((found or {}).get("status") or {}).get("desired") or {}).get("version")
    return f", OpenShift {version}" if version else ""


def _no_control_planes(cluster: Cluster, foreign: str) -> str:
    if foreign:
        return (
            f"{cluster.server} has {foreign}, which knows no federation of meshes. This suite is for OpenShift Service "
            "Mesh 2.1 to 2.6 and Maistra; for Istio and OpenShift Service Mesh 3 several clusters are joined by "
            "multi-primary or primary-remote installations instead"
        )
    return (
        f"{cluster.server} serves no {CONTROL_PLANE} of {CONTROL_PLANE.api_version}: install the operator of OpenShift "
        "Service Mesh 2.1 to 2.6 (or Maistra)"
    )


def _operator(cluster: Cluster, names: MeshNames) -> Generator[Finding, None, str]:
    """Returns the operator's release, '' where that is not known."""
    try:
        found = cluster.find(DEPLOYMENT, _OPERATOR, OPERATOR_NAMESPACE) or next(
            (obj for obj in cluster.list(DEPLOYMENT) if obj["metadata"]["name"] == _OPERATOR), None
        )
    except Forbidden:
        return ""  # said already, with the permissions
    if found is None:
        text = f"no Deployment {_OPERATOR} in any namespace: its kinds are served, but nobody acts on them"
        yield Finding(names.name, f"{text}. Install the operator", True)
        return ""
    where = f"operator {found['metadata']['namespace']}/{_OPERATOR}"
    release = operator_release(found)
    conditions = (found.get("status") or {}).get("conditions") or []
    available = any(entry["type"] == "Available" and entry["status"] == "True" for entry in conditions)
    if not available:
        yield Finding(names.name, f"{where} is not Available: see its pods and events", True)
    text = f"{where} is release {release or 'unknown'}"
    if is_before_federation(release):
        text += f", which knows no federation: federation came with {_FEDERATION_SINCE}. Update the operator"
        yield Finding(names.name, text, True)
    else:
        accepted = supported_versions(release)
        yield Finding(names.name, text + (f" and installs {', '.join(accepted)}" if accepted else ""))
    return release


def operator_release(deployment: Object) -> str:
    """Release of an operator's Deployment, such as `2.4.7`: by Maistra's label, OLM's owner, else the image tag."""
    labels = deployment["metadata"].get("labels") or {}
    images = [c.get("image", "") for c in deployment["spec"]["template"]["spec"]["containers"]]
    for text in (labels.get("maistra-version", ""), labels.get("olm.owner", ""), *images):
        if found := re.search(r"(?:^|[v:])(2\.\d+\.\d+)", text):
            return found[1]
    return ""


def _webhooks(cluster: Cluster, names: MeshNames) -> Iterator[Finding]:
    services: set[tuple[str, str]] = set()
    hooks = 0
    try:
        for kind in WEBHOOK_KINDS:
            for configuration in cluster.list(kind):
                for hook in configuration.get("webhooks") or []:
                    if hook["name"].endswith(".maistra.io"):
                        hooks += 1
                        service = (hook.get("clientConfig") or {}).get("service")
                        services |= {(service["namespace"], service["name"])} if service else set()
        if not hooks:
            text = "the operator has registered no webhook (*.maistra.io), so nobody checks or completes control planes"
            yield Finding(names.name, f"{text}: it is starting, or was not installed as a whole", note=True)
        for namespace, name in sorted(services):
            subsets = (cluster.find(ENDPOINTS, name, namespace) or {}).get("subsets") or []
            where = f"the operator's webhook Service {namespace}/{name}"
            if ready := sum(len(subset.get("addresses") or ()) for subset in subsets):
                yield Finding(names.name, f"{where} has {ready} ready endpoint{'s' if ready > 1 else ''}")
            else:
                text = f"{where} has no ready endpoint: every control plane would be refused. See the operator's pod"
                yield Finding(names.name, text, True)
    except Forbidden:
        return  # said already, with the permissions


def _asked_version(cluster: Cluster, names: MeshNames, version: str, release: str) -> Iterator[Finding]:
    """Why this `spec.version` cannot be had; the operator itself is asked where its release says nothing against it."""
    accepted = supported_versions(release)
    if accepted and version not in accepted:
        text = f"--ossm-version {version}: operator {release} installs only {', '.join(accepted)}"
        yield Finding(names.name, text, True)
        return
    try:
        refusal = _refused_version(cluster, names, version)
    except WebhookFailed as error:
        text = f"webhook {error.webhook} does not answer yet, so nobody says whether the operator installs {version}"
        yield Finding(names.name, f"{text}. The run waits for it; last seen: {error.detail}", note=True)
        return
    if refusal:
        yield Finding(names.name, f"--ossm-version {version}: the operator refuses it: {refusal}", True)


def _refused_version(cluster: Cluster, names: MeshNames, version: str) -> str:
    """What the operator says to a control plane of this version that is not really created; '' where it accepts it."""
    for namespace in (names.system_namespace, "default"):
        probe = {
            "apiVersion": CONTROL_PLANE.api_version,
            "kind": CONTROL_PLANE.kind,
            "metadata": {"name": "federation-preflight", "namespace": namespace},
            "spec": {"version": version},
        }
        try:
            cluster.create(probe, dry_run=True)
        except NotFound:
            continue
        except Forbidden:
            return ""
        except Invalid as error:
            return error.detail if "ersion" in error.detail else ""
        return ""
    return ""
