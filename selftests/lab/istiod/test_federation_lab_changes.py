"""What happens between two meshes when something changes; what the status remembers; other versions."""

from __future__ import annotations

import copy
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from lab import resources
from lab.istiod.federation.status import PeerStatus, discovery_status
from lab.istiod.federation.watch import Backoff
from selftests.support.stories import told_in
from selftests.support.two_meshes import federated, in_federation, in_pair, pair

RATINGS = "ratings.bookinfo.svc.mesh2-exports.local"
BOOKINFO = "mesh1-bookinfo"
in_newer_federation = told_in(partial(federated, version="2.4.7"))


def imported_names(mesh):
    return [service["exportedName"] for service in mesh.status(resources.IMPORTS).get("importedServices", ())]


def look_at_the_peer(mesh):
    mesh.api.put(resources.PEER, mesh.api.items(resources.PEER)[mesh.key])


def details_named(mesh1, name):
    """Service `details` of mesh1 under another name."""
    made = copy.deepcopy(mesh1.api.items(resources.SERVICE)[BOOKINFO, "details"])
    made["metadata"]["name"] = name
    return made


def export_too(mesh1, name):
    """A rule more for a service of bookinfo."""
    rules = [*mesh1.api.items(resources.EXPORTS)[mesh1.key]["spec"]["exportRules"]]
    rules.append({"type": "NameSelector", "nameSelector": {"name": name, "alias": {"namespace": "bookinfo"}}})
    mesh1.api.edit(resources.EXPORTS, mesh1.key, exportRules=rules)


@in_federation
async def test_a_new_service_is_told_at_once_and_leaves_its_mark(both):
    mesh1, late = both.mesh1, "late.bookinfo.svc.mesh2-exports.local"
    assert "lastEvent" not in mesh1.entry()["remotes"][0]
    export_too(mesh1, "late")
    mesh1.api.put(resources.SERVICE, details_named(mesh1, "late"))
    await both.until(lambda: late in imported_names(both.mesh2))
    await both.until(lambda: "lastEvent" in mesh1.entry()["remotes"][0])
    assert "lastEvent" not in both.mesh2.entry()["watch"]
    mesh1.api.remove(resources.SERVICE, (BOOKINFO, "late"))
    await both.until(lambda: late not in imported_names(both.mesh2))


def imported_services(mesh):
    return [service.name for service in mesh.state.federation["mesh1"].services if not service.private]


@in_federation
async def test_an_edit_of_what_an_old_mesh_imports_waits_for_a_resync_or_any_event_of_the_watch(both):
    """Captured (taking-away.md, E2): nothing for 18 s up to the tick, nothing for 30 s until something was exported."""
    mesh1, mesh2 = both.mesh1, both.mesh2
    await mesh2.restart(import_seconds=3600)
    await both.until(lambda: mesh2.objects() and both.connected())
    before = imported_services(mesh2)
    rule = {"type": "NameSelector", "nameSelector": {"name": "mongodb", "namespace": "bookinfo"}}
    mesh2.api.edit(resources.IMPORTS, mesh2.key, importRules=[rule])
    assert len(imported_services(mesh2)) == 2
    assert imported_services(mesh2) == before
    leave_an_event(mesh1)
    await both.until(lambda: len(imported_services(mesh2)) == 1)
    assert RATINGS in str(mesh1.status(resources.EXPORTS)), "what is exported is no matter of who imports it"


def empty_the_roll(mesh):
    mesh.api.put(resources.SMMR, mesh.object("default", status={"configuredMembers": []}))


def delete_the_roll(mesh):
    mesh.api.remove(resources.SMMR, (mesh.namespace, "default"))


WITHOUT_MEMBERS = pytest.mark.parametrize("without_members", [empty_the_roll, delete_the_roll])


def leave_an_event(mesh1):
    """Something else is exported and withdrawn, so that both meshes look at everything again."""
    rules = [*mesh1.api.items(resources.EXPORTS)[mesh1.key]["spec"]["exportRules"]]
    rules.append({"type": "NameSelector", "nameSelector": {"name": "mesh2-ingress", "namespace": "mesh1-system"}})
    mesh1.api.edit(resources.EXPORTS, mesh1.key, exportRules=rules)


@WITHOUT_MEMBERS
@in_federation
async def test_what_left_an_old_mesh_stays_exported_as_captured(both, observed, without_members):
    mesh1, mesh2 = both.mesh1, both.mesh2
    without_members(mesh1)
    leave_an_event(mesh1)
    await both.until(lambda: "mesh2-ingress" in str(mesh1.status(resources.EXPORTS)))
    assert not mesh1.state.members
    exports = observed("faults/member-removed-export/mesh1-exports-mesh2.json")["status"]["exportedServices"]
    assert [export for export in mesh1.status(resources.EXPORTS)["exportedServices"] if export in exports] == exports
    imports = observed("faults/member-removed-export/mesh2-imports-mesh1.json")["status"]
    assert mesh2.status(resources.IMPORTS) == imports
    assert both.connected()


@WITHOUT_MEMBERS
@in_newer_federation
async def test_what_left_a_newer_mesh_is_not_exported(both, without_members):
    without_members(both.mesh1)
    await both.until(lambda: both.mesh1.status(resources.EXPORTS) == {"exportedServices": []})
    await both.until(lambda: both.mesh2.status(resources.IMPORTS) == {"importedServices": []})


@in_federation
async def test_a_service_that_is_not_for_the_control_plane_stays_home(both):
    private = copy.deepcopy(both.mesh1.api.items(resources.SERVICE)[BOOKINFO, "ratings"])
    private["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
    both.mesh1.api.put(resources.SERVICE, private)
    await both.until(lambda: imported_names(both.mesh2) == ["mongodb.bookinfo.svc.mesh2-exports.local"])


@in_federation
async def test_a_watch_that_breaks_comes_back_and_remembers_it(both):
    both.way_out["mesh2"].cut()
    await both.until(lambda: both.mesh2.entry()["list"] == "inactive")
    await both.until(both.connected)
    watch = both.mesh2.entry()["watch"]
    assert watch["connected"] is True
    assert watch["lastDisconnectStatus"] == "200 OK"
    assert "lastDisconnect" in watch


@in_federation
async def test_a_new_root_holds_from_the_next_look_at_the_peer_on(both):
    mesh2 = both.mesh2
    mesh2.config_map("mesh1-ca-root-cert", **{"root-cert.pem": "another root"})
    assert mesh2.state.federation["mesh1"].bundles == {"mesh1.local": "root of mesh1"}
    look_at_the_peer(mesh2)
    await both.until(lambda: mesh2.state.federation["mesh1"].bundles == {"mesh1.local": "another root"})
    mesh2.api.edit(resources.PEER, mesh2.key, security={"trustDomain": "mesh2.local"})
    await both.until(lambda: mesh2.state.federation["mesh1"].bundles == {})


@in_federation
async def test_a_set_for_nobody_gets_no_status(both):
    lost = both.mesh1.object("mesh9", spec={"exportRules": [{"type": "NameSelector", "nameSelector": {}}]})
    both.mesh1.api.put(resources.EXPORTS, lost)
    both.way_out["mesh2"].cut()
    await both.until(lambda: both.mesh2.entry()["list"] == "inactive")
    await both.until(both.connected)
    assert "status" not in both.mesh1.api.items(resources.EXPORTS)[both.mesh1.namespace, "mesh9"]


@in_pair
async def test_a_dead_istiods_entry_is_dropped_by_the_leader(both, observed):
    for mesh in (both.mesh1, both.mesh2):
        mesh.set_up(observed)
    dead = {"pod": "istiod-dead", "watch": {"connected": True, "lastConnected": "2026-11-22T07:26:19Z"}}
    peer = copy.deepcopy(both.mesh1.api.items(resources.PEER)[both.mesh1.key])
    both.mesh1.api.put(resources.PEER, {**peer, "status": {"discoveryStatus": {"active": [dead]}}})
    await both.until(both.connected)
    pods = [entry["pod"] for entry in both.mesh1.status()["discoveryStatus"]["active"]]
    assert pods == [both.mesh1.state.pod_name]


def synced_pods(mesh):
    """The istiods whose entries in the status say that their watch has synced."""
    entries = mesh.status()["discoveryStatus"].get("active", ())
    return [entry["pod"] for entry in entries if "lastFullSync" in entry["watch"]]


@in_newer_federation
async def test_two_istiods_keep_an_entry_each_and_the_remote_sees_both(both, observed):
    mesh1, second = both.mesh1, both.mesh1.add_istiod()

    def sources():
        return [remote["source"] for remote in both.mesh2.entry()["remotes"] if "lastFullSync" in remote]

    await both.until(lambda: synced_pods(mesh1) == [mesh1.state.pod_name, second.pod_name])
    await both.until(lambda: sources() == sorted([mesh1.pod_ip, second.pod_ip]))
    exports = observed("healthy/objects/mesh1-exportedserviceset-mesh2.json")["status"]
    assert mesh1.status(resources.EXPORTS) == exports


async def set_made_anew(both):
    """mesh2's set is deleted, and made again with another uid and no status; gives the status it had."""
    mesh2 = both.mesh2
    before = mesh2.status(resources.IMPORTS)
    anew = copy.deepcopy(mesh2.api.items(resources.IMPORTS)[mesh2.key])
    mesh2.api.remove(resources.IMPORTS, mesh2.key)
    look_at_the_peer(mesh2)
    await both.until(lambda: not mesh2.state.federation["mesh1"].services)
    anew["metadata"]["uid"] = "another"
    mesh2.api.put(resources.IMPORTS, {**anew, "status": {}})
    look_at_the_peer(mesh2)
    return before


@in_federation
async def test_a_set_made_anew_counts_in_the_old_version(both):
    before = await set_made_anew(both)
    await both.until(lambda: both.mesh2.status(resources.IMPORTS) == before)
    assert both.mesh2.state.federation["mesh1"].services


@in_newer_federation
async def test_a_set_made_anew_does_not_count_in_newer_versions(both):
    await set_made_anew(both)
    await both.until(lambda: len(imported_names(both.mesh2)) == 2)
    assert not both.mesh2.state.federation["mesh1"].services


@asynccontextmanager
async def switched_off(observed, monkeypatch):
    """Two meshes whose istiods were told to do without federation."""
    monkeypatch.setenv("PILOT_ENABLE_FEDERATION", "false")
    async with pair(observed, open_ways=False) as both:
        yield both


@told_in(switched_off)
async def test_federation_can_be_switched_off(both, observed):
    both.mesh1.set_up(observed)
    await both.mesh1.ended()
    assert both.mesh1.state.federation == {}
    assert both.mesh1.status() == {}


@in_newer_federation
async def test_newer_versions_name_objects_otherwise(both):
    assert ("Gateway", "fed-exp-ratings-mesh1-bookinfo-mesh2") in both.mesh1.objects()
    assert ("VirtualService", "fed-imp-ratings-bookinfo-mesh1") in both.mesh2.objects()


@in_newer_federation
async def test_newer_versions_show_what_no_rule_wants(both):
    mesh2 = both.mesh2
    rule = {"type": "NameSelector", "nameSelector": {"name": "mongodb", "namespace": "bookinfo"}}
    before = mesh2.status(resources.IMPORTS)
    mesh2.api.edit(resources.IMPORTS, mesh2.key, importRules=[rule])
    assert mesh2.status(resources.IMPORTS) == before
    # The edit is only looked at together with the peer.
    look_at_the_peer(mesh2)
    empty = {"exportedName": RATINGS, "localService": {"hostname": "", "name": "", "namespace": ""}}
    await both.until(lambda: mesh2.status(resources.IMPORTS)["importedServices"][1:] == [empty])


@in_newer_federation
async def test_newer_versions_go_on_showing_what_no_rule_wanted_once_it_is_withdrawn(both):
    mesh1, mesh2 = both.mesh1, both.mesh2
    rules = [*mesh1.api.items(resources.EXPORTS)[mesh1.key]["spec"]["exportRules"]]
    unwanted = {"name": "details", "namespace": BOOKINFO, "alias": {"namespace": "elsewhere"}}
    mesh1.api.edit(
        resources.EXPORTS, mesh1.key, exportRules=[*rules, {"type": "NameSelector", "nameSelector": unwanted}]
    )
    await both.until(lambda: "details.elsewhere.svc.mesh2-exports.local" in imported_names(mesh2))
    listed = mesh2.status(resources.IMPORTS)
    mesh1.api.edit(resources.EXPORTS, mesh1.key, exportRules=rules[1:])
    await both.until(lambda: len(imported_names(mesh2)) == 2)
    assert mesh2.status(resources.IMPORTS)["importedServices"][0] == listed["importedServices"][0]


def make_the_peer_anew_before_it_is_written(mesh):
    """Another peer takes its place between the old one's change and the look at what is to be written."""
    find, anew = mesh.api.find, copy.deepcopy(mesh.api.items(resources.PEER)[mesh.key])
    anew["metadata"]["uid"] = "another"
    del anew["status"]

    async def find_anew(kind, name, namespace=None):
        if kind == resources.PEER:
            mesh.api.find = find
            mesh.api.remove(resources.PEER, mesh.key)
            mesh.api.put(resources.PEER, anew)
        return await find(kind, name, namespace)

    mesh.api.find = find_anew


@in_federation
async def test_a_peer_made_anew_does_not_get_the_status_of_the_old_one(both, caplog):
    mesh2 = both.mesh2
    make_the_peer_anew_before_it_is_written(mesh2)
    mesh2.api.remove(resources.CONFIG_MAP, (mesh2.namespace, "mesh1-ca-root-cert"))
    both.way_out["mesh2"].cut()
    await both.until(lambda: any("mesh2-system/mesh1 (giving up)" in text for text in caplog.messages))
    assert mesh2.status() == {}


def egress_addresses(mesh2):
    """The endpoints of the services that mesh2 imported."""
    services = mesh2.state.federation["mesh1"].services
    return {endpoint.address for service in services if not service.private for endpoint in service.endpoints}


def mark_pod(mesh, address, **meta):
    """Sets fields of the metadata of the pod with this address; None takes one away."""
    pods = mesh.api.items(resources.POD).values()
    pod = copy.deepcopy(next(pod for pod in pods if (pod.get("status") or {}).get("podIP") == address))
    pod["metadata"] = {name: value for name, value in {**pod["metadata"], **meta}.items() if value is not None}
    mesh.api.put(resources.POD, pod)


@in_federation
async def test_an_egress_gateway_on_its_way_out_is_no_endpoint_however_long_it_is_listed(both):
    mesh2 = both.mesh2
    (old,) = egress_addresses(mesh2)
    mark_pod(mesh2, old, deletionTimestamp="2026-11-22T07:26:19Z")
    both.way_out["mesh2"].cut()
    await both.until(lambda: egress_addresses(mesh2) == set())
    mark_pod(mesh2, old, deletionTimestamp=None)
    await both.until(lambda: egress_addresses(mesh2) == {old})


def times(watch):
    return {name: datetime.fromisoformat(watch[name]) for name in ("lastConnected", "lastFullSync")}


async def stop_syncs(both):
    """mesh2's watch does no more than look as it was, an hour older."""
    watch = both.mesh2.entry()["watch"]
    hour_ago = {name: time - timedelta(hours=1) for name, time in times(watch).items()}
    both.mesh2.config_map("lab-knobs", **{"federation-sync": "stopped"})
    await both.until(lambda: times(both.mesh2.entry()["watch"]) == hour_ago)


@in_federation
async def test_a_watch_without_syncs_looks_an_hour_old_until_it_has_them_again(both):
    mesh2, before = both.mesh2, both.mesh2.entry()["watch"]
    await stop_syncs(both)
    assert mesh2.entry()["watch"]["connected"] is True
    mesh2.api.remove(resources.CONFIG_MAP, (mesh2.namespace, "lab-knobs"))
    await both.until(lambda: mesh2.entry()["watch"] == before)


@in_federation
async def test_a_watch_without_syncs_keeps_what_it_imported(both):
    mesh1, mesh2 = both.mesh1, both.mesh2
    services = mesh2.state.federation["mesh1"].services
    await stop_syncs(both)
    mesh1.api.edit(resources.EXPORTS, mesh1.key, exportRules=[])
    await both.until(lambda: mesh1.status(resources.EXPORTS) == {"exportedServices": []})
    assert mesh2.state.federation["mesh1"].services == services
    assert len(imported_names(mesh2)) == 2


class Clock:
    def __init__(self):
        self.time = datetime(2026, 11, 22, 7, 26, 19, tzinfo=UTC)

    def __call__(self):
        return self.time

    def forward(self, **passed):
        self.time += timedelta(**passed)


def test_a_remote_that_left_is_forgotten_after_five_minutes():
    clock = Clock()
    status = PeerStatus("istiod-1", lambda: None, clock)
    status.remote_connected("10.201.0.19")
    status.remote_connected("10.201.0.4")
    status.remote_disconnected("10.201.0.4")
    clock.forward(minutes=5)
    assert [remote["source"] for remote in status.render()["remotes"]] == ["10.201.0.19", "10.201.0.4"]
    clock.forward(seconds=1)
    assert [remote["source"] for remote in status.render()["remotes"]] == ["10.201.0.19"]


def test_a_poll_without_a_watch_makes_no_remote():
    status = PeerStatus("istiod-1", lambda: None)
    status.remote_full_sync("10.201.0.4")
    assert "remotes" not in status.render()
    status.remote_connected("10.201.0.4")
    status.remote_disconnected("10.201.0.4")
    status.remote_full_sync("10.201.0.4")
    assert "lastFullSync" not in status.render()["remotes"][0]


def test_a_second_stream_of_a_remote_keeps_it_connected():
    status = PeerStatus("istiod-1", lambda: None)
    status.remote_connected("10.201.0.4")
    status.remote_connected("10.201.0.4")
    status.remote_disconnected("10.201.0.4")
    assert status.render()["remotes"][0]["connected"] is True


def test_every_istiod_keeps_to_its_own_entry():
    other = {"pod": "istiod-a", "watch": {"connected": True}}
    own = {"pod": "istiod-b", "watch": {"connected": False}}
    current = {"discoveryStatus": {"active": [other, {**own, "watch": {"connected": True}}]}}
    assert discovery_status(current, own, None) == {"active": [other], "inactive": [own]}
    assert discovery_status(current, own, frozenset({"istiod-b"})) == {"active": None, "inactive": [own]}


def test_attempts_come_more_and_more_seldom_within_bounds():
    backoff = Backoff()
    centre = 0.5
    for _ in range(20):
        assert centre * 0.5 <= backoff.next() <= centre * 1.5
        centre = min(centre * 1.5, 60)
    assert centre == 60
    backoff.reset()
    assert 0.25 <= backoff.next() <= 0.75
