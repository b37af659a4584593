"""What every process of one emulated cluster is told at its start: one JSON file, `cluster.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.addresses import Block

DEFAULT_KUBERNETES_VERSION = "v1.30.4"


@dataclass(frozen=True)
class Knob:
    """A time that a lab shortens, in seconds: the lab's own, the product's, and what it is."""

    lab: float
    product: float
    text: str


KNOBS = {
    "drain_seconds": Knob(3, 45, "how long proxies keep connections of changed listeners"),
    "blind_seconds": Knob(2.0, 60.0, "how long a restarted istiod 2.1 is without federation"),
    "import_seconds": Knob(1.0, 300.0, "how long an edited ImportedServiceSet waits for the resync of an istiod 2.1"),
    "retry_seconds": Knob(10.0, 120.0, "how long a resync that fails is tried, with no push to any proxy meanwhile"),
    "stale_seconds": Knob(2.0, 50.0, "how long an istiod that is gone stays in the peer's status"),
    "webhook_seconds": Knob(0.0, 20.0, "how long the operator's webhooks do not listen though it is Available"),
}
"""The options of `python -m lab up` of these names, and the fields of ClusterSettings."""


@dataclass(frozen=True)
class ClusterSettings:
    """One emulated cluster.

    name: `mesh1` or `mesh2`; octet: its address block; directory: where its files live (0700, removed at the end);
    server: URL of the API; token: bearer token of the admin, used by the lab's own controllers too;
    ossm_version: the operator's version, e.g. `2.1.6`; kubernetes_version: what `/version` says.
    The others are KNOBS, with the product's times but for the webhooks, which listen at once.
    `directory` holds `ca.crt`, `ca.key`, `admin.kubeconfig`, `cluster.json`.
    """

    name: str
    octet: int
    directory: str
    server: str
    token: str
    ossm_version: str = "2.1.6"
    kubernetes_version: str = DEFAULT_KUBERNETES_VERSION
    drain_seconds: int = 45
    blind_seconds: float = 60
    import_seconds: float = 300
    retry_seconds: float = 120
    stale_seconds: float = 50
    webhook_seconds: float = 0

    @property
    def block(self) -> Block:
        return Block(self.octet)

    @property
    def path(self) -> Path:
        return Path(self.directory)

    @property
    def ca_file(self) -> Path:
        return self.path / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        return self.path / "admin.kubeconfig"

    def save(self) -> Path:
        target = self.path / "cluster.json"
        target.write_text(json.dumps(asdict(self), indent=1))
        return target

    @classmethod
    def load(cls, directory: str | Path) -> ClusterSettings:
        return cls(**json.loads((Path(directory) / "cluster.json").read_text()))
