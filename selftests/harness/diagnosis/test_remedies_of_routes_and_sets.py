"""What is printed for broken routes and sets, run as it is printed: fault, cause, the commands, all in order again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.cluster import kinds
from selftests.support.diagnosed import Meshes, meshes
from selftests.support.healing import APP, SYSTEM, Break, deleted, heal, patched, shell

__all__ = ["meshes", "shell"]
REMOTE = "ratings.mesh2-bookinfo.svc.mesh1-imports.local"
REVIEWS, RATINGS, MONGODB = (
    ("mesh2", kinds.VIRTUAL_SERVICE, name) for name in ("reviews", "ratings-split", "mongodb-remote")
)


def split(*http: Any) -> Break:
    return patched("mesh2", kinds.VIRTUAL_SERVICE, "ratings-split", {"http": list(http)}, APP["mesh2"])


def half(host: str, weight: int = 50, **destination: str) -> dict[str, Any]:
    """A route that sends so many percent of ratings' calls to a host."""
    home = {"destination": {"host": "ratings.mesh2-bookinfo.svc.cluster.local"}, "weight": 100 - weight}
    return {"route": [{"destination": {"host": host, **destination}, "weight": weight}, home]}


def rules(mesh: str, **rule: Any) -> Break:
    """The first rule of a mesh's set with changes."""
    kind, field = {"mesh1": (kinds.EXPORTS, "exportRules"), "mesh2": (kinds.IMPORTS, "importRules")}[mesh]
    name = {"mesh1": "mesh2", "mesh2": "mesh1"}[mesh]

    def change(meshes: Meshes) -> None:
        first, *others = meshes.clusters[mesh].get(kind, name, SYSTEM[mesh])["spec"][field]
        selector = {**first["nameSelector"], **rule.get("nameSelector", {})}
        patched(mesh, kind, name, {field: [{**first, **rule, "nameSelector": selector}, *others]})(meshes)

    return change


def misplaced(meshes: Meshes) -> None:
    """mesh2's imports in the application's namespace."""
    spec = meshes.clusters["mesh2"].get(kinds.IMPORTS, "mesh1", SYSTEM["mesh2"])["spec"]
    deleted("mesh2", kinds.IMPORTS, "mesh1")(meshes)
    metadata = {"name": "mesh1", "namespace": APP["mesh2"]}
    about = {"apiVersion": kinds.IMPORTS.api_version, "kind": kinds.IMPORTS.kind, "metadata": metadata}
    meshes.clusters["mesh2"].create({**about, "spec": spec})


def preceded(meshes: Meshes) -> None:
    """ratings-split behind another VirtualService for ratings: of the same second the first by name holds."""
    cluster = meshes.clusters["mesh2"]
    again = cluster.get(kinds.VIRTUAL_SERVICE, "ratings-split", APP["mesh2"])
    deleted("mesh2", kinds.VIRTUAL_SERVICE, "ratings-split", APP["mesh2"])(meshes)
    about = {"apiVersion": kinds.VIRTUAL_SERVICE.api_version, "kind": kinds.VIRTUAL_SERVICE.kind}
    spec = {"hosts": ["ratings"], "http": [{"route": [{"destination": {"host": "ratings"}}]}]}
    cluster.create({**about, "metadata": {"name": "ratings", "namespace": APP["mesh2"]}, "spec": spec})
    cluster.create({**about, "metadata": {"name": "ratings-split", "namespace": APP["mesh2"]}, "spec": again["spec"]})


BROKEN: dict[str, Break] = {
    # What VirtualServices say; nothing else notices
    "split-missing": deleted(*RATINGS, APP["mesh2"]),
    "unknown-host": split(half(REMOTE.replace("imports", "import"))),
    "unknown-subset": split(half(REMOTE, subset="v9")),
    "weights-differ": split(half(REMOTE, 60)),
    "not-independent": split({"match": [{"headers": {"x": {"exact": "y"}}}], **half(REMOTE, 100)}, half(REMOTE)),
    "host-owned-by-another": preceded,
    "route-for-another-host": patched(*RATINGS, {"hosts": ["rating"]}, APP["mesh2"]),
    "route-not-for-sidecars": patched(*RATINGS, {"gateways": ["bookinfo-gateway"]}, APP["mesh2"]),
    "reviews-route-missing": deleted(*REVIEWS, APP["mesh2"]),
    "reviews-not-pinned": patched(
        *REVIEWS, {"http": [{"route": [{"destination": {"host": "reviews"}}]}]}, APP["mesh2"]
    ),
    "mongodb-route-missing": deleted(*MONGODB, APP["mesh2"]),
    "mongodb-service-missing": deleted("mesh2", kinds.SERVICE, "mongodb", APP["mesh2"]),
    # Sets
    "export-set-misnamed": deleted("mesh1", kinds.EXPORTS, "mesh2"),
    "export-service-missing": deleted("mesh1", kinds.SERVICE, "ratings", APP["mesh1"]),
    "export-rule-ignored": rules("mesh1", type="nameselector"),
    "export-rule-no-match": rules("mesh1", nameSelector={"name": "rating"}),
    "exported-under-another-name": rules("mesh1", nameSelector={"alias": {"namespace": "books"}}),
    "surplus-export": patched(
        "mesh1",
        kinds.EXPORTS,
        "mesh2",
        {
            "exportRules": [
                {
                    "type": "NameSelector",
                    "nameSelector": {"namespace": APP["mesh1"], "name": "*", "alias": {"namespace": "bookinfo"}},
                }
            ]
        },
    ),
    "import-set-misnamed": deleted("mesh2", kinds.IMPORTS, "mesh1"),
    "object-misplaced": misplaced,
    "import-rule-ignored": rules("mesh2", type="LabelSelector"),
    "import-rule-no-match": rules("mesh2", nameSelector={"namespace": "nothing-here"}),
    "imported-under-another-name": rules("mesh2", domainSuffix="other.local"),
    "import-as-local": rules("mesh2", importAsLocal=True),
}


@pytest.fixture
def sets_as_before(meshes: Meshes) -> Iterator[None]:
    """Both sets get back what they asked for: commands add a rule before the broken one, which would be met again."""
    sets = (("mesh1", kinds.EXPORTS, "mesh2"), ("mesh2", kinds.IMPORTS, "mesh1"))
    before = [meshes.clusters[mesh].get(kind, name, SYSTEM[mesh])["spec"] for mesh, kind, name in sets]
    yield
    for (mesh, kind, name), spec in zip(sets, before, strict=True):
        patched(mesh, kind, name, spec)(meshes)


@pytest.mark.usefixtures("sets_as_before")
@pytest.mark.parametrize("cause", BROKEN)
def test_the_commands_of_a_cause_put_it_right(meshes: Meshes, shell: dict[str, str], cause: str) -> None:
    BROKEN[cause](meshes)
    heal(meshes, shell, cause)
