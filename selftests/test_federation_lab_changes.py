"""What happens between two meshes when something changes; what the status remembers; other versions."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta

from lab import resources
from lab.istiod.federation.status import PeerStatus, discovery_status
from lab.istiod.federation.watch import Backoff
from selftests.support.two_meshes import federated, pair, run

RATINGS = "ratings.bookinfo.svc.mesh2-exports.local"
BOOKINFO = "mesh1-bookinfo"


def imported_names(mesh):
    return [service["exportedName"] for service in mesh.status(resources.IMPORTS).get("importedServices", ())]


def look_at_the_peer(mesh):
    mesh.api.put(resources.PEER, mesh.api.items(resources.PEER)[mesh.key])


def test_a_new_service_is_told_at_once_and_leaves_its_mark(observed):
    async def scenario():
        async with federated(observed) as both:
            mesh1 = both.mesh1
            assert "lastEvent" not in mesh1.entry()["remotes"][0]
            rules = [*mesh1.api.items(resources.EXPORTS)[mesh1.key]["spec"]["exportRules"]]
            rules.append({"type": "NameSelector", "nameSelector": {"name": "late", "alias": {"namespace": "bookinfo"}}})
            mesh1.api.edit(resources.EXPORTS, mesh1.key, exportRules=rules)
            late = copy.deepcopy(mesh1.api.items(resources.SERVICE)[BOOKINFO, "details"])
            late["metadata"]["name"] = "late"
            mesh1.api.put(resources.SERVICE, late)
            await both.until(lambda: "late.bookinfo.svc.mesh2-exports.local" in imported_names(both.mesh2))
            await both.until(lambda: "lastEvent" in mesh1.entry()["remotes"][0])
            assert "lastEvent" not in both.mesh2.entry()["watch"]
            mesh1.api.remove(resources.SERVICE, (BOOKINFO, "late"))
            await both.until(lambda: "late.bookinfo.svc.mesh2-exports.local" not in imported_names(both.mesh2))

    run(scenario())


def test_services_of_namespaces_outside_the_mesh_are_not_exported(observed):
    async def scenario():
        async with federated(observed) as both:
            mesh1 = both.mesh1
            mesh1.api.put(resources.SMMR, mesh1.object("default", status={"configuredMembers": []}))
            await both.until(lambda: mesh1.status(resources.EXPORTS) == {"exportedServices": []})
            await both.until(lambda: both.mesh2.status(resources.IMPORTS) == {"importedServices": []})

    run(scenario())


def test_a_service_that_is_not_for_the_control_plane_stays_home(observed):
    async def scenario():
        async with federated(observed) as both:
            private = copy.deepcopy(both.mesh1.api.items(resources.SERVICE)[BOOKINFO, "ratings"])
            private["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
            both.mesh1.api.put(resources.SERVICE, private)
            await both.until(lambda: imported_names(both.mesh2) == ["mongodb.bookinfo.svc.mesh2-exports.local"])

    run(scenario())


def test_a_watch_that_breaks_comes_back_and_remembers_it(observed):
    async def scenario():
        async with federated(observed) as both:
            both.way_out["mesh2"].cut()
            await both.until(lambda: both.mesh2.entry()["list"] == "inactive")
            await both.until(both.connected)
            watch = both.mesh2.entry()["watch"]
            assert watch["connected"] is True
            assert watch["lastDisconnectStatus"] == "200 OK"
            assert "lastDisconnect" in watch

    run(scenario())


def test_a_new_root_holds_from_the_next_look_at_the_peer_on(observed):
    async def scenario():
        async with federated(observed) as both:
            mesh2 = both.mesh2
            mesh2.config_map("mesh1-ca-root-cert", **{"root-cert.pem": "another root"})
            assert mesh2.state.federation["mesh1"].bundles == {"mesh1.local": "root of mesh1"}
            look_at_the_peer(mesh2)
            await both.until(lambda: mesh2.state.federation["mesh1"].bundles == {"mesh1.local": "another root"})
            mesh2.api.edit(resources.PEER, mesh2.key, security={"trustDomain": "mesh2.local"})
            await both.until(lambda: mesh2.state.federation["mesh1"].bundles == {})

    run(scenario())


def test_a_set_for_nobody_gets_no_status(observed):
    async def scenario():
        async with federated(observed) as both:
            lost = both.mesh1.object("mesh9", spec={"exportRules": [{"type": "NameSelector", "nameSelector": {}}]})
            both.mesh1.api.put(resources.EXPORTS, lost)
            both.way_out["mesh2"].cut()
            await both.until(lambda: both.mesh2.entry()["list"] == "inactive")
            await both.until(both.connected)
            assert "status" not in both.mesh1.api.items(resources.EXPORTS)[both.mesh1.namespace, "mesh9"]

    run(scenario())


def test_a_dead_istiods_entry_is_dropped_by_the_leader(observed):
    async def scenario():
        async with pair(observed) as both:
            for mesh in (both.mesh1, both.mesh2):
                mesh.set_up(observed)
            dead = {"pod": "istiod-dead", "watch": {"connected": True, "lastConnected": "2026-11-22T07:26:19Z"}}
            peer = copy.deepcopy(both.mesh1.api.items(resources.PEER)[both.mesh1.key])
            both.mesh1.api.put(resources.PEER, {**peer, "status": {"discoveryStatus": {"active": [dead]}}})
            await both.until(both.connected)
            pods = [entry["pod"] for entry in both.mesh1.status()["discoveryStatus"]["active"]]
            assert pods == [both.mesh1.state.pod_name]

    run(scenario())


def test_two_istiods_keep_an_entry_each_and_the_remote_sees_both(observed):
    async def scenario():
        async with federated(observed) as both:
            second = both.mesh1.add_istiod()

            def pods():
                entries = both.mesh1.status()["discoveryStatus"].get("active", ())
                return [entry["pod"] for entry in entries if "lastFullSync" in entry["watch"]]

            def sources():
                return [remote["source"] for remote in both.mesh2.entry()["remotes"] if "lastFullSync" in remote]

            both_pods = [both.mesh1.state.pod_name, second.pod_name]
            await both.until(lambda: pods() == both_pods)
            await both.until(lambda: sources() == sorted([both.mesh1.pod_ip, second.pod_ip]))
            exports = observed("healthy/objects/mesh1-exportedserviceset-mesh2.json")["status"]
            assert both.mesh1.status(resources.EXPORTS) == exports

    run(scenario())


def test_a_set_made_anew_counts_in_the_old_version_only(observed):
    async def scenario(version, expected):
        async with federated(observed, version) as both:
            mesh2 = both.mesh2
            before = mesh2.status(resources.IMPORTS)
            anew = copy.deepcopy(mesh2.api.items(resources.IMPORTS)[mesh2.key])
            mesh2.api.remove(resources.IMPORTS, mesh2.key)
            look_at_the_peer(mesh2)
            await both.until(lambda: not mesh2.state.federation["mesh1"].services)
            anew["metadata"]["uid"] = "another"
            mesh2.api.put(resources.IMPORTS, {**anew, "status": {}})
            look_at_the_peer(mesh2)
            if expected:
                await both.until(lambda: mesh2.status(resources.IMPORTS) == before)
            else:
                await both.until(lambda: len(mesh2.status(resources.IMPORTS).get("importedServices", ())) == 2)
            assert bool(mesh2.state.federation["mesh1"].services) is expected

    run(scenario("2.1.6", True))
    run(scenario("2.4.7", False))


def test_federation_can_be_switched_off(observed, monkeypatch):
    monkeypatch.setenv("PILOT_ENABLE_FEDERATION", "false")

    async def scenario():
        async with pair(observed, open_ways=False) as both:
            both.mesh1.set_up(observed)
            await both.mesh1.ended()
            assert both.mesh1.state.federation == {}
            assert both.mesh1.status() == {}

    run(scenario())


def test_newer_versions_name_objects_otherwise_and_show_what_no_rule_wants(observed):
    async def scenario():
        async with federated(observed, "2.4.7") as both:
            mesh2 = both.mesh2
            assert ("Gateway", "fed-exp-ratings-mesh1-bookinfo-mesh2") in both.mesh1.objects()
            assert ("VirtualService", "fed-imp-ratings-bookinfo-mesh1") in mesh2.objects()
            rule = {"type": "NameSelector", "nameSelector": {"name": "mongodb", "namespace": "bookinfo"}}
            before = mesh2.status(resources.IMPORTS)
            mesh2.api.edit(resources.IMPORTS, mesh2.key, importRules=[rule])
            assert mesh2.status(resources.IMPORTS) == before
            # The edit is only looked at together with the peer.
            look_at_the_peer(mesh2)
            empty = {"exportedName": RATINGS, "localService": {"hostname": "", "name": "", "namespace": ""}}
            await both.until(lambda: mesh2.status(resources.IMPORTS)["importedServices"][1:] == [empty])

    run(scenario())


def test_a_peer_made_anew_does_not_get_the_status_of_the_old_one(observed, caplog):
    async def scenario():
        async with federated(observed) as both:
            mesh2 = both.mesh2
            find, anew = mesh2.api.find, copy.deepcopy(mesh2.api.items(resources.PEER)[mesh2.key])
            anew["metadata"]["uid"] = "another"
            del anew["status"]

            async def find_anew(kind, name, namespace=None):
                # Between the old peer's change and the look at what is to be written.
                if kind == resources.PEER:
                    mesh2.api.find = find
                    mesh2.api.remove(resources.PEER, mesh2.key)
                    mesh2.api.put(resources.PEER, anew)
                return await find(kind, name, namespace)

            mesh2.api.find = find_anew
            mesh2.api.remove(resources.CONFIG_MAP, (mesh2.namespace, "mesh1-ca-root-cert"))
            both.way_out["mesh2"].cut()
            await both.until(lambda: any("mesh2-system/mesh1 (giving up)" in text for text in caplog.messages))
            assert mesh2.status() == {}

    run(scenario())


def test_an_egress_gateway_on_its_way_out_is_no_endpoint_however_long_it_is_listed(observed):
    async def scenario():
        async with federated(observed) as both:
            mesh2 = both.mesh2

            def addresses():
                services = mesh2.state.federation["mesh1"].services
                return {
                    endpoint.address for service in services if not service.private for endpoint in service.endpoints
                }

            (old,) = addresses()
            pods = mesh2.api.items(resources.POD).values()
            pod = copy.deepcopy(next(pod for pod in pods if (pod.get("status") or {}).get("podIP") == old))
            pod["metadata"]["deletionTimestamp"] = "2026-11-22T07:26:19Z"
            mesh2.api.put(resources.POD, pod)
            both.way_out["mesh2"].cut()
            await both.until(lambda: addresses() == set())
            del pod["metadata"]["deletionTimestamp"]
            mesh2.api.put(resources.POD, pod)
            await both.until(lambda: addresses() == {old})

    run(scenario())


def test_a_watch_without_syncs_looks_an_hour_old_and_keeps_what_it_imported(observed):
    async def scenario():
        async with federated(observed) as both:
            mesh2 = both.mesh2
            before, services = mesh2.entry()["watch"], mesh2.state.federation["mesh1"].services

            def times(watch):
                return {name: datetime.fromisoformat(watch[name]) for name in ("lastConnected", "lastFullSync")}

            hour_ago = {name: time - timedelta(hours=1) for name, time in times(before).items()}
            mesh2.config_map("lab-knobs", **{"federation-sync": "stopped"})
            await both.until(lambda: times(mesh2.entry()["watch"]) == hour_ago)
            assert mesh2.entry()["watch"]["connected"] is True
            both.mesh1.api.edit(resources.EXPORTS, both.mesh1.key, exportRules=[])
            await both.until(lambda: both.mesh1.status(resources.EXPORTS) == {"exportedServices": []})
            assert mesh2.state.federation["mesh1"].services == services
            assert len(imported_names(mesh2)) == 2
            mesh2.api.remove(resources.CONFIG_MAP, (mesh2.namespace, "lab-knobs"))
            await both.until(lambda: mesh2.entry()["watch"] == before)

    run(scenario())


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
