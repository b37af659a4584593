"""Names that federation makes: hosts, in-memory objects, checksums."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lab.istiod.registry import CLUSTER_DOMAIN

LOCAL_SUFFIX = f"svc.{CLUSTER_DOMAIN}"
DISCOVERY_PORT = 8188
SERVICE_PORT = 15443
_LONGEST_NAME = 63
_KEPT = 55


def exports_suffix(peer: str) -> str:
    """The domain of services exported to `peer`, the exporter's name for the importer."""
    return f"svc.{peer}-exports.local"


def imports_suffix(peer: str) -> str:
    """The default domain of services imported from `peer`, the importer's name for the exporter."""
    return f"svc.{peer}-imports.local"


def discovery_host(namespace: str, peer: str) -> str:
    """The pseudo-host under which the local egress gateway reaches the discovery of `peer`."""
    return f"discovery.{namespace}.svc.{peer}.local"


def export_name(peer: str, name: str, namespace: str, *, short: bool) -> str:
    """Name of Gateway and VirtualService of an exported service; name and namespace are the local ones."""
    return _cut(f"fed-exp-{name}-{namespace}-{peer}") if short else f"federation-exports-{peer}-{name}-{namespace}"


def import_name(peer: str, name: str, namespace: str, *, short: bool) -> str:
    """Name of Gateway and VirtualService of an imported service; name and namespace are the exported ones."""
    return _cut(f"fed-imp-{name}-{namespace}-{peer}") if short else f"federation-imports-{peer}-{name}-{namespace}"


def _cut(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return name[:_KEPT] + hashlib.sha256(name.encode()).hexdigest()[: _LONGEST_NAME - _KEPT]


def checksum(value: Any) -> int:
    """A stable unsigned 64-bit checksum of JSON data, whatever the order of its keys."""
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
