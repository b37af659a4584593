"""A fresh lab, to be broken: with the scenario installed, or bare."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from fixtures.clusters import embedded_lab
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import DEPLOYMENT
from harness.cluster.transport import Objects
from harness.product.mesh import MESH1, MESH2
from harness.product.status import is_current
from harness.run.progress import Progress
from harness.scenario.provision import Provisioner
from lab.faults import CATALOGUE
from lab.processes.running import RunningLab

_ROLL_OUT = 60.0  # seconds; on a busy machine it takes about 5
_SETTLE = 60.0  # seconds that watches and sets of a healthy lab may take; they need about 5


@contextlib.contextmanager
def bare_lab() -> Iterator[tuple[Path, Path]]:
    """The kubeconfigs of mesh1 and mesh2 of a lab with nothing but operators; it is gone when this block ends.

    Raises RuntimeError where the lab does not come up.
    """
    with open(os.devnull, "w") as nowhere, embedded_lab(Progress(nowhere, live=False)) as kubeconfigs:
        yield kubeconfigs


@contextlib.contextmanager
def provisioned_lab() -> Iterator[tuple[Path, Path]]:
    """The same with the scenario installed; raises ProvisionError where that does not come up."""
    with bare_lab() as kubeconfigs:
        with contextlib.ExitStack() as closed:
            progress = Progress(closed.enter_context(open(os.devnull, "w")), live=False)
            clusters = {name: Cluster(name, path) for name, path in zip(("mesh1", "mesh2"), kubeconfigs, strict=True)}
            for cluster in clusters.values():
                closed.callback(cluster.close)
            Provisioner(clusters, "mutants", progress, patience=_SETTLE).run()
        yield kubeconfigs


def inject(fault: str, kubeconfigs: tuple[Path, Path]) -> None:
    """Puts a fault of the lab's catalogue in force; raises LabError, ApiError."""

    async def act() -> None:
        async with RunningLab(_directory(kubeconfigs)) as lab:
            await CATALOGUE[fault].inject(lab)

    asyncio.run(act())


def wait_rolled_out(kubeconfigs: tuple[Path, Path]) -> None:
    """Until no Deployment of the scenario has pods of an older template; raises ClusterError, WaitTimeout."""
    for names, path in zip((MESH1, MESH2), kubeconfigs, strict=True):
        with contextlib.closing(Cluster(names.name, path)) as cluster:
            for namespace in (names.system_namespace, names.app_namespace):
                what = f"the Deployments of {namespace} to be rolled out"
                cluster.wait(what, DEPLOYMENT, namespace, until=_rolled_out, timeout=_ROLL_OUT)


def _rolled_out(deployments: Objects) -> bool:
    found = [(obj["spec"].get("replicas", 1), obj.get("status") or {}) for obj in deployments]
    return all(is_current(obj) for obj in deployments) and all(
        wanted == status.get("updatedReplicas", 0) == status.get("replicas", 0) for wanted, status in found
    )


def spoiled(kubeconfigs: tuple[Path, Path]) -> Mapping[str, int]:
    """How many requests the API servers of both meshes spoilt since the fault, by each kind that they were told to."""

    async def look() -> Mapping[str, int]:
        found: Counter[str] = Counter()
        async with RunningLab(_directory(kubeconfigs)) as lab:
            for api in lab.clusters.values():
                switch = await api.request("GET", "/lab/faults")
                found.update({kind: switch["made"].get(kind, 0) for kind in switch["kinds"]})
        return found

    return asyncio.run(look())


def _directory(kubeconfigs: tuple[Path, Path]) -> Path:
    return kubeconfigs[0].parent.parent
