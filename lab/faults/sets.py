"""What is offered, what is taken, and which namespaces belong to a mesh."""

from __future__ import annotations

from lab import resources
from lab.client import Object
from lab.faults.changes import Change, Target
from lab.faults.edits import exports, imports, members, merging
from lab.faults.fault import CAPTURED, SYSTEM, Fault

_EXPORT_RULES = [
    {
        "type": "NameSelector",
        "nameSelector": {
            "namespace": "mesh1-bookinfo",
            "name": name,
            "alias": {"namespace": "bookinfo", "name": name},
        },
    }
    for name in ("ratings", "mongodb")
]
_IMPORT_RULE: Object = {
    "type": "NameSelector",
    "importAsLocal": False,
    "nameSelector": {"namespace": "bookinfo", "alias": {"namespace": "mesh2-bookinfo"}},
}


def _set(mesh: str, kind: resources.Resource, name: str, spec: Object) -> Change:
    metadata = {"name": name, "namespace": SYSTEM[mesh]}
    return Change(Target(mesh, kind, name, SYSTEM[mesh]), create={"metadata": metadata, "spec": spec})


def _export_all(obj: Object) -> None:
    everything = {"type": "NameSelector", "nameSelector": {"namespace": "mesh1-bookinfo", "name": "*"}}
    obj["spec"]["exportRules"].append(everything)


def _misspell_ratings(obj: Object) -> None:
    for rule in obj["spec"]["exportRules"]:
        if rule["nameSelector"]["name"] == "ratings":
            rule["nameSelector"]["name"] = "rating"


def _import_rule(**selector: object) -> Object:
    return {**_IMPORT_RULE, "nameSelector": {**_IMPORT_RULE["nameSelector"], **selector}}


def faults() -> list[Fault]:
    """The faults of this module."""
    return [
        Fault(
            "export-set-misnamed",
            "mesh1's ExportedServiceSet has another name than the peer, so it is never looked at",
            "F13, product 19",
            (exports(None), _set("mesh1", resources.EXPORTS, "mesh-2", {"exportRules": _EXPORT_RULES})),
        ),
        Fault(
            "import-set-misnamed",
            "mesh2's ImportedServiceSet has another name than the peer, so it is never looked at",
            "F13, product 25b",
            (imports(None), _set("mesh2", resources.IMPORTS, "mesh-1", {"importRules": [_IMPORT_RULE]})),
        ),
        Fault(
            "export-rule-nomatch",
            "an export rule of mesh1 asks for service rating; there is ratings",
            "F54, product 20",
            (exports(_misspell_ratings),),
        ),
        Fault(
            "import-rule-nomatch",
            "the import rule of mesh2 asks for a namespace that mesh1 does not offer anything in",
            CAPTURED,
            (imports(merging({"spec": {"importRules": [_import_rule(namespace="nothing-here")]}})),),
        ),
        Fault(
            "import-as-local",
            "mesh2 imports as local: the imported names are gone, and mesh1 answers for mesh2's own names too",
            "F62, product 24",
            (imports(merging({"spec": {"importRules": [{**_IMPORT_RULE, "importAsLocal": True}]}})),),
        ),
        Fault(
            "too-much-exported",
            "mesh1 exports every service of its application namespace",
            "F56",
            (exports(_export_all),),
        ),
        Fault(
            "member-removed-import",
            "mesh2's member roll is empty, so its application is no part of the mesh",
            CAPTURED,
            (members("mesh2", []),),
        ),
        Fault(
            "member-removed-export",
            "mesh1's member roll is empty, so what it exports leads nowhere",
            CAPTURED,
            (members("mesh1", []),),
        ),
    ]
