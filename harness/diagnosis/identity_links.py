"""Links of whom a mesh admits: the identity in its peer object against the one that the peer's gateway has."""

from __future__ import annotations

from http import HTTPStatus

from harness.cluster.transport import ClusterError
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.request_path import PathLook
from harness.diagnosis.standstill import standstill
from harness.product import specs
from harness.product.discovery import Announced


def client_id(facts: Facts, mesh: MeshFacts, path: PathLook) -> Link:
    """The peer object admits the identity that the peer's egress gateway really has."""
    look = Look("clientID", mesh.names.name, f"ServiceMeshPeer {mesh.names.peer} against {mesh.names.peer}'s gateway")
    seen, (real, unread) = _admitted(mesh), _egress_identity(facts.other(mesh), path)
    source = unread or "by the certificate it holds"
    if not seen:
        return look.broken("client-id-missing", f"none; the gateway is {real} ({source})", expected=real)
    if seen != real:
        shown = f"{seen}; the gateway is {real} ({source})"
        return look.broken("wrong-client-id", shown, seen=seen, expected=real, detail=source)
    return look.unknown(f"{seen} ({source})") if unread else look.ok(f"{seen} ({source})")


def admits(facts: Facts, mesh: MeshFacts, path: PathLook) -> bool:
    """Whether the peer object admits the peer's egress gateway, by whatever says who that is; raises ClusterError."""
    return _admitted(mesh) == _egress_identity(facts.other(mesh), path)[0]


def _admitted(mesh: MeshFacts) -> str:
    return specs.client_id(mesh.peer_spec())


def _egress_identity(mesh: MeshFacts, path: PathLook) -> tuple[str, str]:
    """Who the egress gateway of a mesh is, and why that is not by its certificate, '' where it is."""
    computed, unread = mesh.egress_identity(), "by its objects; it holds no certificate"
    try:
        if held := path.egress_identities(mesh):
            return (computed if computed in held else min(held)), ""
    except (ClusterError, ValueError) as error:
        unread = f"by its objects; its certificate could not be read: {type(error).__name__}"
    return computed, unread


def announced(facts: Facts, mesh: MeshFacts, path: PathLook) -> Link:
    """What a mesh answers to discovery names no gateway that is not its own federation ingress."""
    look = Look("announced gateways", mesh.names.name, f"networkGatewayEndpoints of its answer to {mesh.names.peer}")
    answer = path.discovery_answer(mesh)
    if answer.status == HTTPStatus.BAD_REQUEST and (still := standstill(look, mesh, True)):
        return still
    if answer.status != HTTPStatus.OK:
        return look.unknown(f"it answers {answer}")
    foreign = answer.foreign([Announced(way.host, way.service_port) for way in facts.entrances(mesh)])
    if not foreign:
        return look.ok(", ".join(map(str, answer.gateways)) or "none, as it should be")
    seen = ", ".join(map(str, foreign))
    return look.broken("foreign-gateway-announced", seen, seen=seen)
