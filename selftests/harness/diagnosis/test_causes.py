"""causes.yaml: every entry as its schema says, every place filled in, commands that a shell reads as they are meant."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Formatter

import jsonschema
import pytest
import yaml

from harness.cluster.cluster import Cluster
from harness.diagnosis import CAUSES
from harness.diagnosis.causes import MESHES
from harness.diagnosis.commands import addressed
from harness.diagnosis.model import Diagnosis, Look
from harness.product.mesh import MESH1, MESH2

DATA = Path(__file__).parents[3] / "harness" / "diagnosis"


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.fixture(scope="module")
def values() -> dict[str, object]:
    """A value for every place of every cause."""
    texts = [text for cause in CAUSES.values() for text in (cause.sentence, cause.remedy, *cause.commands)]
    known = {name for text in texts for name in places(text)}
    known |= {name for cause in CAUSES.values() for name in re.findall(r"\{(\w+)\}", json.dumps(cause.patch))}
    return {**dict.fromkeys(known - {"mesh", "peer", "patch"}, "it's"), "kind": "Thing", "rules": [{"a": 1}]}


def test_the_file_is_as_its_schema_says() -> None:
    schema = json.loads((DATA / "causes.schema.json").read_text())
    jsonschema.validate(yaml.safe_load((DATA / "causes.yaml").read_text()), schema)


@pytest.mark.parametrize("identity", CAUSES)
def test_every_cause_has_a_sentence_a_remedy_and_commands_that_can_be_filled_in(
    identity: str, values: dict[str, object]
) -> None:
    assert "mesh" in CAUSES[identity].sentence, "it does not say where"
    applied = re.search(r"\bapply (?P<kind>[\w{}]+) ", CAUSES[identity].commands[0])
    wanted = {"kind": applied["kind"].format(**values)} if applied else None
    link = Look("link", "mesh1", "somewhere").broken(identity, "seen", **values, object=wanted)
    assert not re.search(r"\{\w", f"{link.sentence}{link.remedy}")
    assert link.commands
    for command in link.commands:
        assert re.fullmatch(r"oc@mesh[12]|echo|export", shlex.split(command)[0]), command


def test_structures_are_json_in_one_word() -> None:
    link = Look("link", "mesh2", "").broken("wrong-service-port", "", port=1, expected=15443)
    (command,) = link.commands
    assert shlex.split(command) == [
        *("oc@mesh2", "-n", "mesh2-system", "patch", "servicemeshpeer", "mesh1", "--type", "merge"),
        *("-p", '{"spec":{"remote":{"servicePort":15443}}}'),
    ]


@pytest.fixture
def other_names() -> Iterator[None]:
    """Causes that speak of meshes which somebody else has named."""
    east = replace(MESH1, peer="west", control_plane="basic", system_namespace="east-mesh", egress_gateway="to-west")
    west = replace(MESH2, peer="the-east", control_plane="full", system_namespace="istio-system", members=())
    token = MESHES.set({"mesh1": east, "mesh2": west})
    yield
    MESHES.reset(token)


@pytest.mark.usefixtures("other_names")
def test_other_names_are_those_of_the_meshes_and_not_the_scenarios() -> None:
    stopped = Look("link", "mesh2", "").broken("export-unknown", "", side="mesh1", host="x")
    assert stopped.commands == (
        "oc@mesh1 -n east-mesh get exportedserviceset west -o yaml",
        "oc@mesh2 -n istio-system get importedserviceset the-east -o yaml",
    )
    wrong = Look("link", "mesh2", "").broken("wrong-discovery-port", "", port=1, expected=8188)
    assert wrong.remedy == "Set spec.remote.discoveryPort of ServiceMeshPeer istio-system/the-east in mesh2 to 8188."
    assert wrong.commands[0].startswith("oc@mesh2 -n istio-system patch servicemeshpeer the-east ")
    missing = Look("link", "mesh1", "").broken("export-set-misnamed", "", name="west", detail="")
    assert missing.commands == (), "what the scenario has is nothing that these meshes want"


def test_what_is_observed_in_one_mesh_and_put_right_in_the_other_is_commanded_there() -> None:
    link = Look("link", "mesh2", "").broken("peer-object-unknown", "")
    assert (link.side, link.commands[0]) == ("mesh1", "oc@mesh1 -n mesh1-system get servicemeshpeers")


@pytest.fixture
def clusters(tmp_path: Path) -> dict[str, Cluster]:
    """mesh1 by the current context of a file whose name has a blank, mesh2 by a chosen one."""
    entries = [{"name": "it", "context": {"cluster": "it", "user": "it"}}]
    config = {
        "apiVersion": "v1",
        "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "it", "user": {"token": "x"}}],
        "contexts": entries,
        "current-context": "it",
    }
    path = tmp_path / "a file"
    path.write_text(yaml.safe_dump(config))
    return {"mesh1": Cluster("mesh1", path), "mesh2": Cluster("mesh2", path, "it")}


def test_a_command_names_the_kubeconfig_and_the_context_of_its_cluster(clusters: dict[str, Cluster]) -> None:
    lines = addressed(("oc@mesh1 get pods | oc@mesh2 apply -f -", "echo oc@mesh10"), clusters)
    first, second = (f"oc --kubeconfig '{clusters[name].kubeconfig}'" for name in ("mesh1", "mesh2"))
    assert lines == (f"{first} get pods | {second} --context it apply -f -", "echo oc@mesh10")


def test_commands_that_heal_are_told_from_those_that_show_more() -> None:
    healing = Look("link", "mesh1", "").broken("istiod-down", "", detail="quota")
    showing = Look("link", "mesh1", "").broken("crds-missing", "", kind="ServiceMeshPeer")
    assert Diagnosis((healing,)).summary[-1].startswith("run: oc@mesh1 -n mesh1-system scale deployment istiod-")
    assert Diagnosis((showing,)).summary[-1] == "see: oc@mesh1 get crd"
    assert Diagnosis((healing,)).to_dict()["commands"] == list(healing.commands)
