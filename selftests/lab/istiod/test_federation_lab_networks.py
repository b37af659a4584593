"""OSSM 2.2 names network gateways to its peers, their own addresses too, and half of all new connections are lost."""

from __future__ import annotations

import copy
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
import orjson
import pytest

from lab import resources
from lab.istiod.federation.versions import rules_for
from selftests.support.stories import told_in
from selftests.support.two_meshes import federated

INGRESS_1, INGRESS_2 = ("10.200.0.11", 15443), ("10.200.0.12", 15443)
in_22 = told_in(partial(federated, version="2.2.13"))
in_21 = told_in(federated)


@asynccontextmanager
async def asked_22(observed):
    """A federation of 2.2 and the answer of one of its meshes to the other."""
    async with federated(observed, "2.2.13") as both, aiohttp.ClientSession() as session:

        async def ask(mesh, pod_ip=None):
            async with session.get(
                f"https://{pod_ip or mesh.pod_ip}:8188/v1/services/{mesh.peer_name}", ssl=False
            ) as answer:
                return await answer.read()

        yield both, ask


def put_service(mesh, name="unwanted"):
    """A Service more in the application's namespace that nobody exports."""
    made = copy.deepcopy(mesh.api.items(resources.SERVICE)[f"{mesh.name}-bookinfo", "details"])
    made["metadata"]["name"] = name
    mesh.api.put(resources.SERVICE, made)


def ways(both):
    """Where mesh2's egress gateway goes to for what it imports."""
    private = (service for service in both.mesh2.state.federation["mesh1"].services if service.private)
    return {tuple((end.address, end.port) for end in service.endpoints) for service in private}


async def told_by(ask, mesh, pod_ip=None):
    """Network gateways that the mesh, or its istiod at this address, names to its peer."""
    message = orjson.loads(await ask(mesh, pod_ip))
    return [(item["hostname"], item["port"]) for item in message.get("networkGatewayEndpoints", ())]


@told_in(asked_22)
async def test_a_service_that_nobody_exports_has_the_importers_own_address_told_as_captured(scene, observed):
    (both, ask) = scene
    assert await told_by(ask, both.mesh1) == []
    put_service(both.mesh1)
    captured = observed("upgrade-2.1-to-2.2/mixed-v1-services-mesh2.json")
    answer = orjson.loads(await ask(both.mesh1))
    assert list(answer) == list(captured)
    assert {**answer, "checksum": 0} == {**captured, "checksum": 0}


@in_22
async def test_half_of_the_importers_ways_lead_to_itself_with_all_statuses_perfect(both):
    assert ways(both) == {(INGRESS_1,)}
    put_service(both.mesh1)
    await both.until(lambda: ways(both) == {(INGRESS_1, INGRESS_2)})
    assert both.connected()


@told_in(asked_22)
async def test_what_is_told_outlives_the_service_and_the_restart_of_one_istiod(scene):
    (both, ask) = scene
    put_service(both.mesh1)
    await both.until(lambda: ways(both) == {(INGRESS_1, INGRESS_2)})
    put_service(both.mesh2)
    both.mesh1.api.remove(resources.SERVICE, ("mesh1-bookinfo", "unwanted"))
    assert await told_by(ask, both.mesh1) == [INGRESS_2]
    assert await told_by(ask, both.mesh2) == [INGRESS_1, INGRESS_2]
    await both.mesh1.restart()
    await both.until(lambda: ways(both) == {(INGRESS_1,)})
    put_service(both.mesh1)
    assert await told_by(ask, both.mesh1) == [INGRESS_2, INGRESS_1, INGRESS_2]


@told_in(asked_22)
async def test_an_istiod_that_starts_beside_another_one_tells_it_too(scene):
    (both, ask) = scene
    second = both.mesh1.add_istiod()

    def synced():
        entries = both.mesh1.status()["discoveryStatus"]["active"] or ()
        return any(entry["pod"] == second.pod_name and "lastFullSync" in entry["watch"] for entry in entries)

    await both.until(synced)
    assert await told_by(ask, both.mesh1, second.pod_ip) == [INGRESS_2]
    assert await told_by(ask, both.mesh1) == []


@in_21
async def test_2_1_tells_none_but_by_the_knob(both):
    put_service(both.mesh1)
    assert ways(both) == {(INGRESS_1,)}
    both.mesh1.config_map("lab-knobs", **{"network-gateways": "announced"})
    await both.until(lambda: ways(both) == {(INGRESS_1, INGRESS_2)})
    both.mesh1.api.remove(resources.CONFIG_MAP, (both.mesh1.namespace, "lab-knobs"))
    await both.until(lambda: ways(both) == {(INGRESS_1,)})


@pytest.mark.parametrize(("version", "tells"), [("2.1.6", False), ("2.2.0", True), ("2.3.2", True), ("2.3.3", False)])
def test_the_defect_is_in_the_product_from_2_2_until_2_3_3(version, tells):
    assert rules_for(version).names_all_gateways is tells
