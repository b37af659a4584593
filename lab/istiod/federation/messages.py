"""The JSON that two meshes exchange: service lists and watch events; field order and left-out fields as captured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from lab.istiod.federation.names import checksum
from lab.istiod.model import Port

Gateways = tuple[tuple[str, int], ...]
"""(host, port) of network gateways, as often as they are told."""


@dataclass(frozen=True)
class ExportedService:
    """A service as the importing mesh sees it; `identities` are SPIFFE ids of the exporter's ingress gateway."""

    name: str
    namespace: str
    hostname: str
    ports: tuple[Port, ...]
    identities: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        message: dict[str, Any] = {"name": self.name, "namespace": self.namespace, "hostname": self.hostname}
        if self.ports:
            message["servicePorts"] = [
                {"name": port.name, "port": port.number, "protocol": port.protocol} for port in self.ports
            ]
        if self.identities:
            message["serviceAccounts"] = list(self.identities)
        return message

    @classmethod
    def from_json(cls, message: dict[str, Any]) -> ExportedService:
        """Raises KeyError or TypeError for what is not a service."""
        ports = message.get("servicePorts") or ()
        return cls(
            name=message["name"],
            namespace=message["namespace"],
            hostname=message["hostname"],
            ports=tuple(Port(port.get("name", ""), port["port"], port.get("protocol", "")) for port in ports),
            identities=tuple(message.get("serviceAccounts") or ()),
        )


def list_checksum(services: Iterable[ExportedService], gateways: Gateways = ()) -> int:
    """The checksum of a service list; the order of services does not count."""
    listed = sorted((service.to_json() for service in services), key=lambda message: message["hostname"])
    return checksum([listed, _to_json(gateways)] if gateways else listed)


def _to_json(gateways: Gateways) -> list[dict[str, Any]]:
    return [{"port": port, "hostname": host} for host, port in gateways]


def encode_list(services: Iterable[ExportedService], gateways: Gateways = ()) -> bytes:
    """The body of `/v1/services/`: sorted by host name; `services` and gateways left out when there are none."""
    ordered = sorted(services, key=lambda service: service.hostname)
    message: dict[str, Any] = {"checksum": list_checksum(ordered, gateways)}
    if gateways:
        message["networkGatewayEndpoints"] = _to_json(gateways)
    if ordered:
        message["services"] = [service.to_json() for service in ordered]
    return orjson.dumps(message)


def decode_list(body: bytes) -> tuple[list[ExportedService], Gateways, int]:
    """Services, network gateways and checksum of a `/v1/services/` body; ValueError when it is not one."""
    try:
        message = orjson.loads(body)
        services = [ExportedService.from_json(item) for item in message.get("services") or ()]
        gateways = tuple((item["hostname"], item["port"]) for item in message.get("networkGatewayEndpoints") or ())
        return services, gateways, message.get("checksum", 0)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a service list: {error!r}") from error


def encode_event(action: str, service: ExportedService | None, total: int) -> bytes:
    """One line of `/v1/watch`: `action` is add, update or delete; `total` the checksum of the list after it.

    An update of no service says that network gateways changed.
    """
    shown = service.to_json() if service else None
    return orjson.dumps({"action": action, "service": shown, "checksum": total}) + b"\r\n"
