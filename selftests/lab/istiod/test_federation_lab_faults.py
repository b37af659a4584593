"""One thing broken between two meshes of the lab: the statuses and log lines of the real ones."""

from __future__ import annotations

import asyncio
import copy
import socket
import struct
from contextlib import asynccontextmanager
from functools import partial

import pytest

from lab import resources
from selftests.support.stories import told_in
from selftests.support.two_meshes import federated, in_federation, in_pair, pair, shape

OTHER_CLIENT = "mesh2.local/ns/mesh2-system/sa/other"
IMPORTED = "ratings.mesh2-bookinfo.svc.mesh1-imports.local"
EXPORTED = "ratings.bookinfo.svc.mesh2-exports.local"
NO_ROOT = (
    'Error processing mesh1-system/mesh2 ({}): configmap "mesh2-ca-root-cert" not found'
    "\tcomponent=federation-discovery-controller"
)


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


def captured_lines(both, name):
    """What mesh2's istiod was heard to say, without the time."""
    lines = both.observed(f"faults/{name}/mesh2-istiod.log").splitlines()
    return {same_address(both, line).split("\t", 3)[3] for line in lines}


@pytest.mark.parametrize("name", BROKEN)
@in_federation
async def test_a_broken_watch_looks_as_captured_and_imports_survive_it(both, observed, caplog, name):
    mesh2, services = both.mesh2, both.mesh2.state.federation["mesh1"].services
    await BROKEN[name](both)
    expected = same_address(both, shape(observed(f"faults/{name}/mesh2-peer-mesh1.json")["status"]))
    await both.until(lambda: shape(mesh2.status()) == expected)
    assert mesh2.status(resources.IMPORTS) == observed(f"faults/{name}/mesh2-imports-mesh1.json")["status"]
    assert mesh2.state.federation["mesh1"].services == services
    assert mesh2.state.federation["mesh1"].bundles == {"mesh1.local": "root of mesh1"}
    await both.until(lambda: not both.mesh1.entry()["remotes"][0]["connected"])
    assert both.mesh1.entry()["remotes"][0]["source"] == mesh2.pod_ip
    assert captured_lines(both, name) - set(caplog.messages) == set()


@pytest.mark.parametrize("name", ["wrong-clientid-export", "ingress-down-export", "egress-down-import"])
@in_federation
async def test_the_other_mesh_sees_the_watch_go_as_captured(both, observed, name):
    await BROKEN[name](both)
    await both.until(lambda: not both.mesh1.entry()["remotes"][0]["connected"])
    own = shape(both.mesh1.entry()["remotes"])
    captured = observed(f"faults/{name}/mesh1-peer-mesh2.json")["status"]["discoveryStatus"]["active"][0]
    expected = shape(captured["remotes"])
    # Exports stood before the watch here, so no event was ever sent.
    del expected[0]["lastEvent"]
    assert own == expected
    assert both.mesh1.entry()["list"] == "active"


def private_ports(mesh2):
    """Where the services that mesh2 imported are reached on mesh1."""
    services = mesh2.state.federation["mesh1"].services
    return {end.port for service in services if service.private for end in service.endpoints}


@in_federation
async def test_a_wrong_service_port_shows_nowhere_but_in_the_endpoints(both, observed):
    mesh2 = both.mesh2
    assert private_ports(mesh2) == {15443}
    mesh2.api.edit(resources.PEER, mesh2.key, remote={"servicePort": 15444})
    await both.until(lambda: private_ports(mesh2) == {15444} and both.connected())
    captured = observed("faults/wrong-service-port-import/mesh2-imports-mesh1.json")
    assert mesh2.status(resources.IMPORTS) == captured["status"]


@in_federation
async def test_an_edited_client_id_reaches_the_discovery_policy_only(both):
    both.mesh1.api.edit(resources.PEER, both.mesh1.key, security={"clientID": OTHER_CLIENT})

    def principals(policy):
        spec = both.mesh1.objects()["AuthorizationPolicy", policy]["spec"]
        return spec["rules"][0]["from"][0]["source"]["notPrincipals"]

    await both.until(lambda: principals("federation-discovery-mesh2") == [OTHER_CLIENT])
    assert principals("federation-exports-mesh2") == ["mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account"]


@in_federation
async def test_a_mesh_without_istiod_goes_on_saying_it_is_connected(both, observed, caplog):
    before, unavailable = both.mesh1.status(), "503 Service Unavailable"
    await both.mesh1.stop()
    await both.until(lambda: both.mesh2.entry()["watch"].get("lastDisconnectStatus") == unavailable)
    assert both.mesh1.status() == before
    assert both.mesh1.entry()["watch"]["connected"] is True
    expected = shape(observed("faults/istiod-export-down/mesh2-peer-mesh1.json")["status"])
    expected["discoveryStatus"]["inactive"][0]["watch"]["lastDisconnectStatus"] = unavailable
    assert shape(both.mesh2.status()) == expected
    for text in ("unexpected EOF", f"status code is not OK: 503 ({unavailable})"):
        assert f"watch failed: {text}\tcomponent=federation-registry" in caplog.messages


@in_pair
async def test_without_an_egress_service_the_name_is_not_found(both, observed):
    both.mesh2.api.remove(resources.SERVICE, (both.mesh2.namespace, "mesh1-egress"))
    both.mesh2.set_up(observed)
    await both.until(lambda: "lastDisconnectStatus" in both.mesh2.entry().get("watch", ()))
    entry, host = both.mesh2.entry(), "mesh1-egress.mesh2-system.svc.cluster.local"
    text = entry["watch"]["lastDisconnectStatus"]
    assert text == (f'Get "http://{host}:8188/v1/watch": dial tcp: lookup {host}: no such host')
    assert entry["list"] == "inactive"
    assert not {"lastDisconnect", "lastFullSync"} & set(entry["watch"])


@asynccontextmanager
async def resetting_gateway(observed):
    """Two meshes, and in place of mesh2's egress gateway something that resets every connection.

    The node's forwarder accepts for a gateway that does not listen, and resets; the product's kube-proxy would pass
    its refusal on.
    """

    def accept(_, writer):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with (
        pair(observed, open_ways=False) as both,
        await asyncio.start_server(accept, both.mesh2.egress_ip, 8188),
    ):
        yield both


@told_in(resetting_gateway)
async def test_a_gateway_that_does_not_listen_yet_refuses(both, observed):
    both.mesh2.set_up(observed)
    await both.until(lambda: "lastDisconnectStatus" in both.mesh2.entry().get("watch", ()))
    captured = observed("healthy/objects/mesh2-servicemeshpeer-mesh1.json")["status"]["discoveryStatus"]
    expected = same_address(both, captured["active"][0]["watch"]["lastDisconnectStatus"])
    assert both.mesh2.entry()["watch"]["lastDisconnectStatus"] == expected


@in_federation
async def test_an_import_rule_that_fits_nothing_empties_the_list(both, observed):
    mesh2 = both.mesh2
    rules = observed("faults/import-rule-nomatch/mesh2-imports-mesh1.json")["spec"]["importRules"]
    mesh2.api.edit(resources.IMPORTS, mesh2.key, importRules=rules)
    expected = observed("faults/import-rule-nomatch/mesh2-imports-mesh1.json")["status"]
    await both.until(lambda: mesh2.status(resources.IMPORTS) == expected)
    assert mesh2.state.federation["mesh1"].services == ()
    assert not [name for _, name in mesh2.objects() if name.startswith("federation-imports")]
    assert mesh2.entry()["watch"]["connected"] is True


@in_federation
async def test_a_mesh_without_members_imports_all_the_same(both, observed):
    mesh2 = both.mesh2
    mesh2.api.put(resources.SMMR, mesh2.object("default", status={"configuredMembers": []}))
    await both.until(lambda: not mesh2.state.members)
    mesh2.api.edit(resources.PEER, mesh2.key, remote={"servicePort": 15443, "discoveryPort": 8188, "x": 1})
    await both.until(both.connected)
    captured = observed("faults/member-removed-import/mesh2-imports-mesh1.json")
    assert mesh2.status(resources.IMPORTS) == captured["status"]


@asynccontextmanager
async def without_the_peers_root(observed, caplog):
    """Two meshes, mesh1 without the root of mesh2 and tired of looking for it."""
    async with pair(observed) as both:
        mesh1 = both.mesh1
        mesh1.set_up(observed)
        mesh1.api.remove(resources.CONFIG_MAP, (mesh1.namespace, "mesh2-ca-root-cert"))
        await both.until(lambda: NO_ROOT.format("giving up") in caplog.messages)
        yield both


@told_in(without_the_peers_root)
async def test_without_the_peers_root_the_peer_is_not_looked_at_until_it_comes(both, observed, caplog):
    mesh1 = both.mesh1
    assert caplog.messages.count(NO_ROOT.format("will retry")) == 5
    assert (mesh1.status(), mesh1.status(resources.EXPORTS), mesh1.objects()) == ({}, {}, {})
    both.mesh2.set_up(observed)
    mesh1.config_map("mesh2-ca-root-cert", **{"root-cert.pem": "root of mesh2"})
    await both.until(both.connected)
    assert mesh1.state.federation["mesh2"].bundles == {"mesh2.local": "root of mesh2"}


@in_federation
async def test_a_wrong_egress_gateway_stops_discovery_only(both, observed):
    mesh2, before = both.mesh2, both.mesh2.objects()
    services = mesh2.state.federation["mesh1"].services
    mesh2.api.edit(resources.PEER, mesh2.key, gateways={"egress": {"name": "nope"}})
    expected = shape(observed("faults/wrong-egress-name-import/mesh2-peer-mesh1.json")["status"])
    await both.until(lambda: settled(shape(mesh2.status())) == settled(expected))
    imports = observed("faults/wrong-egress-name-import/mesh2-imports-mesh1.json")["status"]
    assert mesh2.status(resources.IMPORTS) == imports
    led = {key: item for key, item in before.items() if "federation-imports" in key[1]}
    assert led
    assert led.items() <= mesh2.objects().items()
    assert mesh2.state.federation["mesh1"].services == services


def settled(status):
    """A status without the times of this pod's own first connections."""
    return {
        name: [{"watch": entry["watch"].get("lastDisconnectStatus")} for entry in entries or ()]
        for name, entries in status["discoveryStatus"].items()
        if entries
    }


def gateways_of_exports(mesh):
    return [name for kind, name in mesh.objects() if kind == "Gateway" and "discovery" not in name]


async def take_the_peer_away(both):
    """mesh1's peer is deleted, created anew, and the importer's watch cut, as the drain does."""
    mesh1 = both.mesh1
    peer = copy.deepcopy(mesh1.api.items(resources.PEER)[mesh1.key])
    mesh1.api.remove(resources.PEER, mesh1.key)
    await both.until(lambda: len(gateways_of_exports(mesh1)) == 1)
    both.way_out["mesh2"].cut()
    peer["metadata"]["uid"] = "another"
    mesh1.api.put(resources.PEER, {**peer, "status": {}})


@pytest.mark.parametrize("version", ["2.1.6", "2.2.13"])
def test_a_deleted_peer_that_still_gets_exports_freezes_its_federation(version, observed):
    asyncio.run(tell_of_a_frozen_federation(version, observed))


async def tell_of_a_frozen_federation(version, observed):
    async with federated(observed, version) as both:
        mesh2, imports = both.mesh2, both.mesh2.status(resources.IMPORTS)
        await take_the_peer_away(both)
        await both.until(lambda: mesh2.entry()["watch"].get("lastDisconnectStatus") == "400 Bad Request")
        assert both.mesh1.status() == {}
        assert mesh2.status(resources.IMPORTS) == imports
        await both.mesh1.restart(blind_seconds=0)
        await both.until(lambda: mesh2.entry()["watch"]["connected"])


@in_federation
async def test_an_importer_pushes_nothing_while_its_resync_is_answered_400(both, caplog):
    """Captured (taking-away.md, E4): a new Service came to a sidecar 108.7 s later, when the resync gave up."""
    mesh2, pushes = both.mesh2, []
    await mesh2.restart(retry_seconds=2)
    await both.until(lambda: mesh2.objects() and both.connected())
    await take_the_peer_away(both)
    await both.until(lambda: mesh2.entry()["watch"].get("lastDisconnectStatus") == "400 Bad Request")

    def pushed():
        known = [service.hostname for service in mesh2.state.services()]
        pushes.append(
            (
                "late.mesh2-bookinfo.svc.cluster.local" in known,
                any("resync failed: timeout" in text for text in caplog.messages),
            )
        )

    mesh2.state.on_publish(pushed)
    mesh2.api.edit(resources.IMPORTS, mesh2.key, domainSuffix="anything.local")  # which is what resyncs here
    await both.until(lambda: any("error handling /services/ request" in text for text in caplog.messages))
    late = copy.deepcopy(mesh2.api.items(resources.SERVICE)["mesh2-bookinfo", "details"])
    late["metadata"]["name"] = "late"
    mesh2.api.put(resources.SERVICE, late)
    await both.until(lambda: (True, True) in pushes)
    assert (True, False) not in pushes


@in_federation
async def test_a_peer_is_deleted_cleanly_once_nothing_is_exported(both):
    mesh1 = both.mesh1
    mesh1.api.remove(resources.EXPORTS, mesh1.key)
    await both.until(lambda: both.mesh2.status(resources.IMPORTS) == {"importedServices": []})
    mesh1.api.remove(resources.PEER, mesh1.key)
    await both.until(lambda: both.mesh2.entry()["list"] == "inactive")
    assert mesh1.objects() == {}


@in_federation
async def test_a_restarted_old_istiod_looks_for_the_root_in_vain_at_first(both, caplog):
    mesh1 = both.mesh1
    await mesh1.restart(blind_seconds=0.1)
    await both.until(lambda: NO_ROOT.format("giving up") in caplog.messages)
    assert caplog.messages.count(NO_ROOT.format("will retry")) == 5
    assert mesh1.objects() == {}
    await both.until(lambda: mesh1.objects() and both.mesh2.entry()["watch"]["connected"])


@told_in(partial(federated, version="2.2.13"))
async def test_a_restarted_newer_istiod_finds_the_root_at_once(both, caplog):
    await both.mesh1.restart()
    await both.until(both.mesh1.objects)
    assert not [text for text in caplog.messages if "will retry" in text]


@told_in(partial(federated, version="2.4.7"))
async def test_a_deleted_peer_of_a_newer_mesh_takes_its_exports_back(both):
    exports = both.mesh1.status(resources.EXPORTS)
    # Twice: another look at a peer that is leaving must not cut the time it has.
    both.mesh1.api.remove(resources.PEER, both.mesh1.key)
    both.mesh1.api.remove(resources.PEER, both.mesh1.key)
    await both.until(lambda: both.mesh2.status(resources.IMPORTS) == {"importedServices": []})
    await both.until(lambda: both.mesh2.entry()["list"] == "inactive")
    assert both.mesh1.objects() == {}
    assert both.mesh1.state.federation["mesh2"].bundles == {"mesh2.local": "root of mesh2"}
    assert both.mesh1.status(resources.EXPORTS) == exports
