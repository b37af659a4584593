"""One thing broken between two meshes of the lab: the statuses and log lines of the real ones."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from lab import resources
from selftests.support.two_meshes import federated, pair, run, shape

OTHER_CLIENT = "mesh2.local/ns/mesh2-system/sa/other"
IMPORTED = "ratings.mesh2-bookinfo.svc.mesh1-imports.local"
EXPORTED = "ratings.bookinfo.svc.mesh2-exports.local"


async def wrong_discovery_port(both):
    both.mesh2.api.edit(resources.PEER, both.mesh2.key, remote={"discoveryPort": 8189})


async def unreachable_address(both):
    both.mesh2.api.edit(resources.PEER, both.mesh2.key, remote={"addresses": ["10.200.0.99"]})


async def wrong_client_id(both):
    both.mesh1.api.edit(resources.PEER, both.mesh1.key, security={"clientID": OTHER_CLIENT})
    both.way_out["mesh2"].cut()


async def ingress_down(both):
    both.way_out["mesh2"].broken = True
    both.way_out["mesh2"].cut()


async def egress_down(both):
    both.way_out["mesh2"].cut()
    await both.way_out["mesh2"].close()


BROKEN = {
    "wrong-discovery-port-import": wrong_discovery_port,
    "unreachable-address-import": unreachable_address,
    "wrong-clientid-export": wrong_client_id,
    "ingress-down-export": ingress_down,
    "egress-down-import": egress_down,
}


def same_address(both, value):
    """Captured texts name the captured address of the egress gateway's Service."""
    captured = both.observed("healthy/objects/mesh2-system-services.json")["items"]
    address = next(item["spec"]["clusterIP"] for item in captured if item["metadata"]["name"] == "mesh1-egress")
    if isinstance(value, str):
        return value.replace(address, both.mesh2.egress_ip)
    if isinstance(value, dict):
        return {key: same_address(both, part) for key, part in value.items()}
    return [same_address(both, part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_watch_looks_as_captured_and_imports_survive_it(observed, caplog, name):
    async def scenario():
        async with federated(observed) as both:
            mesh2 = both.mesh2
            services = mesh2.state.federation["mesh1"].services
            await BROKEN[name](both)
            expected = same_address(both, shape(observed(f"faults/{name}/mesh2-peer-mesh1.json")["status"]))
            await both.until(lambda: shape(mesh2.status()) == expected)
            assert mesh2.status(resources.IMPORTS) == observed(f"faults/{name}/mesh2-imports-mesh1.json")["status"]
            assert mesh2.state.federation["mesh1"].services == services
            assert mesh2.state.federation["mesh1"].bundles == {"mesh1.local": "root of mesh1"}
            remote = both.mesh1.entry()["remotes"][0]
            await both.until(lambda: not both.mesh1.entry()["remotes"][0]["connected"])
            assert remote["source"] == mesh2.pod_ip
            lines = observed(f"faults/{name}/mesh2-istiod.log").splitlines()
            for line in {same_address(both, line).split("\t", 3)[3] for line in lines}:
                assert line in caplog.messages

    run(scenario())


@pytest.mark.parametrize("name", ["wrong-clientid-export", "ingress-down-export", "egress-down-import"])
def test_the_other_mesh_sees_the_watch_go_as_captured(observed, name):
    async def scenario():
        async with federated(observed) as both:
            await BROKEN[name](both)
            await both.until(lambda: not both.mesh1.entry()["remotes"][0]["connected"])
            own = shape(both.mesh1.entry()["remotes"])
            captured = observed(f"faults/{name}/mesh1-peer-mesh2.json")["status"]["discoveryStatus"]["active"][0]
            expected = shape(captured["remotes"])
            # Exports stood before the watch here, so no event was ever sent.
            del expected[0]["lastEvent"]
            assert own == expected
            assert both.mesh1.entry()["list"] == "active"

    run(scenario())


def test_a_wrong_service_port_shows_nowhere_but_in_the_endpoints(observed):
    async def scenario():
        async with federated(observed) as both:
            mesh2 = both.mesh2

            def ports():
                services = mesh2.state.federation["mesh1"].services
                return {end.port for service in services if service.private for end in service.endpoints}

            assert ports() == {15443}
            mesh2.api.edit(resources.PEER, mesh2.key, remote={"servicePort": 15444})
            await both.until(lambda: ports() == {15444} and both.connected())
            captured = observed("faults/wrong-service-port-import/mesh2-imports-mesh1.json")
            assert mesh2.status(resources.IMPORTS) == captured["status"]

    run(scenario())


def test_an_edited_client_id_reaches_the_discovery_policy_only(observed):
    async def scenario():
        async with federated(observed) as both:
            both.mesh1.api.edit(resources.PEER, both.mesh1.key, security={"clientID": OTHER_CLIENT})

            def principals(policy):
                spec = both.mesh1.objects()["AuthorizationPolicy", policy]["spec"]
                return spec["rules"][0]["from"][0]["source"]["notPrincipals"]

            await both.until(lambda: principals("federation-discovery-mesh2") == [OTHER_CLIENT])
            assert principals("federation-exports-mesh2") == [
                "mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account"
            ]

    run(scenario())


def test_a_mesh_without_istiod_goes_on_saying_it_is_connected(observed, caplog):
    async def scenario():
        async with federated(observed) as both:
            before = both.mesh1.status()
            await both.mesh1.stop()
            await both.until(
                lambda: both.mesh2.entry()["watch"].get("lastDisconnectStatus") == "503 Service Unavailable"
            )
            assert both.mesh1.status() == before
            assert both.mesh1.entry()["watch"]["connected"] is True
            own = shape(both.mesh2.status())
            expected = shape(observed("faults/istiod-export-down/mesh2-peer-mesh1.json")["status"])
            expected["discoveryStatus"]["inactive"][0]["watch"]["lastDisconnectStatus"] = "503 Service Unavailable"
            assert own == expected
            for text in ("unexpected EOF", "status code is not OK: 503 (503 Service Unavailable)"):
                assert f"watch failed: {text}\tcomponent=federation-registry" in caplog.messages

    run(scenario())


def test_without_an_egress_service_the_name_is_not_found(observed):
    async def scenario():
        async with pair(observed) as both:
            both.mesh2.api.remove(resources.SERVICE, (both.mesh2.namespace, "mesh1-egress"))
            both.mesh2.set_up(observed)
            await both.until(lambda: "lastDisconnectStatus" in both.mesh2.entry().get("watch", ()))
            entry = both.mesh2.entry()
            text = entry["watch"]["lastDisconnectStatus"]
            assert entry["list"] == "inactive"
            host = "mesh1-egress.mesh2-system.svc.cluster.local"
            assert text.startswith(f'Get "http://{host}:8188/v1/watch": dial tcp: lookup {host} on ')
            assert text.endswith(": no such host")
            assert "lastDisconnect" not in entry["watch"]
            assert "lastFullSync" not in entry["watch"]

    run(scenario())


def test_a_gateway_that_does_not_listen_yet_refuses(observed):
    """The node's forwarder accepts for it and resets; the product's kube-proxy would pass its refusal on."""

    async def scenario():
        async with pair(observed, open_ways=False) as both:
            reset = struct.pack("ii", 1, 0)

            def accept(_, writer):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                writer.transport.abort()

            async with await asyncio.start_server(accept, both.mesh2.egress_ip, 8188):
                both.mesh2.set_up(observed)
                await both.until(lambda: "lastDisconnectStatus" in both.mesh2.entry().get("watch", ()))
            captured = observed("healthy/objects/mesh2-servicemeshpeer-mesh1.json")["status"]["discoveryStatus"]
            expected = same_address(both, captured["active"][0]["watch"]["lastDisconnectStatus"])
            assert both.mesh2.entry()["watch"]["lastDisconnectStatus"] == expected

    run(scenario())


def test_an_import_rule_that_fits_nothing_empties_the_list(observed):
    async def scenario():
        async with federated(observed) as both:
            mesh2 = both.mesh2
            rules = observed("faults/import-rule-nomatch/mesh2-imports-mesh1.json")["spec"]["importRules"]
            mesh2.api.edit(resources.IMPORTS, mesh2.key, importRules=rules)
            expected = observed("faults/import-rule-nomatch/mesh2-imports-mesh1.json")["status"]
            await both.until(lambda: mesh2.status(resources.IMPORTS) == expected)
            assert mesh2.state.federation["mesh1"].services == ()
            assert not [name for _, name in mesh2.objects() if name.startswith("federation-imports")]
            assert mesh2.entry()["watch"]["connected"] is True

    run(scenario())


def test_a_mesh_without_members_imports_all_the_same(observed):
    async def scenario():
        async with federated(observed) as both:
            mesh2 = both.mesh2
            mesh2.api.put(resources.SMMR, mesh2.object("default", status={"configuredMembers": []}))
            await both.until(lambda: not mesh2.state.members)
            mesh2.api.edit(resources.PEER, mesh2.key, remote={"servicePort": 15443, "discoveryPort": 8188, "x": 1})
            await both.until(both.connected)
            captured = observed("faults/member-removed-import/mesh2-imports-mesh1.json")
            assert mesh2.status(resources.IMPORTS) == captured["status"]

    run(scenario())


def test_without_the_peers_root_the_peer_is_not_looked_at_until_it_comes(observed, caplog):
    async def scenario():
        async with pair(observed) as both:
            mesh1 = both.mesh1
            mesh1.set_up(observed)
            mesh1.api.remove(resources.CONFIG_MAP, (mesh1.namespace, "mesh2-ca-root-cert"))
            end = "\tcomponent=federation-discovery-controller"
            reason = 'Error processing mesh1-system/mesh2 ({}): configmap "mesh2-ca-root-cert" not found' + end
            await both.until(lambda: reason.format("giving up") in caplog.messages)
            assert caplog.messages.count(reason.format("will retry")) == 5
            assert mesh1.status() == {}
            assert mesh1.status(resources.EXPORTS) == {}
            assert mesh1.objects() == {}
            both.mesh2.set_up(observed)
            mesh1.config_map("mesh2-ca-root-cert", **{"root-cert.pem": "root of mesh2"})
            await both.until(both.connected)
            assert mesh1.state.federation["mesh2"].bundles == {"mesh2.local": "root of mesh2"}

    run(scenario())


def test_a_deleted_peer_takes_its_exports_back(observed):
    async def scenario():
        async with federated(observed) as both:
            exports = both.mesh1.status(resources.EXPORTS)
            # Twice: another look at a peer that is leaving must not cut the time it has.
            both.mesh1.api.remove(resources.PEER, both.mesh1.key)
            both.mesh1.api.remove(resources.PEER, both.mesh1.key)
            await both.until(lambda: both.mesh2.status(resources.IMPORTS) == {"importedServices": []})
            await both.until(lambda: both.mesh2.entry()["list"] == "inactive")
            assert both.mesh1.objects() == {}
            assert both.mesh1.state.federation["mesh2"].bundles == {"mesh2.local": "root of mesh2"}
            assert both.mesh1.status(resources.EXPORTS) == exports

    run(scenario())
