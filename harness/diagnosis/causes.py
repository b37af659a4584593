"""Every cause a diagnosis can name, from causes.yaml: a stable id, a sentence, what to do about it, and on which side.

causes.schema.json says what an entry consists of, and causes.yaml what its places in braces are.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from harness.diagnosis.commands import command_lines, filled
from harness.product.mesh import SCENARIO, MeshNames

_FILE = Path(__file__).with_name("causes.yaml")
MESHES: ContextVar[Mapping[str, MeshNames]] = ContextVar("meshes", default=SCENARIO)
"""The names that causes speak of: of the meshes that are looked at in this thread."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the file is long, and the other one slow


class Told(NamedTuple):
    """A cause in words, and in commands for a shell, where `oc@mesh1` and `oc@mesh2` are `oc` at these clusters."""

    sentence: str
    remedy: str
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Cause:
    """An entry of causes.yaml, with its places in braces still open."""

    sentence: str
    remedy: str
    commands: tuple[str, ...]
    heals: bool = False
    elsewhere: bool = False
    patch: Mapping[str, Any] | None = None

    def told(self, side: str, values: Mapping[str, object]) -> Told:
        """The cause with these values in its places; `side` is the mesh to put right, or `both`."""
        known = {**_names(side), **values}
        known |= {"patch": filled(self.patch, known)} if self.patch else {}
        commands = command_lines(self.commands, _here(side), known)
        return Told(self.sentence.format_map(known), self.remedy.format_map(known), commands)


def _here(side: str) -> MeshNames:
    return MESHES.get()["mesh2" if side == "mesh2" else "mesh1"]


def _names(side: str) -> dict[str, object]:
    """What every cause may name: `mesh` is the side to put right, `peer` the other mesh; names in both, `peer_*`."""
    here = _here(side)
    there = MESHES.get()[here.other]
    parts = {
        "system": "system_namespace",
        "app": "app_namespace",
        "istiod": "istiod",
        "plane": "control_plane",
        "ingress": "ingress_gateway",
        "egress": "egress_gateway",
        "peer_name": "peer",
        "root": "root_config_map",
    }
    own = {part: getattr(here, attribute) for part, attribute in parts.items()}
    others = {f"peer_{part}": getattr(there, attribute) for part, attribute in parts.items()}
    own["variable"], others["peer_variable"] = (f"{mesh.name.upper()}_KUBECONFIG" for mesh in (here, there))
    return {"mesh": side, "peer": there.name if side == here.name else "the peer", **own, **others}


def _read() -> dict[str, Cause]:
    entries = yaml.load(_FILE.read_text(), Loader=_LOADER)
    return {name: Cause(**{**entry, "commands": tuple(entry["commands"])}) for name, entry in entries.items()}


CAUSES = _read()
