"""What proxies tell of requests, with real Envoys: `istio_requests_total` of the servers, and access logs in JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.product.envoy import parse_access_line
from harness.split.request_counters import requests_answered
from lab.node.bin import curl, pilot_agent
from selftests.support.live_meshes import INGRESS_ID, LiveFederation, LiveMesh

REVIEWS_ID = "spiffe://mesh2.local/ns/mesh2-bookinfo/sa/bookinfo-reviews"
_SERIES = re.compile(r"^istio_requests_total\{(.*)\} (\d+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("observed")


@pytest.fixture(scope="module")
def federation(observed: Callable[[str], Any], directory: Path) -> Iterator[LiveFederation]:
    """Both meshes with metrics, and with an access log in JSON."""
    with LiveFederation(observed, directory) as live:

        def configure() -> None:
            for mesh in (live.mesh1, live.mesh2):
                config = {
                    "trustDomain": f"{mesh.name}.local",
                    "accessLogFile": "/dev/stdout",
                    "accessLogEncoding": "JSON",
                    "defaultProviders": {"metrics": ["prometheus"]},
                }
                mesh.put("config_maps", mesh.system, "istio-basic", data={"mesh": json.dumps(config)})

        live.change(configure)
        live.until("a counter", lambda: live.ask()[0] == 200 and bool(total(live.mesh1)) and bool(total(live.mesh2)))
        yield live


def address(mesh: LiveMesh) -> str:
    [subset] = mesh.state.informers.endpoints.items[mesh.bookinfo, "ratings"]["subsets"]
    return subset["addresses"][0]["ip"]


def inside(mesh: LiveMesh, program: ModuleType, *arguments: str) -> str:
    """What a program says in the ratings pod of a mesh."""
    command = [sys.executable, "-I", "-S", str(program.__file__), *arguments]
    environment = os.environ | {"POD_IP": address(mesh)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def agent(mesh: LiveMesh, *arguments: str) -> str:
    """What `pilot-agent request` answers there."""
    return inside(mesh, pilot_agent, "request", *arguments)


def total(mesh: LiveMesh) -> int:
    return round(requests_answered(agent(mesh, "GET", "stats/prometheus")) or 0)


def series(text: str) -> list[tuple[dict[str, str], int]]:
    return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), int(value)) for labels, value in _SERIES.findall(text)]


def test_every_request_is_counted_once_where_it_was_served(federation: LiveFederation) -> None:
    meshes = {"mesh1": federation.mesh1, "mesh2": federation.mesh2}
    before = {name: total(mesh) for name, mesh in meshes.items()}
    served = [federation.ask()[1]["served by"] for _ in range(30)]
    for name, mesh in meshes.items():
        federation.until(
            f"{name}'s count", lambda mesh=mesh, name=name: total(mesh) - before[name] == served.count(name)
        )


def test_a_series_says_who_asked_whom(federation: LiveFederation) -> None:
    for mesh, caller in ((federation.mesh1, INGRESS_ID), (federation.mesh2, REVIEWS_ID)):
        [(labels, count)] = series(agent(mesh, "GET", "stats/prometheus"))
        assert count > 0
        wanted = {
            "reporter": "destination",
            "source_principal": caller,
            "destination_principal": f"spiffe://{mesh.name}.local/ns/{mesh.bookinfo}/sa/bookinfo-ratings",
            "destination_service": f"ratings.{mesh.bookinfo}.svc.cluster.local",
            "destination_service_name": "ratings",
            "destination_workload_namespace": mesh.bookinfo,
            "destination_app": "ratings",
            "request_protocol": "http",
            "response_code": "200",
            "connection_security_policy": "mutual_tls",
        }
        assert {name: labels.get(name) for name in wanted} == wanted


def test_port_15090_and_curl_tell_the_same(federation: LiveFederation) -> None:
    curled = inside(federation.mesh1, curl, "-sS", "localhost:15000/stats/prometheus")
    with urllib.request.urlopen(f"http://{address(federation.mesh1)}:15090/stats/prometheus", timeout=10) as answer:
        text = answer.read().decode()
    assert series(text) == series(agent(federation.mesh1, "GET", "stats/prometheus"))
    assert series(curled) == series(text)
    assert "envoy_cluster_upstream_cx_total" in text
    assert "envoy_istio" not in text


def test_json_lines_say_the_same_as_text(federation: LiveFederation, directory: Path) -> None:
    federation.ask()

    def lines() -> list[Any]:
        agent(federation.mesh2, "POST", "reopen_logs")
        text = (directory / "mesh2-ratings.log").read_text()
        return [line for line in map(parse_access_line, text.splitlines()) if line]

    federation.until("a line of mesh2's ratings", lambda: bool(lines()))
    line = lines()[-1]
    assert (line.method, line.path, line.response_code) == ("GET", "/ratings/0", 200)
    assert (line.authority, line.upstream_cluster) == ("ratings:9080", "inbound|9080||")
    assert line.downstream_remote_address.partition(":")[0] == federation.reviews
    assert line.is_http
    assert line.succeeded
