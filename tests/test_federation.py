"""What two federated meshes know of each other, and who is let in."""

from __future__ import annotations

import pytest

DISCOVERY_PORT, SERVICE_PORT = 8188, 15443


@pytest.mark.requirement(
    "FED-001",
    "every istiod watches the other mesh and is freshly synced",
    checked="discoveryStatus of the own ServiceMeshPeer: one watch for each running istiod; a cut one may come back",
    unseen="what a watch carries: FED-005",
    source="status of ServiceMeshPeer, discoveryStatus: watch and lastFullSync",
)
@pytest.mark.usefixtures("federation")
def test_every_istiod_watches_the_other_mesh_and_is_freshly_synced(own_watches, subtests):
    for pod, watch in own_watches.items():
        with subtests.test(pod):
            assert watch == "connected and freshly synced", watch


@pytest.mark.requirement(
    "FED-002",
    "every istiod of the other mesh watches this one",
    checked="discoveryStatus of the own ServiceMeshPeer, against the addresses of the other mesh's istiods",
    unseen="which istiod an unnamed source is: any one counts",
    source="status of ServiceMeshPeer, discoveryStatus: remotes",
)
def test_every_istiod_of_the_other_mesh_watches_this_one(remote_watches, subtests):
    for pod, watch in remote_watches.items():
        with subtests.test(pod):
            assert watch == "connected", watch


@pytest.mark.requirement(
    "FED-003",
    "mesh1 exports exactly what was asked for",
    checked="exportedServices of the status, against the rules of the scenario",
    unseen="whether the gateway serves them: FED-006 and the split",
    source="status of ExportedServiceSet",
)
def test_mesh1_exports_exactly_what_was_asked_for(exports):
    assert exports.seen == exports.asked, str(exports)


@pytest.mark.requirement(
    "FED-004",
    "mesh2 imports exactly what was asked for",
    checked="importedServices of the status, against the rules of the scenario",
    unseen="whether a sidecar knows them: FED-006",
    source="status of ImportedServiceSet",
)
def test_mesh2_imports_exactly_what_was_asked_for(imports):
    assert imports.seen == imports.asked, str(imports)


@pytest.mark.requirement(
    "FED-005",
    "both meshes name the same services",
    checked="exported names in both statuses",
    unseen="services that neither mesh lists",
    source="statuses of ExportedServiceSet and ImportedServiceSet",
)
def test_both_meshes_name_the_same_services(offered_and_taken):
    offered, taken = offered_and_taken
    assert offered, "nothing is offered, so there is nothing to agree on"
    assert offered == taken, f"offered are {sorted(offered)}, imported {sorted(taken)}"


@pytest.mark.requirement(
    "FED-006",
    "reviews reaches the imported ratings through the egress gateway",
    checked="endpoints of the imported ratings in the sidecar of reviews, against the pods of the egress gateway",
    unseen="other callers than reviews; imports other than ratings",
    source="captured federation: endpoints of the calling sidecar",
)
def test_reviews_reaches_the_imported_ratings_through_the_egress_gateway(endpoints):
    assert endpoints.seen == endpoints.asked, f"mesh2: {endpoints}"


@pytest.mark.requirement(
    "FED-007",
    "discovery refuses a client without a certificate and answers the peer",
    checked="a TLS connection to 8188 without a certificate, with a question of the peer itself as its control",
    unseen="a client with a certificate that a wrong CA signed",
    source="captured federation: what strangers meet on 8188",
)
def test_discovery_refuses_a_client_without_a_certificate_and_answers_the_peer(mesh, knock, ask):
    stranger, control = knock(mesh, DISCOVERY_PORT), ask()
    assert control.status == 200, f"the peer itself got {control} at {stranger.where}: no control"
    assert stranger.refused, f"{stranger.where} lets a client without a certificate in"
    assert not stranger.plaintext, f"{stranger.where} answers a client without TLS"


@pytest.mark.requirement(
    "FED-008",
    "exported services refuse a client without a certificate",
    checked="a TLS connection to 15443 of each mesh that exports, without a certificate, and the identity it is shown",
    unseen="a client with a certificate that a wrong CA signed",
    source="captured federation: what strangers meet on 15443",
)
def test_exported_services_refuse_a_client_without_a_certificate(exporters, knock):
    assert exporters, "neither mesh offers the other anything, so nothing refuses anybody"
    for stranger in (knock(mesh, SERVICE_PORT) for mesh in exporters):
        assert stranger.refused, f"{stranger.where} lets a client without a certificate in"
        shown = ", ".join(stranger.refused.shown) or "no certificate"
        assert stranger.gateway in stranger.refused.shown, f"{stranger.where} shows {shown}, not {stranger.gateway}"
        assert not stranger.plaintext, f"{stranger.where} answers a client without TLS"


@pytest.mark.requirement(
    "FED-009",
    "productpage of mesh2 shows stars every time",
    checked="40 pages, one after the other",
    unseen="a fault that spares 40 pages in a row; the split looks at thousands",
    source="bookinfo: reviews v3 shows what ratings answers",
)
def test_productpage_of_mesh2_shows_stars_every_time(productpages):
    shown, asked = productpages()
    assert shown == "stars", f"mesh2: productpage shows {shown} instead of stars at request {asked}"


@pytest.mark.requirement(
    "FED-010",
    "no request reaches productpage of mesh1",
    checked="Envoy's counters of mesh1's productpage around a request to mesh2's, whose own are the control",
    unseen="requests that go past the sidecar",
    source="the scenario: only ratings and mongodb are exported",
)
def test_no_request_reaches_productpage_of_mesh1(productpage, productpage_requests):
    mesh1_before, mesh2_before = productpage_requests()
    productpage()
    mesh1_after, mesh2_after = productpage_requests()
    assert mesh2_after > mesh2_before, "mesh2's productpage counted no request either: the counters prove nothing"
    assert mesh1_after == mesh1_before, f"mesh1's productpage received {mesh1_after - mesh1_before} requests"


@pytest.mark.requirement(
    "FED-011",
    "each peer admits the identity that the other's egress gateway holds",
    checked="clientID of the peer, against the certificate that the other's egress gateway holds now",
    unseen="connections that were admitted before a change",
    source="ServiceMeshPeer security.clientID; SPIFFE identities",
)
def test_each_peer_admits_the_identity_that_the_egress_gateway_of_the_other_mesh_holds(walk, mesh):
    client_id = walk.link("clientID", mesh.name)
    assert client_id.state == "ok", str(client_id)


@pytest.mark.requirement(
    "FED-012",
    "each peer names the addresses and ports of the other's ingress",
    checked="addresses and ports of the peer, against the Service of the other's ingress gateway",
    unseen="a load balancer in front that no Service names",
    source="ServiceMeshPeer remote; Service of the ingress gateway",
)
def test_each_peer_looks_for_the_other_mesh_where_its_ingress_is(walk, mesh, subtests):
    for what in ("addresses", "discovery port", "service port"):
        with subtests.test(what):
            place = walk.link(what, mesh.name)
            assert place.state == "ok", str(place)


@pytest.mark.requirement(
    "FED-013",
    "discovery names only the answering mesh's own ingress",
    checked="the discovery answer to the own egress gateway: addresses of network gateways",
    unseen="what the answer was before; what istiod made of an earlier one",
    source="captured upgrade: addresses announced by 2.2",
)
def test_discovery_announces_no_gateway_but_the_own_ingress(walk, mesh):
    gateways = walk.link("announced gateways", mesh.name)
    assert gateways.state == "ok", str(gateways)


@pytest.mark.requirement(
    "FED-014",
    "the walk along the chain of both meshes finds nothing broken",
    checked="the diagnosis of a red run, made in every run",
    unseen="what no link of the chain looks at",
    source="all the others: what stands beside them is told too",
)
def test_the_walk_along_the_whole_chain_finds_nothing_broken(walk):
    assert walk.state == "ok", "\n".join(map(str, walk.broken or walk.unseen))
