"""Whether what was asked for is installed, per mesh: every check returns its findings, [] when all is well."""

from __future__ import annotations

from harness.cluster.kinds import (
    CONFIG_MAP,
    CONTROL_PLANE,
    DEPLOYMENT,
    FEDERATION_KINDS,
    MEMBER_ROLL,
    PEER,
    POD,
    SERVICE,
)
from harness.cluster.transport import Object
from harness.product import trust
from harness.product.mesh import Federation, Mesh, server_names
from harness.product.names import (
    DISCOVERY_PORT,
    ROOT_CONFIG_MAP,
    SERVICE_PORT,
    has_sidecar,
)
from harness.product.status import condition_true, ended, is_current

_PORTS = frozenset({DISCOVERY_PORT, SERVICE_PORT})


def unserved_kinds(mesh: Mesh) -> list[str]:
    """Federation kinds the cluster does not serve; the operator brings them with the first control plane."""
    return [
        f"{mesh.name}: {kind.api_version} {kind} is not served; has the operator reconciled a control plane?"
        for kind in FEDERATION_KINDS
        if not mesh.cluster.served(kind)
    ]


def control_plane_problems(mesh: Mesh, asked: str | None) -> list[str]:
    """Control plane not Ready, or not at version `asked` (`v2.1`; None: whatever the operator chose)."""
    obj = mesh.cluster.get(CONTROL_PLANE, mesh.control_plane, mesh.system_namespace)
    where = f"{mesh.name}: control plane {mesh.system_namespace}/{mesh.control_plane}"
    problems = []
    if not condition_true(obj, "Ready") or not is_current(obj):
        problems.append(f"{where} is not Ready: {_condition(obj, 'Ready')}")
    release = (obj.get("status") or {}).get("chartVersion") or ""
    wanted = (asked or mesh.version).lstrip("v")
    if release.split(".")[:2] != wanted.split("."):
        problems.append(f"{where} runs release {release or 'unknown'}, asked for {wanted}")
    return problems


def _condition(obj: Object, name: str) -> str:
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition["type"] == name:
            return f"{condition.get('reason', '')} {condition.get('message', '')}".strip() or condition["status"]
    return f"it has no condition {name}"


def member_problems(mesh: Mesh) -> list[str]:
    """Members the roll has configured besides, or instead of, the application namespace."""
    status = mesh.cluster.get(MEMBER_ROLL, "default", mesh.system_namespace).get("status") or {}
    configured = status.get("configuredMembers") or []
    if configured == [mesh.app_namespace]:
        return []
    pending = status.get("pendingMembers") or []
    return [
        f"{mesh.name}: member roll {mesh.system_namespace}/default has configured {configured or 'nothing'} (pending: "
        f"{pending or 'nothing'}), asked for {[mesh.app_namespace]}"
    ]


def unavailable_deployments(mesh: Mesh) -> list[str]:
    """istiod and the four gateways, as far as their Deployments are not Available."""
    found = {obj["metadata"]["name"]: obj for obj in mesh.cluster.list(DEPLOYMENT, mesh.system_namespace)}
    problems = []
    for name in (mesh.istiod, *mesh.gateways):
        where = f"{mesh.name}: Deployment {mesh.system_namespace}/{name}"
        if name not in found:
            problems.append(f"{where} does not exist")
        elif not condition_true(found[name], "Available"):
            problems.append(f"{where} is not Available: {_condition(found[name], 'Available')}")
        elif not (found[name].get("status") or {}).get("availableReplicas"):
            problems.append(f"{where} is scaled to {found[name]['spec'].get('replicas', 0)}: none of its pods is there")
    return problems


def missing_ports(mesh: Mesh) -> list[str]:
    """Federation gateway Services that lack 8188 or 15443."""
    problems = []
    for gateway in (mesh.ingress_gateway, mesh.egress_gateway):
        service = mesh.cluster.get(SERVICE, gateway, mesh.system_namespace)
        if missing := _PORTS - {port["port"] for port in service["spec"]["ports"]}:
            problems.append(
                f"{mesh.name}: Service {mesh.system_namespace}/{gateway} lacks port {', '.join(map(str, missing))}"
            )
    return problems


def network_view(mesh: Mesh) -> str:
    """The network view the federation egress gateway asks istiod for ('' for none)."""
    deployment = mesh.cluster.get(DEPLOYMENT, mesh.egress_gateway, mesh.system_namespace)
    containers = deployment["spec"]["template"]["spec"]["containers"]
    values = [entry for container in containers for entry in container.get("env") or []]
    return next((e.get("value", "") for e in values if e["name"] == "ISTIO_META_REQUESTED_NETWORK_VIEW"), "")


def listening_ports(mesh: Mesh) -> tuple[int, ...]:
    """Ports a federation ingress listens on: without exports there is no listener on 15443 (product behaviour)."""
    return (DISCOVERY_PORT, SERVICE_PORT) if mesh.exports else (DISCOVERY_PORT,)


def closed_ports(mesh: Mesh) -> list[str]:
    """Ports of the federation ingress address at which no TLS server shows a certificate, under any of its names.

    That a connection is accepted says nothing: load balancers accept for gateways that do not listen.
    """
    problems = []
    for port in listening_ports(mesh):
        errors = {name: _silence(mesh, port, name) for name in server_names(mesh, port)}
        if all(errors.values()):
            why = "; ".join(f"{name}: {error}" for name, error in errors.items())
            problems.append(
                f"{mesh.name}: {mesh.ingress_gateway} at {mesh.ingress} has no TLS server for {port} ({why}); see its "
                f"listeners, and whether ServiceMeshPeer {mesh.peer} and its ExportedServiceSet name what is there"
            )
    return problems


def _silence(mesh: Mesh, port: int, name: str) -> str:
    """Why no certificate is shown for a server name; '' where one is."""
    try:
        return "" if trust.presented_chain(mesh.connector(port), name, "").uris else "no SPIFFE identity"
    except OSError as error:
        return str(error) or type(error).__name__


def trust_domain(mesh: Mesh) -> str:
    """The trust domain the control plane is set to ('' for the product's default)."""
    spec = mesh.cluster.get(CONTROL_PLANE, mesh.control_plane, mesh.system_namespace)["spec"]
    return ((spec.get("security") or {}).get("trust") or {}).get("domain", "")


def own_root(mesh: Mesh) -> str:
    """The mesh's root now, PEM; '' where istiod wrote none."""
    found = mesh.cluster.find(CONFIG_MAP, ROOT_CONFIG_MAP, mesh.system_namespace)
    return ((found or {}).get("data") or {}).get("root-cert.pem", "")


def held_root(mesh: Mesh) -> str:
    """What the mesh holds as its peer's root, PEM; '' where there is none."""
    found = mesh.cluster.find(CONFIG_MAP, mesh.root_config_map, mesh.system_namespace)
    return ((found or {}).get("data") or {}).get("root-cert.pem", "")


def fingerprints(pem: str) -> set[str]:
    """SHA-256 fingerprints of the certificates in a PEM text."""
    return {trust.fingerprint(certificate) for certificate in trust.roots_in(pem)}


def root_problems(mesh: Mesh) -> list[str]:
    """Why the mesh's own root is not a valid CA certificate."""
    problem = trust.root_problem(own_root(mesh), mesh.cluster.now())
    return [f"{mesh.name}: root in {mesh.system_namespace}/istio-ca-root-cert {problem}"] if problem else []


def stale_root(federation: Federation, mesh: Mesh) -> list[str]:
    """What the mesh holds as its peer's root, where that is not the peer's root of now."""
    peer = federation.peer_of(mesh)
    held, current = fingerprints(held_root(mesh)), fingerprints(own_root(peer))
    if held and held == current:
        return []
    return [
        f"{mesh.name}: ConfigMap {mesh.system_namespace}/{mesh.root_config_map} holds {_short(held)}, "
        f"{peer.name} signs with {_short(current)}; copy {peer.name}'s root-cert.pem of {ROOT_CONFIG_MAP}"
    ]


def _short(fingerprints: set[str]) -> str:
    return ", ".join(sorted(found[:12] for found in fingerprints)) or "no certificate"


def presented_chain_problems(federation: Federation, mesh: Mesh) -> list[str]:
    """What is wrong with the chains the federation ingress shows now, as the peer would judge them.

    On each port: it verifies against the root the peer holds, and names the ingress gateway's service account in the
    trust domain the peer's ServiceMeshPeer expects. A new connection, since an old one may be older than a mistake.
    """
    peer = federation.peer_of(mesh)
    peer_object = peer.cluster.get(PEER, peer.peer, peer.system_namespace)
    domain = ((peer_object["spec"].get("security") or {}).get("trustDomain")) or ""
    wanted = trust.spiffe_id(domain, mesh.system_namespace, mesh.service_account(mesh.ingress_gateway))
    problems = []
    for port in listening_ports(mesh):
        where = f"{mesh.name}: {mesh.ingress_gateway} on {port} ({mesh.ingress})"
        try:
            shown = trust.presented_chain(mesh.connector(port), server_names(mesh, port)[0], held_root(peer))
        except OSError as error:
            problems.append(f"{where} makes no TLS connection: {error}")
            continue
        if shown.problem:
            problems.append(f"{where} shows {shown}, which does not verify against the root {peer.name} holds")
        elif wanted not in shown.uris:
            problems.append(f"{where} is {shown}, {peer.name} expects {wanted}")
    return problems


def pods_without_sidecar(mesh: Mesh) -> list[str]:
    """bookinfo pods that are not ready, or have no sidecar."""
    listed = mesh.cluster.list(POD, mesh.app_namespace)
    pods = [pod for pod in listed if "deletionTimestamp" not in pod["metadata"] and not ended(pod)]
    if not pods:
        return [f"{mesh.name}: there are no pods in {mesh.app_namespace}"]
    problems = []
    for pod in pods:
        where = f"{mesh.name}: pod {mesh.app_namespace}/{pod['metadata']['name']}"
        if not has_sidecar(pod):
            problems.append(f"{where} has no sidecar: it is older than the membership, or lacks the inject annotation")
        if not condition_true(pod, "Ready"):
            problems.append(f"{where} is not ready: {_condition(pod, 'Ready')}")
    return problems
