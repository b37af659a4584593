"""Links of trust: roots held and in use, trust domains, identities, the chains that gateways show now."""

from __future__ import annotations

import ssl

from harness.diagnosis.address_links import connector
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.product import specs, trust
from harness.product.mesh import server_names
from harness.product.names import DISCOVERY_PORT, ROOT_CONFIG_MAP, ROOT_KEY, SERVICE_PORT

_BEHIND = ("exports", "generated routes", "ingress", "workload")  # without which nothing is served on 15443


def own_root(mesh: MeshFacts) -> Link:
    """The mesh has a valid root of its own."""
    look = Look("own root", mesh.names.name, f"ConfigMap {mesh.system}/{ROOT_CONFIG_MAP}")
    if problem := trust.root_problem(mesh.own_root(), mesh.cluster.now()):
        return look.broken("own-root-invalid", problem, detail=problem)
    return look.ok(_short(_fingerprints(mesh.own_root())))


def held_root(facts: Facts, mesh: MeshFacts) -> Link:
    """What the mesh holds as its peer's root is there, valid, and the peer's root of now."""
    name, peer = mesh.root_config_map(), mesh.names.peer
    look = Look("root of the peer", mesh.names.name, f"ConfigMap {mesh.system}/{name} against {peer}'s own root")
    values = {"config_map": name, "system": mesh.system}
    found = mesh.held_root()
    if found is None:
        return look.broken("root-missing", "there is none", detail=f"there is no ConfigMap {name}", **values)
    if ROOT_KEY not in (found.get("data") or {}):
        return look.broken("root-missing", f"no key {ROOT_KEY}", detail=f"{name} has no key {ROOT_KEY}", **values)
    pem = mesh.held_pem()
    if problem := trust.root_problem(pem, mesh.cluster.now()):
        outdated = "expired" in problem or "not valid before" in problem
        return look.broken("root-expired" if outdated else "root-empty", problem, detail=problem, **values)
    held, current = _fingerprints(pem), _fingerprints(facts.other(mesh).own_root())
    if not current:
        return look.unknown(f"holds {_short(held)}; {peer} has no root to compare it with")
    if not current <= held:
        seen = f"holds {_short(held)}, {peer} has {_short(current)}"
        return look.broken("root-not-current", seen, held=_short(held), current=_short(current), **values)
    return look.ok(f"{_short(held)}, as {peer} has it")


def trust_domains(facts: Facts) -> Link:
    """The two control planes have different trust domains."""
    look = Look("trust domains", "both", "spec.security.trust.domain of both control planes")
    mesh1, mesh2 = facts.mesh1.trust_domain(), facts.mesh2.trust_domain()
    if mesh1 == mesh2:
        return look.broken("same-trust-domain", mesh1, domain=mesh1)
    return look.ok(f"{mesh1} and {mesh2}")


def peer_trust_domain(facts: Facts, mesh: MeshFacts) -> Link:
    """The peer object says the trust domain that the peer has."""
    look = Look("trust domain of the peer", mesh.names.name, f"ServiceMeshPeer {mesh.names.peer}, spec.security")
    seen = specs.peer_trust_domain(mesh.peer_spec())
    expected = facts.other(mesh).trust_domain()
    if seen != expected:
        return look.broken("wrong-trust-domain", seen or "none", seen=seen or "none", expected=expected)
    return look.ok(seen)


def ports(mesh: MeshFacts) -> tuple[int, ...]:
    """Ports a federation ingress listens on: without exports there is none on 15443 (product behaviour)."""
    return (DISCOVERY_PORT, SERVICE_PORT) if mesh.names.exports else (DISCOVERY_PORT,)


def shown_chain(facts: Facts, mesh: MeshFacts) -> Link:
    """New connections to the federation ingress show a chain, and an identity, that the peer would accept."""
    look = Look("chain shown", mesh.names.name, f"{mesh.names.ingress_gateway} on {', '.join(map(str, ports(mesh)))}")
    other = facts.other(mesh)
    wanted = f"spiffe://{mesh.ingress_identity()}"
    for port in ports(mesh):
        try:
            connect = connector(facts, mesh, port)
            shown = trust.presented_chain(connect, server_names(mesh.names, port)[0], other.held_pem())
        except OSError as error:
            # What has nothing behind it is refused, or closed before the handshake; silence has other reasons.
            closed = port == SERVICE_PORT and isinstance(error, ConnectionError | ssl.SSLError)
            return look.unknown(f"no TLS connection from here to {port}: {error}", _BEHIND if closed else ())
        problem = shown.problem or ("" if wanted in shown.uris else f"it is not {wanted}")
        if problem:
            seen = f"{port}: {shown}"
            return look.broken("chain-not-trusted", seen, detail=f"{problem} ({shown})")
    return look.ok(f"{wanted}, verified against the root {other.names.name} holds")


def strangers(facts: Facts, mesh: MeshFacts) -> Link:
    """The federation ingress refuses clients without TLS and without a certificate."""
    look = Look("strangers", mesh.names.name, f"{mesh.names.ingress_gateway} without TLS, and without a certificate")
    for port in ports(mesh):
        try:
            connect = connector(facts, mesh, port)
            if trust.answers_plaintext(connect):
                return look.broken("plaintext-accepted", f"{port} answers HTTP without TLS", port=port)
            if trust.refusal(connect, server_names(mesh.names, port)[0]) is None:
                return look.broken("stranger-accepted", f"{port} asks for no certificate", port=port)
        except OSError as error:
            return look.unknown(f"nothing was refused on {port}, since no TLS server answers us there: {error}")
    return look.ok(f"refused on {', '.join(map(str, ports(mesh)))}")


def _fingerprints(pem: str) -> set[str]:
    return {trust.fingerprint(certificate) for certificate in trust.roots_in(pem)}


def _short(fingerprints: set[str]) -> str:
    return ", ".join(sorted(found[:12] for found in fingerprints)) or "no certificate"
