"""What the operator's webhooks fill in and refuse, in the product's words."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest

from lab.operator import validation
from lab.operator.plane import ControlPlane
from lab.operator.versions import Release

HOME = "openshift-operators"


def smcp(namespace: str = "mesh1-system", name: str = "fed-export", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


def smmr(*members: str, namespace: str = "mesh1-system", name: str = "default") -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"members": list(members)}}


def refused(obj: dict[str, Any], *others: dict[str, Any], release: str = "2.1.6") -> str | None:
    return validation.control_plane(obj, [*others, obj], Release(release), HOME)


@pytest.mark.parametrize(
    ("release", "newest"),
    [
        ("2.1.6", "v2.1"),
        ("2.2.13", "v2.2"),
        ("2.3.11", "v2.3"),
        ("2.4.7", "v2.4"),
        ("2.5.1", "v2.5"),
        ("2.6.14", "v2.6"),
    ],
)
def test_a_control_plane_gets_the_newest_version_and_the_default_profile(release, newest):
    given = {"metadata": {"name": "basic"}}
    made = jsonpatch.apply_patch(given, validation.defaults(given, Release(release)))
    assert made["spec"] == {"version": newest, "profiles": ["default"]}


def test_what_a_control_plane_says_itself_is_kept():
    assert validation.defaults(smcp(version="v2.0", profiles=["small"]), Release("2.1.6")) == []


def test_a_plain_control_plane_is_accepted_and_so_is_its_update():
    assert refused(smcp(version="v2.1")) is None


@pytest.mark.parametrize(
    ("release", "version", "message"),
    [
        ("2.1.6", "v2.0", None),
        ("2.1.6", "v1.0", None),
        ("2.1.6", "v2.2", "invalid Version specified; supported versions are: [v1.0 v1.1 v2.0 v2.1]"),
        ("2.2.13", "v1.0", "support for v1.0 has been dropped"),
        ("2.2.13", "v1.1", None),
        ("2.3.11", "v1.1", "Only '[v2.0 v2.1 v2.2 v2.3]' versions are supported"),
        ("2.4.7", "v2.0", "Only '[v2.1 v2.2 v2.3 v2.4]' versions are supported"),
        ("2.5.1", "v2.1", "Only '[v2.2 v2.3 v2.4 v2.5]' versions are supported"),
        ("2.5.1", "v3.0", "invalid Version specified; supported versions are: [v2.2 v2.3 v2.4 v2.5]"),
    ],
)
def test_each_operator_accepts_its_versions(release, version, message):
    assert refused(smcp(version=version), release=release) == message


def test_one_mesh_per_namespace():
    second = smcp(name="another")
    assert refused(second, smcp()) == "only one service mesh may be installed per project/namespace"
    assert refused(smcp(namespace="elsewhere"), smcp()) is None


def test_no_mesh_beside_the_operator():
    message = "service mesh may not be installed in the same project/namespace as the operator"
    assert refused(smcp(namespace=HOME)) == message


@pytest.mark.parametrize(
    ("gateways", "message"),
    [
        (
            {"additionalIngress": {"istio-ingressgateway": {}}},
            'cannot define additional gateway named "istio-ingressgateway"',
        ),
        (
            {"additionalEgress": {"istio-egressgateway": {}}},
            'cannot define additional gateway named "istio-egressgateway"',
        ),
        (
            {"additionalIngress": {"x": {}}, "additionalEgress": {"x": {}}},
            'multiple gateways defined for "mesh1-system/x"',
        ),
        ({"additionalIngress": {"x": {}}, "additionalEgress": {"x": {"namespace": "other"}}}, None),
    ],
)
def test_gateways_have_names_of_their_own(gateways, message):
    assert refused(smcp(gateways=gateways)) == message


def test_features_that_are_gone_are_refused():
    assert "Mixer" in (refused(smcp(policy={"type": "Mixer"})) or "")
    detect = {"networking": {"protocol": {"autoDetect": {"inbound": True}}}}
    assert "autoDetect.inbound" in (refused(smcp(proxy=detect)) or "")


def test_the_mode_comes_with_2_4_and_a_cluster_wide_mesh_is_alone():
    message = "the spec.mode field is only supported in version 2.4 and above"
    assert refused(smcp(mode="MultiTenant", version="v2.3"), release="2.5.1") == message
    wide = smcp(namespace="wide", mode="ClusterWide", version="v2.5")
    assert refused(smcp(version="v2.5"), wide, release="2.5.1") is not None
    assert refused(wide, release="2.5.1") is None


def test_kiali_needs_prometheus():
    def problem(**addons: Any) -> str | None:
        plane = smcp(addons={name: {"enabled": value} for name, value in addons.items()})
        return validation.reconcile_error(ControlPlane(plane, Release("2.1.6")))

    message = ".spec.addons.prometheus.enabled must be true when .spec.addons.kiali.enabled is true"
    assert problem(kiali=True, prometheus=False) == message
    assert problem(kiali=True, prometheus=True) is None
    assert problem(kiali=False, prometheus=False) is None


@pytest.mark.parametrize(
    ("roll", "message"),
    [
        (smmr("a", "b"), None),
        (smmr("a", name="members"), "ServiceMeshMemberRoll must be named 'default'"),
        (smmr("a", "a"), "ServiceMeshMemberRoll contains a duplicate member: a"),
        (smmr("Not A Name"), "ServiceMeshMemberRoll contains an invalid member name: Not A Name"),
        (smmr("mesh1-system"), "mesh project/namespace cannot be listed as a member"),
        (smmr("taken"), "one or more members are already defined in another ServiceMeshMemberRoll"),
    ],
)
def test_member_rolls(roll, message):
    others = [smmr("taken", namespace="other-system"), roll]
    assert validation.member_roll(roll, others, Release("2.1.6")) == message


def test_all_namespaces_and_selectors_come_with_2_4():
    assert "invalid member name" in (validation.member_roll(smmr("*"), [], Release("2.3.11")) or "")
    assert validation.member_roll(smmr("*"), [], Release("2.4.7")) is None
    assert validation.member_roll(smmr("*", "a"), [], Release("2.4.7")) is not None


def test_who_takes_in_every_namespace_needs_rights_in_all_of_them():
    assert validation.added_members(smmr("a", "b"), smmr("a")) == ["b"]
    assert validation.added_members(smmr("*"), None) == [""]
    assert "at the cluster scope" in (validation.no_access("jane", [""]) or "")
    assert validation.no_access("jane", []) is None


def test_members_keep_their_control_plane():
    def member(plane: str, name: str = "default") -> dict[str, Any]:
        reference = {"controlPlaneRef": {"name": plane, "namespace": "mesh1-system"}}
        return {"metadata": {"namespace": "bookinfo", "name": name}, "spec": reference}

    assert validation.member(member("a"), None) is None
    assert validation.member(member("a"), member("a")) is None
    assert "immutable" in (validation.member(member("b"), member("a")) or "")
    assert "named 'default'" in (validation.member(member("a", "x"), None) or "")
