"""The statuses of control planes and member rolls, phase by phase and against the captured ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lab.operator import status
from lab.operator.components import stages
from lab.operator.conditions import available, condition, find, stamped
from lab.operator.members import not_installed, roll_status
from lab.operator.plane import ControlPlane
from lab.operator.status import Progress
from lab.operator.versions import Release

WANTED = ["istio-discovery", "mesh-config", "telemetry-common", "istio-ingress", "istio-egress", "wasm-extensions"]
ALWAYS = ["mesh-config", "telemetry-common"]


def timeless(value: Any) -> Any:
    """Without times, and with the version the captured operator did not know of itself."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key != "lastTransitionTime"}
    if isinstance(value, list):
        return [timeless(each) for each in value]
    return value.replace("unknown", "2.1.6") if isinstance(value, str) else value


@pytest.fixture
def plane(observed) -> ControlPlane:
    return ControlPlane(observed("healthy/objects/mesh1-smcp-smmr.json")["items"][0], Release("2.1.6"))


@pytest.fixture
def installed(plane) -> dict[str, Any]:
    progress = Progress(WANTED, WANTED, (), ALWAYS)
    return status.build(plane, {}, status.done(plane, {}, ()), progress, observed=True)


def test_an_installed_control_plane_reports_what_the_real_one_did(plane, installed):
    real = timeless(plane.smcp["status"])
    applied = installed.pop("appliedSpec")
    assert timeless(installed) == real
    assert applied == {"profiles": ["default"], "version": "v2.1"}


def test_components_come_in_the_order_of_the_real_ones(plane):
    real = [component["resource"] for component in plane.smcp["status"]["components"]]
    assert [name for stage in stages(plane) for name in stage] == real


def test_it_begins_with_nothing_ready(plane):
    made = status.build(plane, {}, status.created(plane), Progress(()))
    assert [(entry["type"], entry["status"], entry["reason"]) for entry in made["conditions"]] == [
        (kind, "False", "ResourceCreated") for kind in ("Installed", "Reconciled", "Ready")
    ]
    assert {entry["message"] for entry in made["conditions"]} == {"Installing mesh generation 2"}
    assert "observedGeneration" not in made


def test_it_pauses_for_istiod_and_says_so(plane):
    old = status.build(plane, {}, status.created(plane), Progress(()))
    progress = Progress(WANTED, ["istio-discovery"], ["istio-discovery"], ALWAYS)
    made = status.build(plane, old, status.pausing(old, ["istio-discovery"]), progress)
    ready = find(made["conditions"], "Ready")
    assert ready["reason"] == "PausingInstall"
    assert ready["message"] == "Paused until the following components become ready: [istio-discovery]"
    assert made["annotations"]["readyComponentCount"] == "0/6"
    assert made["readiness"]["components"]["pending"] == sorted(WANTED[1:])
    assert made["readiness"]["components"]["unready"] == ["istio-discovery"]


def test_pods_that_go_away_only_change_readiness(plane, installed):
    progress = Progress(WANTED, WANTED, ["istio-egress", "istio-ingress"], ALWAYS)
    made = status.build(plane, installed, status.with_readiness(installed, progress.unready), progress, observed=True)
    assert [(entry["type"], entry["status"]) for entry in made["conditions"]] == [
        ("Installed", "True"),
        ("Reconciled", "True"),
        ("Ready", "False"),
    ]
    assert made["conditions"][2]["reason"] == "ComponentsNotReady"
    assert made["conditions"][2]["message"].endswith("not fully available: [istio-egress istio-ingress]")
    assert made["annotations"]["readyComponentCount"] == "4/6"


def test_a_changed_spec_is_rolled_out_over_an_installed_mesh(plane, installed):
    smcp = copy.deepcopy(plane.smcp)
    smcp["metadata"]["generation"] = 3
    newer = ControlPlane(smcp, Release("2.1.6"))
    made = status.build(newer, installed, status.updating(newer, installed), Progress(WANTED, (), (), ALWAYS))
    reconciled = find(made["conditions"], "Reconciled")
    assert find(made["conditions"], "Installed")["status"] == "True"
    assert (reconciled["status"], reconciled["reason"]) == ("False", "SpecUpdated")
    assert reconciled["message"] == "Updating mesh from generation 2 to generation 3"
    assert made["observedGeneration"] == 2
    after = status.done(newer, made, ())
    assert find(after, "Reconciled")["reason"] == "UpdateSuccessful"
    assert find(after, "Reconciled")["message"] == "Successfully updated from version 2.1.6-2 to version 2.1.6-3"


def test_another_operator_version_says_so(plane, installed):
    newer = ControlPlane(plane.smcp, Release("2.2.13"))
    assert find(status.updating(newer, installed), "Reconciled")["reason"] == "OperatorUpdated"


def test_a_bad_spec_is_neither_reconciled_nor_ready():
    made = status.failed({}, "ValidationError", "Spec is invalid: error: x")
    assert {(entry["type"], entry["status"], entry["reason"]) for entry in made} == {
        (kind, "False", "ValidationError") for kind in ("Installed", "Reconciled", "Ready")
    }


def test_a_condition_keeps_its_time_until_it_turns():
    old = [{**condition("Ready", "True", "Configured", "all"), "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    same = stamped(old, [condition("Ready", "True", "Other", "all of them")])
    turned = stamped(old, [condition("Ready", "False", "Configured")])
    assert same[0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert turned[0]["lastTransitionTime"] > "2026-01-01T00:00:00Z"


@pytest.fixture
def gateway(observed) -> dict[str, Any]:
    """A captured Deployment with its one pod available, of generation 1."""
    found = copy.deepcopy(observed("healthy/objects/mesh1-system-deployments.json")["items"][0])
    found["metadata"]["generation"] = 1
    return found


def test_a_captured_deployment_is_available(gateway):
    assert available(gateway, 1)


def test_a_deployment_that_is_not_there_yet_or_older_is_not_available(gateway):
    assert not available(None, 1)
    assert not available(gateway, 2)
    gateway["metadata"]["generation"] = 2  # seen by nobody yet
    assert not available(gateway, 2)


@pytest.mark.parametrize("change", [{"updatedReplicas": 0}, {"unavailableReplicas": 1}])
def test_a_deployment_that_is_being_rolled_out_is_not_available(gateway, change):
    gateway["status"] |= change
    assert not available(gateway, 1)


def test_a_deployment_without_its_minimum_is_not_available(gateway):
    gateway["status"]["conditions"][0]["status"] = "False"
    assert not available(gateway, 1)


class Roll:
    """The captured member roll with its control plane, member and namespaces, to be bent."""

    def __init__(self, observed) -> None:
        self.smcp, self.roll = copy.deepcopy(observed("healthy/objects/mesh1-smcp-smmr.json")["items"])
        self.members = copy.deepcopy(observed("healthy/objects/mesh1-smm.json")["items"])
        namespaces = copy.deepcopy(observed("healthy/objects/mesh1-namespaces.json")["items"])
        self.namespaces = {("", each["metadata"]["name"]): each for each in namespaces}

    def status(self) -> dict[str, Any]:
        return roll_status(self.roll, self.smcp, self.members, self.namespaces)

    def reason(self, namespace: str) -> str:
        found = next(each for each in self.status()["memberStatuses"] if each["namespace"] == namespace)
        return found["conditions"][0].get("reason", "")


@pytest.fixture
def roll(observed) -> Roll:
    return Roll(observed)


def test_a_configured_roll_reports_what_the_real_one_did(roll):
    assert roll.status() == roll.roll["status"]


def test_a_namespace_that_does_not_exist_is_pending(roll):
    roll.roll["spec"]["members"].append("nowhere")
    made = roll.status()
    assert made["pendingMembers"] == ["nowhere"]
    assert made["annotations"] == {"configuredMemberCount": "1/2"}
    assert roll.reason("nowhere") == "NamespaceNotExists"
    assert made["conditions"][0]["message"] == "The following namespaces are not yet configured: [nowhere]"


def test_a_namespace_of_another_mesh_is_pending(roll):
    roll.members[0]["spec"]["controlPlaneRef"]["namespace"] = "other-system"
    assert roll.reason("mesh1-bookinfo") == "ReferencesDifferentControlPlane"
    assert roll.status()["configuredMembers"] == []


def test_a_terminating_namespace_is_no_longer_configured(roll):
    roll.namespaces["", "mesh1-bookinfo"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    made = roll.status()
    assert (made["configuredMembers"], made["terminatingMembers"]) == ([], ["mesh1-bookinfo"])


def test_a_member_by_its_own_object_belongs_to_the_roll(roll):
    roll.roll["spec"]["members"] = []
    assert roll.status()["configuredMembers"] == ["mesh1-bookinfo"]


def test_a_2_1_roll_waits_for_the_installation(roll):
    assert not_installed(roll.smcp) is None
    roll.smcp["status"]["conditions"][1]["status"] = "False"
    assert not_installed(roll.smcp) == "Service mesh installation is not in a known good state"
    assert not_installed({"status": {}}) == "Initial service mesh installation has not completed"


@pytest.mark.parametrize(
    ("spec", "listed"),
    [
        ({"members": ["*"]}, ["mesh1-bookinfo", "shop"]),
        ({"memberSelectors": [{"matchLabels": {"team": "a"}}]}, ["mesh1-bookinfo", "shop"]),
        ({"memberSelectors": [{"matchLabels": {"team": "b"}}]}, ["mesh1-bookinfo"]),
        (
            {"memberSelectors": [{"matchExpressions": [{"key": "team", "operator": "Exists"}]}]},
            ["mesh1-bookinfo", "shop"],
        ),
    ],
)
def test_namespaces_can_be_chosen_by_label(roll, spec, listed):
    roll.namespaces["", "shop"] = {"metadata": {"name": "shop", "labels": {"team": "a"}}}
    roll.namespaces["", "kube-system"] = {"metadata": {"name": "kube-system", "labels": {"team": "a"}}}
    roll.roll["spec"] = spec
    assert roll.status()["members"] == listed
