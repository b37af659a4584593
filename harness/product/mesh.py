"""What the suite knows of the two meshes once they are provisioned: names, addresses, versions."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import POD, SERVICE
from harness.cluster.transport import ClusterError
from harness.product.names import (
    DISCOVERY_PORT,
    SERVICE_PORT,
    discovery_server_name,
    exported_name,
    gateway_account,
    peer_root_config_map,
    service_server_name,
)
from harness.product.versions import Bounds, bounds

ENTRY_GATEWAY = "istio-ingressgateway"  # where requests from outside come in
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class MeshNames:
    """The names of one of two federated meshes, the scenario's or those that were found.

    name, other: what the run calls this mesh and the one it is federated with, `mesh1` and `mesh2`; peer: name of its
    ServiceMeshPeer and sets; members: namespaces of its applications; ingress_gateway: by which the other's requests
    come in, egress_gateway: by which requests to the other leave; root_config_map: holds the other's root; gateways:
    Deployments and Services of all of them; discovery_name: SNI with which the other asks for what this mesh offers;
    offers: port and exported name of what it offers.
    """

    name: str
    other: str
    peer: str
    control_plane: str
    system_namespace: str
    members: tuple[str, ...]
    trust_domain: str
    ingress_gateway: str
    egress_gateway: str
    root_config_map: str
    gateways: tuple[str, ...]
    discovery_name: str
    offers: tuple[tuple[int, str], ...]

    @property
    def app_namespace(self) -> str:
        """The namespace of the application, the first where there are several; '' for none."""
        return self.members[0] if self.members else ""

    @property
    def exports(self) -> bool:
        """Whether this mesh offers services: of the scenario mesh1 does."""
        return bool(self.offers)

    @property
    def is_scenario(self) -> bool:
        """Whether this is a mesh of the scenario, with bookinfo in it; else somebody else has made it."""
        return self.place == SCENARIO[self.name].place

    @property
    def istiod(self) -> str:
        """Name of istiod's Deployment and Service."""
        return f"istiod-{self.control_plane}"

    @property
    def place(self) -> str:
        """The control plane as `<namespace>/<name>`."""
        return f"{self.system_namespace}/{self.control_plane}"

    def service_account(self, gateway: str) -> str:
        return gateway_account(gateway)


def server_names(mesh: MeshNames, port: int) -> tuple[str, ...]:
    """SNIs the other's egress gateway sends to this mesh's federation ingress, for discovery or for what it exports."""
    if port == DISCOVERY_PORT:
        return (mesh.discovery_name,)
    return tuple(service_server_name(number, name) for number, name in mesh.offers)


def _scenario(name: str, other: str, control_plane: str, offers: tuple[tuple[int, str], ...] = ()) -> MeshNames:
    return MeshNames(
        name=name,
        other=other,
        peer=other,
        control_plane=control_plane,
        system_namespace=f"{name}-system",
        members=(f"{name}-bookinfo",),
        trust_domain=f"{name}.local",
        ingress_gateway=f"{other}-ingress",
        egress_gateway=f"{other}-egress",
        root_config_map=peer_root_config_map(other),
        gateways=(ENTRY_GATEWAY, "istio-egressgateway", f"{other}-ingress", f"{other}-egress"),
        discovery_name=discovery_server_name(f"{other}-system", name),
        offers=offers,
    )


_OFFERS = ((9080, exported_name("ratings", "mesh2")), (27017, exported_name("mongodb", "mesh2")))
MESH1 = _scenario("mesh1", "mesh2", "fed-export", _OFFERS)
MESH2 = _scenario("mesh2", "mesh1", "fed-import")
OTHER = {"mesh1": MESH2, "mesh2": MESH1}
SCENARIO: Mapping[str, MeshNames] = {"mesh1": MESH1, "mesh2": MESH2}


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

    @property
    def is_scenario(self) -> bool:
        """Whether both meshes are the scenario's, with bookinfo in them."""
        return all(mesh.is_scenario for mesh in self.meshes)

    @property
    def exporters(self) -> list[Mesh]:
        """The meshes that offer something to the other."""
        return [mesh for mesh in self.meshes if mesh.exports]

    def peer_of(self, mesh: MeshNames) -> Mesh:
        return self.mesh(mesh.other)

    def with_patience(self, seconds: float | None) -> Federation:
        """The same, with the patience of both meshes set; see Mesh."""
        return replace(self, mesh1=replace(self.mesh1, patience=seconds), mesh2=replace(self.mesh2, patience=seconds))


@dataclass(frozen=True)
class Bookinfo:
    """How mesh2's productpage is reached: its URL, and by what (Route, LoadBalancer, NodePort, port-forward)."""

    productpage_url: str
    entry: str
