"""The lab's schemas: they take what the product wrote, they know nothing the product does not know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lab import crds as definitions
from lab.api.objects.crds import serve
from lab.api.objects.registry import Registry
from lab.api.objects.table import table
from lab.operator import crds
from lab.operator.versions import Release

FILES = sorted(definitions.DIRECTORY.glob("*.yaml"))
PRODUCT = Path(__file__).parents[4] / "shared" / "observed" / "crds"
CAPTURES = (
    "mesh1-smcp-smmr",
    "mesh2-smcp-smmr",
    "mesh1-smm",
    "mesh1-servicemeshpeer-mesh2",
    "mesh2-servicemeshpeer-mesh1",
    "mesh1-exportedserviceset-mesh2",
    "mesh2-importedserviceset-mesh1",
    "mesh2-other-objects",
)
PLURALS = {
    "ServiceMeshControlPlane": ("servicemeshcontrolplanes", "maistra.io"),
    "ServiceMeshMemberRoll": ("servicemeshmemberrolls", "maistra.io"),
    "ServiceMeshMember": ("servicemeshmembers", "maistra.io"),
    "ServiceMeshPeer": ("servicemeshpeers", "federation.maistra.io"),
    "ExportedServiceSet": ("exportedservicesets", "federation.maistra.io"),
    "ImportedServiceSet": ("importedservicesets", "federation.maistra.io"),
    "Route": ("routes", "route.openshift.io"),
    "DestinationRule": ("destinationrules", "networking.istio.io"),
}


def schema_of(crd: dict, version: str | None = None) -> dict:
    wanted = next(each for each in crd["spec"]["versions"] if version in (None, each["name"]))
    return wanted["schema"]["openAPIV3Schema"]


def misfits(value: object, schema: dict, path: str = "") -> list[str]:
    """Paths of a value that a schema does not know or types otherwise."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or (value is None and schema.get("nullable")):
        return []
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, int | str) else [path]
    expected = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "number": float}
    if not isinstance(value, expected[schema["type"]]):
        return [f"{path}: {value!r} is no {schema['type']}"]
    if isinstance(value, list):
        return [wrong for each in value for wrong in misfits(each, schema["items"], f"{path}[]")]
    if not isinstance(value, dict):
        return []
    known, other = schema.get("properties", {}), schema.get("additionalProperties")
    wrong = [f"{path}.{name} is required" for name in schema.get("required", []) if name not in value]
    for name, each in value.items():
        if name in known or other:
            wrong += misfits(each, known.get(name, other), f"{path}.{name}")
        elif path not in ("", ".metadata"):
            wrong.append(f"{path}.{name} is unknown")
    return wrong


def paths(schema: dict, path: str = "") -> dict[str, str]:
    """Type of every property path of a schema."""
    found = {path: schema.get("type", "int-or-string")}
    for name, each in schema.get("properties", {}).items():
        found |= paths(each, f"{path}.{name}")
    if "items" in schema:
        found |= paths(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        found |= paths(schema["additionalProperties"], f"{path}.*")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_definition_is_consistent_in_itself(path):
    crd = yaml.safe_load(path.read_text())
    spec = crd["spec"]
    assert crd["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}" == path.stem
    assert spec["names"]["singular"] == spec["names"]["kind"].lower()
    assert [version["storage"] for version in spec["versions"]].count(True) == 1
    assert all(version["subresources"] == {"status": {}} for version in spec["versions"])


def test_the_operator_installs_every_definition_once():
    installed = [f"{plural}.{group}" for plural, group in (*crds.OWN, *crds.MESH)]
    assert sorted(installed) == [path.stem for path in FILES]


@pytest.mark.parametrize("capture", CAPTURES)
def test_what_the_product_wrote_fits(observed, capture):
    found = observed(f"healthy/objects/{capture}.json")
    for obj in found.get("items", [found]):
        if obj["kind"] in PLURALS:
            crd = crds.definition(*PLURALS[obj["kind"]], Release("2.1.6"))
            content = {key: obj[key] for key in ("spec", "status") if key in obj}
            assert misfits(content, schema_of(crd)) == [], obj["metadata"]["name"]


def test_a_misspelt_field_is_unknown(observed):
    peer = observed("healthy/objects/mesh1-servicemeshpeer-mesh2.json")
    peer["spec"]["security"]["trustdomain"] = "mesh2.local"
    crd = crds.definition("servicemeshpeers", "federation.maistra.io", Release("2.1.6"))
    assert misfits({"spec": peer["spec"]}, schema_of(crd)) == [".spec.security.trustdomain is unknown"]


@pytest.mark.parametrize(("release", "known"), [("2.3.11", False), ("2.4.7", True)])
def test_fields_of_later_releases_come_with_them(release, known):
    control_plane = paths(schema_of(crds.definition("servicemeshcontrolplanes", "maistra.io", Release(release))))
    roll = paths(schema_of(crds.definition("servicemeshmemberrolls", "maistra.io", Release(release))))
    assert (".spec.mode" in control_plane) is known
    assert (".spec.memberSelectors[].matchLabels.*" in roll) is known


@pytest.mark.parametrize(("index", "kind"), [(0, "ServiceMeshControlPlane"), (1, "ServiceMeshMemberRoll")])
def test_kubectl_prints_the_rows_it_prints_for_the_product(observed, index, kind):
    obj = observed("healthy/objects/mesh1-smcp-smmr.json")["items"][index]
    if kind == "ServiceMeshControlPlane":  # what of it the capture left out
        obj["status"]["appliedSpec"] = {"profiles": obj["spec"]["profiles"]}
    served = serve(crds.definition(*PLURALS[kind], Release("2.1.6")), Registry())
    made = table([obj], served, next(iter(served.versions.values())), "None", {})
    header, row = [
        line.split() for line in observed("healthy/objects/mesh1-smcp-smmr.txt").split("\n\n")[index].splitlines()
    ]
    columns = [column["name"].upper() for column in made["columnDefinitions"]]
    cells = dict(zip(columns, made["rows"][0]["cells"], strict=True))
    assert " ".join(columns).split() == header
    assert row[0].endswith("/" + cells.pop("NAME"))
    del cells["AGE"]
    assert [cell for cell in cells.values() if cell] == [cell for cell in row[1:] if not re.fullmatch(r"\d+s", cell)]


@pytest.mark.skipif(not PRODUCT.is_dir(), reason="the product's own schemas are not at hand")
@pytest.mark.parametrize("path", sorted(PRODUCT.glob("*.yaml")), ids=lambda path: path.stem)
def test_nothing_is_known_that_the_product_does_not_know(path):
    ours, theirs = yaml.safe_load((definitions.DIRECTORY / path.name).read_text()), yaml.safe_load(path.read_text())
    assert set(ours["spec"]["names"].get("shortNames", [])) == set(theirs["spec"]["names"].get("shortNames", []))
    for version in ours["spec"]["versions"]:
        known = paths(schema_of(theirs, version["name"]))
        wrong = {
            each: kind for each, kind in paths(schema_of(ours, version["name"])).items() if known.get(each) != kind
        }
        # What every object has is not repeated in the product's networking schemas.
        assert {each: kind for each, kind in wrong.items() if each not in (".apiVersion", ".kind", ".metadata")} == {}
