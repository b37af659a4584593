"""The file of --meshes: which meshes there are, how their clusters are reached, and all that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

_KEYS = {"name": True, "kubeconfig": True, "context": False, "namespace": False, "controlPlane": False}
_SHAPE = f"a list of meshes, each with {', '.join(key for key, must in _KEYS.items() if must)} and, where needed, " + (
    ", ".join(key for key, must in _KEYS.items() if not must)
)


@dataclass(frozen=True)
class MeshEntry:
    """One cluster to look into, under a name of its own; namespace, control_plane: None for all that are there."""

    name: str
    kubeconfig: Path
    context: str | None = None
    namespace: str | None = None
    control_plane: str | None = None


def read_meshes(path: Path) -> tuple[list[MeshEntry], list[str]]:
    """The entries of a file, and what is wrong with it, each with its line; a kubeconfig's path begins at the file."""
    try:
        root = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        return [], ["there is no such file"]
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"cannot be read ({getattr(error, 'strerror', None) or 'not text'})"]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        return [], [f"{where}is not YAML ({getattr(error, 'problem', None) or 'not understood'})"]
    if not isinstance(root, yaml.SequenceNode) or not root.value:
        return [], [f"is not {_SHAPE}"]
    entries, problems = list[MeshEntry](), list[str]()
    for node in root.value:
        entry, wrong = _entry(node, path.parent)
        problems += wrong
        if entry and entry.name in {known.name for known in entries}:
            problems.append(f"{_line(node)}: there is another mesh named {entry.name}")
        entries += [entry] if entry else []
    return entries, problems


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _entry(node: yaml.Node, directory: Path) -> tuple[MeshEntry | None, list[str]]:
    if not isinstance(node, yaml.MappingNode):
        return None, [f"{_line(node)}: is not a mesh; the file is {_SHAPE}"]
    known, problems = dict[str, str](), list[str]()
    for key, value in node.value:
        name = str(key.value)
        if name not in _KEYS:
            problems.append(f"{_line(key)}: {name} is none of {', '.join(_KEYS)}")
        elif not isinstance(value, yaml.ScalarNode) or not value.value.strip():
            problems.append(f"{_line(value)}: {name} must be a text")
        else:
            known[name] = value.value.strip()
        if name == "kubeconfig" and name in known and not (directory / known[name]).is_file():
            problems.append(f"{_line(value)}: kubeconfig {known[name]}: there is no such file")
    problems += [
        f"{_line(node)}: {key} is missing" for key, must in _KEYS.items() if must and key not in _written(node)
    ]
    if "controlPlane" in known and "namespace" not in known:
        problems.append(f"{_line(node)}: controlPlane needs its namespace")
    if problems:
        return None, problems
    path = (directory / known["kubeconfig"]).absolute()
    return MeshEntry(known["name"], path, known.get("context"), known.get("namespace"), known.get("controlPlane")), []


def _written(node: yaml.MappingNode) -> set[str]:
    return {str(key.value) for key, _ in node.value}
