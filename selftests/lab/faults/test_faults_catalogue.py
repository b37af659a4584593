"""The catalogue of faults: complete, well-formed, and of use without a lab only to be read."""

from __future__ import annotations

import re
import subprocess

import pytest

from lab.faults import CAPTURED, CATALOGUE
from lab.faults.edits import merging
from lab.processes.running import default_directory
from lab.processes.supervisor import command
from selftests.conftest import OBSERVED


def test_every_captured_fault_can_be_made_and_no_other_claims_to_be_captured():
    captured = {path.name for path in (OBSERVED / "faults").iterdir()}
    assert {fault.name for fault in CATALOGUE.values() if fault.reference == CAPTURED} == captured


def test_there_are_at_least_thirty_faults_each_with_what_a_table_needs():
    assert len(CATALOGUE) >= 30
    for name, fault in CATALOGUE.items():
        assert fault.name == name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name)
        assert fault.title
        assert not fault.title.endswith(".")
        assert fault.reference == CAPTURED or re.match(r"F\d\d|product \d", fault.reference), name
        assert fault.changes or fault.api, f"{name} changes nothing"


def test_no_two_faults_do_the_same():
    titles = [fault.title for fault in CATALOGUE.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"spec": {"a": {"x": 9}}}, {"spec": {"a": {"x": 9, "y": 2}, "list": [1, 2]}}),
        ({"spec": {"a": None}}, {"spec": {"list": [1, 2]}}),
        (
            {"spec": {"list": [3], "new": {"b": {"c": 1}}}},
            {"spec": {"a": {"x": 1, "y": 2}, "list": [3], "new": {"b": {"c": 1}}}},
        ),
        ({"spec": {"gone": None}}, {"spec": {"a": {"x": 1, "y": 2}, "list": [1, 2]}}),
    ],
)
def test_edits_follow_the_rules_of_merge_patches(patch, expected):
    obj = {"spec": {"a": {"x": 1, "y": 2}, "list": [1, 2]}}
    merging(patch)(obj)
    assert obj == expected


def test_edits_share_nothing_with_the_catalogue():
    patch = {"spec": {"members": []}}
    first, second = {"spec": {}}, {"spec": {}}
    merging(patch)(first)
    first["spec"]["members"].append("a")
    merging(patch)(second)
    assert second == {"spec": {"members": []}}


def test_the_lab_is_found_by_its_directory_or_by_a_kubeconfig():
    assert default_directory({"LAB_DIRECTORY": "/l", "MESH1_KUBECONFIG": "/k/mesh1/admin.kubeconfig"}) == "/l"
    assert default_directory({"MESH1_KUBECONFIG": "/k/mesh1/admin.kubeconfig"}) == "/k"
    assert default_directory({}) is None


def test_the_command_lists_the_catalogue():
    found = subprocess.run(command("fault", "--list"), capture_output=True, text=True)
    assert found.returncode == 0
    assert [line.split()[0] for line in found.stdout.splitlines()] == list(CATALOGUE)


def test_without_a_lab_the_command_says_so(tmp_path):
    found = subprocess.run(
        command("fault", "split-60-40", "--directory", str(tmp_path)), capture_output=True, text=True
    )
    assert found.returncode == 1
    assert f"no lab runs in {tmp_path}" in found.stderr
