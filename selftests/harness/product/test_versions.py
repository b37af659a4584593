"""The table of versions: waits, names of what federation generates, flags of access logs."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

from harness.diagnosis.generated_links import object_names
from harness.product.versions import KNOWN, TABLE, behaviour, bounds, supported_versions


@pytest.mark.parametrize(
    ("version", "minutes"),
    [
        ("2.1.6", 7),
        ("v2.3", 8),
        ("2.4.6", 8),
        ("2.4.7", 4),
        ("v2.4", 8),
        ("2.5.0", 8),
        ("2.5.1-0", 4),
        ("2.6.0", 4),
        ("unknown", 8),
        ("", 8),
    ],
)
def test_sets_have_the_time_of_a_look_at_the_peer_a_resync_and_its_tries(version, minutes):
    assert bounds(version).sets == 60 * minutes


def test_in_2_1_the_member_roll_waits_for_the_control_plane_and_later_it_does_not():
    rolls = {version: bounds(version).member_roll for version in KNOWN}
    assert rolls["v2.1"] == bounds("v2.1").control_plane + rolls["v2.2"]
    assert len(set(rolls.values())) == 2


def test_a_version_that_is_not_known_gets_the_most_patient_waits():
    unknown = bounds("3.0.1")
    for version in KNOWN:
        for name, value in vars(bounds(version)).items():
            assert getattr(unknown, name) >= value, f"{name} of {version}"


@pytest.mark.parametrize("version", [name for name in KNOWN if name != "v2.1"])
def test_names_of_generated_objects_are_short_from_2_2_on(version):
    found = behaviour(version)
    assert found.export_object("mesh2", "ratings", "mesh1-bookinfo") == "fed-exp-ratings-mesh1-bookinfo-mesh2"
    assert found.import_object("mesh1", "ratings", "bookinfo") == "fed-imp-ratings-bookinfo-mesh1"


@pytest.mark.parametrize(("version", "cut"), [("2.1.6", False), ("2.2.3", False), ("2.2.4", True), ("2.3.0", True)])
def test_names_of_over_63_characters_end_in_a_hash_from_2_2_4_on(version, cut):
    whole = TABLE[f"v{version[:3]}"].imports.format(name=30 * "n", namespace=20 * "s", peer=20 * "p")
    shown = behaviour(version).import_object(20 * "p", 30 * "n", 20 * "s")
    assert shown == (whole[:55] + hashlib.sha256(whole.encode()).hexdigest()[:8] if cut else whole)
    # One that the product's own tests name.
    known = behaviour(version).import_object("test-remote", "productpage-rest", "private-bookinfo-production")
    assert (known == "fed-imp-productpage-rest-private-bookinfo-production-te160043b8") is cut
    fitting = behaviour(version).import_object("mesh1", 20 * "n", 20 * "s")
    assert "mesh1" in fitting
    assert 20 * "n" in fitting


def test_an_unknown_cluster_is_flagged_nr_in_2_1_and_nc_later():
    assert "NR" in behaviour("2.1.6").unknown_cluster
    assert all(behaviour(version).unknown_cluster == {"NC"} for version in KNOWN if version != "v2.1")


@pytest.mark.parametrize(("mesh", "peer", "made"), [("mesh1", "mesh2", "exported"), ("mesh2", "mesh1", "imported")])
def test_what_a_real_istiod_made_has_the_names_of_its_version(observed, mesh, peer, made):
    memory = observed(f"healthy/discovery/{mesh}-istiod-configz.json")
    sets = observed(f"healthy/objects/{mesh}-{made}serviceset-{peer}.json")
    names = object_names(behaviour("2.1.6"), peer, [sets])
    assert len(names) == 2, names
    for name in names.values():
        assert {entry["kind"] for entry in memory if entry["name"] == name} == {"Gateway", "VirtualService"}


def test_an_operator_installs_its_own_version_and_what_it_still_supports():
    assert supported_versions("2.5.1") == ("v2.2", "v2.3", "v2.4", "v2.5")
    assert supported_versions("3.0.0") == ()


def test_a_healthy_sync_is_never_older_than_a_resync_and_its_tries():
    assert bounds("2.1.6").sync_age == timedelta(minutes=7)
    assert bounds("2.5.1").sync_age == timedelta(minutes=4)
