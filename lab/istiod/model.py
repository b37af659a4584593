"""What istiod knows of services, and what the federation part hands to the part that configures proxies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Port:
    """A service port; `protocol` is Istio's: HTTP, TCP, Mongo, HTTPS, TLS, GRPC (from the port's name)."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True)
class Endpoint:
    """One address behind a service.

    `port_name` ties it to a service port. `tls` says that it speaks Istio mutual TLS (pod label
    `security.istio.io/tlsMode: istio`, a gateway, or an import). `identity` is the SPIFFE id it presents, if known.
    `labels` are the pod's, for subsets.
    """

    address: str
    port: int
    port_name: str
    tls: bool = False
    identity: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Service:
    """A service of the mesh: from Kubernetes (`source` 'Kubernetes') or federated (`source` is the peer's name).

    `identities` are the SPIFFE ids a client accepts. `private` services are seen by the gateways of the control
    plane namespace only (the exported names on the egress side).
    """

    hostname: str
    name: str
    namespace: str
    ports: tuple[Port, ...]
    cluster_ip: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    identities: tuple[str, ...] = ()
    source: str = "Kubernetes"
    private: bool = False
    resolution: str = "STATIC"


@dataclass(frozen=True)
class FederationOutput:
    """All that one ServiceMeshPeer adds to the mesh.

    `services`: per import one public service (endpoints: the local egress gateway's pods on 15443) and one private
    service under the exported name (endpoints: the peer's addresses on its service port).
    `objects`: in-memory Istio objects as `{"kind", "name", "namespace", "spec"}` (observed: `/debug/configz`).
    `bundles`: trust domain to root PEM.
    """

    services: tuple[Service, ...] = ()
    objects: tuple[dict[str, Any], ...] = ()
    bundles: dict[str, str] = field(default_factory=dict)
