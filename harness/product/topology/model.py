"""The topology as values: what the objects of one or more clusters say of meshes, and of who is linked with whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from harness.cluster import kinds
from harness.cluster.kinds import Kind
from harness.product import specs
from harness.product.names import (
    CLUSTER_DOMAIN,
    DISCOVERY_PORT,
    ROOT_CONFIG_MAP,
    SERVICE_PORT,
    gateway_account,
    identity,
)
from harness.product.status import ControlPlaneStatus, MemberRollStatus, ServiceEntry
from harness.product.trust import fingerprints, root_pem

Object = dict[str, Any]
# What a topology is made of; ConfigMaps only those that hold roots.
READ_EVERYWHERE = (kinds.CONTROL_PLANE, kinds.MEMBER_ROLL, kinds.PEER, kinds.EXPORTS, kinds.IMPORTS)
_PORTS = {DISCOVERY_PORT, SERVICE_PORT}


@dataclass(frozen=True)
class ClusterObjects:
    """What one cluster holds at one moment: objects by kind, of all namespaces.

    label: what the run calls the cluster; uid: of its kube-system, '' where that could not be read; unread: why
    objects of a kind are not known, in words.
    """

    label: str
    uid: str
    objects: Mapping[Kind, list[Object]]
    unread: Mapping[Kind, str] = field(default_factory=dict)

    def all(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """Objects of a kind, of one namespace or of all."""
        found = self.objects.get(kind) or []
        return [obj for obj in found if namespace is None or obj["metadata"].get("namespace", "") == namespace]

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return next((obj for obj in self.all(kind, namespace) if obj["metadata"]["name"] == name), None)


class Entrance(NamedTuple):
    """One way in to a gateway that carries federation's ports; `inside`: it means something in its own cluster only."""

    gateway: str
    host: str
    discovery_port: int
    service_port: int
    how: str
    inside: bool = False


@dataclass(frozen=True)
class InstalledMesh:
    """A ServiceMeshControlPlane and what belongs to it.

    cluster: label of its cluster; mode: `MultiTenant` or `ClusterWide`; members: configured ones, None without a
    member roll; ingresses, egresses: enabled gateways by name; roots: SHA-256 fingerprints of its own root, None where
    that could not be read.
    """

    cluster: str
    uid: str
    namespace: str
    name: str
    trust_domain: str
    version: str
    release: str
    mode: str
    members: tuple[str, ...] | None
    ingresses: tuple[str, ...]
    egresses: tuple[str, ...]
    roots: frozenset[str] | None
    entrances: tuple[Entrance, ...]

    @property
    def place(self) -> str:
        """`<namespace>/<name>`."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        return f"{self.place} ({self.cluster})"

    def egress_identity(self, gateway: str) -> str:
        """`<trust domain>/ns/<namespace>/sa/<service account>` of one of its gateways, as the operator makes it."""
        return identity(self.trust_domain, self.namespace, gateway_account(gateway))


class Vote(NamedTuple):
    """One of four witnesses of whom a peer means.

    by: `addresses`, `trust domain`, `clientID` or `root`; said: what the peer object has; meshes: those it fits, ()
    for none in view; unknown: why it says nothing, '' where it does.
    """

    by: str
    said: str
    meshes: tuple[InstalledMesh, ...]
    unknown: str = ""


@dataclass(frozen=True)
class Link:
    """One ServiceMeshPeer beside a control plane, `mesh`, and whom it means.

    to: the mesh meant, None where the votes are `tied` or where it is not in view; said: a person has said it; back:
    the peer object of `to` that leads here, '' for none; entrance: the gateway of `to` at which the addresses lead in,
    '' where not known; sets: the kinds of sets of the peer's name that there are; exports, imports: what these list,
    None where there is no status of it; offers: port and name of each exported service.
    """

    mesh: InstalledMesh
    peer: str
    spec: Object
    votes: tuple[Vote, ...]
    to: InstalledMesh | None
    tied: bool
    said: bool
    back: str
    entrance: str
    sets: frozenset[Kind]
    exports: tuple[ServiceEntry, ...] | None
    imports: tuple[ServiceEntry, ...] | None
    offers: tuple[tuple[int, str], ...] = ()

    @property
    def where(self) -> str:
        return f"{kinds.PEER} {self.mesh.namespace}/{self.peer}"

    @property
    def ingress(self) -> str:
        """The gateway by which the other mesh is to come in."""
        return (((self.spec.get("gateways") or {}).get("ingress")) or {}).get("name") or ""

    @property
    def egress(self) -> str:
        """The gateway by which requests to the other mesh leave."""
        return (((self.spec.get("gateways") or {}).get("egress")) or {}).get("name") or ""

    @property
    def trust_domain(self) -> str:
        return specs.peer_trust_domain(self.spec)

    @property
    def client_id(self) -> str:
        return specs.client_id(self.spec)

    @property
    def root_config_map(self) -> str:
        return specs.root_config_map(self.peer, self.spec)

    @property
    def addresses(self) -> tuple[str, ...]:
        return specs.remote_addresses(self.spec)

    @property
    def ports(self) -> tuple[int, int]:
        """Discovery and service port at the addresses."""
        return specs.remote_ports(self.spec)

    @property
    def id(self) -> tuple[str, str, str]:
        return self.mesh.uid, self.mesh.namespace, self.peer


class Finding(NamedTuple):
    """Something that the objects of a mesh disagree about; `cluster`: label of the cluster it is seen in."""

    cluster: str
    text: str

    def __str__(self) -> str:
        return f"{self.cluster}: {self.text}"


@dataclass(frozen=True)
class Topology:
    """Meshes and links of all clusters in view; clusters: their objects."""

    clusters: tuple[ClusterObjects, ...]
    meshes: tuple[InstalledMesh, ...]
    links: tuple[Link, ...]

    def links_of(self, mesh: InstalledMesh) -> list[Link]:
        return [link for link in self.links if link.mesh == mesh]

    def link(self, mesh: InstalledMesh, peer: str) -> Link | None:
        return next((link for link in self.links_of(mesh) if link.peer == peer), None)

    @cached_property
    def pairs(self) -> list[tuple[Link, Link | None]]:
        """Each federation once: a link and the one that leads back, None where there is none."""
        found: list[tuple[Link, Link | None]] = []
        seen: set[tuple[str, str, str]] = set()
        for link in self.links:
            back = self.link(link.to, link.back) if link.to and link.back else None
            if link.id not in seen:
                found.append((link, back))
            seen |= {link.id} | ({back.id} if back else set())
        return found

    def objects(self, label: str) -> ClusterObjects | None:
        return next((cluster for cluster in self.clusters if cluster.label == label), None)


def installed_mesh(cluster: ClusterObjects, obj: Object) -> InstalledMesh:
    """A ServiceMeshControlPlane of a cluster with its member roll, gateways, root and ways in."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, ControlPlaneStatus.of(obj)
    namespace = meta["namespace"]
    applied = (obj.get("status") or {}).get("appliedSpec") or {}
    gateways = spec.get("gateways") or {}
    roll = cluster.find(kinds.MEMBER_ROLL, namespace, "default")
    version = status.version or ".".join(f"v{status.chart_version}".split(".")[:2])
    return InstalledMesh(
        cluster=cluster.label,
        uid=cluster.uid or cluster.label,
        namespace=namespace,
        name=meta["name"],
        trust_domain=specs.asked_trust_domain(spec) or specs.asked_trust_domain(applied) or CLUSTER_DOMAIN,
        version=version,
        release=status.chart_version,
        mode=_mode(spec),
        members=MemberRollStatus.of(roll).configured if roll else None,
        ingresses=_enabled(gateways, "ingress", "additionalIngress"),
        egresses=_enabled(gateways, "egress", "additionalEgress"),
        roots=_own_roots(cluster, namespace),
        entrances=tuple(_entrances(cluster, namespace)),
    )


def _mode(spec: Object) -> str:
    # `mode` came with 2.4; before, a cluster-wide control plane was a preview.
    asked = spec.get("mode") or (spec.get("techPreview") or {}).get("controlPlaneMode") or ""
    return "ClusterWide" if asked in ("ClusterWide", "ClusterScoped") else "MultiTenant"


def _enabled(gateways: Object, default: str, additional: str) -> tuple[str, ...]:
    if gateways.get("enabled") is False:
        return ()
    first = (gateways.get(default) or {}).get("enabled", True)
    others = gateways.get(additional) or {}
    names = [f"istio-{default}gateway"] if first is not False else []
    return (*names, *sorted(name for name, spec in others.items() if (spec or {}).get("enabled", True) is not False))


def _own_roots(cluster: ClusterObjects, namespace: str) -> frozenset[str] | None:
    if kinds.CONFIG_MAP in cluster.unread:
        return None
    return fingerprints(root_pem(cluster.find(kinds.CONFIG_MAP, namespace, ROOT_CONFIG_MAP)))


def _entrances(cluster: ClusterObjects, namespace: str) -> list[Entrance]:
    """Every way in to Services of the namespace that carry both ports of federation."""
    nodes = [
        address["address"]
        for node in cluster.all(kinds.NODE)
        for address in (node.get("status") or {}).get("addresses") or ()
    ]
    found = []
    for service in cluster.all(kinds.SERVICE, namespace):
        name, spec = service["metadata"]["name"], service.get("spec") or {}
        ports = {port["port"]: port.get("nodePort") for port in spec.get("ports") or ()}
        if not ports.keys() >= _PORTS:
            continue
        balancer = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        given = [(key, entry[key]) for entry in balancer for key in ("ip", "hostname") if entry.get(key)]
        outside = [(host, f"LoadBalancer {key}") for key, host in given]
        outside += [(host, "externalIP") for host in spec.get("externalIPs") or ()]
        found += [Entrance(name, host, DISCOVERY_PORT, SERVICE_PORT, how) for host, how in outside]
        if ports[DISCOVERY_PORT] and ports[SERVICE_PORT]:
            found += [Entrance(name, host, ports[DISCOVERY_PORT], ports[SERVICE_PORT], "NodePort") for host in nodes]
        dns = [f"{name}.{namespace}{suffix}" for suffix in ("", ".svc", f".svc.{CLUSTER_DOMAIN}")]
        inside = [(host, "Service DNS") for host in dns] + [(ip, "ClusterIP") for ip in [spec.get("clusterIP")] if ip]
        found += [Entrance(name, host, DISCOVERY_PORT, SERVICE_PORT, how, True) for host, how in inside]
    return found
