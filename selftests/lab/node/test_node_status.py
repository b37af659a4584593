"""Pod statuses and images: held against the captured pods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.node.images import UnknownImage, kind_of, repository
from lab.node.status import ContainerState, StatusBuilder, phase_of

OBJECTS = Path(__file__).parents[2] / "data" / "observed" / "healthy" / "objects"
CAPTURED_PODS = [item for path in sorted(OBJECTS.glob("*-pods.json")) for item in json.loads(path.read_text())["items"]]
CAPTURED_CONTAINERS = [
    container
    for path in sorted(OBJECTS.glob("*-deployments.json"))
    for item in json.loads(path.read_text())["items"]
    for container in item["spec"]["containers"]
]


def timeless(value: Any) -> Any:
    """The same without points in time and addresses."""
    if isinstance(value, dict):
        moving = ("lastTransitionTime", "startTime", "startedAt", "podIP")
        return {key: "" if key in moving else timeless(inner) for key, inner in value.items()}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def shown(value: Any, like: Any) -> Any:
    """The part of `value` that the capture kept."""
    if isinstance(like, dict):
        return {key: shown(value[key], like[key]) for key in like}
    return [shown(*pair) for pair in zip(value, like, strict=True)] if isinstance(like, list) else value


def test_ready_pods_have_the_status_of_the_captured_ones():
    assert len(CAPTURED_PODS) > 20
    for captured in CAPTURED_PODS:
        names = captured["spec"]["containers"]
        pod = {"metadata": {**captured["metadata"], "uid": "u"}, "spec": {"containers": [{"name": n} for n in names]}}
        states = [ContainerState(name, "image", {"running": {"startedAt": "2026-01-01T00:00:00Z"}}) for name in names]
        for state in states:
            state.ready = True
        status = StatusBuilder(pod, "127.20.0.4", "127.20.254.1").build(states)
        assert timeless(shown(status, captured["status"])) == timeless(captured["status"])


def test_a_pod_with_one_unready_container_says_which():
    pod = {"metadata": {"uid": "u"}, "spec": {"containers": []}}
    builder = StatusBuilder(pod, "127.20.0.4", "127.20.254.1")
    good = ContainerState("app", "image", {"running": {}}, ready=True)
    bad = ContainerState("istio-proxy", "image", {"running": {}})
    conditions = {entry["type"]: entry for entry in builder.build([good, bad])["conditions"]}
    assert {kind: entry["status"] for kind, entry in conditions.items()} == {
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    assert conditions["Ready"]["message"] == "containers with unready status: [istio-proxy]"


@pytest.mark.parametrize(
    ("policy", "codes", "phase"),
    [("Never", [0, 0], "Succeeded"), ("Never", [0, 1], "Failed"), ("Always", [0, 0], "Running")],
)
def test_ended_containers_end_a_pod_only_where_nothing_restarts_them(policy, codes, phase):
    states = [ContainerState(str(n), "i", {"terminated": {"exitCode": code}}) for n, code in enumerate(codes)]
    assert phase_of(states, policy) == phase


def test_every_captured_image_has_a_program():
    kinds = {container["name"]: kind_of(container) for container in CAPTURED_CONTAINERS}
    assert kinds.pop("istio-proxy") == "proxy"
    assert kinds.pop("discovery") == "istiod"
    assert kinds.pop("wasm-cacher") == "wait"
    assert set(kinds) == {"productpage", "details", "reviews", "ratings", "mongodb"}
    assert set(kinds.values()) == {"app"}


def test_other_images_cannot_be_pulled():
    with pytest.raises(UnknownImage):
        kind_of({"name": "x", "image": "quay.io/maistra/examples-bookinfo-ratings:2.1.0"})
    assert repository("registry:5000/a/pilot-ubi8@sha256:00") == "pilot-ubi8"
    assert repository("registry:5000/a/pilot-ubi8:2.1") == "pilot-ubi8"
