"""Links of what is installed: API, control plane, member roll, peer object, gateways."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError, Forbidden, NotFound, Object, Unauthorized, Unreachable
from harness.diagnosis.commands import of_scenario
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.unready_pods import why_not_ready
from harness.product.names import DISCOVERY_PORT, SERVICE_PORT
from harness.product.status import ControlPlaneStatus, MemberRollStatus, condition_true

_ASKED = 12
_ASKED_AGAIN = 36
_TOLERATED = 0.25  # of all: what fails less often gets through by repeating, as every client does


def api(mesh: MeshFacts) -> Link:
    """The API server answers, accepts us, and does not fail a quarter of requests that are not repeated.

    A dozen requests; where more than one of them failed, three dozen more decide.
    """
    look = Look("API", mesh.names.name, f"namespace kube-system at {mesh.cluster.server}, {_ASKED} times")
    once = mesh.cluster.with_patience(0)
    try:
        asked, failures = _ASKED, _failures(once, _ASKED)
        if 1 < len(failures) < _ASKED:
            asked, failures = asked + _ASKED_AGAIN, failures + _failures(once, _ASKED_AGAIN)
    finally:
        once.close()
    if refused := [error for error in failures if isinstance(error, Unauthorized)]:
        return look.broken("api-unauthorized", refused[0].detail)
    if len(failures) == asked and isinstance(failures[0], Unreachable):
        return look.broken("api-unreachable", failures[0].detail, detail=failures[0].detail.removeprefix("no answer: "))
    if len(failures) > asked * _TOLERATED:
        detail = f"{len(failures)} of {asked}, such as: {failures[-1].detail}"
        return look.broken("api-failing", detail, detail=detail)
    return look.ok(f"{asked - len(failures)} of {asked} requests answered")


def _failures(cluster: Cluster, asked: int) -> list[ClusterError]:
    with ThreadPoolExecutor(_ASKED) as pool:
        return [error for error in pool.map(lambda _: _failure(cluster), range(asked)) if error]


def _failure(cluster: Cluster) -> ClusterError | None:
    try:
        cluster.uid()  # /version is answered to anybody
    except Forbidden:
        return None  # known, and told what it may not do
    except ClusterError as error:
        return error
    return None


def control_plane(facts: Facts, mesh: MeshFacts) -> Link:
    """The control plane is there, its istiod runs, and it is Ready but for gateways, which are links of their own."""
    name = mesh.names.control_plane
    look = Look("control plane", mesh.names.name, f"ServiceMeshControlPlane {mesh.system}/{name}, istiod's pods")
    for kind in (kinds.CONTROL_PLANE, *kinds.FEDERATION_KINDS):
        try:
            mesh.all(kind)
        except NotFound:
            return look.broken("crds-missing", f"{kind.api_version} {kind} is not served", kind=kind)
    try:
        status = ControlPlaneStatus.of(mesh.control_plane())
    except NotFound:
        return _no_control_plane(look, facts, mesh)
    pods = [pod for pod in mesh.istiod_pods() if condition_true(pod, "Ready")]
    if not pods:
        why = why_not_ready(mesh, mesh.system, mesh.istiod_labels)
        return look.broken("istiod-down", f"no ready pod: {why}", detail=why)
    if len(pods) > 1 and mesh.version().leader_only:
        named = ", ".join(pod["metadata"]["name"] for pod in pods)
        text = f"{len(pods)} istiod"
        return look.broken("second-istiod", text, count=len(pods), detail=named)
    if not status.is_ready and not (status.unready and set(status.unready) <= set(mesh.names.gateways)):
        return look.broken("control-plane-not-ready", str(status), name=name, detail=status)
    return look.ok(f"{status}, {len(pods)} istiod")


def _no_control_plane(look: Look, facts: Facts, mesh: MeshFacts) -> Link:
    """One kubeconfig given twice, or each in the other's place, is no matter of what is installed."""
    name, peer = mesh.names.control_plane, facts.other(mesh)
    with contextlib.suppress(ClusterError):
        if facts.one_cluster():
            seen = f"there is none, and {mesh.names.peer} is the same cluster"
            return look.broken("same-cluster", seen, name=name, proof=_proof(mesh))
        if mesh.cluster.find(kinds.CONTROL_PLANE, peer.names.control_plane, peer.system):
            seen = f"there is none, but {peer.names.name}'s {peer.names.control_plane} is"
            here, there = mesh.cluster.kubeconfig, peer.cluster.kubeconfig
            return look.broken("kubeconfigs-swapped", seen, kubeconfig=there, peer_kubeconfig=here)
    if not name:
        return look.broken("mesh-gone", "there is none in any namespace")
    return look.broken("control-plane-missing", "there is none", name=name)


def _proof(mesh: MeshFacts) -> str:
    """What tells clusters apart, as `Facts.one_cluster` does."""
    try:
        return f"uid {mesh.uid()} of namespace kube-system"
    except Forbidden:
        return f"API server {mesh.cluster.server}"


def member_roll(mesh: MeshFacts) -> Link:
    """The application's namespace is configured as a member."""
    look = Look("member roll", mesh.names.name, f"ServiceMeshMemberRoll {mesh.system}/default")
    found = mesh.find(kinds.MEMBER_ROLL, "default")
    if found is None:
        seen = "there is no member roll"
        return look.broken("namespace-not-member", seen, namespace=mesh.app, detail=seen)
    status = MemberRollStatus.of(found)
    if mesh.app not in status.configured or mesh.app not in status.asked:
        detail, members = f"members {list(status.asked)}, {status}", sorted({*status.asked, mesh.app})
        about = {"apiVersion": found["apiVersion"], "kind": found["kind"], "spec": {"members": members}}
        about["metadata"] = {"name": "default", "namespace": mesh.system}
        return look.broken("namespace-not-member", detail, namespace=mesh.app, detail=detail, object=about)
    return look.ok(f"configured {list(status.configured)}")


def peer(facts: Facts, mesh: MeshFacts) -> Link:
    """There is a peer object of the right name in the control plane's namespace."""
    name = mesh.names.peer
    look = Look("peer object", mesh.names.name, f"ServiceMeshPeer {mesh.system}/{name}")
    if mesh.peer:
        return look.ok("there")
    return absent(look, mesh, kinds.PEER, "peer-missing", _wanted_peer(facts, mesh))


def _wanted_peer(facts: Facts, mesh: MeshFacts) -> Object | None:
    """The peer object as the scenario has it, with an address of the other mesh; None where that has none yet."""
    try:
        entrances = facts.entrances(facts.other(mesh))
    except ClusterError:
        return None
    found = of_scenario(mesh.names, kinds.PEER.kind, mesh.names.peer)
    return {**found, "spec": {**found["spec"], "remote": entrances[0].remote}} if found and entrances else None


def absent(look: Look, mesh: MeshFacts, kind: kinds.Kind, cause: str, wanted: Object | None) -> Link:
    """The link where a mesh lacks the object named like its peer: it lies elsewhere, or `cause`, with its others.

    wanted: what is to be created then, None where nobody knows.
    """
    name, system = mesh.names.peer, mesh.system
    if away := mesh.misplaced(kind, name):
        here = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, "namespace": system}}
        moved: Object = {**here, "spec": away.get("spec") or {}}
        return look.broken(
            "object-misplaced", f"it is in {mesh.app}", kind=kind, name=name, namespace=mesh.app, object=moved
        )
    others = [obj["metadata"]["name"] for obj in mesh.all(kind)]
    detail = f", only {', '.join(others)}" if others else ""
    return look.broken(cause, f"there is none{detail}", name=name, detail=detail, object=wanted)


def gateways(mesh: MeshFacts) -> Link:
    """Both gateways that the peer object names exist in this mesh, with both ports and a ready pod; they are the
    peer's alone, and their Services select no other pods."""
    look = Look("gateways", mesh.names.name, f"Services, Deployments and pods in {mesh.system}")
    seen = []
    for direction in ("egress", "ingress"):
        name = mesh.gateway(direction)
        expected = {"egress": mesh.names.egress_gateway, "ingress": mesh.names.ingress_gateway}[direction]
        service = mesh.find(kinds.SERVICE, name)
        if service is None:
            values = {"gateway": name, "expected": expected}
            return look.broken(f"{direction}-gateway-missing", f"no Service {name}", **values)
        ports = {port["port"] for port in service["spec"].get("ports") or []}
        for port in (DISCOVERY_PORT, SERVICE_PORT):
            if port not in ports:
                return look.broken("gateway-port-missing", f"{name} has {sorted(ports)}", gateway=name, port=port)
        if strays := [pod["metadata"]["name"] for pod in mesh.strays(name)]:
            pods = ", ".join(strays)
            return look.broken("gateway-selects-others", f"{name} also selects {pods}", gateway=name, pods=pods)
        ready = [pod for pod in mesh.gateway_pods(name) if condition_true(pod, "Ready")]
        if not ready:
            why = why_not_ready(mesh, mesh.system, service["spec"].get("selector") or {})
            return look.broken("gateway-down", f"{name}: no ready pod: {why}", gateway=name, detail=why)
        seen.append(f"{name}: {len(ready)} ready")
    # Two peers at one egress gateway get along.
    if others := [obj["metadata"]["name"] for obj in mesh.all(kinds.PEER) if _shares_ingress(mesh, obj)]:
        name, detail = mesh.gateway("ingress"), ", ".join([mesh.names.peer, *others])
        return look.broken("ingress-shared", f"{name} serves {detail}", gateway=name, detail=detail)
    return look.ok(", ".join(seen))


def _shares_ingress(mesh: MeshFacts, peer: Object) -> bool:
    named = ((peer["spec"].get("gateways") or {}).get("ingress") or {}).get("name")
    return peer["metadata"]["name"] != mesh.names.peer and named == mesh.gateway("ingress")


def network_view(mesh: MeshFacts) -> Link:
    """The egress gateway asks istiod for the network that it calls the peer's."""
    gateway, expected = mesh.gateway("egress"), f"network-{mesh.names.peer}"
    look = Look("network view", mesh.names.name, f"Deployment {mesh.system}/{gateway}")
    deployment = mesh.find(kinds.DEPLOYMENT, gateway)
    if deployment is None:
        return look.unknown(f"there is no Deployment {gateway}")
    containers = deployment["spec"]["template"]["spec"]["containers"]
    values = [entry for container in containers for entry in container.get("env") or []]
    named = (e.get("value", "") for e in values if e["name"] == "ISTIO_META_REQUESTED_NETWORK_VIEW")
    seen = next(named, "")
    if expected not in seen.split(","):
        view = seen or "none"
        return look.broken("network-view-wrong", view, gateway=gateway, seen=view, expected=expected)
    return look.ok(seen)
