"""What a diagnosis reads of both meshes' APIs: everything once, at the same time, nothing changed.

Looking at something that could not be read raises its ClusterError; who looks makes a link `unknown` of that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import Kind
from harness.cluster.transport import ClusterError, Forbidden, NotFound, Object, Objects
from harness.product import specs
from harness.product.mesh import SCENARIO, MeshNames
from harness.product.names import CLUSTER_DOMAIN, DISCOVERY_PORT, ROOT_CONFIG_MAP, SERVICE_PORT, identity
from harness.product.trust import root_pem
from harness.product.versions import Bounds, Version, behaviour
from harness.scenario.entry import ingress_address, node_addresses

T = TypeVar("T")
_SYSTEM = (
    kinds.CONTROL_PLANE,
    kinds.MEMBER_ROLL,
    kinds.PEER,
    kinds.EXPORTS,
    kinds.IMPORTS,
    kinds.SERVICE,
    kinds.DEPLOYMENT,
    kinds.POD,
)
_APP = (kinds.POD, kinds.SERVICE, kinds.ENDPOINTS, kinds.VIRTUAL_SERVICE, kinds.DESTINATION_RULE)
_GATEWAY_LABEL = "service.istio.io/canonical-name"  # by which federation selects gateways, whatever Services do


class MeshFacts:
    """One mesh as its API shows it. Thread-safe; every method may raise ClusterError."""

    def __init__(self, names: MeshNames, cluster: Cluster, pool: Executor, patience: float | None = None) -> None:
        """patience: seconds that what comes back by itself may take, None for what the version may need."""
        self.names, self.cluster, self._patience = names, cluster, patience
        self.system, self.app = names.system_namespace, names.app_namespace
        self._lock = threading.Lock()
        self._once: dict[str, Future[Any]] = {}
        self._lists: dict[tuple[Kind, str], Future[Objects]] = {
            (kind, namespace): pool.submit(cluster.list, kind, namespace)
            for namespace, listed in ((self.system, _SYSTEM), (self.app, _APP))
            for kind in listed
        }
        self._uid = pool.submit(cluster.uid)
        self._own_root = pool.submit(cluster.find, kinds.CONFIG_MAP, ROOT_CONFIG_MAP, self.system)

    def once(self, key: str, read: Callable[[], T]) -> T:
        """What `read` came to, or raised, the first time."""
        with self._lock:
            known = self._once.get(key)
            found: Future[Any] = known or self._once.setdefault(key, Future())
        if known is None:
            try:
                found.set_result(read())
            except Exception as error:
                found.set_exception(error)
        return found.result()

    def uid(self) -> str:
        """uid of the cluster."""
        return self._uid.result()

    def all(self, kind: Kind, namespace: str = "") -> Objects:
        """Objects of a kind in the control plane's namespace, or in the application's."""
        return self._lists[kind, namespace or self.system].result()

    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        return next((obj for obj in self.all(kind, namespace) if obj["metadata"]["name"] == name), None)

    def misplaced(self, kind: Kind, name: str) -> Object | None:
        """An object for the control plane's namespace that is in the application's; None where that may not be read.

        Asked only where it is missing: nobody needs to wait for that list otherwise.
        """
        try:
            return next((obj for obj in self.cluster.list(kind, self.app) if obj["metadata"]["name"] == name), None)
        except ClusterError:
            return None

    def events(self, namespace: str) -> Objects:
        """What is told of the objects of a namespace; asked only where something does not start."""
        return self.once(f"events in {namespace}", lambda: self.cluster.list(kinds.EVENT, namespace))

    @property
    def peer(self) -> Object | None:
        return self.find(kinds.PEER, self.names.peer)

    def peer_spec(self) -> Object:
        """spec of the ServiceMeshPeer; raises NotFound where there is none."""
        if (found := self.peer) is None:
            raise NotFound(self.names.name, f"read ServiceMeshPeer {self.system}/{self.names.peer}", "there is none")
        return found.get("spec") or {}

    def gateway(self, direction: str) -> str:
        """Name of the `ingress` or `egress` gateway that the peer object names, else the scenario's."""
        default = {"ingress": self.names.ingress_gateway, "egress": self.names.egress_gateway}[direction]
        named = (((self.peer or {}).get("spec") or {}).get("gateways") or {}).get(direction) or {}
        return named.get("name") or default

    def control_plane(self) -> Object:
        """The ServiceMeshControlPlane; raises NotFound."""
        found = self.find(kinds.CONTROL_PLANE, self.names.control_plane)
        if found is None:
            what = f"read ServiceMeshControlPlane {self.system}/{self.names.control_plane}"
            raise NotFound(self.names.name, what, "there is none")
        return found

    def trust_domain(self) -> str:
        return specs.asked_trust_domain(self.control_plane()["spec"]) or CLUSTER_DOMAIN

    def version(self) -> Version:
        """How the installed version behaves."""
        found = self.control_plane()
        return behaviour((found.get("status") or {}).get("chartVersion") or found["spec"].get("version") or "")

    def bounds(self) -> Bounds:
        return self.version().bounds.settled_within(self._patience)

    def own_root(self) -> str:
        """The mesh's root, PEM; '' where istiod wrote none."""
        return root_pem(self._own_root.result())

    def root_config_map(self) -> str:
        """Name of the ConfigMap that is to hold the peer's root."""
        return specs.root_config_map(self.names.peer, self.peer_spec())

    def held_root(self) -> Object | None:
        """The ConfigMap that holds the peer's root."""
        name = self.root_config_map()
        return self.once("held root", lambda: self.cluster.find(kinds.CONFIG_MAP, name, self.system))

    def held_pem(self) -> str:
        return root_pem(self.held_root())

    def running(self, namespace: str, labels: Mapping[str, str]) -> Objects:
        """Pods in phase Running with these labels, without those that are going away, by name."""
        found = [
            pod
            for pod in self.all(kinds.POD, namespace)
            if labels.items() <= (pod["metadata"].get("labels") or {}).items()
            and (pod.get("status") or {}).get("phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
        ]
        return sorted(found, key=lambda pod: pod["metadata"]["name"])

    @property
    def istiod_labels(self) -> Mapping[str, str]:
        return {"app": "istiod", "istio.io/rev": self.names.control_plane}

    def istiod_pods(self) -> Objects:
        return self.running(self.system, self.istiod_labels)

    def gateway_pods(self, gateway: str) -> Objects:
        """Running pods of a gateway that its Service selects; [] where there is no such Service."""
        return [pod for pod in self._behind(gateway) if _gateway_of(pod) in ("", gateway)]

    def strays(self, gateway: str) -> Objects:
        """Running pods that a gateway's Service selects although they are another gateway's."""
        return [pod for pod in self._behind(gateway) if _gateway_of(pod) not in ("", gateway)]

    def _behind(self, gateway: str) -> Objects:
        service = self.find(kinds.SERVICE, gateway)
        return self.running(self.system, service["spec"].get("selector") or {}) if service else []

    def app_pods(self, app: str, version: str = "") -> Objects:
        return self.running(self.app, {"app": app, "version": version} if version else {"app": app})

    def egress_identity(self) -> str:
        """`<trust domain>/ns/<namespace>/sa/<service account>` of the egress gateway, as its objects say it."""
        return self._identity(self.gateway("egress"))

    def ingress_identity(self) -> str:
        """The same of the federation ingress gateway."""
        return self._identity(self.names.ingress_gateway)

    def _identity(self, gateway: str) -> str:
        pods = self.gateway_pods(gateway)
        account = (pods[0]["spec"].get("serviceAccountName") if pods else "") or self.names.service_account(gateway)
        return identity(self.trust_domain(), self.system, account)

    def account_identity(self, pod: Object) -> str:
        """The same of a pod of the application."""
        return identity(self.trust_domain(), self.app, pod["spec"].get("serviceAccountName") or "default")


def _gateway_of(pod: Object) -> str:
    return (pod["metadata"].get("labels") or {}).get(_GATEWAY_LABEL, "")


@dataclass(frozen=True)
class Entrance:
    """One way in to a federation ingress: host and its outside ports."""

    host: str
    discovery_port: int
    service_port: int

    def port(self, port: int) -> int:
        return {DISCOVERY_PORT: self.discovery_port, SERVICE_PORT: self.service_port}[port]

    @property
    def remote(self) -> Object:
        """`spec.remote` of a peer object that leads here."""
        return {"addresses": [self.host], "discoveryPort": self.discovery_port, "servicePort": self.service_port}

    def __str__(self) -> str:
        return f"{self.host} (discoveryPort {self.discovery_port}, servicePort {self.service_port})"


@dataclass(frozen=True)
class Facts:
    """Both meshes."""

    mesh1: MeshFacts
    mesh2: MeshFacts

    @property
    def meshes(self) -> tuple[MeshFacts, MeshFacts]:
        return self.mesh1, self.mesh2

    def other(self, mesh: MeshFacts) -> MeshFacts:
        return self.mesh2 if mesh is self.mesh1 else self.mesh1

    def one_cluster(self) -> bool:
        """By the uid of namespace kube-system; by the servers' addresses where that may not be read."""
        try:
            return self.mesh1.uid() == self.mesh2.uid()
        except Forbidden:
            return self.mesh1.cluster.server == self.mesh2.cluster.server

    def entrances(self, mesh: MeshFacts) -> list[Entrance]:
        """Every way in to the federation ingress of `mesh` that its Service offers to the other mesh."""
        return mesh.once("entrances", lambda: self._entrances(mesh))

    def _entrances(self, mesh: MeshFacts) -> list[Entrance]:
        gateway = mesh.names.ingress_gateway
        service = mesh.find(kinds.SERVICE, gateway)
        if service is None:
            return []
        found = []
        if self.one_cluster():
            hosts = [f"{gateway}.{mesh.system}.svc{suffix}" for suffix in ("", f".{CLUSTER_DOMAIN}")]
            hosts.append(service["spec"].get("clusterIP") or "")
            found += [Entrance(host, DISCOVERY_PORT, SERVICE_PORT) for host in hosts if host]
        balancer = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        hosts = [entry[key] for entry in balancer for key in ("ip", "hostname") if entry.get(key)]
        if ingress_address(service):
            found += [Entrance(host, DISCOVERY_PORT, SERVICE_PORT) for host in hosts]
        ports = {port["port"]: port["nodePort"] for port in service["spec"].get("ports") or [] if port.get("nodePort")}
        if ports.keys() >= {DISCOVERY_PORT, SERVICE_PORT}:
            nodes = node_addresses(mesh.cluster)
            found += [Entrance(host, ports[DISCOVERY_PORT], ports[SERVICE_PORT]) for host in nodes]
        return found


def read_facts(
    clusters: Mapping[str, Cluster],
    pool: Executor,
    meshes: Mapping[str, MeshNames] = SCENARIO,
    patience: float | None = None,
) -> Facts:
    """Begins to read both meshes in `pool`; see MeshFacts."""
    return Facts(*(MeshFacts(meshes[name], clusters[name], pool, patience) for name in ("mesh1", "mesh2")))


def refusal_of(error: ClusterError) -> str:
    """Why something could not be looked at, in one line."""
    return " ".join(str(error).split())[:300]
