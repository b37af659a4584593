"""One fault of the catalogue: what it changes, and how it is put in force and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab import resources
from lab.faults.changes import Change, Ledger, held_by, restart_pods, save, until_told
from lab.processes.running import RunningLab
from lab.processes.supervisor import LabError

CAPTURED = "captured"
"""Reference of the faults that were captured on a real federation."""

SYSTEM = {"mesh1": "mesh1-system", "mesh2": "mesh2-system"}
APP = {"mesh1": "mesh1-bookinfo", "mesh2": "mesh2-bookinfo"}
PEER = {"mesh1": "mesh2", "mesh2": "mesh1"}
CONTROL_PLANE = {"mesh1": "fed-export", "mesh2": "fed-import"}
INGRESSES = tuple((mesh, f"{PEER[mesh]}-ingress") for mesh in PEER)
"""What to restart so that all connections between the meshes are made, and verified, again."""


@dataclass(frozen=True)
class Fault:
    """Something broken on purpose.

    name: as on the command line; title: what is wrong, one sentence; reference: `captured`, or the ids of the failure
    catalogue (F..), or `product N` for a row of the product's failure modes; changes: what is changed, in order.
    restart: (mesh, label `app`) of control plane pods that are started anew, one after the other, when the changes are
    made and again when they are taken back: the product keeps what it trusted and what it connected. healed_by: the
    same, when they are taken back only: what is broken by then, nothing else heals. begun_by: the same, when they are
    made only. certain_after: seconds until what the product does by itself can no longer be expected, so that the fault
    can be told from it. api: body for the API servers' fault switch, from the share of requests.
    """

    name: str
    title: str
    reference: str
    changes: tuple[Change, ...] = ()
    restart: tuple[tuple[str, str], ...] = ()
    healed_by: tuple[tuple[str, str], ...] = ()
    begun_by: tuple[tuple[str, str], ...] = ()
    certain_after: float = 0
    api: Callable[[float], Mapping[str, Any]] | None = None

    async def inject(self, lab: RunningLab) -> None:
        """Returns when the objects are changed and what is to be restarted is; the product takes its time to notice.

        LabError when the fault is in force already, when another in force holds an object that this one changes, or
        when an object is missing; what was changed until then is put back.
        """
        ledger = Ledger(lab.directory)
        if self.name in ledger.active():
            raise LabError(f"{self.name} is in force already; end it with: python -m lab fault {self.name} --off")
        if other := ledger.holder_of({change.target for change in self.changes}):
            raise LabError(f"{self.name} changes what {other} changed; end that first")
        saved = await asyncio.gather(*(save(lab.clusters[change.target.mesh], change) for change in self.changes))
        ledger.write(self.name, list(saved))
        before = await self._held(lab)
        try:
            for change in self.changes:
                await change.make(lab.clusters[change.target.mesh])
            if self.api:
                await _switch(lab, self.api(lab.rate))
        except BaseException:
            await self.revert(lab)
            raise
        await self._restart(lab, before)
        for mesh, app in self.begun_by:
            await restart_pods(lab.clusters[mesh], SYSTEM[mesh], app)

    async def revert(self, lab: RunningLab) -> None:
        """Puts back exactly what was there; LabError when the fault is not in force."""
        ledger = Ledger(lab.directory)
        saved = ledger.read(self.name)
        before = await self._held(lab)
        if self.api:
            await _switch(lab, {"rate": 0})
        for item in reversed(saved):
            await item.restore(lab.clusters[item.target.mesh])
        ledger.forget(self.name)
        await self._restart(lab, before)
        for mesh, app in self.healed_by:
            await restart_pods(lab.clusters[mesh], SYSTEM[mesh], app)

    async def _held(self, lab: RunningLab) -> dict[str, str]:
        """By mesh, what the egress gateways were told that are to connect anew to a peer as this changes it.

        Not for roots: those are looked at with the peer only, when its watch is cut.
        """
        meshes = {
            change.target.mesh for change in self.changes if self.restart and change.target.kind == resources.PEER
        }
        return {mesh: await held_by(lab.clusters[mesh], SYSTEM[mesh], f"{PEER[mesh]}-egress") for mesh in meshes}

    async def _restart(self, lab: RunningLab, before: Mapping[str, str]) -> None:
        # What connects anew before it is told of the change is let in, and stays connected for good.
        for mesh, held in before.items():
            await until_told(lab.clusters[mesh], SYSTEM[mesh], f"{PEER[mesh]}-egress", held)
        for mesh, app in self.restart:
            await restart_pods(lab.clusters[mesh], SYSTEM[mesh], app)


async def _switch(lab: RunningLab, body: Mapping[str, Any]) -> None:
    await asyncio.gather(*(api.request("POST", "/lab/faults", dict(body)) for api in lab.clusters.values()))
