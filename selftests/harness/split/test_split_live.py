"""The split of a provisioned lab, measured in every way there is: lines in JSON, without exec, counters."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.product.envoy import Proxy
from harness.product.mesh import MESH1, Federation
from harness.scenario.adopt import adopted
from harness.split.ledger import Fate
from harness.split.ratings_split import SplitMeter
from harness.split.request_counters import requests_answered
from lab.api.http.pki import kubeconfig
from lab.faults import CATALOGUE
from lab.processes.running import RunningLab
from lab.settings import ClusterSettings
from selftests.support.federation import NAMES, LiveFederation
from selftests.support.lab import start_lab, stop_lab

EVEN = (50, 50)
_RATINGS = "app=ratings"
_LOGGED, _COUNTED, _JSON = "FileAccessLog", "envoy.access_loggers.stats", "json_format"
_DRAINING = "stats?filter=listener_manager.total_.*_draining"


@dataclass(frozen=True)
class Scene:
    """A provisioned lab."""

    directory: Path
    live: LiveFederation
    federation: Federation

    @property
    def meter(self) -> SplitMeter:
        return SplitMeter(self.federation, self.live.url, margin=0.1)

    def proxies(self, mesh: str, selector: str = _RATINGS) -> list[Proxy]:
        pods = self.federation.mesh(mesh).running_pods(NAMES[mesh].app_namespace, selector)
        return [Proxy(self.live.clusters[mesh], NAMES[mesh].app_namespace, pod["metadata"]["name"]) for pod in pods]

    def configure(self, wanted: dict[str, bool], **spec: Any) -> None:
        """Changes both control planes, and waits until sidecars and gateways have (or lack) what is wanted."""
        for mesh, cluster in self.live.clusters.items():
            names = NAMES[mesh]
            cluster.patch(kinds.CONTROL_PLANE, names.control_plane, names.system_namespace, {"spec": spec})

        def seen() -> bool:
            proxies = [*self.proxies("mesh1"), *self.proxies("mesh2"), *self.proxies("mesh2", "app=reviews,version=v3")]
            dumps = [proxy.request("GET", "config_dump?resource=dynamic_listeners") for proxy in proxies]
            # What a listener serves while it drains, it serves as it was configured before.
            drained = not any(re.search(r": [1-9]", proxy.request("GET", _DRAINING)) for proxy in proxies)
            return drained and all((text in dump) == there for dump in dumps for text, there in wanted.items())

        self.live.until(seen, True)
        self.live.until(self.live.healthy, True)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    lab = start_lab("--until-eof")
    try:
        live = LiveFederation(lab.directory)
        yield Scene(lab.directory, live, adopted(live.clusters))
        live.close()
    finally:
        stop_lab(lab)


def logging(encoding: str | None) -> dict[str, Any]:
    return {"accessLogging": {"file": {"name": "/dev/stdout", "encoding": encoding} if encoding else None}}


def test_pinned_picks_are_no_measurement(scene):
    """Runs of requests that go to one mesh: half of them each, yet nothing to judge by."""

    async def run(step: str) -> None:
        async with RunningLab(scene.directory) as lab:
            await getattr(CATALOGUE["pinned-picks"], step)(lab)

    asyncio.run(run("inject"))
    try:
        found = scene.meter.measure(EVEN)
    finally:
        asyncio.run(run("revert"))
    assert found.outcome == "INCONCLUSIVE:dependent", found.report
    assert "repeats the backend too often" in found.headline


def test_lines_in_json_are_read_as_well(scene):
    scene.configure({_JSON: True}, proxy=logging("JSON"))
    found = scene.meter.measure(EVEN)
    assert found.passed, found.report
    assert found.account
    assert found.account.balanced
    assert found.account.connections, "gateways log connections"
    served = [record for record in found.records if record.settlement.fate is Fate.SERVED]
    # Connections that gateways held before the change are told in text at their end.
    requests_told = [logged for record in served for logged in record.lines if logged.line.is_http]
    assert len(requests_told) >= 2 * len(served)
    assert all(logged.text.startswith("{") for logged in requests_told)
    assert {record.path for record in served if record.settlement.mesh == "mesh1"} == {
        ("mesh2 mesh1-egress", "mesh1 mesh2-ingress")
    }


def test_members_come_to_an_istiod_that_is_there(scene):
    cluster = scene.live.clusters["mesh1"]
    istiod = cluster.get(kinds.DEPLOYMENT, "istiod-fed-export", "mesh1-system")
    roll = cluster.get(kinds.MEMBER_ROLL, "default", "mesh1-system")
    (available,) = (c for c in istiod["status"]["conditions"] if c["type"] == "Available" and c["status"] == "True")
    assert roll["metadata"]["creationTimestamp"] >= available["lastTransitionTime"]


@pytest.fixture
def without_exec(scene: Scene, tmp_path: Path) -> Iterator[Cluster]:
    """mesh1 as a user sees it who may do anything but run commands in pods."""
    settings = ClusterSettings.load(scene.directory / "mesh1")
    deny = [{"verbs": ["*"], "resources": ["pods/exec"]}]
    admin = {"Authorization": f"Bearer {settings.token}"}

    def tell(method: str, body: dict[str, Any]) -> None:
        url = f"{settings.server}/lab/users"
        requests.request(method, url, json=body, headers=admin, verify=str(settings.ca_file), timeout=10)

    tell("POST", {"token": "no-exec", "name": "reader", "deny": deny})
    path = tmp_path / "reader.kubeconfig"
    kubeconfig(settings, path, "no-exec", "reader")
    cluster = Cluster("mesh1", path)
    yield cluster
    cluster.close()
    tell("DELETE", {"token": "no-exec"})


def test_where_exec_is_refused_the_lines_are_waited_for(scene, without_exec):
    mesh1 = replace(scene.federation.mesh1, cluster=without_exec)
    found = replace(scene.meter, federation=replace(scene.federation, mesh1=mesh1)).measure(EVEN)
    assert found.passed, found.report
    assert found.account
    assert found.account.balanced
    assert found.account.unattributed == 0, found.report


def test_without_access_logs_and_counters_nothing_is_claimed(scene):
    off = {"prometheus": {"enabled": False}}
    scene.configure({_LOGGED: False, _COUNTED: False}, proxy=logging(None), addons=off)
    found = scene.meter.measure(EVEN)
    assert found.outcome == "INCONCLUSIVE:unattributed"
    assert not found.passed
    assert "writes no access log" in found.headline
    assert "no istio_requests_total" in found.headline


def test_without_access_logs_counters_tell_the_split(scene):
    scene.configure({_LOGGED: False, _COUNTED: True}, proxy=logging(None), addons={"prometheus": {"enabled": True}})
    found = scene.meter.measure(EVEN)
    assert found.passed, found.report
    assert "attributed by istio_requests_total, access logs are off" in found.numbers
    assert found.account
    assert found.account.balanced
    assert found.account.unattributed == 0


def test_counters_of_one_mesh_are_not_enough(scene, without_exec):
    scene.configure({_LOGGED: False, _COUNTED: True}, proxy=logging(None), addons={"prometheus": {"enabled": True}})
    mesh1 = replace(scene.federation.mesh1, cluster=without_exec)
    found = replace(scene.meter, federation=replace(scene.federation, mesh1=mesh1)).measure(EVEN)
    assert found.outcome == "INCONCLUSIVE:unattributed", found.report
    assert "could not be read" in found.headline
    assert "forbidden" in found.headline.lower()


def test_a_pod_replaced_meanwhile_is_noticed_and_serves_nothing(scene):
    scene.configure({_LOGGED: False, _COUNTED: True}, proxy=logging(None), addons={"prometheus": {"enabled": True}})
    victim = scene.proxies("mesh1")[0]
    enough = answered(victim) + 60
    replaced = threading.Thread(target=replace_pod, args=(scene, victim, lambda: answered(victim) > enough))
    replaced.start()
    found = scene.meter.measure(EVEN)
    replaced.join()
    assert found.outcome == "INCONCLUSIVE:unattributed", found.report
    assert found.account
    assert found.account.balanced
    assert any(victim.pod.rpartition("-")[0] in why for why in found.account.reasons), found.report
    assert found.account.unattributed >= 200, "the whole batch"


def answered(proxy: Proxy) -> float:
    return requests_answered(proxy.statistics()) or 0.0


def replace_pod(scene: Scene, proxy: Proxy, when: Callable[[], bool]) -> None:
    scene.live.until(when, True)
    scene.live.clusters["mesh1"].delete(kinds.POD, proxy.pod, MESH1.app_namespace)
