"""Outages explained and judged: the captured upgrade from its record, and small stories of one change each."""

from __future__ import annotations

import random

import pytest

from harness.watch.budgets import DEFAULTS, Budget
from harness.watch.changes import Cause
from harness.watch.outages_file import document, headline, summary
from harness.watch.segments import Sample
from harness.watch.store import read_timeline
from harness.watch.timeline import FailedLine, Gap, Mark, Role, StateEvent, StreamFacts, Timeline
from harness.watch.verdict import FOREIGN_GATEWAY, Judgement, State, judge
from selftests.support.captured_upgrade import BEGIN, record_capture

LENGTH = 300.0
ROLES = {
    mesh: {
        "istio-ingressgateway": Role.ENTRY,
        f"{peer}-ingress": Role.INGRESS,
        f"{peer}-egress": Role.EGRESS,
        "istiod": Role.ISTIOD,
    }
    for mesh, peer in (("mesh1", "mesh2"), ("mesh2", "mesh1"))
}
FACTS = {"fresh": StreamFacts(20.0), "control": StreamFacts(20.0, crosses=False)}


def stream(*cuts, share=1.0, took=0.02):
    draws = random.Random(3)

    def good(at):
        return not any(start <= at < end for start, end in cuts) or draws.random() >= share

    return [Sample(n / 20, good(n / 20), took, "503") for n in range(round(LENGTH * 20))]


def story(fresh=(), control=(), states=(), facts=FACTS, **more):
    streams = {"fresh": stream(*fresh), "control": stream(*control)}
    known = [*controls(), *states]
    return Timeline(0.0, LENGTH, streams, facts, sorted(known, key=lambda one: one.at), roles=ROLES, **more)


def controls(release="2.5.1"):
    now = {"asked": f"v{release[:3]}", "installed": release, "ready": "True ComponentsReady"}
    return [state(0.0, "mesh2", "ServiceMeshControlPlane", "fed-import", None, now, first=True)]


def state(at, mesh, kind, name, was, now, first=False):
    return StateEvent(at, mesh, kind, name, f"{mesh}-system", was, now, first)


def replaced(mesh, workload, at, gone=3.0):
    """A pod's end and its successor's begin, as a rolling update shows them."""
    old, new = f"{workload}-1-a", f"{workload}-2-b"
    running = {"workload": workload, "ready": True, "terminating": False, "restarts": 0}
    return [
        state(0.0, mesh, "Pod", old, None, running, first=True),
        state(at - 1, mesh, "Pod", new, None, {**running, "ready": False}),
        state(at - 0.2, mesh, "Pod", new, {**running, "ready": False}, running),
        state(at, mesh, "Pod", old, running, {**running, "terminating": True}),
        state(at + gone, mesh, "Pod", old, {**running, "terminating": True}, None),
    ]


# The captured upgrade


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    directory = tmp_path_factory.mktemp("captured")
    record_capture(directory)
    return judge(read_timeline(directory))


def test_the_captured_upgrade_is_not_safe(captured):
    assert captured.state is State.NOT_SAFE
    assert headline(captured).startswith("not safe; longest interruption 242")


def test_its_lost_pages_come_of_the_announced_gateway_from_80_on(captured):
    (loss,) = captured.losses
    assert loss.cause == FOREIGN_GATEWAY
    assert loss.found.earliest - BEGIN == pytest.approx(80, abs=0.5)
    assert 0.10 < loss.found.interval[0] < loss.found.share < loss.found.interval[1] < 0.16
    assert "mesh1 announces 10.200.0.12:15443" in loss.evidence
    assert "mesh2 mesh1-egress dialled 10.200.0.12:15443, mesh2's own ingress, 12 times" in loss.evidence
    assert (loss.hop, loss.flag) == ("mesh2 mesh1-egress", "UF,URX")


def test_its_node_port_moved_at_245_and_nobody_came_in_from_then_on(captured):
    longest = max(captured.outages, key=lambda outage: outage.lasted)
    assert longest.start - BEGIN == pytest.approx(245, abs=0.5)
    assert longest.open_end
    assert longest.explained_by.cause is Cause.SERVICE_EDITED
    assert "30100 -> 32153" in str(longest.explained_by)
    assert longest.judgement is Judgement.OVER
    (moved,) = captured.differences
    assert (moved.at - BEGIN, moved.harms) == (245.0, True)


def test_its_watch_was_cut_for_13_seconds_by_the_new_istiod(captured):
    down = next(outage for outage in captured.outages if outage.mesh == "mesh2")
    assert (round(down.start - BEGIN), round(down.lasted)) == (63, 13)
    assert down.explained_by.cause is Cause.ISTIOD_REPLACED
    assert down.explained_by.mesh == "mesh1"
    assert down.judgement is Judgement.WITHIN
    others = [round(outage.start - BEGIN) for outage in captured.outages if outage.mesh == "mesh1"]
    assert others == [241, 263]


def test_its_meshes_reached_the_version_that_was_asked_for(captured):
    assert [(one.mesh, one.before, one.after, one.reached) for one in captured.versions] == [
        ("mesh1", "2.1.6", "2.2.13", True),
        ("mesh2", "2.1.6", "2.2.13", True),
    ]


def test_its_verdict_is_told_in_ten_lines_and_as_plain_data(captured):
    assert len(summary(captured)) <= 10
    told = document(captured)
    assert told["verdict"] == "not safe"
    assert told["degradations"][0]["after"] == pytest.approx(80, abs=0.5)
    assert told["outages"][-1]["to"]
    assert next(one for one in told["outages"] if one["to"] is None)["explained_by"]["cause"] == "service-edited"


# One change each


def test_a_clean_watch_is_safe_and_says_what_it_could_not_have_seen():
    found = judge(story())
    assert found.state is State.SAFE
    assert found.counts["fresh"].bound == pytest.approx(5.0e-4, rel=0.01)


def test_a_cut_that_nothing_explains_has_no_budget():
    found = judge(story(fresh=[(100, 100.3)]))
    (outage,) = found.outages
    assert (outage.judgement, outage.explained_by) == (Judgement.UNEXPLAINED, None)
    assert found.state is State.NOT_SAFE


def test_a_gateway_that_is_replaced_may_cut_for_a_second():
    states = replaced("mesh1", "mesh2-ingress", 100.0)
    short, long = (judge(story(fresh=[(100.1, end)], states=states)) for end in (100.8, 103.0))
    assert [outage.judgement for outage in short.outages] == [Judgement.WITHIN]
    assert [outage.judgement for outage in long.outages] == [Judgement.OVER]
    assert (short.state, long.state) == (State.SAFE, State.NOT_SAFE)
    assert "mesh1 mesh2-ingress" in str(short.outages[0].explained_by)


def test_what_was_not_on_the_way_explains_nothing():
    states = [*replaced("mesh2", "mesh1-ingress", 100.0), *replaced("mesh1", "mesh2-egress", 100.0)]
    assert judge(story(fresh=[(100.1, 100.8)], states=states)).state is State.NOT_SAFE
    states = replaced("mesh1", "mesh2-ingress", 100.0)
    assert judge(story(control=[(100.1, 100.8)], states=states)).state is State.NOT_SAFE
    states = replaced("mesh2", "wasm-cacher", 100.0)
    assert judge(story(fresh=[(100.1, 100.8)], states=states)).state is State.NOT_SAFE


def test_an_outage_before_its_change_is_not_explained_by_it():
    states = replaced("mesh2", "istio-ingressgateway", 100.0)
    assert judge(story(fresh=[(80.0, 80.5)], states=states)).state is State.NOT_SAFE
    assert judge(story(fresh=[(130.0, 130.5)], states=states)).state is State.NOT_SAFE


@pytest.mark.parametrize(
    ("release", "seconds", "state"),
    [("2.5.1", 50, State.SAFE), ("2.5.1", 70, State.NOT_SAFE), ("2.1.6", 70, State.SAFE)],
)
def test_a_stale_address_of_the_egress_gateway_lasts_until_the_next_resync(release, seconds, state):
    states = replaced("mesh2", "mesh1-egress", 100.0)
    timeline = story(fresh=[(100.0, 100.0 + seconds)], states=states)
    plane = controls(release)[0]
    known = [plane if one.kind == "ServiceMeshControlPlane" else one for one in timeline.states]
    timeline = Timeline(0.0, LENGTH, timeline.streams, timeline.facts, known, roles=ROLES)
    assert judge(timeline).state is state


def test_a_stale_address_may_be_dialled_first_when_the_pod_is_long_gone():
    states = replaced("mesh2", "mesh1-egress", 100.0)
    assert judge(story(fresh=[(140, 145)], states=states)).state is State.SAFE


def test_where_another_pod_is_there_a_stale_address_is_no_excuse():
    deployment = {"asked": 2, "ready": 2, "updated": 2, "generation": 1}
    two = state(0.0, "mesh2", "Deployment", "mesh1-egress", None, deployment, first=True)
    states = [*replaced("mesh2", "mesh1-egress", 100.0), two]
    assert judge(story(fresh=[(100.0, 110.0)], states=states)).state is State.NOT_SAFE


def test_a_mark_explains_and_still_allows_nothing_unless_a_budget_says_so():
    timeline = story(fresh=[(100.1, 100.8)], marks=[Mark(100.0, "drained node 3")])
    (outage,) = judge(timeline).outages
    assert (outage.judgement, outage.explained_by.what) == (Judgement.OVER, "drained node 3")
    budgets = [*DEFAULTS, Budget(Cause.MARK, ("fresh",), 1.0, text="drained")]
    assert judge(timeline, budgets).state is State.SAFE


def test_twelve_percent_for_good_are_found_with_their_share():
    timeline = story()
    streams = {**timeline.streams, "fresh": stream((100.0, LENGTH), share=0.12)}
    found = judge(Timeline(0.0, LENGTH, streams, FACTS, controls(), roles=ROLES))
    (loss,) = found.losses
    assert (found.state, loss.cause, found.outages) == (State.NOT_SAFE, "", [])
    assert loss.found.interval[0] < 0.12 < loss.found.interval[1]


def test_a_gateway_that_is_announced_is_no_cause_where_it_is_the_mesh_s_own():
    ingress = {"ports": {}, "addresses": ["10.0.0.1"], "type": "LoadBalancer"}
    states = [
        *controls(),
        state(0.0, "mesh1", "Service", "mesh2-ingress", None, ingress, first=True),
        state(90.0, "mesh1", "Discovery", "mesh2", {"gateways": []}, {"gateways": ["10.0.0.1:15443"]}),
    ]
    streams = {"fresh": stream((100.0, LENGTH), share=0.12)}
    found = judge(Timeline(0.0, LENGTH, streams, {"fresh": FACTS["fresh"]}, states, roles=ROLES))
    assert [loss.cause for loss in found.losses] == [""]


def test_an_outage_names_the_hop_and_the_flag_of_most_of_its_log_lines():
    line = FailedLine(100.2, "mesh2", "mesh1-egress", "UF,URX", "10.0.0.1:15443", "…")
    lines = [
        line,
        FailedLine(100.1, "mesh1", "mesh2-ingress", "UC", "", "…"),
        line,
        *[FailedLine(100.3, "mesh2", "productpage-v1", "500", "", "…")] * 5,
        *[FailedLine(150.0, "mesh1", "ratings-v1", "NR", "", "…")] * 5,
    ]
    (outage,) = judge(story(fresh=[(100, 100.5)], lines=lines)).outages
    assert (outage.hop, outage.flag) == ("mesh2 mesh1-egress", "UF,URX")


def test_who_must_be_refused_and_is_let_in_for_20_seconds_has_no_excuse():
    facts = {"plaintext": StreamFacts(0.1, crosses=False, refused=True)}
    samples = [Sample(10.0 * n, not 100 <= 10 * n < 120, 0.1, "accepted") for n in range(30)]
    states = sorted([*controls(), *replaced("mesh2", "istio-ingressgateway", 100.0)], key=lambda one: one.at)
    found = judge(Timeline(0.0, LENGTH, {"plaintext": samples}, facts, states, roles=ROLES))
    assert found.state is State.NOT_SAFE
    assert all(outage.judgement is Judgement.UNEXPLAINED for outage in found.outages)


# Versions


def plane(at, asked, installed, ready="True", first=False):
    now = {"asked": asked, "installed": installed, "ready": ready}
    return state(at, "mesh2", "ServiceMeshControlPlane", "fed-import", None, now, first)


@pytest.mark.parametrize(
    ("installed", "ready", "reached"), [("2.5.1", "True", True), ("2.4.7", "True", False), ("2.5.1", "False x", False)]
)
def test_a_version_that_was_asked_for_and_not_reached_is_not_safe(installed, ready, reached):
    states = [plane(100.0, "v2.5", "2.4.7", "False SpecUpdated"), plane(120.0, "v2.5", installed, ready)]
    found = judge(story(states=states))
    assert (found.versions[0].reached, found.state) == (reached, State.SAFE if reached else State.NOT_SAFE)


def test_proxies_that_are_others_than_the_gateways_are_named():
    def pod(name, workload, proxy, terminating=False):
        now = {"workload": workload, "proxy": proxy, "ready": True, "terminating": terminating}
        return state(0.0, "mesh2", "Pod", name, None, now, first=True)

    states = [
        pod("gateway", "mesh1-egress", "2.5.1"),
        pod("page", "productpage-v1", "2.4.7"),
        pod("details", "details-v1", "2.5.1"),
        pod("old", "details-v1", "2.4.7", terminating=True),
        pod("mongodb", "mongodb-v1", ""),
    ]
    (versions,) = judge(story(states=states)).versions
    assert versions.lagging == (("page", "2.4.7"),)
    assert "page (2.4.7)" in str(versions)


# What could not be watched


def test_a_time_in_which_nothing_could_be_seen_is_neither_an_outage_nor_all_well():
    found = judge(story(gaps=[Gap(100.0, 130.0, "the machine was asleep for 30 s")]))
    assert (found.outages, found.state) == ([], State.INCONCLUSIVE)
    assert "30 s not watched" in headline(found)


def test_probes_that_ended_because_the_machine_slept_are_no_outage():
    gap = Gap(100.0, 130.0, "the machine was asleep for 30 s")
    samples = [one for one in stream() if not 100 <= one.at < 130]
    late = Sample(99.99, False, 30.1, "no answer within 10 s")
    streams = {"fresh": [*samples, late], "control": stream()}
    found = judge(Timeline(0.0, LENGTH, streams, FACTS, controls(), gaps=[gap], roles=ROLES))
    assert found.outages == []


def test_an_outage_while_an_api_server_is_away_is_an_outage_all_the_same():
    found = judge(story(fresh=[(110, 112)], gaps=[Gap(100.0, 220.0, "no answer", "mesh1")]))
    assert [outage.judgement for outage in found.outages] == [Judgement.UNEXPLAINED]


def test_a_stream_that_sent_nothing_is_no_proof():
    timeline = story()
    streams = {"fresh": timeline.streams["fresh"], "control": []}
    assert judge(Timeline(0.0, LENGTH, streams, FACTS, controls(), roles=ROLES)).state is State.INCONCLUSIVE
    assert judge(Timeline(0.0, LENGTH, {}, {}, controls(), roles=ROLES)).state is State.INCONCLUSIVE


# What is not as it was


@pytest.mark.parametrize(
    ("kind", "name", "was", "now", "harms"),
    [
        ("ExportedServiceSet", "mesh2", {"services": ["a as b", "c as d"]}, {"services": ["a as b"]}, True),
        ("ExportedServiceSet", "mesh2", {"services": ["a as b"]}, {"services": ["a as b", "c as d"]}, False),
        ("Route", "istio-ingressgateway", {"hosts": ["bookinfo.example"]}, None, True),
        ("ConfigMap", "istio-ca-root-cert", {"roots": ["aa"]}, {"roots": ["bb"]}, True),
        ("ServiceMeshMemberRoll", "default", {"members": ["x", "y"]}, {"members": ["x"]}, True),
        ("Service", "mesh2-ingress", {"ports": {"15443": 30001}}, {"ports": {"15443": 30002}}, True),
        ("Service", "ratings", {"ports": {"9080": None}}, {"ports": {"9080": None}, "addresses": []}, False),
    ],
)
def test_what_is_lost_harms_and_what_is_new_does_not(kind, name, was, now, harms):
    states = [state(0.0, "mesh1", kind, name, None, was, first=True), state(100.0, "mesh1", kind, name, was, now)]
    found = judge(story(states=states))
    assert [difference.harms for difference in found.differences if difference.harms] == [True] * harms
    assert found.state is (State.NOT_SAFE if harms else State.SAFE)


def test_what_came_and_went_is_no_difference():
    here = {"hosts": ["bookinfo.example"]}
    states = [state(100.0, "mesh2", "Route", "r", None, here), state(110.0, "mesh2", "Route", "r", here, None)]
    assert judge(story(states=states)).differences == []


def test_a_watch_that_only_a_leaving_istiod_still_has_is_down():
    """Statuses list a pod that is gone as connected for a minute."""
    old, new = {"istiod-1-a": True}, {"istiod-1-a": True, "istiod-2-b": True}
    states = [
        *replaced("mesh2", "istiod", 100.0),
        state(0.0, "mesh2", "ServiceMeshPeer", "mesh1", None, {"watches": old}, first=True),
        state(107.0, "mesh2", "ServiceMeshPeer", "mesh1", {"watches": old}, {"watches": new}),
    ]
    (down,) = judge(story(states=states)).outages
    assert (down.stream, down.mesh, down.start, down.lasted) == ("watches", "mesh2", 100.0, 7.0)
    assert down.explained_by.cause is Cause.ISTIOD_REPLACED


def test_a_watch_that_does_not_come_back_is_over_its_budget():
    up, down = ({"watches": {"istiod-1-a": connected}} for connected in (True, False))
    states = [
        *replaced("mesh1", "istiod", 100.0),
        state(0.0, "mesh2", "ServiceMeshPeer", "mesh1", None, up, first=True),
        state(101.0, "mesh2", "ServiceMeshPeer", "mesh1", up, down),
    ]
    (outage,) = judge(story(states=states)).outages
    assert (outage.open_end, outage.judgement, outage.lasted) == (True, Judgement.OVER, 199.0)


def test_what_is_back_as_it_was_is_no_difference():
    here, gone = {"hosts": ["bookinfo.example"]}, {"hosts": []}
    states = [
        state(0.0, "mesh2", "Route", "r", None, here, first=True),
        state(100.0, "mesh2", "Route", "r", here, gone),
        state(110.0, "mesh2", "Route", "r", gone, here),
    ]
    assert judge(story(states=states)).differences == []
