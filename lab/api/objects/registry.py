"""Which kinds are served, under which versions and with which subresources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lab.api.objects.store import Clock, Collection
from lab.api.schema.schema import UNKNOWN, Node


@dataclass(frozen=True)
class Column:
    """One printer column; `path` is a JSONPath without braces."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class Version:
    """One served version of a kind; `schema` is the OpenAPI v3 schema as clients may read it."""

    name: str
    node: Node = UNKNOWN
    status: bool = False
    scale: bool = False
    columns: tuple[Column, ...] = ()
    schema: dict[str, object] = field(default_factory=dict)


@dataclass
class Kind:
    """One kind; identity is the object itself, `collection` holds its objects.

    `custom` kinds come from CRDs; `storage` is the version they are stored under.
    """

    group: str
    plural: str
    kind: str
    namespaced: bool
    versions: dict[str, Version]
    storage: str
    collection: Collection
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    custom: bool = False
    generation: bool = False
    subresources: tuple[str, ...] = ()
    terminating: bool = False

    def __post_init__(self) -> None:
        self.singular = self.singular or self.kind.lower()
        self.list_kind = self.list_kind or f"{self.kind}List"

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def api_version(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version


class Registry:
    """All served kinds by group and plural; groups keep the order in which they came."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._kinds: dict[tuple[str, str], Kind] = {}

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._kinds.values()))

    def add(self, kind: Kind) -> None:
        self._kinds[kind.group, kind.plural] = kind

    def remove(self, kind: Kind) -> None:
        self._kinds.pop((kind.group, kind.plural), None)

    def get(self, group: str, plural: str) -> Kind | None:
        return self._kinds.get((group, plural))

    def find(self, group: str, version: str, plural: str) -> tuple[Kind, Version] | None:
        kind = self._kinds.get((group, plural))
        if kind is None or version not in kind.versions:
            return None
        return kind, kind.versions[version]

    def groups(self) -> dict[str, list[str]]:
        """Served versions of each group, the preferred one first."""
        found: dict[str, list[str]] = {}
        for kind in self:
            versions = found.setdefault(kind.group, [])
            versions.extend(version for version in kind.versions if version not in versions)
        return {group: sorted(versions, key=priority) for group, versions in found.items()}

    def kinds_of(self, group: str, version: str) -> Iterable[Kind]:
        return [kind for kind in self if kind.group == group and version in kind.versions]


def priority(version: str) -> tuple[int, int, int, str]:
    """Sort key of version names: stable ones first, newer ones first, then beta, then alpha."""
    for stage, marker in enumerate(("", "beta", "alpha")):
        head, found, tail = version[1:].partition(marker) if marker else (version[1:], "", "")
        if marker and not found:
            continue
        if head.isdigit() and (not marker or tail.isdigit()):
            return stage, -int(head), -int(tail or 0), ""
    return 3, 0, 0, version
