"""What proxies go on with for the drain time when a listener changes, in a whole lab with real Envoys."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.cluster import kinds
from harness.cluster.forwarded import get
from harness.product.discovery import SERVICES_PATH, ask_peer, discovery_route
from harness.product.envoy import Proxy
from harness.product.mesh import MESH1, MESH2, running_pods
from harness.scenario.adopt import adopted
from lab.faults import CATALOGUE
from selftests.support.federation import LiveFederation, in_force
from selftests.support.lab import Lab, start_lab, stop_lab

DRAIN = 15
"""Seconds: what is asked while listeners drain is answered within a part of them."""


@pytest.fixture(scope="module")
def drained_lab() -> Iterator[Lab]:
    found = start_lab("--until-eof", "--drain-seconds", str(DRAIN))
    yield found
    stop_lab(found)


@pytest.fixture(scope="module")
def federation(drained_lab: Lab) -> Iterator[LiveFederation]:
    """The scenario, provisioned, nothing of it draining."""
    found = LiveFederation(drained_lab.directory)
    found.until(found.healthy, True)
    for mesh, gateway in (("mesh1", MESH1.ingress_gateway), ("mesh2", MESH2.egress_gateway)):
        found.until(lambda mesh=mesh, gateway=gateway: draining(proxy(found, mesh, gateway)), 0)
    yield found
    found.close()


def proxy(federation: LiveFederation, mesh: str, gateway: str) -> Proxy:
    (pod,) = running_pods(federation.clusters[mesh], f"{mesh}-system", f"app={gateway}")
    return Proxy(federation.clusters[mesh], f"{mesh}-system", pod["metadata"]["name"])


def draining(gateway: Proxy) -> int:
    """Listeners and filter chains that a proxy is about to end."""
    lines = gateway.request("GET", "stats?filter=listener_manager.total_.*_draining").splitlines()
    return sum(int(line.rpartition(": ")[2]) for line in lines)


def watch(federation: LiveFederation) -> dict[str, Any]:
    """mesh2's own watch, as its peer's status has it."""
    lists = federation.status("mesh2")["discoveryStatus"]
    (entry,) = [entry for entries in lists.values() for entry in entries or ()]
    return dict(entry["watch"])


def over_pooled(egress: Proxy) -> tuple[int, bool]:
    """Status of a discovery request as the gateway sends it, and whether a connection was made for it."""
    route = discovery_route(egress.config_dump("dynamic_route_configs"))
    assert route
    host = f"{MESH2.egress_gateway}.{MESH2.system_namespace}.svc.cluster.local:8188"
    before = egress.connections("cx_total")[route.cluster]
    answer = get(
        egress.cluster, egress.namespace, egress.pod, 8188, SERVICES_PATH, "ask", {"Host": host, **route.headers}
    )
    return answer.status, egress.connections("cx_total")[route.cluster] > before


def test_a_changed_client_id_refuses_new_connections_only_until_the_old_ones_are_drained(drained_lab, federation):
    """Captured: a watch and pooled connections lived on for 45 s, while every new connection was refused (403)."""
    egress = proxy(federation, "mesh2", MESH2.egress_gateway)
    ingress = proxy(federation, "mesh1", MESH1.ingress_gateway)
    _, importer = adopted(federation.clusters).meshes
    assert over_pooled(egress)[0] == 200
    before = watch(federation)
    with in_force(drained_lab.directory, CATALOGUE["wrong-clientid-export"]):
        admits = lambda: "sa/somebody-else" in json.dumps(ingress.config_dump("dynamic_listeners"))  # noqa: E731
        federation.until(admits, True)
        assert over_pooled(egress) == (200, False)
        assert ask_peer(importer).status == 403
        during = watch(federation)
        assert (during["connected"], during.get("lastDisconnect")) == (True, before.get("lastDisconnect"))
        ended = lambda: (watch(federation)["connected"], watch(federation)["lastDisconnectStatus"])  # noqa: E731
        federation.until(ended, (False, "403 Forbidden"))
    federation.until(federation.healthy, True)


def cut_by(federation: LiveFederation, edit: Callable[[], None]) -> float:
    """Seconds until mesh2's watch is cut after an edit, and begun again."""
    before, began = watch(federation).get("lastDisconnect"), time.monotonic()
    edit()
    federation.until(lambda: watch(federation).get("lastDisconnect") != before, True)
    passed = time.monotonic() - began
    federation.until(lambda: watch(federation)["connected"], True)
    assert watch(federation)["lastDisconnectStatus"] == "200 OK"
    return passed


def test_every_edit_of_exports_cuts_the_importers_watch_once_after_the_drain_time(federation):
    """Captured: six watches in nine minutes ended 45 to 47 s after an edit each, for about a second."""
    cluster = federation.clusters["mesh1"]
    rules = cluster.get(kinds.EXPORTS, "mesh2", "mesh1-system")["spec"]["exportRules"]

    def export(kept: list[Any]) -> None:
        cluster.patch(kinds.EXPORTS, "mesh2", "mesh1-system", {"spec": {"exportRules": kept}})

    def cuts() -> int:
        return sum("watch failed: unexpected EOF" in line for line in federation.istiod_log("mesh2"))

    before = cuts()
    for kept in (rules[:1], rules):
        assert cut_by(federation, lambda kept=kept: export(kept)) > DRAIN - 1
    assert cuts() == before + 2
    federation.until(federation.healthy, True)
