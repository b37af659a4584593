"""More than one istiod in a mesh: on 2.1 only the one that leads federates; from 2.2 on each does."""

from __future__ import annotations

import re
from functools import partial

import aiohttp

from lab import resources
from selftests.support.stories import told_in
from selftests.support.two_meshes import federated, in_federation


def captured_complaints(observed):
    """What the second istiod of the capture said of peer east, as often as it likes."""
    lines = observed("topologies/j-more-than-one/2.1/istiod-lines.txt").split("# istiod ")[1]
    found = re.findall("Error processing west-mesh/east .*", lines)
    return {text.replace("west-mesh/east", "mesh1-system/mesh2").replace("east-ca", "mesh2-ca") for text in found}


def complaints(caplog):
    return {text for text in caplog.messages if text.startswith("Error processing")}


@in_federation
async def test_a_second_istiod_of_2_1_says_what_was_captured_and_knows_no_peer(both, observed, caplog):
    second, captured = both.mesh1.add_istiod(), captured_complaints(observed)
    await both.until(lambda: complaints(caplog) == captured)
    async with aiohttp.ClientSession() as session:
        url = f"https://{second.pod_ip}:8188/v1/services/mesh2"
        async with session.get(url, ssl=False) as answer:
            assert (answer.status, await answer.read()) == (400, b"")
    assert second.federation == {}
    assert [entry["pod"] for entry in entries(both.mesh1)] == [both.mesh1.state.pod_name]


def entries(mesh):
    """All that stands in the peer's status."""
    found = mesh.status()["discoveryStatus"]
    return [entry for name in ("active", "inactive") for entry in found.get(name) or ()]


@in_federation
async def test_when_the_leader_of_2_1_goes_federation_is_over_and_its_dead_pod_looks_connected(both, caplog):
    mesh1, leader = both.mesh1, both.mesh1.state.pod_name
    second = mesh1.add_istiod()
    await both.until(lambda: any("giving up" in text for text in complaints(caplog)))
    await mesh1.end_first()
    await both.until(lambda: both.mesh2.entry()["list"] == "inactive")
    assert [(entry["pod"], entry["watch"]["connected"]) for entry in entries(mesh1)] == [(leader, True)]
    assert second.federation == {}


@in_federation
async def test_a_second_istiod_of_2_1_that_comes_to_lead_meets_its_peers_at_the_next_look(both, caplog):
    mesh1, second = both.mesh1, both.mesh1.add_istiod()
    await both.until(lambda: any("giving up" in text for text in complaints(caplog)))
    await mesh1.end_first()
    await both.until(lambda: second.pod_name in mesh1.lock_holder())
    mesh1.api.put(resources.PEER, mesh1.api.items(resources.PEER)[mesh1.key])
    await both.until(lambda: "mesh2" in second.federation)


def listed(mesh):
    return [entry["pod"] for entry in entries(mesh)]


@told_in(partial(federated, version="2.2.13"))
async def test_an_istiod_that_is_new_in_front_of_others_is_listed_twice_until_the_next_event(both):
    """Captured on Kubernetes 1.20 (j-more-than-one, upgrade-2.1-to-2.2): not when it is the last of the list."""
    mesh1, first = both.mesh1, both.mesh1.state.pod_name
    await mesh1.restart(kubernetes_version="v1.20.2")
    await both.until(lambda: listed(mesh1) == [mesh1.state.pod_name] != [first])
    await both.until(both.connected)
    last, front = mesh1.add_istiod(3), []

    def counted():
        front.append(listed(mesh1).count(last.pod_name))
        return synced(mesh1, last)

    await both.until(counted)
    assert max(front) == 1
    newest = mesh1.add_istiod(0)
    await both.until(lambda: listed(mesh1).count(newest.pod_name) == 2)
    both.way_out["mesh1"].cut()
    await both.until(lambda: listed(mesh1) == [newest.pod_name, mesh1.state.pod_name, last.pod_name])


def synced(mesh, state):
    """Whether the watch of one of a mesh's istiods has synced."""
    return any("lastFullSync" in entry["watch"] for entry in entries(mesh) if entry["pod"] == state.pod_name)


@told_in(partial(federated, version="2.2.13"))
async def test_an_istiod_that_is_gone_stays_listed_for_a_while(both):
    """Captured: 50 s longer than its pod, active and connected."""
    mesh1, gone = both.mesh1, both.mesh1.state.pod_name
    await mesh1.restart(stale_seconds=3600)
    await both.until(lambda: synced(mesh1, mesh1.state))
    (old,) = [entry for entry in entries(mesh1) if entry["pod"] == gone]
    assert old["watch"]["connected"]
    await mesh1.restart(stale_seconds=0)
    await both.until(lambda: listed(mesh1) == [mesh1.state.pod_name])
