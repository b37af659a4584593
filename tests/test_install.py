"""Both meshes are installed as asked for, and each can prove to the other who it is."""

from __future__ import annotations

import pytest


@pytest.mark.requirement(
    "INSTALL-001",
    "the federation kinds are served",
    source="the product's CRDs of federation.maistra.io",
)
def test_the_federation_kinds_are_served(mesh, installed):
    problems = installed.unserved_kinds(mesh)
    assert not problems, "\n".join(problems)


@pytest.mark.requirement(
    "INSTALL-002",
    "each control plane is Ready at the version asked for",
    source="status of ServiceMeshControlPlane, condition Ready",
)
def test_the_control_plane_is_ready_at_the_version_asked_for(mesh, installed, settings):
    problems = installed.control_plane_problems(mesh, settings.ossm_version)
    assert not problems, "\n".join(problems)


@pytest.mark.requirement(
    "INSTALL-003",
    "each member roll has configured exactly the application",
    source="status of ServiceMeshMemberRoll, configuredMembers",
)
def test_the_member_roll_has_configured_exactly_the_application(mesh, installed):
    problems = installed.member_problems(mesh)
    assert not problems, "\n".join(problems)


@pytest.mark.requirement(
    "INSTALL-004",
    "istiod and the four gateways of each mesh are available",
    source="product documentation, federation: additional gateways",
)
def test_istiod_and_the_four_gateways_are_available(mesh, installed):
    problems = installed.unavailable_deployments(mesh)
    assert not problems, "\n".join(problems)


@pytest.mark.requirement(
    "INSTALL-005",
    "the federation gateways carry discovery and service ports",
    source="product documentation, federation: ports 8188 and 15443",
)
def test_the_federation_gateways_carry_discovery_and_service_ports(mesh, installed):
    problems = installed.missing_ports(mesh)
    assert not problems, "\n".join(problems)


@pytest.mark.requirement(
    "INSTALL-006",
    "each egress gateway views the network of its peer",
    source="product documentation, federation: requestedNetworkView",
)
def test_the_egress_gateway_views_the_network_of_the_peer(mesh, installed):
    view = installed.network_view(mesh)
    assert view == f"network-{mesh.peer}", f"{mesh.name}: {mesh.egress_gateway} asks for network view {view or 'none'}"


@pytest.mark.requirement(
    "INSTALL-007",
    "a TLS server answers at each ingress address",
    source="captured federation: chains shown on 8188 and 15443",
)
def test_a_tls_server_answers_at_the_ingress_address(closed_ports):
    assert not closed_ports, "\n".join(closed_ports)


@pytest.mark.requirement(
    "INSTALL-008",
    "the trust domains of the meshes differ",
    source="product documentation, federation: trust domains",
)
def test_the_trust_domains_differ(provisioned, installed):
    mesh1, mesh2 = map(installed.trust_domain, provisioned.meshes)
    assert mesh1 != mesh2, f"both control planes have trust domain {mesh1 or 'cluster.local'}: roots would be ignored"


@pytest.mark.requirement(
    "INSTALL-009",
    "each root is a valid CA certificate",
    source="RFC 5280, basic constraints and validity",
)
def test_the_root_is_a_valid_ca_certificate(mesh, installed):
    problems = installed.root_problems(mesh)
    assert not problems, "\n".join(problems)


@pytest.mark.requirement(
    "INSTALL-010",
    "the roots of the meshes differ",
    source="product documentation, federation: each mesh has a CA of its own",
)
def test_the_roots_differ(provisioned, installed):
    mesh1, mesh2 = (installed.fingerprints(installed.own_root(mesh)) for mesh in provisioned.meshes)
    assert mesh1, "mesh1 has no root certificate, so there is nothing to compare"
    assert mesh2, "mesh2 has no root certificate, so there is nothing to compare"
    assert not mesh1 & mesh2, f"mesh1 and mesh2 share the root certificate {mesh1 & mesh2}"


@pytest.mark.requirement(
    "INSTALL-011",
    "each mesh holds the current root of the other",
    source="product documentation, federation: certificateChain of a peer",
)
def test_each_mesh_holds_the_current_root_of_the_other(provisioned, mesh, installed):
    problems = installed.stale_root(provisioned, mesh)
    assert not problems, "\n".join(problems)


@pytest.mark.requirement(
    "INSTALL-012",
    "each federation ingress proves the identity its peer expects",
    source="SPIFFE identities of the product, trustDomain of a peer",
)
def test_the_federation_ingress_proves_the_identity_the_peer_expects(chain_problems):
    assert not chain_problems, "\n".join(chain_problems)


@pytest.mark.requirement(
    "INSTALL-013",
    "every bookinfo pod is ready with a sidecar",
    source="product documentation: sidecar injection of members",
)
def test_every_bookinfo_pod_is_ready_with_a_sidecar(mesh, installed):
    problems = installed.pods_without_sidecar(mesh)
    assert not problems, "\n".join(problems)


@pytest.mark.requirement(
    "INSTALL-014",
    "provisioning again changes nothing",
    source="server-side apply: what is as asked for keeps its generation",
)
def test_provisioning_again_changes_nothing(provisioned_again):
    assert not provisioned_again.changes, "\n".join(provisioned_again.changes)
