"""What the suite knows of the two meshes once they are provisioned: names, addresses, versions."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import POD, SERVICE
from harness.cluster.transport import ClusterError
from harness.product.names import (
    DISCOVERY_PORT,
    SERVICE_PORT,
    discovery_server_name,
    exported_name,
    service_server_name,
)
from harness.product.versions import Bounds, bounds

ENTRY_GATEWAY = "istio-ingressgateway"  # where requests from outside come in
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class MeshNames:
    """The names of one mesh of the scenario; mesh1 exports, mesh2 imports."""

    name: str
    peer: str
    control_plane: str

    @property
    def system_namespace(self) -> str:
        return f"{self.name}-system"

    @property
    def app_namespace(self) -> str:
        return f"{self.name}-bookinfo"

    @property
    def trust_domain(self) -> str:
        return f"{self.name}.local"

    @property
    def ingress_gateway(self) -> str:
        """The gateway the peer's requests come in by, in this mesh."""
        return f"{self.peer}-ingress"

    @property
    def egress_gateway(self) -> str:
        """The gateway this mesh's requests to the peer go out by."""
        return f"{self.peer}-egress"

    @property
    def exports(self) -> bool:
        """Whether this mesh offers services: mesh1 does."""
        return self.name == "mesh1"

    @property
    def istiod(self) -> str:
        """Name of istiod's Deployment and Service."""
        return f"istiod-{self.control_plane}"

    @property
    def gateways(self) -> tuple[str, ...]:
        """Deployments and Services of all four gateways."""
        return (ENTRY_GATEWAY, "istio-egressgateway", self.ingress_gateway, self.egress_gateway)

    @property
    def root_config_map(self) -> str:
        """ConfigMap in this mesh that holds the peer's root."""
        return f"{self.peer}-ca-root-cert"

    def service_account(self, gateway: str) -> str:
        return f"{gateway}-service-account"


def server_names(mesh: MeshNames, port: int) -> tuple[str, ...]:
    """SNIs the peer's egress gateway sends to this mesh's federation ingress, for discovery or for what it exports."""
    if port == DISCOVERY_PORT:
        return (discovery_server_name(f"{mesh.peer}-system", mesh.name),)
    services = ((9080, "ratings"), (27017, "mongodb"))
    return tuple(service_server_name(number, exported_name(name, mesh.peer)) for number, name in services)


MESH1 = MeshNames("mesh1", "mesh2", "fed-export")
MESH2 = MeshNames("mesh2", "mesh1", "fed-import")
OTHER = {"mesh1": MESH2, "mesh2": MESH1}


def istiod_pods(cluster: Cluster, names: MeshNames) -> list[dict]:
    """istiod's running pods of a mesh, by name."""
    return running_pods(cluster, names.system_namespace, f"app=istiod,istio.io/rev={names.control_plane}")


def running_pods(cluster: Cluster, namespace: str, label_selector: str) -> list[dict]:
    """Pods in phase Running that are not being deleted, by name."""
    pods = cluster.list(POD, namespace, label_selector)
    running = [
        pod
        for pod in pods
        if (pod.get("status") or {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]
    return sorted(running, key=lambda pod: pod["metadata"]["name"])


@dataclass(frozen=True)
class IngressAddress:
    """Where the other mesh finds a federation ingress gateway; `how` says in words where the address is from."""

    hosts: tuple[str, ...]
    discovery_port: int
    service_port: int
    how: str

    @property
    def by_name(self) -> bool:
        """Whether the hosts are names that a load balancer's provider publishes, which takes a while."""
        return self.how == "LoadBalancer hostname"

    def port(self, port: int) -> int:
        """The outside port for the gateway's port 8188 or 15443."""
        return {DISCOVERY_PORT: self.discovery_port, SERVICE_PORT: self.service_port}[port]

    def __str__(self) -> str:
        return f"{', '.join(self.hosts)} (ports {self.discovery_port} and {self.service_port}, {self.how})"


@dataclass(frozen=True)
class Mesh(MeshNames):
    """One provisioned mesh.

    version: `spec.version` such as `v2.1`; release: what is installed, such as `2.1.6`; ingress: where the other
    mesh reaches it; reachable: whether that address means something outside the cluster too; patience: seconds that
    waits for istiod and the proxies may take, None for what the version may need.
    """

    cluster: Cluster
    version: str
    release: str
    ingress: IngressAddress
    reachable: bool = True
    patience: float | None = None

    @property
    def bounds(self) -> Bounds:
        return bounds(self.release or self.version).settled_within(self.patience)

    def istiod_pods(self) -> list[dict]:
        """istiod's running pods."""
        return istiod_pods(self.cluster, self)

    def running_pods(self, namespace: str, label_selector: str) -> list[dict]:
        """Pods in phase Running that are not being deleted, by name."""
        return running_pods(self.cluster, namespace, label_selector)

    def gateway_pods(self, gateway: str) -> list[dict]:
        """Running pods behind a gateway's Service, by name."""
        selector = self.cluster.get(SERVICE, gateway, self.system_namespace)["spec"]["selector"]
        return self.running_pods(self.system_namespace, ",".join(f"{key}={value}" for key, value in selector.items()))

    def connector(self, port: int) -> Callable[[], socket.socket]:
        """Opens connections to the federation ingress, port 8188 or 15443, as the other mesh would.

        By its address; in one cluster, where that is a name inside the cluster, by a port-forward to the gateway.
        """
        if self.reachable:
            host, outside = self.ingress.hosts[0], self.ingress.port(port)
            return lambda: socket.create_connection((host, outside), timeout=_CONNECT_SECONDS)
        return lambda: self._forward(port)

    def _forward(self, port: int) -> socket.socket:
        pods = self.gateway_pods(self.ingress_gateway)
        if not pods:
            raise ClusterError(self.name, f"connect to {self.ingress_gateway}", "it has no running pod")
        return self.cluster.port_forward(self.system_namespace, pods[0]["metadata"]["name"], port)


@dataclass(frozen=True)
class Federation:
    """Both meshes, and whether they share a cluster."""

    mesh1: Mesh
    mesh2: Mesh
    one_cluster: bool

    @property
    def meshes(self) -> tuple[Mesh, Mesh]:
        return self.mesh1, self.mesh2

    def mesh(self, name: str) -> Mesh:
        """`mesh1` or `mesh2`."""
        return {"mesh1": self.mesh1, "mesh2": self.mesh2}[name]

    def peer_of(self, mesh: MeshNames) -> Mesh:
        return self.mesh(mesh.peer)

    def with_patience(self, seconds: float | None) -> Federation:
        """The same, with the patience of both meshes set; see Mesh."""
        return replace(self, mesh1=replace(self.mesh1, patience=seconds), mesh2=replace(self.mesh2, patience=seconds))


@dataclass(frozen=True)
class Bookinfo:
    """How mesh2's productpage is reached: its URL, and by what (Route, LoadBalancer, NodePort, port-forward)."""

    productpage_url: str
    entry: str
