"""Links of where the meshes look for each other: addresses and ports in the peer objects."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from harness.cluster.addresses import netloc
from harness.cluster.transport import ClusterError
from harness.diagnosis.mesh_facts import Entrance, Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.watch_links import connected
from harness.product import trust
from harness.product.mesh import server_names
from harness.product.names import DISCOVERY_PORT, SERVICE_PORT
from harness.product.specs import PORT_FIELDS, remote_addresses, remote_ports

_TRY_SECONDS = 2.0


def configured(mesh: MeshFacts) -> tuple[list[str], dict[int, int]]:
    """Addresses and ports at which `mesh` looks for its peer; a port that is not set is the product's default."""
    spec = mesh.peer_spec()
    return list(remote_addresses(spec)), dict(zip(PORT_FIELDS, remote_ports(spec), strict=True))


def addresses(facts: Facts, mesh: MeshFacts) -> Link:
    """What the peer object says is a way in to the other mesh's federation ingress, or something answers there."""
    other, peer = facts.other(mesh), mesh.names.peer
    look = Look("addresses", mesh.names.name, f"ServiceMeshPeer {peer} against Service {other.names.ingress_gateway}")
    hosts, ports = configured(mesh)
    entrances = facts.entrances(other)
    if not entrances:
        gateway = other.names.ingress_gateway
        return look.broken("address-pending", "no address yet", side=other.names.name, gateway=gateway)
    known = ", ".join(dict.fromkeys(entrance.host for entrance in entrances))
    right: dict[str, Any] = {"expected": entrances[0], "remote": entrances[0].remote}
    if not hosts:
        return look.broken("address-missing", "spec.remote.addresses is empty", **right)
    for host in hosts:
        if not _ways(host, entrances):
            try:
                resolve(host)
            except OSError as error:
                if facts.one_cluster():
                    return look.unknown(f"{host} may mean something inside the cluster; known: {known}")
                if connected(mesh):  # by what istiod's cluster makes of the name, or makes of it elsewhere
                    return look.unknown(f"{host} does not resolve here, yet {mesh.names.name} is connected: {error}")
                return look.broken("address-unresolvable", f"{host}: {error}", address=host, **right)
            if trouble := _trouble(other, host, ports[DISCOVERY_PORT], DISCOVERY_PORT):
                if connected(mesh):
                    detail = f"does not answer here, yet {mesh.names.name} is connected"
                    return look.unknown(f"{host} is not known as {peer}'s, {detail}")
                where = netloc(host, ports[DISCOVERY_PORT])
                return look.broken("address-unreachable", f"{where}: {trouble}", address=where, detail=trouble, **right)
    return look.ok(f"{', '.join(hosts)}; {peer}'s federation ingress has {known}")


def port(facts: Facts, mesh: MeshFacts, number: int) -> Link:
    """The peer object's discovery (8188) or service (15443) port is one that the other ingress listens on."""
    name = {DISCOVERY_PORT: "discovery port", SERVICE_PORT: "service port"}[number]
    look = Look(name, mesh.names.name, f"ServiceMeshPeer {mesh.names.peer}, spec.remote.{PORT_FIELDS[number]}")
    hosts, ports = configured(mesh)
    asked = ports[number]
    entrances = facts.entrances(facts.other(mesh))
    right = list(dict.fromkeys(way.port(number) for host in hosts for way in _ways(host, entrances)))
    if not right:
        return look.unknown(f"{asked}; no address in the peer object is known as {mesh.names.peer}'s gateway's")
    if asked in right:
        return look.ok(str(asked))
    if not facts.one_cluster() and not _trouble(facts.other(mesh), hosts[0], asked, number):
        return look.ok(f"{asked}, where the gateway answers")
    seen = f"{asked}, {mesh.names.peer}'s gateway has {', '.join(map(str, right))}"
    cause = {DISCOVERY_PORT: "wrong-discovery-port", SERVICE_PORT: "wrong-service-port"}[number]
    return look.broken(cause, seen, port=asked, expected=right[0])


def connector(facts: Facts, mesh: MeshFacts, number: int) -> Callable[[], socket.socket]:
    """Opens connections to the federation ingress of `mesh` from here; raises OSError or ClusterError."""
    if facts.one_cluster():
        return lambda: _forward(mesh, number)
    entrances = facts.entrances(mesh)
    if not entrances:
        raise ClusterError(mesh.names.name, f"connect to {mesh.names.ingress_gateway}", "it has no outside address")
    way = entrances[0]
    return lambda: socket.create_connection((way.host, way.port(number)), timeout=_TRY_SECONDS)


def _forward(mesh: MeshFacts, number: int) -> socket.socket:
    pods = mesh.gateway_pods(mesh.names.ingress_gateway)
    if not pods:
        raise ClusterError(mesh.names.name, f"connect to {mesh.names.ingress_gateway}", "it has no running pod")
    found = mesh.cluster.port_forward(mesh.system, pods[0]["metadata"]["name"], number)
    found.settimeout(_TRY_SECONDS)
    return found


def _ways(host: str, entrances: list[Entrance]) -> list[Entrance]:
    """The entrances that a configured address stands for, by name or by what it resolves to."""
    named = [entrance for entrance in entrances if entrance.host == host]
    if named:
        return named
    with contextlib.suppress(OSError):
        found = resolve(host)
        return [entrance for entrance in entrances if entrance.host in found]
    return []


def resolve(host: str) -> set[str]:
    """Addresses of a host name, seen from here; raises OSError."""
    return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}


def _trouble(other: MeshFacts, host: str, outside: int, number: int) -> str:
    """Why the federation ingress of `other` is not met at an address; '' when it is.

    That a connection is accepted says little: proxies and load balancers do that too.
    """
    wanted = f"spiffe://{other.ingress_identity()}"
    try:
        shown = trust.presented_chain(
            lambda: socket.create_connection((host, outside), timeout=_TRY_SECONDS),
            server_names(other.names, number)[0],
            other.own_root(),
        )
    except OSError as error:
        return str(error) or type(error).__name__
    return "" if wanted in shown.uris else f"who answers there is {shown}"
