"""The words and names of OSSM federation: ports, suffixes, server names, and what the product calls its own objects."""

from __future__ import annotations

from typing import Any

DISCOVERY_PORT = 8188
SERVICE_PORT = 15443
CLUSTER_DOMAIN = "cluster.local"
SIDECAR = "istio-proxy"
ROOT_KEY = "root-cert.pem"
ROOT_CONFIG_MAP = "istio-ca-root-cert"  # istiod writes the mesh's root into it, in every namespace of the mesh
ALIAS_NAMESPACE = "bookinfo"  # the namespace under which mesh1 offers its services
SHARED = ("mongodb", "ratings")  # the services mesh1 offers


def exports_domain(peer: str) -> str:
    """The domain of what is offered to a peer; `peer` is the exporter's name for the importer."""
    return f"{peer}-exports.local"


def imports_domain(peer: str) -> str:
    """The domain of what is imported from a peer, as the importer names it."""
    return f"{peer}-imports.local"


def is_imported(host: str) -> bool:
    """Whether a host name is one that some mesh gives to what it imports."""
    return host.endswith(imports_domain(""))


def exported_name(service: str, peer: str) -> str:
    """Host name under which the exporter offers a service; `peer` is the exporter's name for the importer."""
    return f"{service}.{ALIAS_NAMESPACE}.svc.{exports_domain(peer)}"


def imported_host(service: str, namespace: str, peer: str) -> str:
    """Host name under which a mesh sees a service of its peer: by default in the namespace of the import rule."""
    return f"{service}.{namespace}.svc.{imports_domain(peer)}"


def local_host(service: str, namespace: str) -> str:
    """Host name of a Service of the own cluster."""
    return f"{service}.{namespace}.svc.{CLUSTER_DOMAIN}"


def discovery_server_name(system_namespace: str, mesh: str) -> str:
    """SNI of a discovery request to `mesh`, from the mesh whose control plane is in `system_namespace`."""
    return f"discovery.{system_namespace}.svc.{mesh}.local"


def service_server_name(port: int, host: str) -> str:
    """SNI of a connection to one port of an exported service."""
    return f"outbound_.{port}_._.{host}"


_ACCOUNT = "-service-account"


def gateway_account(gateway: str) -> str:
    """Name of the service account that the operator makes for a gateway."""
    return gateway + _ACCOUNT


def gateway_of(account: str) -> str:
    """Name of the gateway that the operator made a service account for."""
    return account.removesuffix(_ACCOUNT)


def peer_root_config_map(peer: str) -> str:
    """Name of the ConfigMap with the root of a peer, where that names no other."""
    return f"{peer}-ca-root-cert"


def identity(trust_domain: str, namespace: str, account: str) -> str:
    """`<trust domain>/ns/<namespace>/sa/<service account>`, as a peer's clientID has it."""
    return f"{trust_domain}/ns/{namespace}/sa/{account}"


def identity_parts(text: str) -> tuple[str, str, str]:
    """Trust domain, namespace and service account of an identity; '' for each that it does not say."""
    domain, _, rest = text.partition("/ns/")
    namespace, _, account = rest.partition("/sa/")
    return domain, namespace, account


def has_sidecar(pod: dict[str, Any]) -> bool:
    """Whether a pod has a sidecar: a container, or from 2.6 on an init container that goes on."""
    spec = pod["spec"]
    return any(container["name"] == SIDECAR for container in [*spec["containers"], *(spec.get("initContainers") or [])])
