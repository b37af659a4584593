"""What is recorded of objects as they change, what is kept of each kind, and when an API server could not be asked."""

from __future__ import annotations

import pytest

from harness.cluster.kinds import CONFIG_MAP, CONTROL_PLANE, DEPLOYMENT, EXPORTS, PEER, POD, SERVICE
from harness.product.envoy import parse_access_line
from harness.product.mesh import MESH1
from harness.split.log_following import _Seen
from harness.watch.failed_lines import is_failure
from harness.watch.object_views import view, workload_of
from harness.watch.state_recorder import Place, Sight, _Known
from selftests.support.captured_upgrade import CAPTURE


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def deployment(name, ready, version):
    return {"metadata": {"name": name, "resourceVersion": version}, "status": {"readyReplicas": ready}}


@pytest.fixture
def known():
    written, changed, clock = [], [], Clock()
    place = Place(MESH1, DEPLOYMENT, "mesh1-system")
    found = _Known(place, clock, written.append, lambda *what: changed.append(what))
    return found, written, changed, clock


def test_what_is_found_at_first_is_no_change(known):
    found, written, changed, _ = known
    found.look([deployment("a", 1, "1"), deployment("b", 1, "2")])
    assert [(line["name"], line["was"], line.get("first")) for line in written] == [
        ("a", None, True),
        ("b", None, True),
    ]
    assert changed == []


def test_what_becomes_different_comes_or_goes_is_one_line_each(known):
    found, written, changed, clock = known
    found.look([deployment("a", 1, "1"), deployment("b", 1, "2")])
    del written[:]
    clock.now = 107.0
    found.look([deployment("a", 0, "3"), deployment("b", 1, "4")])
    found.look([deployment("a", 0, "3"), deployment("c", 1, "5")])
    assert [(line["t"], line["name"], line["was"] and line["was"]["ready"]) for line in written] == [
        (107.0, "a", 1),
        (107.0, "b", 1),
        (107.0, "c", None),
    ]
    assert [line["is"] and line["is"]["ready"] for line in written] == [0, None, 1]
    assert [name for _, _, name in changed] == ["a", "b", "c"]


def test_what_comes_again_under_its_name_is_seen(known):
    found, written, _, _ = known
    found.look([deployment("a", 1, "1")])
    found.look([])
    found.look([deployment("a", 1, "1")])
    assert [line["is"] is None for line in written] == [False, True, False]


# When an API server could not be asked


@pytest.fixture
def sight():
    clock, gaps, told = Clock(), [], []
    return Sight("mesh1", clock, gaps.append, told.append), clock, gaps, told


def test_a_gap_lasts_from_the_last_answer_to_the_next_one_of_all_who_ask(sight):
    found, clock, gaps, told = sight
    found.well("beat")
    clock.now = 104.0
    found.trouble("beat", "no answer")
    found.trouble("pods", "refused")
    clock.now = 220.0
    found.well("pods")
    assert gaps == []
    clock.now = 224.0
    found.well("beat")
    assert gaps == [{"from": 100.0, "to": 224.0, "mesh": "mesh1", "why": "no answer"}]
    assert [("cannot be seen" in text, "seen again" in text) for text in told] == [(True, False), (False, True)]


def test_a_gap_that_has_not_ended_is_told_at_the_end(sight):
    found, clock, gaps, _ = sight
    clock.now = 104.0
    found.trouble("pods", "the token is refused")
    clock.now = 130.0
    found.over()
    assert gaps == [{"from": 100.0, "to": 130.0, "mesh": "mesh1", "why": "the token is refused"}]


def test_without_trouble_there_is_no_gap(sight):
    found, clock, gaps, told = sight
    for clock.now in (101.0, 150.0, 200.0):
        found.well("beat")
    found.over()
    assert (gaps, told) == ([], [])


# What is kept of an object


def test_a_pod_is_known_by_its_deployment_and_its_proxy():
    pod = {
        "metadata": {
            "name": "mesh2-egress-bd5847f6-cbtwh",
            "labels": {"pod-template-hash": "bd5847f6"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "mesh2-egress-bd5847f6"}],
        },
        "spec": {"containers": [{"name": "istio-proxy", "image": "registry.example/proxyv2-rhel8:2.2.13"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    found = view(POD, pod)
    assert (found["workload"], found["proxy"], found["ready"], found["terminating"]) == (
        "mesh2-egress",
        "2.2.13",
        True,
        False,
    )
    digest = {**pod, "spec": {"containers": [{"name": "istio-proxy", "image": "r.example/proxy@sha256:abcdef012345"}]}}
    assert view(POD, digest)["proxy"] == "sha256:abcdef012345"
    assert workload_of({"metadata": {"name": "alone"}}) == ""


def test_of_a_captured_federation_what_matters_is_kept(observed):
    peer = view(PEER, observed("healthy/objects/mesh1-servicemeshpeer-mesh2.json"))
    assert list(peer["watches"].values()) == [True]
    assert peer["remote"]["addresses"] == ["10.200.0.12"]
    services = observed("healthy/objects/mesh2-system-services.json")["items"]
    found = {service["metadata"]["name"]: view(SERVICE, service) for service in services}
    assert found["mesh1-ingress"]["addresses"] == ["10.200.0.12"]
    assert "80" in found["istio-ingressgateway"]["ports"]


def test_a_root_is_known_by_its_fingerprint_and_other_config_maps_are_left_out():
    assert view(CONFIG_MAP, {"metadata": {"name": "x"}, "data": {"mesh": "…"}}) is None
    assert view(CONFIG_MAP, {"metadata": {"name": "x"}, "data": {"root-cert.pem": ""}}) == {"roots": []}


def test_a_set_that_has_no_status_is_no_empty_set():
    assert view(EXPORTS, {"metadata": {"name": "mesh2"}}) == {"services": None}
    assert view(EXPORTS, {"metadata": {"name": "mesh2"}, "status": {"exportedServices": []}}) == {"services": []}


def test_a_control_plane_is_what_it_is_asked_to_be_and_what_it_is():
    found = view(CONTROL_PLANE, {"metadata": {"name": "x"}, "spec": {"version": "v2.2"}})
    assert (found["asked"], found["installed"]) == ("v2.2", "")


# Log lines


def test_lines_of_failures_are_kept_and_others_are_not():
    refused = (CAPTURE / "mesh1-egress-connection-refused.log").read_text().splitlines()
    assert all(is_failure(parse_access_line(line)) for line in refused)
    fine = refused[0].replace("UF,URX", "-")
    assert not is_failure(parse_access_line(fine))


def test_what_a_stranger_met_is_no_failure():
    met = (
        '[2026-12-01T05:31:57.076Z] "- - -" 0 NR filter_chain_not_found - "-" 0 0 0 - "-" "-" "-" "-" "-" - - '
        "127.124.0.6:15443 127.124.254.1:48290 - -"
    )
    assert not is_failure(parse_access_line(met))
    assert is_failure(parse_access_line(met.replace("48290 - -", "48290 outbound_.9080_._.ratings.example -")))


def test_lines_that_cannot_come_again_are_forgotten(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("harness.split.log_following.time.monotonic", clock)
    seen = _Seen()
    assert [seen.is_new(line) for line in ("a", "b", "a")] == [True, True, False]
    clock.now += 20
    assert [seen.is_new(line) for line in ("c", "a")] == [True, False]
    clock.now += 1_000
    assert seen.is_new("d")
    assert (seen.count, len(seen._texts)) == (4, 1)
