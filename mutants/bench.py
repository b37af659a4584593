"""A fresh lab with the scenario installed, to be broken."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fixtures.clusters import embedded_lab
from harness.cluster import Cluster
from harness.progress import Progress
from harness.provision import Provisioner
from lab.faults import CATALOGUE
from lab.running import RunningLab

_SETTLE = 60.0  # seconds that watches and sets of a healthy lab may take; they need about 5


@contextlib.contextmanager
def provisioned_lab() -> Iterator[tuple[Path, Path]]:
    """The kubeconfigs of mesh1 and mesh2; the lab is gone when this block ends.

    Raises RuntimeError where the lab does not come up, ProvisionError where the scenario does not.
    """
    with contextlib.ExitStack() as stack:
        progress = Progress(stack.enter_context(open(os.devnull, "w")), live=False)
        kubeconfigs = stack.enter_context(embedded_lab(progress))
        with contextlib.ExitStack() as closed:
            clusters = {name: Cluster(name, path) for name, path in zip(("mesh1", "mesh2"), kubeconfigs, strict=True)}
            for cluster in clusters.values():
                closed.callback(cluster.close)
            Provisioner(clusters, "mutants", progress, patience=_SETTLE).run()
        yield kubeconfigs


def inject(fault: str, kubeconfigs: tuple[Path, Path]) -> None:
    """Puts a fault of the lab's catalogue in force; raises LabError, ApiError."""

    async def act() -> None:
        async with RunningLab(kubeconfigs[0].parent.parent) as lab:
            await CATALOGUE[fault].inject(lab)

    asyncio.run(act())
