"""Each fault that was captured on a real federation, made in the lab: the same statuses, pages, flags and log lines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.envoy import AccessLine, parse_access_line
from lab.faults import CATALOGUE
from lab.faults.fault import Fault
from lab.running import RunningLab
from selftests.conftest import OBSERVED
from selftests.support.federation import SETS, LiveFederation
from selftests.support.lab import start_lab, stop_lab

CAPTURED = sorted(path.name for path in (OBSERVED / "faults").iterdir())
# mesh1 could not write its status there: the product's own update was refused (mesh1-istiod.log of the capture).
OUTDATED = {"wrong-discovery-port-import", "unreachable-address-import"}


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


def do(directory: Path, step: str, fault: Fault) -> None:
    async def run() -> None:
        async with RunningLab(directory) as lab:
            await getattr(fault, step)(lab)

    asyncio.run(run())


def view(status: Any, pod_ends: bool = False) -> Any:
    """What a peer's status says of now: list, watch, whether a remote watches; texts of past failures left out."""
    found = []
    for name, entries in sorted((status.get("discoveryStatus") or {}).items()):
        for entry in entries or ():
            watch = entry["watch"]
            reason = "" if watch["connected"] else watch["lastDisconnectStatus"]
            watched = any(remote["connected"] for remote in entry.get("remotes") or ())
            found.append((name, watch["connected"], reason, bool(watch.get("lastFullSync")), pod_ends or watched))
    return found


def captured_view(observed, federation: LiveFederation, fault: str, mesh: str) -> Any:
    peer = {"mesh1": "mesh2", "mesh2": "mesh1"}[mesh]
    address = captured_egress(observed)
    found = view(observed(f"faults/{fault}/{mesh}-peer-{peer}.json")["status"], fault in OUTDATED and mesh == "mesh1")
    return [
        (listed, connected, now(fault, reason.replace(address, federation.egress_address("mesh2"))), *others)
        for listed, connected, reason, *others in found
    ]


def captured_egress(observed) -> str:
    services = observed("healthy/objects/mesh2-system-services.json")["items"]
    return next(item["spec"]["clusterIP"] for item in services if item["metadata"]["name"] == "mesh1-egress")


def watch_failures(lines: list[str]) -> set[str]:
    return {text for line in lines if (text := line.partition("watch failed: ")[2])}


def now(fault: str, reason: str) -> str:
    # Captured between the end of the stream and the next attempt, which the captured log shows to end with 503.
    return "503 Service Unavailable" if (fault, reason) == ("istiod-export-down", "200 OK") else reason


def captured_pages(observed, fault: str) -> frozenset[tuple[int, str]]:
    lines = [line.split() for line in observed(f"faults/{fault}/productpage.txt").splitlines()]
    return frozenset((int(status), word) for status, _, word in lines)


def outcomes(lines: list[AccessLine]) -> set[tuple[int, str]]:
    return {(line.response_code, ",".join(sorted(line.response_flags.split(",")))) for line in lines}


def captured_calls(observed, fault: str) -> list[AccessLine]:
    path = f"faults/{fault}/reviews-outbound.log"
    if not (OBSERVED / path).exists():
        return []
    # The captured lines begin after the time.
    lines = [parse_access_line(f"[2026-11-22T07:00:00.000Z] {text}") for text in observed(path).splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("name", CAPTURED)
def test_a_captured_fault_looks_as_captured_and_goes_away(observed, directory, federation, name):
    federation.until(federation.healthy, True)
    lines_before = len(federation.istiod_log("mesh2"))
    do(directory, "inject", CATALOGUE[name])
    for mesh in SETS:
        stale = name in OUTDATED and mesh == "mesh1"
        expected = captured_view(observed, federation, name, mesh)
        federation.until(lambda mesh=mesh, stale=stale: view(federation.status(mesh), stale), expected)
    for mesh, peer in (("mesh1", "exports-mesh2"), ("mesh2", "imports-mesh1")):
        captured = observed(f"faults/{name}/{mesh}-{peer}.json")["status"]
        federation.until(lambda mesh=mesh: federation.status(mesh, SETS[mesh]), captured)

    calls = captured_calls(observed, name)

    def look() -> Any:
        pages, mark = federation.marked_pages()
        return pages, outcomes(federation.ratings_calls(mark)) if calls else set()

    federation.until(look, (captured_pages(observed, name), outcomes(calls)))
    path = f"faults/{name}/mesh2-istiod.log"
    wanted = watch_failures(observed(path).splitlines()) if (OBSERVED / path).exists() else set()
    egress = federation.egress_address("mesh2")
    wanted = {text.replace(captured_egress(observed), egress) for text in wanted}
    federation.until(lambda: wanted - watch_failures(federation.istiod_log("mesh2")[lines_before:]), set())
    do(directory, "revert", CATALOGUE[name])
    federation.until(federation.healthy, True)
