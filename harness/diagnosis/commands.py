"""Commands that people copy: lines for a shell, quoted, with the kubeconfig of the cluster that each is for."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from harness.cluster.cluster import Cluster
from harness.product.mesh import MeshNames
from harness.scenario import manifests

_OC = re.compile(r"(?<!\S)oc(?P<peer>@peer)?(?!\S)")
_ADDRESSED = re.compile(r"(?<!\S)oc@(?P<mesh>mesh[12])(?!\S)")
_APPLY = re.compile(r"apply (?P<kind>\S+) (?P<name>\S+)")
_PLACE = re.compile(r"\{(?P<name>\w+)\}")


def filled(part: Any, values: Mapping[str, object]) -> Any:
    """Plain data with values in its places; what is nothing but a place becomes the value itself, whatever its type."""
    if isinstance(part, Mapping):
        return {filled(key, values): filled(value, values) for key, value in part.items()}
    if isinstance(part, list):
        return [filled(value, values) for value in part]
    if not isinstance(part, str):
        return part
    whole = _PLACE.fullmatch(part)
    return values[whole["name"]] if whole else part.format_map(values)


def command_lines(templates: Iterable[str], mesh: MeshNames, values: Mapping[str, object]) -> tuple[str, ...]:
    """The commands of a cause for a mesh and its peer, whose clusters are `oc@mesh1` and `oc@mesh2` in them.

    `values` are quoted for a shell, structures as JSON. `apply KIND NAME` applies `values["object"]`, or the object of
    this name in the scenario where that is not given or of another kind; there is no such line where there is neither.
    """
    quoted = {name: shlex.quote(_text(value)) for name, value in values.items()}
    lines = []
    for template in templates:
        addressed = _OC.sub(lambda oc: f"oc@{mesh.other if oc['peer'] else mesh.name}", template)
        line = addressed.format_map(quoted)
        if wanted := _APPLY.fullmatch(line):
            obj = _wanted(mesh, wanted["kind"], wanted["name"], values)
            line = f"echo {shlex.quote(_text(obj))} | oc@{mesh.name} apply -f -" if obj else ""
        lines += [line] if line else []
    return tuple(lines)


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, Mapping | list) else str(value)


def _wanted(mesh: MeshNames, kind: str, name: str, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    given = values.get("object")
    if "object" in values and (given is None or given["kind"] == kind):
        return given
    return of_scenario(mesh, kind, name)


def of_scenario(mesh: MeshNames, kind: str, name: str) -> dict[str, Any] | None:
    """The object of this name that the scenario has in a mesh; None where it has none, or the mesh is none of its."""
    if not mesh.is_scenario:
        return None
    named = (obj for obj in manifests.scenario(mesh) if (obj["kind"], obj["metadata"]["name"]) == (kind, name))
    return next(named, None)


def addressed(lines: Iterable[str], clusters: Mapping[str, Cluster]) -> tuple[str, ...]:
    """The same lines with `oc --kubeconfig FILE`, and the context where one was chosen."""

    def client(found: re.Match[str]) -> str:
        cluster = clusters[found["mesh"]]
        words = ["oc", "--kubeconfig", str(cluster.kubeconfig)]
        words += ["--context", cluster.context] if cluster.context else []
        return shlex.join(words)

    return tuple(_ADDRESSED.sub(client, line) for line in lines)
