"""The status views, held against captures of a real federation, healthy and broken."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from harness.product.status import (
    ControlPlaneStatus,
    MemberRollStatus,
    PeerStatus,
    exported_services,
    imported_services,
    parse_time,
)

BOUND = timedelta(minutes=7)
ISTIOD_1, ISTIOD_2 = "istiod-fed-export-56cf785495-ck7qs", "istiod-fed-import-7fbb9d5cd8-knvn6"
SHORTLY_AFTER = datetime(2026, 11, 22, 7, 28, tzinfo=UTC)


def peer(observed, path: str) -> PeerStatus:
    obj = observed(path)
    obj.setdefault("metadata", {"name": "peer"})
    return PeerStatus.of(obj)


def test_a_healthy_peer_has_no_problem_despite_its_old_disconnect_status(observed):
    status = peer(observed, "healthy/objects/mesh2-servicemeshpeer-mesh1.json")
    assert "connection refused" in status.views[0].watch.last_disconnect_status
    assert status.watch_problem(ISTIOD_2, SHORTLY_AFTER, BOUND) is None
    assert status.missing_remotes(["10.201.0.4"]) == []


def test_an_inbound_connection_alone_is_not_a_connected_peer(observed):
    status = peer(observed, "faults/ingress-down-export/mesh2-peer-mesh1.json")
    problem = status.watch_problem(ISTIOD_2, SHORTLY_AFTER, BOUND)
    assert "own watch is not connected, last answer: 503 Service Unavailable" in problem
    assert "the other mesh's watch on us is connected" in problem


def test_a_connected_watch_whose_istiod_is_gone_is_stale(observed):
    status = peer(observed, "faults/istiod-export-down/mesh1-peer-mesh2.json")
    later = parse_time("2026-11-22T07:45:00Z")
    assert status.views[0].watch.connected
    assert "stale" in status.watch_problem(ISTIOD_1, later, BOUND)


def test_a_watch_that_connected_after_its_last_full_sync_has_not_read_the_list(observed):
    status = peer(observed, "healthy/objects/mesh2-servicemeshpeer-mesh1.json")
    (seen,) = status.views
    late = seen.watch.last_full_sync + timedelta(seconds=1)
    behind = replace(status, views=(replace(seen, watch=replace(seen.watch, last_attempt=late)),))
    problem = behind.watch_problem(ISTIOD_2, SHORTLY_AFTER, BOUND)
    assert problem.endswith("own watch is connected since 07:26:58Z, but its last full sync is older, of 07:26:57Z")
    same = replace(status, views=(replace(seen, watch=replace(seen.watch, last_attempt=seen.watch.last_full_sync)),))
    assert same.watch_problem(ISTIOD_2, SHORTLY_AFTER, BOUND) is None


def test_a_disconnected_remote_is_missing_and_a_pod_that_is_gone_is_named(observed):
    status = peer(observed, "faults/egress-down-import/mesh1-peer-mesh2.json")
    assert status.missing_remotes(["10.202.0.4"]) == ["10.202.0.4"]
    assert "not in discoveryStatus" in status.watch_problem("istiod-new", SHORTLY_AFTER, BOUND)


def test_remotes_are_the_union_over_pods_and_one_without_source_stands_for_any():
    entries = [
        {"pod": "a", "watch": {"connected": True}, "remotes": [{"source": "10.0.0.1", "connected": True}]},
        {"pod": "b", "watch": {"connected": True}, "remotes": [{"connected": True}]},
    ]
    status = PeerStatus.of({"metadata": {"name": "p"}, "status": {"discoveryStatus": {"active": entries}}})
    assert status.missing_remotes(["10.0.0.1"]) == []
    assert status.missing_remotes(["10.0.0.1", "10.0.0.2"]) == []
    assert status.missing_remotes(["10.0.0.2", "10.0.0.3"]) == ["10.0.0.3"]


@pytest.mark.parametrize(("fresh_in", "connected"), [("active", True), ("inactive", False)])
def test_a_pod_listed_twice_is_judged_by_its_newest_sync(fresh_in, connected):
    old = {"pod": "a", "watch": {"connected": not connected, "lastFullSync": "2026-11-22T07:00:00Z"}}
    new = {"pod": "a", "watch": {"connected": connected, "lastFullSync": "2026-11-22T07:27:30Z"}}
    groups = {"active": [old], "inactive": [old], fresh_in: [new]}
    status = PeerStatus.of({"metadata": {"name": "p"}, "status": {"discoveryStatus": groups}})
    assert len(status.views) == 1
    assert (status.watch_problem("a", SHORTLY_AFTER, BOUND) is None) is connected


@pytest.mark.parametrize("status", [None, {}, {"discoveryStatus": {"active": None}}])
def test_an_empty_status_says_that_the_peer_was_never_processed(status):
    view = PeerStatus.of({"metadata": {"name": "p"}, "status": status})
    assert "has not processed" in view.watch_problem("istiod", SHORTLY_AFTER, BOUND)


def test_a_watch_that_never_synced_is_a_problem_even_when_connected():
    entry = {"pod": "a", "watch": {"connected": True, "lastFullSync": None}}
    status = PeerStatus.of({"metadata": {"name": "p"}, "status": {"discoveryStatus": {"active": [entry]}}})
    assert "no full sync" in status.watch_problem("a", SHORTLY_AFTER, BOUND)


def test_exports_and_imports_are_read_with_their_local_names(observed):
    exports = exported_services(observed("healthy/objects/mesh1-exportedserviceset-mesh2.json"))
    imports = imported_services(observed("healthy/objects/mesh2-importedserviceset-mesh1.json"))
    assert {entry.hostname.split(".")[0] for entry in exports} == {"mongodb", "ratings"}
    assert {e.exported_name for e in exports} == {e.exported_name for e in imports}


def test_an_offered_service_that_no_rule_takes_is_not_imported():
    empty = {"exportedName": "a.b.svc.c-exports.local", "localService": {"hostname": "", "name": "", "namespace": ""}}
    assert imported_services({"status": {"importedServices": [empty]}}) == ()
    assert imported_services({"status": {}}) is None


def test_control_plane_and_member_roll_of_the_capture_are_ready(observed):
    control_plane, roll = observed("healthy/objects/mesh1-smcp-smmr.json")["items"]
    assert ControlPlaneStatus.of(control_plane).is_ready
    assert ControlPlaneStatus.of(control_plane).chart_version == "2.1.6"
    assert MemberRollStatus.of(roll).configured == ("mesh1-bookinfo",)


def test_a_ready_condition_about_an_older_generation_is_not_ready(observed):
    control_plane = observed("healthy/objects/mesh1-smcp-smmr.json")["items"][0]
    control_plane["metadata"]["generation"] += 1
    status = ControlPlaneStatus.of(control_plane)
    assert not status.is_ready
    assert "older generation" in str(status)
