"""Faults in a provisioned lab: what was captured on a real federation comes back, and everything can be taken back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.checks.data_plane import stranger_at
from harness.checks.installation import tls_servers
from harness.cluster import kinds
from harness.cluster.transport import ClusterError
from harness.product.envoy import AccessLine, parse_access_line
from harness.product.names import SERVICE_PORT
from harness.scenario.adopt import adopted
from lab.faults import CATALOGUE
from lab.faults.changes import Change, Ledger
from lab.faults.fault import Fault
from lab.processes.running import RunningLab
from lab.processes.supervisor import LabError, command
from selftests.conftest import OBSERVED
from selftests.support.federation import SETS, LiveFederation, directory, federation, in_force

__all__ = ["directory", "federation"]
CAPTURED = sorted(path.name for path in (OBSERVED / "faults").iterdir())
# mesh1 could not write its status there: the product's own update was refused (mesh1-istiod.log of the capture).
OUTDATED = {"wrong-discovery-port-import", "unreachable-address-import"}


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
    with in_force(directory, CATALOGUE[name]):
        look_as_captured(observed, federation, name, lines_before)
    federation.until(federation.healthy, True)


def look_as_captured(observed, federation: LiveFederation, name: str, lines_before: int) -> None:
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


def contents(api_objects: list[Any]) -> list[Any]:
    """Objects without what the server and controllers say of them."""
    found = []
    for obj in api_objects:
        if obj is None:
            found.append(None)
            continue
        annotations = obj["metadata"].get("annotations") or {}
        kept = {key: value for key, value in annotations.items() if key != "deployment.kubernetes.io/revision"}
        body = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
        found.append({**body, "labels": obj["metadata"].get("labels"), "annotations": kept})
    return found


def changed_by(directory: Path, fault: Fault) -> list[Any]:
    """What a fault changes, as it is now: the contents of its objects and the API servers' fault switches."""

    async def read() -> list[Any]:
        async with RunningLab(directory) as lab:
            switches = [await api.request("GET", "/lab/faults") for api in lab.clusters.values()]
            targets = [change.target for change in fault.changes]
            found = [await lab.clusters[item.mesh].find(item.kind, item.name, item.namespace) for item in targets]
            return [*contents(found), *({"rate": switch["rate"]} for switch in switches)]

    return asyncio.run(read())


def ask(federation: LiveFederation, tls: ssl.SSLContext | None) -> bytes:
    """First bytes that mesh1's discovery answers somebody without a certificate, with or without TLS; b'' for none."""
    service = federation.clusters["mesh1"].get(kinds.SERVICE, "mesh2-ingress", "mesh1-system")
    address = service["status"]["loadBalancer"]["ingress"][0]["ip"]
    try:
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.create_connection((address, 8188), timeout=10))
            if tls:
                sock = stack.enter_context(
                    tls.wrap_socket(sock, server_hostname="discovery.mesh2-system.svc.mesh1.local")
                )
            sock.sendall(b"GET /v1/services/ HTTP/1.1\r\nHost: stranger\r\n\r\n")
            return sock.recv(15)
    except OSError:
        return b""


def anyone() -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


STRANGERS = {"plaintext-at-ingress": lambda: None, "foreign-client-accepted": anyone}


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_are_let_in_only_while_the_fault_is_in_force(directory, federation, name):
    federation.until(lambda: ask(federation, STRANGERS[name]()), b"")
    with in_force(directory, CATALOGUE[name]):
        federation.until(lambda: ask(federation, STRANGERS[name]()), b"HTTP/1.1 200 OK")
        federation.until(federation.healthy, True)
    federation.until(lambda: ask(federation, STRANGERS[name]()), b"")
    federation.until(federation.healthy, True)


def test_a_stranger_is_refused_by_the_peers_gateway(federation):
    federation.until(federation.healthy, True)
    mesh1, _ = adopted(federation.clusters).meshes
    assert tls_servers(mesh1).problems == []
    met = stranger_at(mesh1, SERVICE_PORT)
    assert met.refused.shown == ("spiffe://mesh1.local/ns/mesh1-system/sa/mesh2-ingress-service-account",)
    assert met.gateway in met.refused.shown


def test_without_exports_nobody_is_there_to_refuse_a_stranger(directory, federation):
    federation.until(federation.healthy, True)
    mesh1, _ = adopted(federation.clusters).meshes
    with in_force(directory, CATALOGUE["export-set-misnamed"]):
        federation.until(lambda: len(tls_servers(mesh1).problems), 1)
        # Again and again: the load balancer accepts each connection, and resets most of them only after a while.
        found = [problem for _ in range(20) for problem in tls_servers(mesh1).problems]
        assert ["no TLS server for 15443" in problem for problem in found] == [True] * 20
        with pytest.raises(ClusterError, match="so nobody was refused"):
            stranger_at(mesh1, SERVICE_PORT)
    federation.until(federation.healthy, True)


def fault_command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = command("fault", *arguments, "--directory", str(directory))
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def weights(federation: LiveFederation) -> list[int]:
    split = federation.clusters["mesh2"].get(kinds.VIRTUAL_SERVICE, "ratings-split", "mesh2-bookinfo")
    return [entry["weight"] for entry in split["spec"]["http"][0]["route"]]


Answer = subprocess.CompletedProcess[str]


class OneAfterTheOther(NamedTuple):
    """Processes that break and mend, in their order; weights: before, in force, after the refusals, after the end."""

    weights: list[list[int]]
    on: Answer
    listed: Answer
    again: Answer
    other: Answer
    off: Answer
    off_again: Answer


@pytest.fixture(scope="module")
def one_after_the_other(directory, federation) -> OneAfterTheOther:
    before = weights(federation)
    on = fault_command(directory, "split-60-40")
    broken, listed = weights(federation), fault_command(directory)
    again, other = fault_command(directory, "split-60-40"), fault_command(directory, "split-90-10")
    still = weights(federation)
    off = fault_command(directory, "split-60-40", "--off")
    after = weights(federation)
    off_again = fault_command(directory, "split-60-40", "--off")
    return OneAfterTheOther([before, broken, still, after], on, listed, again, other, off, off_again)


def test_one_process_breaks_and_another_mends(one_after_the_other):
    assert one_after_the_other.weights == [[50, 50], [60, 40], [60, 40], [50, 50]]
    assert (one_after_the_other.on.returncode, one_after_the_other.off.returncode) == (0, 0)


def test_what_is_in_force_is_listed(one_after_the_other):
    assert one_after_the_other.listed.stdout == "split-60-40\n"


def test_what_is_changed_already_is_not_changed_again(one_after_the_other):
    again, other = one_after_the_other.again, one_after_the_other.other
    assert (again.returncode, other.returncode) == (1, 1)
    assert "in force already" in again.stderr
    assert "split-90-10 changes what split-60-40 changed" in other.stderr


def test_what_is_not_in_force_cannot_be_mended(one_after_the_other):
    assert "not in force" in one_after_the_other.off_again.stderr


@pytest.mark.usefixtures("federation")
def test_a_fault_that_cannot_be_made_leaves_nothing_changed(directory):
    known = CATALOGUE["wrong-service-port-import"].changes[0]
    missing = Change(known.target._replace(name="nobody"), known.edit)
    fault = Fault("impossible", "", "", (known, missing))
    before, why = changed_by(directory, fault), "ServiceMeshPeer mesh2-system/nobody of mesh2 is not there"
    with pytest.raises(LabError, match=why), in_force(directory, fault):
        raise AssertionError("it was made")
    assert changed_by(directory, fault) == before
    assert Ledger(directory).active() == []


MADE_ANEW = ("federation-frozen",)  # with the contents that it had: only istiod knows that it is another object


# Last: one change after the other leaves no time to settle, and istiod keeps what it first knew of a peer made anew.
@pytest.mark.usefixtures("federation")
@pytest.mark.parametrize("name", sorted(set(CATALOGUE) - set(CAPTURED)))
def test_what_a_fault_changes_it_puts_back(directory, name):
    fault = replace(CATALOGUE[name], restart=())
    before = changed_by(directory, fault)
    with in_force(directory, fault):
        assert Ledger(directory).active() == [name]
        assert (changed_by(directory, fault) != before) is (name not in MADE_ANEW)
    assert changed_by(directory, fault) == before
    assert Ledger(directory).active() == []
