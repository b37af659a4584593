"""What a watch keeps of an object: the few facts whose change may explain something. Pure functions of objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from harness.cluster.kinds import (
    CONFIG_MAP,
    CONTROL_PLANE,
    DEPLOYMENT,
    EXPORTS,
    IMPORTS,
    MEMBER_ROLL,
    PEER,
    POD,
    ROUTE,
    SERVICE,
    Kind,
)
from harness.product.names import ROOT_KEY, SIDECAR
from harness.product.specs import client_id, peer_trust_domain
from harness.product.status import (
    ControlPlaneStatus,
    MemberRollStatus,
    PeerStatus,
    condition,
    condition_true,
    exported_services,
    imported_services,
)
from harness.product.trust import fingerprints

View = dict[str, Any]
Object = dict[str, Any]
_RELEASE = re.compile(r":v?(\d+(?:\.\d+)+[\w.-]*)$")


def view(kind: Kind, obj: Object) -> View | None:
    """The facts kept of an object; None for one that is of no interest."""
    return _VIEWS[kind](obj)


def _control_plane(obj: Object) -> View:
    status = ControlPlaneStatus.of(obj)
    reconciled = condition(obj, "Reconciled")
    return {
        "asked": status.version,
        "installed": status.chart_version,
        "ready": f"{status.ready.status} {status.ready.reason}".strip(),
        "reconciled": f"{reconciled.status} {reconciled.reason}".strip(),
        "generation": obj["metadata"].get("generation"),
    }


def _member_roll(obj: Object) -> View:
    status = MemberRollStatus.of(obj)
    return {"members": sorted(status.configured), "pending": sorted(status.pending)}


def _peer(obj: Object) -> View:
    views, spec = PeerStatus.of(obj).views, obj.get("spec") or {}
    return {
        "watches": {one.pod: one.watch.connected for one in views},
        "remotes": {
            f"{one.pod} from {remote.source or 'nobody named'}": remote.connected
            for one in views
            for remote in one.remotes
        },
        "remote": spec.get("remote") or {},
        "identity": [client_id(spec), peer_trust_domain(spec)],
    }


def _exports(obj: Object) -> View:
    return _services(exported_services(obj))


def _imports(obj: Object) -> View:
    return _services(imported_services(obj))


def _services(found: tuple[Any, ...] | None) -> View:
    return {"services": None if found is None else sorted(map(str, found))}


def _deployment(obj: Object) -> View:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return {
        "generation": obj["metadata"].get("generation"),
        "asked": spec.get("replicas", 1),
        "ready": status.get("readyReplicas") or 0,
        "updated": status.get("updatedReplicas") or 0,
    }


def _pod(obj: Object) -> View:
    status = obj.get("status") or {}
    return {
        "workload": workload_of(obj),
        "phase": status.get("phase", ""),
        "ready": condition_true(obj, "Ready"),
        "terminating": "deletionTimestamp" in obj["metadata"],
        "address": status.get("podIP", ""),
        "proxy": proxy_release(obj),
        "restarts": sum(one.get("restartCount", 0) for one in status.get("containerStatuses") or ()),
    }


def workload_of(pod: Object) -> str:
    """Name of the Deployment a pod belongs to, '' where it belongs to none."""
    meta = pod["metadata"]
    tail = (meta.get("labels") or {}).get("pod-template-hash")
    owner = next((one["name"] for one in meta.get("ownerReferences") or () if one.get("kind") == "ReplicaSet"), "")
    if not owner and tail:
        owner = meta["name"].rpartition("-")[0]
    return owner.removesuffix(f"-{tail}") if tail else owner.rpartition("-")[0]


def proxy_release(pod: Object) -> str:
    """Release of the proxy in a pod by the tag of its image, '' where it has none or the tag is no number."""
    spec = pod.get("spec") or {}
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        if container["name"] == SIDECAR:
            found = _RELEASE.search(container.get("image", ""))
            return found[1] if found else container.get("image", "").rpartition("@")[2][:19]
    return ""


def _service(obj: Object) -> View:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    balancers = (status.get("loadBalancer") or {}).get("ingress") or ()
    return {
        "ports": {str(port["port"]): port.get("nodePort") for port in spec.get("ports") or ()},
        "addresses": sorted(one.get("ip") or one.get("hostname") or "" for one in balancers),
        "type": spec.get("type", "ClusterIP"),
    }


def _route(obj: Object) -> View:
    found = (obj.get("status") or {}).get("ingress") or ()
    admitted = [
        one.get("host", "")
        for one in found
        if any(c["type"] == "Admitted" and c["status"] == "True" for c in one.get("conditions") or ())
    ]
    return {"hosts": sorted(admitted)}


def _root(obj: Object) -> View | None:
    text = (obj.get("data") or {}).get(ROOT_KEY)
    return None if text is None else {"roots": sorted(one[:16] for one in fingerprints(text))}


_VIEWS: dict[Kind, Callable[[Object], View | None]] = {
    CONTROL_PLANE: _control_plane,
    MEMBER_ROLL: _member_roll,
    PEER: _peer,
    EXPORTS: _exports,
    IMPORTS: _imports,
    DEPLOYMENT: _deployment,
    POD: _pod,
    SERVICE: _service,
    ROUTE: _route,
    CONFIG_MAP: _root,
}
WATCHED = tuple(_VIEWS)
