"""A lab that runs already, found from another process: its directory, its clusters, an API client for each."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from lab.client import ApiClient
from lab.processes.supervisor import STATE_FILE, LabError
from lab.settings import ClusterSettings

DIRECTORY_VARIABLE = "LAB_DIRECTORY"
KUBECONFIG_VARIABLE = "MESH1_KUBECONFIG"


def default_directory(environment: Mapping[str, str]) -> str | None:
    """The lab directory that the environment speaks of: LAB_DIRECTORY, or where the kubeconfig of mesh1 lies."""
    if directory := environment.get(DIRECTORY_VARIABLE):
        return directory
    kubeconfig = environment.get(KUBECONFIG_VARIABLE)
    return str(Path(kubeconfig).parent.parent) if kubeconfig else None


def read_state(directory: str | None) -> dict:
    """What the running lab in this directory wrote of itself: its `pid` and `clusters` (name: directory).

    LabError where none runs there.
    """
    if not directory:
        raise LabError(f"say which lab: --directory DIR or {DIRECTORY_VARIABLE}=DIR (`up` names it when it is ready)")
    try:
        state = json.loads((Path(directory) / STATE_FILE).read_text())
        os.kill(state["pid"], 0)
    except (OSError, ValueError) as error:
        raise LabError(f"no lab runs in {directory}") from error
    return state


class RunningLab:
    """Both clusters of a running lab, by mesh name; use as an async context manager.

    `rate` is the share of API requests (0 to 1) that the api-* faults spoil.
    """

    def __init__(self, directory: str | Path, rate: float = 0.05) -> None:
        self.directory, self.rate = Path(directory), rate
        clusters = read_state(str(directory))["clusters"]
        self.clusters = {name: ApiClient(ClusterSettings.load(where), "lab-faults") for name, where in clusters.items()}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> RunningLab:
        for api in self.clusters.values():
            await self._stack.enter_async_context(api)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
