"""Links of whom a mesh admits: the identity in its peer object against the one that the peer's gateway has."""

from __future__ import annotations

from harness.diagnosis.facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.path import PathLook
from harness.transport import ClusterError


def client_id(facts: Facts, mesh: MeshFacts, path: PathLook) -> Link:
    """The peer object admits the identity that the peer's egress gateway really has."""
    look = Look("clientID", mesh.names.name, f"ServiceMeshPeer {mesh.names.peer} against {mesh.names.peer}'s gateway")
    seen = (mesh.peer_spec().get("security") or {}).get("clientID") or ""
    real, source = _egress_identity(facts.other(mesh), path)
    if not seen:
        return look.broken("client-id-missing", f"none; the gateway is {real} ({source})", expected=real)
    if seen != real:
        shown = f"{seen}; the gateway is {real} ({source})"
        return look.broken("wrong-client-id", shown, seen=seen, expected=real, detail=source)
    return look.ok(f"{seen} ({source})")


def _egress_identity(mesh: MeshFacts, path: PathLook) -> tuple[str, str]:
    """Who the egress gateway of a mesh is, and what says so."""
    computed, unread = mesh.egress_identity(), "by its objects; it holds no certificate"
    try:
        if held := path.egress_identities(mesh):
            return (computed if computed in held else min(held)), "by the certificate it holds"
    except (ClusterError, ValueError) as error:
        unread = f"by its objects; its certificate could not be read: {type(error).__name__}"
    return computed, unread
