"""A provisioned federation in a running lab, looked at from outside: statuses, pages, log lines."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.transport import NotFound
from harness.product.envoy import AccessLine, Proxy, parse_access_line
from harness.product.mesh import MESH1, MESH2, MeshNames, running_pods
from harness.run.progress import Progress
from harness.scenario.provision import Provisioner
from harness.split.probe import look_at
from lab.faults.fault import Fault
from lab.processes.running import RunningLab
from selftests.support.lab import start_lab, stop_lab

NAMES: dict[str, MeshNames] = {"mesh1": MESH1, "mesh2": MESH2}
SETS = {"mesh1": kinds.EXPORTS, "mesh2": kinds.IMPORTS}
ALL_STARS = frozenset({(200, "stars")})
# A watch that was let in before the fault took hold is shown as connected for the 2 min of its own poll (facts 2.2),
# which waits for the 2 min of a poll that was under way.
_DEADLINE = 270.0
_PROBES = 12

Pages = frozenset[tuple[int, str]]


@contextlib.contextmanager
def in_force(directory: Path, fault: Fault) -> Iterator[None]:
    """The fault is in force within this block."""

    async def run(step: str) -> None:
        async with RunningLab(directory) as lab:
            await getattr(fault, step)(lab)

    asyncio.run(run("inject"))
    try:
        yield
    finally:
        asyncio.run(run("revert"))


class LiveFederation:
    """Both meshes of a lab, as clients of their clusters see them."""

    def __init__(self, directory: Path) -> None:
        self.clusters = {name: Cluster(name, directory / name / "admin.kubeconfig", None) for name in NAMES}
        provisioner = Provisioner(self.clusters, "selftest", Progress(io.StringIO(), live=False))
        provisioner.run()
        assert provisioner.unsettled == []
        service = self.clusters["mesh2"].get(kinds.SERVICE, "istio-ingressgateway", MESH2.system_namespace)
        port = next(entry["nodePort"] for entry in service["spec"]["ports"] if entry["port"] == 80)
        node = self.clusters["mesh2"].list(kinds.NODE)[0]["status"]["addresses"][0]["address"]
        self.url = f"http://{node}:{port}/productpage"

    def close(self) -> None:
        for cluster in self.clusters.values():
            cluster.close()

    def status(self, mesh: str, kind: kinds.Kind = kinds.PEER) -> Any:
        """Status of the peer, or of the set, that a mesh has for the other one; {} where it has none."""
        names = NAMES[mesh]
        found = self.clusters[mesh].find(kind, names.peer, names.system_namespace) or {}
        return found.get("status") or {}

    def egress_address(self, mesh: str) -> str:
        names = NAMES[mesh]
        service = self.clusters[mesh].get(kinds.SERVICE, names.egress_gateway, names.system_namespace)
        return str(service["spec"]["clusterIP"])

    def pages(self, mark: str = "look") -> Pages:
        """What a dozen requests for mesh2's productpage get: status (0 for no answer) and what the page shows."""

        def look(index: int) -> tuple[int, str]:
            headers = {"User-Agent": f"probe/{mark}/{index}", "Connection": "close"}
            try:
                answer = requests.get(self.url, headers=headers, timeout=20)
            except requests.RequestException:
                return 0, "unavailable"
            return answer.status_code, str(look_at(answer.status_code, answer.content))

        with ThreadPoolExecutor(_PROBES) as pool:
            return frozenset(pool.map(look, range(_PROBES)))

    def marked_pages(self) -> tuple[Pages, str]:
        """The same, and the mark by which `ratings_calls` finds what these requests led to."""
        mark = uuid.uuid4().hex[:8]
        return self.pages(mark), mark

    def ratings_calls(self, mark: str) -> list[AccessLine]:
        """What reviews' sidecar logged of its calls of ratings for the probes with this mark."""
        namespace = MESH2.app_namespace
        pods = running_pods(self.clusters["mesh2"], namespace, "app=reviews,version=v3")
        found = [line for pod in pods for line in self._lines("mesh2", namespace, pod["metadata"]["name"])]
        ours = [line for line in found if line.user_agent.startswith(f"probe/{mark}/")]
        return [line for line in ours if line.path.startswith("/ratings/")]

    def gateway(self, mesh: str) -> list[AccessLine]:
        """The last lines on the way between the meshes: of mesh1's federation ingress, of mesh2's egress."""
        names = NAMES[mesh]
        label = names.ingress_gateway if mesh == "mesh1" else names.egress_gateway
        found = []
        for pod in running_pods(self.clusters[mesh], names.system_namespace, f"app={label}"):
            found += self._lines(mesh, names.system_namespace, pod["metadata"]["name"])
        return found

    def _lines(self, mesh: str, namespace: str, pod: str) -> list[AccessLine]:
        # A fault that changes a Deployment has the old pod taken away, perhaps since it was listed.
        with contextlib.suppress(NotFound):
            Proxy(self.clusters[mesh], namespace, pod).write_logs()
            with contextlib.closing(self.clusters[mesh].logs(namespace, pod, "istio-proxy", tail=100)) as lines:
                return [line for text in lines if (line := parse_access_line(text))]
        return []

    def istiod_log(self, mesh: str) -> list[str]:
        """Lines of a mesh's istiods."""
        names = NAMES[mesh]
        found: list[str] = []
        for pod in self.clusters[mesh].list(kinds.POD, names.system_namespace, "app=istiod"):
            logs = self.clusters[mesh].logs(names.system_namespace, pod["metadata"]["name"], "discovery")
            with contextlib.closing(logs) as lines:
                found += list(lines)
        return found

    def healthy(self) -> bool:
        """Whether both watches are connected, both sets complete, and all pages show stars."""
        for mesh in NAMES:
            entries = self.status(mesh).get("discoveryStatus", {}).get("active") or []
            own = any(entry["watch"]["connected"] and entry["watch"].get("lastFullSync") for entry in entries)
            seen = any(remote["connected"] for entry in entries for remote in entry.get("remotes") or ())
            (services,) = list(self.status(mesh, SETS[mesh]).values()) or [[]]
            if not own or not seen or len(services or ()) != 2:
                return False
        return self.pages() == ALL_STARS

    def until(self, look: Callable[[], Any], wanted: Any) -> None:
        """Looks until it sees what is wanted; fails with what it saw last."""
        deadline = time.monotonic() + _DEADLINE
        while (seen := look()) != wanted:
            if time.monotonic() > deadline:
                raise AssertionError(f"wanted {_text(wanted)}\n   saw {_text(seen)}")


def _text(value: Any) -> str:
    return json.dumps(value, default=str, sort_keys=True)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """The directory of a lab that lives as long as this module's tests."""
    lab = start_lab("--until-eof")
    try:
        yield lab.directory
    finally:
        stop_lab(lab)


@pytest.fixture(scope="module")
def federation(directory: Path) -> Iterator[LiveFederation]:
    """The scenario, provisioned."""
    found = LiveFederation(directory)
    yield found
    found.close()
