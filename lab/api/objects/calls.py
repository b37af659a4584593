"""One request about objects, after routing and authentication."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.api.objects.auth import User
from lab.api.objects.registry import Kind, Version
from lab.api.schema.errors import bad_request


def truth(text: str | None) -> bool:
    """A boolean query parameter: everything is true but `false`, `0` and absence."""
    return text is not None and text not in ("false", "False", "0")


@dataclass
class Call:
    """What is asked for: kind, version, place, and the options of the query; `warnings` go with the answer."""

    kind: Kind
    version: Version
    namespace: str
    name: str
    sub: str
    params: dict[str, str]
    user: User
    agent: str
    warnings: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    @property
    def api_version(self) -> str:
        return self.kind.api_version(self.version.name)

    @property
    def manager(self) -> str:
        """Field manager: the one asked for, else the first word of the user agent."""
        return self.params.get("fieldManager") or self.agent.partition("/")[0].partition(" ")[0][:128] or "unknown"

    @property
    def dry_run(self) -> bool:
        asked = self.params.get("dryRun")
        if asked and asked != "All":
            raise bad_request(f'invalid dryRun: "{asked}": supported values: "All"')
        return bool(asked)

    @property
    def field_validation(self) -> str:
        asked = self.params.get("fieldValidation") or "Warn"
        if asked not in ("Strict", "Warn", "Ignore"):
            raise bad_request(f'invalid fieldValidation: "{asked}": supported values: "Ignore", "Strict", "Warn"')
        return asked
