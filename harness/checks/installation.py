"""Whether what was asked for is installed: each check says what was asked of a mesh, beside what was seen there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from harness.checks.compared import Compared
from harness.checks.live_exports import Unjudged, at_a_live_export
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
from harness.product.names import DISCOVERY_PORT, ROOT_CONFIG_MAP, ROOT_KEY, SERVICE_PORT, has_sidecar
from harness.product.specs import asked_trust_domain, peer_trust_domain
from harness.product.status import condition_true, ended, is_current
from harness.product.versions import behaviour

VALID_ROOT = "is a CA certificate, valid now"
_PORTS = frozenset({DISCOVERY_PORT, SERVICE_PORT})


def federation_kinds(mesh: Mesh) -> Compared:
    """Federation kinds the cluster serves; the operator brings them with the first control plane."""
    served = {kind for kind in FEDERATION_KINDS if mesh.cluster.served(kind)}
    problems = [
        f"{mesh.name}: {kind.api_version} {kind} is not served; has the operator reconciled a control plane?"
        for kind in FEDERATION_KINDS
        if kind not in served
    ]
    return Compared(set(FEDERATION_KINDS), served, problems)


def control_plane(mesh: Mesh, version: str | None) -> Compared:
    """Readiness and release of the control plane; version: as asked for (`v2.1`), None: what the operator chose."""
    obj = mesh.cluster.get(CONTROL_PLANE, mesh.control_plane, mesh.system_namespace)
    where = f"{mesh.name}: control plane {mesh.system_namespace}/{mesh.control_plane}"
    problems = []
    ready = condition_true(obj, "Ready") and is_current(obj)
    if not ready:
        problems.append(f"{where} is not Ready: {_condition(obj, 'Ready')}")
    release = (obj.get("status") or {}).get("chartVersion") or ""
    wanted, minor = (version or mesh.version).lstrip("v"), ".".join(release.split(".")[:2])
    if minor != wanted:
        problems.append(f"{where} runs release {release or 'unknown'}, asked for {wanted}")
    return Compared({"Ready": True, "release": wanted}, {"Ready": ready, "release": minor}, problems)


def _condition(obj: Object, name: str) -> str:
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition["type"] == name:
            return f"{condition.get('reason', '')} {condition.get('message', '')}".strip() or condition["status"]
    return f"it has no condition {name}"


def members(mesh: Mesh) -> Compared:
    """Members the roll has configured; exactly those that it is to have are asked for."""
    status = mesh.cluster.get(MEMBER_ROLL, "default", mesh.system_namespace).get("status") or {}
    asked, configured = sorted(mesh.members), sorted(status.get("configuredMembers") or [])
    pending = status.get("pendingMembers") or []
    problem = (
        f"{mesh.name}: member roll {mesh.system_namespace}/default has configured {configured or 'nothing'} (pending: "
        f"{pending or 'nothing'}), asked for {asked}"
    )
    return Compared(asked, configured, [problem] if configured != asked else [])


def deployments(mesh: Mesh) -> Compared:
    """Which of the Deployments of istiod and the four gateways are available."""
    listed = {obj["metadata"]["name"]: obj for obj in mesh.cluster.list(DEPLOYMENT, mesh.system_namespace)}
    asked = (mesh.istiod, *mesh.gateways)
    unavailable = {name: problem for name in asked if (problem := _unavailable(listed.get(name)))}
    where = f"{mesh.name}: Deployment {mesh.system_namespace}"
    problems = [f"{where}/{name} {problem}" for name, problem in unavailable.items()]
    return Compared(set(asked), set(asked) - unavailable.keys(), problems)


def _unavailable(deployment: Object | None) -> str:
    """Why a Deployment has no pod to serve anybody; '' where it has."""
    if deployment is None:
        return "does not exist"
    if not condition_true(deployment, "Available"):
        return f"is not Available: {_condition(deployment, 'Available')}"
    if not (deployment.get("status") or {}).get("availableReplicas"):
        return f"is scaled to {deployment['spec'].get('replicas', 0)}: none of its pods is there"
    return ""


def gateway_ports(mesh: Mesh) -> Compared:
    """Which of 8188 and 15443 the Services of the federation gateways have."""
    gateways = (mesh.ingress_gateway, mesh.egress_gateway)
    services = {name: mesh.cluster.get(SERVICE, name, mesh.system_namespace) for name in gateways}
    ports = {name: _PORTS & {port["port"] for port in obj["spec"]["ports"]} for name, obj in services.items()}
    problems = [
        f"{mesh.name}: Service {mesh.system_namespace}/{name} lacks port {', '.join(map(str, _PORTS - there))}"
        for name, there in ports.items()
        if there != _PORTS
    ]
    return Compared(dict.fromkeys(gateways, _PORTS), ports, problems)


def network_view(mesh: Mesh) -> str:
    """The network view the federation egress gateway asks istiod for ('' for none)."""
    deployment = mesh.cluster.get(DEPLOYMENT, mesh.egress_gateway, mesh.system_namespace)
    containers = deployment["spec"]["template"]["spec"]["containers"]
    values = [entry for container in containers for entry in container.get("env") or []]
    return next((e.get("value", "") for e in values if e["name"] == "ISTIO_META_REQUESTED_NETWORK_VIEW"), "")


def working_views(mesh: Mesh) -> list[str]:
    """Network views with which the egress gateway keeps the endpoints of what is imported, '' for none.

    Captured: 2.1 loses them with any other value, under perfect statuses; from 2.2 on every value works. The scenario
    has the documented one.
    """
    documented = f"network-{mesh.peer}"
    if mesh.is_scenario:
        return [documented]
    counts = behaviour(mesh.release or mesh.version).view_counts
    return [documented, ""] if counts else [documented, "", network_view(mesh)]


def listening_ports(mesh: Mesh) -> tuple[int, ...]:
    """Ports a federation ingress listens on: without exports there is no listener on 15443 (product behaviour)."""
    return (DISCOVERY_PORT, SERVICE_PORT) if mesh.exports else (DISCOVERY_PORT,)


def tls_servers(mesh: Mesh) -> Compared:
    """Ports of the federation ingress address at which a TLS server shows a certificate, under any of its names.

    That a connection is accepted says nothing: load balancers accept for gateways that do not listen.
    """
    asked, problems, silent = listening_ports(mesh), [], set()
    for port in asked:
        errors = {name: _silence(mesh, port, name) for name in server_names(mesh, port)}
        if all(errors.values()):
            why = "; ".join(f"{name}: {error}" for name, error in errors.items())
            silent.add(port)
            problems.append(
                f"{mesh.name}: {mesh.ingress_gateway} at {mesh.ingress} has no TLS server for {port} ({why}); see its "
                f"listeners, and whether ServiceMeshPeer {mesh.peer} and its ExportedServiceSet name what is there"
            )
    return Compared(set(asked), set(asked) - silent, problems)


def _silence(mesh: Mesh, port: int, name: str) -> str:
    """Why no certificate is shown for a server name; '' where one is."""
    try:
        return "" if trust.presented_chain(mesh.connector(port), name, "").uris else "no SPIFFE identity"
    except OSError as error:
        return str(error) or type(error).__name__


def trust_domain(mesh: Mesh) -> str:
    """The trust domain the control plane is set to ('' for the product's default)."""
    spec = mesh.cluster.get(CONTROL_PLANE, mesh.control_plane, mesh.system_namespace)["spec"]
    return asked_trust_domain(spec)


def own_root(mesh: Mesh) -> str:
    """The mesh's root now, PEM; '' where istiod wrote none."""
    return trust.root_pem(mesh.cluster.find(CONFIG_MAP, ROOT_CONFIG_MAP, mesh.system_namespace))


def held_root(mesh: Mesh) -> str:
    """What the mesh holds as its peer's root, PEM; '' where there is none."""
    return trust.root_pem(mesh.cluster.find(CONFIG_MAP, mesh.root_config_map, mesh.system_namespace))


def own_fingerprints(mesh: Mesh) -> frozenset[str]:
    """SHA-256 fingerprints of the mesh's own root."""
    return trust.fingerprints(own_root(mesh))


def root(mesh: Mesh) -> Compared:
    """What the mesh's own root is."""
    problem = trust.root_problem(own_root(mesh), mesh.cluster.now()) or ""
    where = f"{mesh.name}: root in {mesh.system_namespace}/{ROOT_CONFIG_MAP}"
    return Compared(VALID_ROOT, problem or VALID_ROOT, [f"{where} {problem}"] if problem else [])


def root_of_peer(federation: Federation, mesh: Mesh) -> Compared:
    """Fingerprints of what the mesh holds as its peer's root, beside those of the peer's root of now."""
    peer = federation.peer_of(mesh)
    held, current = trust.fingerprints(held_root(mesh)), own_fingerprints(peer)
    problem = (
        f"{mesh.name}: ConfigMap {mesh.system_namespace}/{mesh.root_config_map} holds {_short(held)}, "
        f"{peer.name} signs with {_short(current)}; copy {peer.name}'s {ROOT_KEY} of {ROOT_CONFIG_MAP}"
    )
    asked = current or {"a root certificate"}  # two meshes without any do not agree
    return Compared(asked, held, [problem] if held != asked else [])


def _short(fingerprints: Iterable[str]) -> str:
    return ", ".join(sorted(found[:12] for found in fingerprints)) or "no certificate"


def ingress_identities(federation: Federation, mesh: Mesh) -> Compared:
    """Who the federation ingress proves to be on each port now, as the peer would judge it.

    Its chain verifies against the root the peer holds, and names the ingress gateway's service account in the
    trust domain the peer's ServiceMeshPeer expects. A new connection, since an old one may be older than a mistake.
    Raises Unjudged where nothing is wrong but that nobody is there whom the gateway could connect to.
    """
    peer = federation.peer_of(mesh)
    peer_object = peer.cluster.get(PEER, peer.peer, peer.system_namespace)
    domain = peer_trust_domain(peer_object["spec"])
    expected = trust.spiffe_id(domain, mesh.system_namespace, mesh.service_account(mesh.ingress_gateway))
    held, problems = held_root(peer), list[str]()
    identities: dict[int, str] = {}
    for port in listening_ports(mesh):
        where, connect = f"{mesh.name}: {mesh.ingress_gateway} on {port} ({mesh.ingress})", mesh.connector(port)
        look = partial(trust.presented_chain, connect, root_pem=held)
        try:
            shown = at_a_live_export(mesh, port, look)
        except Unjudged:
            if not problems:
                raise
            continue
        except OSError as error:
            identities[port] = "no TLS server"
            problems.append(f"{where} makes no TLS connection: {error}")
            continue
        identities[port] = expected if expected in shown.uris and not shown.problem else str(shown)
        if shown.problem:
            problems.append(f"{where} shows {shown}, which does not verify against the root {peer.name} holds")
        elif expected not in shown.uris:
            problems.append(f"{where} is {shown}, {peer.name} expects {expected}")
    return Compared(dict.fromkeys(identities, expected), identities, problems)


def bookinfo_pods(mesh: Mesh) -> Compared:
    """Pods of the application namespace that run or are to run, and which of them are ready with a sidecar."""
    listed = mesh.cluster.list(POD, mesh.app_namespace)
    pods = [pod for pod in listed if "deletionTimestamp" not in pod["metadata"] and not ended(pod)]
    if not pods:
        return Compared({"at least one pod"}, set(), [f"{mesh.name}: there are no pods in {mesh.app_namespace}"])
    problems, good = [], set()
    for pod in pods:
        name = pod["metadata"]["name"]
        where = f"{mesh.name}: pod {mesh.app_namespace}/{name}"
        if not has_sidecar(pod):
            problems.append(f"{where} has no sidecar: it is older than the membership, or lacks the inject annotation")
        if not condition_true(pod, "Ready"):
            problems.append(f"{where} is not ready: {_condition(pod, 'Ready')}")
        if has_sidecar(pod) and condition_true(pod, "Ready"):
            good.add(name)
    return Compared({pod["metadata"]["name"] for pod in pods}, good, problems)
