"""Two meshes joined by the lab's federation, held against what the real ones said when all was well."""

from __future__ import annotations

import re

import aiohttp
import orjson

from lab import resources
from selftests.support.two_meshes import federated, run, shape


def test_mesh1_tells_its_services_as_captured(observed):
    async def scenario():
        async with federated(observed) as both, aiohttp.ClientSession() as session:
            url = f"https://{both.mesh1.pod_ip}:8188/v1/services/mesh2"
            async with session.get(url, ssl=False) as answer:
                body = await answer.read()
                assert answer.headers["Content-Type"] == "application/json"
        expected = observed("healthy/discovery/mesh1-v1-services-mesh2.json")
        digits = re.compile(rb'^\{"checksum":(\d{1,20}),')
        own = digits.sub(b"{", body)
        assert own == digits.sub(b"{", orjson.dumps(expected))
        assert 0 < int(digits.match(body)[1]) < 2**64

    run(scenario())


def test_an_unknown_peer_is_a_bad_request_without_a_body(observed):
    async def scenario():
        async with federated(observed) as both, aiohttp.ClientSession() as session:
            for path in ("services", "watch"):
                async with session.get(f"https://{both.mesh1.pod_ip}:8188/v1/{path}/mesh9", ssl=False) as answer:
                    assert (answer.status, await answer.read()) == (400, b"")

    run(scenario())


def test_both_peers_have_the_captured_status(observed):
    async def scenario():
        async with federated(observed) as both:
            for mesh in (both.mesh1, both.mesh2):
                entry = mesh.entry()
                expected = observed(f"healthy/objects/{mesh.name}-servicemeshpeer-{mesh.peer_name}.json")["status"]
                own = shape(mesh.status())
                wanted = shape(expected)
                # Whether an attempt failed before the gateways were ready, and whether exports came after the watch,
                # is chance; both belong to tests of their own.
                for status in (own, wanted):
                    for listed in status["discoveryStatus"]["active"]:
                        listed["watch"].pop("lastDisconnectStatus", None)
                        for remote in listed["remotes"]:
                            remote.pop("lastEvent", None)
                assert own == wanted
                other = both.mesh2 if mesh is both.mesh1 else both.mesh1
                assert [remote["source"] for remote in entry["remotes"]] == [other.pod_ip]
                assert entry["pod"] == mesh.state.pod_name

    run(scenario())


def test_both_sets_have_the_captured_status(observed):
    async def scenario():
        async with federated(observed) as both:
            exports = observed("healthy/objects/mesh1-exportedserviceset-mesh2.json")["status"]
            imports = observed("healthy/objects/mesh2-importedserviceset-mesh1.json")["status"]
            assert both.mesh1.status(resources.EXPORTS) == exports
            assert both.mesh2.status(resources.IMPORTS) == imports

    run(scenario())


def test_the_objects_in_memory_are_the_captured_ones(observed):
    async def scenario():
        async with federated(observed) as both:
            for mesh in (both.mesh1, both.mesh2):
                expected = {
                    (item["kind"], item["name"]): item
                    for item in observed(f"healthy/discovery/{mesh.name}-istiod-configz.json")
                    if item["name"].startswith("federation-")
                }
                own = mesh.objects()
                for objects in (own, expected):
                    routes = objects["VirtualService", f"federation-discovery-{mesh.peer_name}-egress"]["spec"]
                    remote = routes["http"][0]["match"][0]["headers"]["remote"]
                    assert 0 < int(remote["exact"]) < 2**64
                    remote["exact"] = "checksum"
                assert own == expected

    run(scenario())


def test_imported_services_lead_through_the_local_egress_gateway(observed):
    async def scenario():
        async with federated(observed) as both:
            services = {service.hostname: service for service in both.mesh2.state.federation["mesh1"].services}
            egress = next(
                pod["status"]["podIP"]
                for pod in observed("healthy/objects/mesh2-system-pods.json")["items"]
                if pod["metadata"]["labels"].get("app") == "mesh1-egress"
            )
            public = services["ratings.mesh2-bookinfo.svc.mesh1-imports.local"]
            private = services["ratings.bookinfo.svc.mesh2-exports.local"]
            assert len(services) == 4
            assert [(end.address, end.port, end.port_name, end.tls) for end in public.endpoints] == [
                (egress, 15443, "http", True)
            ]
            assert public.identities == ("spiffe://mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account",)
            assert (public.name, public.private) == ("ratings.mesh2-bookinfo.mesh1.local", False)
            assert [(end.address, end.port) for end in private.endpoints] == [("10.200.0.11", 15443)]
            assert private.identities == ("spiffe://mesh1.local/ns/mesh1-system/sa/mesh2-ingress-service-account",)
            assert (private.name, private.private) == ("ratings.bookinfo.mesh1.remote", True)

    run(scenario())


def test_the_peers_root_reaches_the_proxies(observed):
    async def scenario():
        async with federated(observed) as both:
            assert both.mesh2.state.federation["mesh1"].bundles == {"mesh1.local": "root of mesh1"}

    run(scenario())


def test_the_leader_is_written_down_as_captured(observed):
    async def scenario():
        async with federated(observed) as both:
            key = (both.mesh1.namespace, "servicemesh-federation")
            maps = both.mesh1.api.items(resources.CONFIG_MAP)
            note = "control-plane.alpha.kubernetes.io/leader"
            record = orjson.loads(maps[key]["metadata"]["annotations"][note])
            captured = next(
                item
                for item in observed("healthy/objects/mesh1-system-configmaps.json")["items"]
                if item["metadata"]["name"] == key[1]
            )
            expected = orjson.loads(captured["metadata"]["annotations"][note])
            assert list(record) == list(expected)
            assert record["holderIdentity"] == both.mesh1.state.pod_name
            assert record["leaseDurationSeconds"] == expected["leaseDurationSeconds"]
            await both.mesh1.stop()
            released = orjson.loads(maps[key]["metadata"]["annotations"][note])
            assert released["holderIdentity"] == ""

    run(scenario())


def test_a_settled_federation_writes_nothing(observed):
    async def scenario():
        async with federated(observed) as both:
            # A look at the peer is the work a write would come from.
            writes = len(both.mesh1.api.writes)
            both.mesh1.api.put(resources.CONFIG_MAP, both.mesh1.object("other", data={}))
            both.mesh2.api.edit(resources.IMPORTS, both.mesh2.key, domainSuffix="elsewhere.local")
            await both.until(
                lambda: (
                    both.mesh2.status(resources.IMPORTS)["importedServices"][0]["localService"]["hostname"]
                    == "mongodb.mesh2-bookinfo.elsewhere.local"
                )
            )
            assert len(both.mesh1.api.writes) == writes

    run(scenario())
