"""What the specs of control planes and of peers say, with the product's defaults for what they leave out."""

from __future__ import annotations

from typing import Any

from harness.product.names import DISCOVERY_PORT, SERVICE_PORT, peer_root_config_map

Object = dict[str, Any]
PORT_FIELDS = {DISCOVERY_PORT: "discoveryPort", SERVICE_PORT: "servicePort"}


def asked_trust_domain(control_plane: Object) -> str:
    """The trust domain of a ServiceMeshControlPlane's spec; '' where it leaves the product's default."""
    return ((control_plane.get("security") or {}).get("trust") or {}).get("domain") or ""


def peer_trust_domain(peer: Object) -> str:
    """The trust domain that a ServiceMeshPeer's spec expects; '' for none."""
    return _security(peer).get("trustDomain") or ""


def client_id(peer: Object) -> str:
    """The identity that a ServiceMeshPeer's spec admits; '' for none."""
    return _security(peer).get("clientID") or ""


def root_config_map(name: str, peer: Object) -> str:
    """Name of the ConfigMap that is to hold the root of a peer of this name."""
    return (_security(peer).get("certificateChain") or {}).get("name") or peer_root_config_map(name)


def remote_addresses(peer: Object) -> tuple[str, ...]:
    """Where a ServiceMeshPeer's spec looks for the other mesh."""
    return tuple((peer.get("remote") or {}).get("addresses") or ())


def remote_ports(peer: Object) -> tuple[int, int]:
    """Discovery and service port at those addresses."""
    remote = peer.get("remote") or {}
    discovery, service = (remote.get(field) or port for port, field in PORT_FIELDS.items())
    return discovery, service


def _security(peer: Object) -> Object:
    return peer.get("security") or {}
