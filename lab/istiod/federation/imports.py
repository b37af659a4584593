"""Imported services: what the peer exports, under local names, behind the local egress gateway."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.client import Key, Object
from lab.istiod.federation.logs import ComponentLog
from lab.istiod.federation.messages import ExportedService
from lab.istiod.federation.messages import Gateways as NetworkGateways
from lab.istiod.federation.names import LOCAL_SUFFIX, SERVICE_PORT
from lab.istiod.federation.objects import PeerSpec
from lab.istiod.federation.rules import ImportRules, ServiceKey
from lab.istiod.model import Endpoint, Service
from lab.istiod.registry import spiffe_id

log = ComponentLog("federation-registry")


@dataclass(frozen=True)
class Gateways:
    """Where imported services are reached; taken at a resync and kept until the next.

    egress: (address, SPIFFE id) of the local egress gateway's pods; remote: (address, port) of the peer; told: of
    whatever network gateways the peer named, which get as much traffic as its own.
    """

    egress: tuple[tuple[str, str], ...] = ()
    remote: NetworkGateways = ()
    told: NetworkGateways = ()


@dataclass(frozen=True)
class Imports:
    """The peer's services after the import rules: pairs (exported, local); local names are empty where none fits."""

    services: tuple[Service, ...] = ()
    pairs: tuple[tuple[ServiceKey, ServiceKey], ...] = ()

    @property
    def matched(self) -> list[tuple[ServiceKey, ServiceKey]]:
        return [pair for pair in self.pairs if pair[1].hostname]


def imports_of(
    peer: PeerSpec,
    messages: Iterable[ExportedService],
    rules: ImportRules,
    gateways: Gateways,
    locality: tuple[tuple[str, str], ...],
) -> Imports:
    """Two services per import: a public one under the local name and a private one under the exported name."""
    services: list[Service] = []
    pairs = []
    for message in messages:
        exported = ServiceKey(message.hostname, message.name, message.namespace)
        local = rules.name_for(message.name, message.namespace)
        pairs.append((exported, local or ServiceKey()))
        if local:
            services += [
                _public(peer, message, local, gateways, locality),
                _private(peer, message, gateways),
            ]
    return Imports(tuple(services), tuple(pairs))


def _public(
    peer: PeerSpec,
    message: ExportedService,
    local: ServiceKey,
    gateways: Gateways,
    locality: tuple[tuple[str, str], ...],
) -> Service:
    as_local = local.hostname.endswith(f".{LOCAL_SUFFIX}")
    endpoints = tuple(
        Endpoint(address, SERVICE_PORT, port.name, tls=True, identity=identity, labels=locality)
        for port in message.ports
        for address, identity in gateways.egress
    )
    return Service(
        hostname=local.hostname,
        name=f"{local.name}.{local.namespace}.{peer.name}.local",
        namespace=local.namespace if as_local else peer.namespace,
        ports=message.ports,
        endpoints=endpoints,
        identities=tuple(sorted({identity for _, identity in gateways.egress if identity})),
        source=peer.name,
    )


def _private(peer: PeerSpec, message: ExportedService, gateways: Gateways) -> Service:
    endpoints = tuple(
        Endpoint(address, number, port.name, tls=True)
        for port in message.ports
        for address, number in dict.fromkeys((*gateways.remote, *gateways.told))
    )
    return Service(
        hostname=message.hostname,
        name=f"{message.name}.{message.namespace}.{peer.name}.remote",
        namespace=peer.namespace,
        ports=message.ports,
        endpoints=endpoints,
        identities=tuple(dict.fromkeys(message.identities)),
        source=peer.name,
        private=True,
    )


def egress_pods(
    peer: PeerSpec, endpoints: Mapping[Key, Object], pods: Mapping[Key, Object], trust_domain: str
) -> tuple[tuple[str, str], ...]:
    """(address, SPIFFE id) of the pods behind port 15443 of the egress gateway's Service."""
    found = endpoints.get((peer.namespace, peer.egress))
    if found is None:
        log.warning(
            "failed to retrieve ServiceAccount information for imported services accessed through %s", peer.egress
        )
        return ()
    gateways = []
    for subset in found.get("subsets") or ():
        if all(port.get("port") != SERVICE_PORT for port in subset.get("ports") or ()):
            continue
        for address in subset.get("addresses") or ():
            target = address.get("targetRef") or {}
            pod = pods.get((peer.namespace, target.get("name", "")))
            # A gateway that ends its connections is on its way out of the endpoints, which may still list it here.
            if pod and pod["metadata"].get("deletionTimestamp"):
                continue
            account = (pod.get("spec") or {}).get("serviceAccountName", "") if pod else ""
            gateways.append((address["ip"], spiffe_id(trust_domain, peer.namespace, account) if pod else ""))
    return tuple(sorted(gateways))


async def remote_addresses(addresses: Iterable[str], services: Mapping[Key, Object]) -> tuple[str, ...]:
    """IP addresses of a peer; names of cluster Services are looked up in `services`, others in DNS."""
    found: list[str] = []
    for address in addresses:
        try:
            found += await _resolve(address, services)
        except OSError as error:
            log.error("error resolving IP addr for federation network %s: %s", address, error)
    return tuple(dict.fromkeys(found))


async def _resolve(address: str, services: Mapping[Key, Object]) -> list[str]:
    try:
        return [str(ipaddress.ip_address(address))]
    except ValueError:
        pass
    if address.endswith(f".{LOCAL_SUFFIX}"):
        name, _, namespace = address.removesuffix(f".{LOCAL_SUFFIX}").partition(".")
        cluster_ip = ((services.get((namespace, name)) or {}).get("spec") or {}).get("clusterIP")
        if not cluster_ip or cluster_ip == "None":
            raise OSError(f"lookup {address}: no such host")
        return [cluster_ip]
    answers = await asyncio.get_running_loop().getaddrinfo(
        address, None, family=socket.AF_INET, type=socket.SOCK_STREAM
    )
    return [str(answer[4][0]) for answer in answers]
