"""Sidecar injection: what istiod's webhook does to a pod of a member namespace that asks for it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

from lab.client import Informer, Object
from lab.operator.gateways import proxy_environment
from lab.operator.plane import IGNORE, MEMBER_OF, PROXY_IMAGE, ROOT_MOUNT, ROOT_VOLUME, ControlPlane, dig, environment
from lab.operator.versions import Release

CONTAINER = "istio-proxy"
_LOCALITY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")
_OLD_LOCALITY = ("failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone")
_SUBZONE = "topology.istio.io/subzone"


def make_injector(
    namespaces: Informer, smcps: Informer, nodes: Informer | None = None, operator_version: str | None = None
) -> Callable[[Object], Object]:
    """A function that returns a pod about to be created, with a sidecar where it gets one, otherwise as it is.

    With `nodes` the pod also carries its node's region and zone. Without `operator_version` it is read from the
    status of the control plane.
    """

    def mutate_pod(pod: Object) -> Object:
        namespace = namespaces.items.get(("", pod["metadata"].get("namespace", "")))
        labels = dig(namespace, "metadata", "labels", default={})
        home = labels.get(MEMBER_OF)
        if not home or IGNORE in labels or home == pod["metadata"]["namespace"]:
            return pod
        smcp = next((smcp for (where, _), smcp in smcps.items.items() if where == home), None)
        if smcp is None:
            return pod
        version = operator_version or dig(smcp, "status", "operatorVersion") or dig(smcp, "status", "chartVersion")
        plane = ControlPlane(smcp, Release(version or "2.1.6"))
        if not wants_sidecar(pod, bool(plane.get("proxy", "injection", "autoInject"))):
            return pod
        node = nodes.items.get(("", pod["spec"].get("nodeName", ""))) if nodes else None
        return inject(pod, plane, dig(node, "metadata", "labels", default={}))

    return mutate_pod


def wants_sidecar(pod: Object, auto_inject: bool) -> bool:
    """By annotation or label sidecar.istio.io/inject, else by the mesh's policy; never twice."""
    if pod["spec"].get("hostNetwork") or any(each["name"] == CONTAINER for each in pod["spec"]["containers"]):
        return False
    asked = dig(pod, "metadata", "annotations", "sidecar.istio.io/inject")
    if asked is None:
        asked = dig(pod, "metadata", "labels", "sidecar.istio.io/inject")
    return auto_inject if asked is None else asked.lower() in ("true", "yes", "y", "on")


def inject(pod: Object, plane: ControlPlane, node_labels: dict[str, str]) -> Object:
    """The pod with its sidecar, and the labels and annotations that come with it; the pod given is not changed."""
    pod = copy.deepcopy(pod)
    metadata, spec = pod["metadata"], pod["spec"]
    labels = metadata.setdefault("labels", {})
    app = labels.get("app") or labels.get("app.kubernetes.io/name") or metadata.get("generateName", "").rstrip("-")
    canonical = labels.get("service.istio.io/canonical-name") or app
    added = {
        "istio.io/rev": plane.name,
        "maistra-version": plane.chart,
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": canonical,
        "service.istio.io/canonical-revision": labels.get("version", "latest"),
        _SUBZONE: node_labels.get(_SUBZONE, ""),
        **{name: node_labels.get(name, "") for name in (*_LOCALITY, *_OLD_LOCALITY)},
    }
    metadata["labels"] = {**added, **labels}
    state = {
        "initContainers": None,
        "containers": [CONTAINER],
        "volumes": [ROOT_VOLUME["name"]],
        "imagePullSecrets": None,
    }
    metadata["annotations"] = {
        "kubectl.kubernetes.io/default-logs-container": spec["containers"][0]["name"],
        "prometheus.io/path": "/stats/prometheus",
        "prometheus.io/port": "15020",
        "prometheus.io/scrape": "true",
        **(metadata.get("annotations") or {}),
        "sidecar.istio.io/status": json.dumps({**state, "revision": plane.name}),
    }
    spec["containers"] = [*spec["containers"], _sidecar(pod, plane, canonical)]
    spec["volumes"] = [*(spec.get("volumes") or []), ROOT_VOLUME]
    return pod


def _sidecar(pod: Object, plane: ControlPlane, canonical: str) -> Object:
    namespace = pod["metadata"]["namespace"]
    workload = _workload(pod)
    ports = [
        {key: port[key] for key in ("name", "containerPort", "protocol") if key in port}
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
    ]
    wanted = {
        **proxy_environment(plane.discovery_address, plane.trust_domain),
        "ISTIO_META_CLUSTER_ID": plane.get("cluster", "name", default="Kubernetes"),
        "ISTIO_META_POD_PORTS": json.dumps(ports),
        "ISTIO_META_APP_CONTAINERS": ",".join(each["name"] for each in pod["spec"]["containers"]),
        "ISTIO_META_WORKLOAD_NAME": workload,
        "ISTIO_META_OWNER": f"kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{workload}",
        **plane.get("proxy", "runtime", "container", "env", default={}),
    }
    resources = plane.get("proxy", "runtime", "container", "resources")
    policy = plane.get("runtime", "defaults", "container", "imagePullPolicy", default="Always")
    return {
        "name": CONTAINER,
        "image": f"{PROXY_IMAGE}:{plane.chart}",
        "imagePullPolicy": policy,
        "args": ["proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--serviceCluster", canonical],
        "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "env": environment(wanted.items()),
        "resources": resources or {"requests": {"cpu": "10m", "memory": "128Mi"}},
        "volumeMounts": [ROOT_MOUNT],
    }


def _workload(pod: Object) -> str:
    """The Deployment a pod comes from, by its ReplicaSet's name; otherwise the pod's own name."""
    owner = next((each for each in pod["metadata"].get("ownerReferences") or [] if each.get("controller")), None)
    if owner is None:
        return pod["metadata"].get("name") or pod["metadata"].get("generateName", "").rstrip("-")
    suffix = "-" + pod["metadata"].get("labels", {}).get("pod-template-hash", "")
    return owner["name"].removesuffix(suffix) if suffix != "-" else owner["name"]
