"""Two meshes joined by the lab's federation, held against what the real ones said when all was well."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
import orjson

from lab import resources
from selftests.support.stories import told_in
from selftests.support.two_meshes import federated, in_federation, shape


@asynccontextmanager
async def asked_discovery(observed):
    """(status, content type, body) of what mesh1's istiod answers to a path, in a connected federation."""
    async with federated(observed) as both, aiohttp.ClientSession() as session:

        async def get(path):
            async with session.get(f"https://{both.mesh1.pod_ip}:8188/v1/{path}", ssl=False) as answer:
                return answer.status, answer.headers.get("Content-Type"), await answer.read()

        yield get


@told_in(asked_discovery)
async def test_mesh1_tells_its_services_as_captured(get, observed):
    _, content_type, body = await get("services/mesh2")
    assert content_type == "application/json"
    expected = observed("healthy/discovery/mesh1-v1-services-mesh2.json")
    digits = re.compile(rb'^\{"checksum":(\d{1,20}),')
    assert digits.sub(b"{", body) == digits.sub(b"{", orjson.dumps(expected))
    assert 0 < int(digits.match(body)[1]) < 2**64


@told_in(asked_discovery)
async def test_an_unknown_peer_is_a_bad_request_without_a_body(get):
    for path in ("services", "watch"):
        status, _, body = await get(f"{path}/mesh9")
        assert (status, body) == (400, b"")


def settled(status):
    """Its shape, without what is chance.

    Whether an attempt failed before the gateways were ready, and whether exports came after the watch; both belong to
    tests of their own.
    """
    found = shape(status)
    for listed in found["discoveryStatus"]["active"]:
        listed["watch"].pop("lastDisconnectStatus", None)
        for remote in listed["remotes"]:
            remote.pop("lastEvent", None)
    return found


@in_federation
async def test_both_peers_have_the_captured_status(both, observed):
    for mesh, other in ((both.mesh1, both.mesh2), (both.mesh2, both.mesh1)):
        captured = observed(f"healthy/objects/{mesh.name}-servicemeshpeer-{other.name}.json")["status"]
        assert settled(mesh.status()) == settled(captured)
        assert [remote["source"] for remote in mesh.entry()["remotes"]] == [other.pod_ip]
        assert mesh.entry()["pod"] == mesh.state.pod_name


@in_federation
async def test_both_sets_have_the_captured_status(both, observed):
    exports = observed("healthy/objects/mesh1-exportedserviceset-mesh2.json")["status"]
    imports = observed("healthy/objects/mesh2-importedserviceset-mesh1.json")["status"]
    assert both.mesh1.status(resources.EXPORTS) == exports
    assert both.mesh2.status(resources.IMPORTS) == imports


def without_checksum(objects, peer):
    """The same objects; the checksum in the way to the peer, which must be one, is replaced by the word."""
    routes = objects["VirtualService", f"federation-discovery-{peer}-egress"]["spec"]
    remote = routes["http"][0]["match"][0]["headers"]["remote"]
    assert 0 < int(remote["exact"]) < 2**64
    remote["exact"] = "checksum"
    return objects


@in_federation
async def test_the_objects_in_memory_are_the_captured_ones(both, observed):
    for mesh in (both.mesh1, both.mesh2):
        captured = observed(f"healthy/discovery/{mesh.name}-istiod-configz.json")
        made = {(item["kind"], item["name"]): item for item in captured if item["name"].startswith("federation-")}
        own = without_checksum(mesh.objects(), mesh.peer_name)
        assert own == without_checksum(made, mesh.peer_name)


def imported(both):
    """The services that mesh2 imported, by their hosts."""
    return {service.hostname: service for service in both.mesh2.state.federation["mesh1"].services}


@in_federation
async def test_imported_services_lead_through_the_local_egress_gateway(both, observed):
    pods = observed("healthy/objects/mesh2-system-pods.json")["items"]
    (egress,) = [pod["status"]["podIP"] for pod in pods if pod["metadata"]["labels"].get("app") == "mesh1-egress"]
    public = imported(both)["ratings.mesh2-bookinfo.svc.mesh1-imports.local"]
    found = [(end.address, end.port, end.port_name, end.tls) for end in public.endpoints]
    assert found == [(egress, 15443, "http", True)]
    assert public.identities == ("spiffe://mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account",)
    assert (public.name, public.private) == ("ratings.mesh2-bookinfo.mesh1.local", False)


@in_federation
async def test_the_egress_gateway_reaches_imported_services_at_the_peers_ingress(both):
    services = imported(both)
    private = services["ratings.bookinfo.svc.mesh2-exports.local"]
    assert len(services) == 4
    assert [(end.address, end.port) for end in private.endpoints] == [("10.200.0.11", 15443)]
    assert private.identities == ("spiffe://mesh1.local/ns/mesh1-system/sa/mesh2-ingress-service-account",)
    assert (private.name, private.private) == ("ratings.bookinfo.mesh1.remote", True)


@in_federation
async def test_the_peers_root_reaches_the_proxies(both):
    assert both.mesh2.state.federation["mesh1"].bundles == {"mesh1.local": "root of mesh1"}


def leader(config_map):
    """The record of leadership in the annotations of a ConfigMap."""
    return orjson.loads(config_map["metadata"]["annotations"]["control-plane.alpha.kubernetes.io/leader"])


@in_federation
async def test_the_leader_is_written_down_as_captured(both, observed):
    own = both.mesh1.api.items(resources.CONFIG_MAP)
    key = both.mesh1.namespace, "servicemesh-federation"
    captured = observed("healthy/objects/mesh1-system-configmaps.json")["items"]
    (expected,) = [leader(item) for item in captured if item["metadata"]["name"] == key[1]]
    assert list(leader(own[key])) == list(expected)
    assert leader(own[key])["holderIdentity"] == both.mesh1.state.pod_name
    assert leader(own[key])["leaseDurationSeconds"] == expected["leaseDurationSeconds"]
    await both.mesh1.stop()
    assert leader(own[key])["holderIdentity"] == ""


@told_in(partial(federated, version="2.2.13"))
async def test_a_settled_federation_writes_nothing(both):
    # A look at the peer is the work a write would come from.
    writes = len(both.mesh1.api.writes)
    both.mesh1.api.put(resources.CONFIG_MAP, both.mesh1.object("other", data={}))
    both.mesh2.api.edit(resources.IMPORTS, both.mesh2.key, domainSuffix="elsewhere.local")
    both.mesh2.api.put(resources.PEER, both.mesh2.api.items(resources.PEER)[both.mesh2.key])
    await both.until(
        lambda: (
            both.mesh2.status(resources.IMPORTS)["importedServices"][0]["localService"]["hostname"]
            == "mongodb.mesh2-bookinfo.elsewhere.local"
        )
    )
    assert len(both.mesh1.api.writes) == writes
