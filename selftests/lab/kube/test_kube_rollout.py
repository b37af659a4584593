"""The arithmetic of rolling updates, step by step, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from lab.kube.rollout import limits, plan, status_of


def deployment(replicas: int, **strategy: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "generation": 3}, "spec": {"replicas": replicas, "strategy": strategy}}


def replica_set(name: str, size: int, available: int) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": name},
        "spec": {"replicas": size},
        "status": {"replicas": size, "readyReplicas": available, "availableReplicas": available},
    }


def apply(sizes: dict[str, int], *sets: dict[str, Any]) -> None:
    for item in sets:
        name = item["metadata"]["name"]
        if name in sizes:
            item["spec"]["replicas"] = item["status"]["replicas"] = sizes[name]
            available = min(sizes[name], item["status"]["availableReplicas"])
            item["status"] |= {"availableReplicas": available, "readyReplicas": available}


def test_a_single_pod_is_replaced_only_when_its_successor_serves():
    old, new = replica_set("old", 1, 1), replica_set("new", 0, 0)
    assert plan(deployment(1), new, [old]) == {"new": 1}
    assert plan(deployment(1), replica_set("new", 1, 0), [old]) == {}
    assert plan(deployment(1), replica_set("new", 1, 1), [old]) == {"old": 0}


def test_recreate_waits_for_the_old_pods_to_go():
    recreate = deployment(2, type="Recreate")
    new = replica_set("new", 0, 0)
    assert plan(recreate, new, [replica_set("old", 2, 2)]) == {"old": 0}
    leaving = replica_set("old", 0, 0)
    leaving["status"]["replicas"] = 1
    assert plan(recreate, new, [leaving]) == {}
    assert plan(recreate, new, [replica_set("old", 0, 0)]) == {"new": 2}


@pytest.mark.parametrize("surge", [0, 1, "25%", "100%"])
@pytest.mark.parametrize("unavailable", [0, 1, "50%"])
@pytest.mark.parametrize("wanted", [1, 2, 5, 10])
def test_a_rollout_ends_and_never_leaves_its_limits(wanted, surge, unavailable):
    rolling = deployment(wanted, rollingUpdate={"maxSurge": surge, "maxUnavailable": unavailable})
    allowed = limits(rolling)
    old, new = replica_set("old", wanted, wanted), replica_set("new", 0, 0)
    for _ in range(4 * wanted + 4):
        apply(plan(rolling, new, [old]), old, new)
        sizes = [item["spec"]["replicas"] for item in (old, new)]
        available = sum(item["status"]["availableReplicas"] for item in (old, new))
        assert sum(sizes) <= wanted + allowed.surge, f"too many pods: {sizes}"
        assert available >= wanted - allowed.unavailable, f"only {available} pods serve at {sizes}"
        # One new pod becomes available in each step.
        new["status"]["availableReplicas"] = min(new["spec"]["replicas"], new["status"]["availableReplicas"] + 1)
    assert sizes == [0, wanted]


def test_a_rollout_that_never_becomes_ready_keeps_the_old_pods():
    old, new = replica_set("old", 4, 4), replica_set("new", 0, 0)
    for _ in range(10):
        apply(plan(deployment(4), new, [old]), old, new)
    assert old["spec"]["replicas"] == 3  # a quarter may be missing
    assert new["spec"]["replicas"] == 2  # and a quarter may be too many


def test_status_of_a_finished_rollout_is_as_captured(observed):
    captured = observed("healthy/objects/mesh2-bookinfo-deployments.json")
    items = captured["items"] if isinstance(captured, dict) else captured
    told = items[0]["status"]
    name = told["conditions"][1]["message"].split('"')[1]
    current = replica_set(name, 1, 1)
    status = status_of(deployment(1) | {"metadata": {"name": "details-v1", "generation": 1}}, current, [])
    times = {"lastTransitionTime", "lastUpdateTime"}
    shown = {key: value for key, value in status.items() if value is not None}
    for conditions in (shown["conditions"], told["conditions"]):
        for condition in conditions:
            assert times <= condition.keys()
            for key in times:
                condition.pop(key)
    assert shown == told


def test_a_finished_rollout_stays_finished_when_its_pod_breaks():
    web = deployment(1)
    web["status"] = status_of(web, replica_set("new", 1, 1), [])
    status = status_of(web, replica_set("new", 1, 0), [])
    reasons = {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}
    assert reasons == {
        "Available": ("False", "MinimumReplicasUnavailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
