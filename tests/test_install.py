"""Both meshes are installed as asked for, and each can prove to the other who it is."""

from __future__ import annotations

import pytest


@pytest.mark.requirement(
    "INSTALL-001",
    "the federation kinds are served",
    checked="API discovery of each cluster, against the three federation kinds",
    unseen="whether the operator would reconcile an object of them",
    source="the product's CRDs of federation.maistra.io",
)
def test_the_federation_kinds_are_served(mesh, installed):
    kinds = installed.federation_kinds(mesh)
    assert kinds.seen == kinds.asked, str(kinds)


@pytest.mark.requirement(
    "INSTALL-002",
    "each control plane is Ready at the version asked for",
    checked="condition Ready of the current generation, and chartVersion",
    unseen="which version a proxy runs that was not restarted since",
    source="status of ServiceMeshControlPlane, condition Ready",
)
def test_the_control_plane_is_ready_at_the_version_asked_for(mesh, installed, settings):
    plane = installed.control_plane(mesh, settings.ossm_version)
    assert plane.seen == plane.asked, str(plane)


@pytest.mark.requirement(
    "INSTALL-003",
    "each member roll has configured exactly the application",
    checked="configuredMembers, against the application namespace",
    unseen="pods older than the membership: INSTALL-013",
    source="status of ServiceMeshMemberRoll, configuredMembers",
)
def test_the_member_roll_has_configured_exactly_the_application(mesh, installed):
    members = installed.members(mesh)
    assert members.seen == members.asked, str(members)


@pytest.mark.requirement(
    "INSTALL-004",
    "istiod and the four gateways of each mesh are available",
    checked="condition Available and available replicas of their Deployments",
    unseen="whether they listen: INSTALL-007",
    source="product documentation, federation: additional gateways",
)
def test_istiod_and_the_four_gateways_are_available(mesh, installed):
    deployments = installed.deployments(mesh)
    assert deployments.seen == deployments.asked, str(deployments)


@pytest.mark.requirement(
    "INSTALL-005",
    "the federation gateways carry discovery and service ports",
    checked="ports of their Services, against 8188 and 15443",
    unseen="whether a load balancer forwards them: INSTALL-007",
    source="product documentation, federation: ports 8188 and 15443",
)
def test_the_federation_gateways_carry_discovery_and_service_ports(mesh, installed):
    ports = installed.gateway_ports(mesh)
    assert ports.seen == ports.asked, str(ports)


@pytest.mark.requirement(
    "INSTALL-006",
    "each egress gateway views the network of its peer",
    checked="ISTIO_META_REQUESTED_NETWORK_VIEW of its Deployment",
    unseen="what istiod then sends the gateway: FED-006 and the split",
    source="product documentation, federation: requestedNetworkView",
)
def test_the_egress_gateway_views_the_network_of_the_peer(mesh, installed):
    view = installed.network_view(mesh)
    asks = f"{mesh.name}: {mesh.egress_gateway} asks for network view {view or 'none'}"
    assert view in installed.working_views(mesh), f"{asks}; network-{mesh.peer} works"


@pytest.mark.requirement(
    "INSTALL-007",
    "a TLS server answers at each ingress address",
    checked="a TLS handshake on 8188, and on 15443 where something is exported, from the machine that runs the suite",
    unseen="the way from the other cluster to that address; addresses after the first that answers",
    source="captured federation: chains shown on 8188 and 15443",
)
def test_a_tls_server_answers_at_the_ingress_address(tls_servers):
    assert tls_servers.seen == tls_servers.asked, str(tls_servers)


@pytest.mark.requirement(
    "INSTALL-008",
    "the trust domains of the meshes differ",
    checked="spec of both control planes",
    unseen="certificates issued before the domain was changed: INSTALL-012",
    source="product documentation, federation: trust domains",
)
def test_the_trust_domains_differ(provisioned, installed):
    mesh1, mesh2 = map(installed.trust_domain, provisioned.meshes)
    assert mesh1 != mesh2, f"both control planes have trust domain {mesh1 or 'cluster.local'}: roots would be ignored"


@pytest.mark.requirement(
    "INSTALL-009",
    "each root is a valid CA certificate",
    checked="istio-ca-root-cert of each control plane's namespace, at the cluster's time",
    unseen="whether istiod still signs with it: INSTALL-012",
    source="RFC 5280, basic constraints and validity",
)
def test_the_root_is_a_valid_ca_certificate(mesh, installed):
    root = installed.root(mesh)
    assert root.seen == root.asked, str(root)


@pytest.mark.requirement(
    "INSTALL-010",
    "the roots of the meshes differ",
    checked="fingerprints of both roots",
    unseen="two roots that were signed by one CA",
    source="product documentation, federation: each mesh has a CA of its own",
)
def test_the_roots_differ(provisioned, installed):
    mesh1, mesh2 = map(installed.own_fingerprints, provisioned.meshes)
    assert mesh1, "mesh1 has no root certificate, so there is nothing to compare"
    assert mesh2, "mesh2 has no root certificate, so there is nothing to compare"
    assert not mesh1 & mesh2, f"mesh1 and mesh2 share the root certificate {', '.join(mesh1 & mesh2)}"


@pytest.mark.requirement(
    "INSTALL-011",
    "each mesh holds the current root of the other",
    checked="fingerprints of the ConfigMap that the peer names, against the other mesh's own root",
    unseen="whether istiod has read it: FED-001",
    source="product documentation, federation: certificateChain of a peer",
)
def test_each_mesh_holds_the_current_root_of_the_other(provisioned, mesh, installed):
    root = installed.root_of_peer(provisioned, mesh)
    assert root.seen == root.asked, str(root)


@pytest.mark.requirement(
    "INSTALL-012",
    "each federation ingress proves the identity its peer expects",
    checked="the chain shown on each port of a new connection, verified against the root that the peer holds",
    unseen="connections that are open already",
    source="SPIFFE identities of the product, trustDomain of a peer",
)
def test_the_federation_ingress_proves_the_identity_the_peer_expects(ingress_identities):
    assert ingress_identities.seen == ingress_identities.asked, str(ingress_identities)


@pytest.mark.requirement(
    "INSTALL-013",
    "every bookinfo pod is ready with a sidecar",
    checked="containers and condition Ready of every pod of the application namespaces that is not done",
    unseen="whether the sidecar's configuration is current: FED-006",
    source="product documentation: sidecar injection of members",
)
def test_every_bookinfo_pod_is_ready_with_a_sidecar(mesh, installed):
    pods = installed.bookinfo_pods(mesh)
    assert pods.seen == pods.asked, str(pods)


@pytest.mark.requirement(
    "INSTALL-014",
    "provisioning again changes nothing",
    checked="uid, generation, labels and spec of every object of the scenario, before and after",
    unseen="what changes back before the second look",
    source="server-side apply: what is as asked for keeps its generation",
)
def test_provisioning_again_changes_nothing(provisioned_again):
    assert not provisioned_again.changes, "\n".join(provisioned_again.changes)
