"""Requests per second: of the probe client alone, through the lab's bookinfo chain, and while a split is measured."""

from __future__ import annotations

import contextlib
import subprocess
import sys

from benchmarks.measure import Figure
from fixtures.clusters import embedded_lab
from harness.cluster.cluster import Cluster
from harness.run.progress import Progress
from harness.scenario.entry import productpage_entry, wait_for_stars
from harness.scenario.provision import Provisioner
from harness.split.meter import Measurement
from harness.split.probe import Page, Probe, ProbeClient
from harness.split.ratings_split import SplitMeter

_RUNS = 3
_BARE_REQUESTS = 4000
_CHAIN_REQUESTS = 1000
# Ends with its standard input, so that it can not outlive the benchmark.
_BARE_SERVER = """
import asyncio, sys

BODY = b'<span class="glyphicon glyphicon-star"></span>' * 100
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%b" % (len(BODY), BODY)

class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(ANSWER)
        self.transport.close()

async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)

asyncio.run(serve())
"""


def measure() -> list[Figure]:
    return [
        Figure("probe client alone, bare server, 16 in flight", _bare(), "requests/s", "at least 800"),
        *_chain(),
    ]


def _bare() -> tuple[float, ...]:
    with subprocess.Popen(
        [sys.executable, "-c", _BARE_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/productpage"
        rates = tuple(_rate(url, _BARE_REQUESTS, 16) for _ in range(_RUNS))
        server.communicate()
    return rates


def _chain() -> list[Figure]:
    """The lab's productpage: gateway, productpage, details, reviews, ratings of both meshes, every one an Envoy."""
    progress = Progress(sys.stderr, live=False)
    with contextlib.ExitStack() as stack:
        paths = stack.enter_context(embedded_lab(progress))
        clusters = {name: Cluster(name, path) for name, path in zip(("mesh1", "mesh2"), paths, strict=True)}
        for cluster in clusters.values():
            stack.callback(cluster.close)
        federation = Provisioner(clusters, "benchmark", progress).run()
        bookinfo = productpage_entry(federation.mesh2.cluster, federation.mesh2, stack)
        if late := wait_for_stars(bookinfo, federation.mesh2):
            raise RuntimeError(late)
        rates = tuple(_rate(bookinfo.productpage_url, _CHAIN_REQUESTS, 8) for _ in range(_RUNS))
        meter = SplitMeter(federation, bookinfo.productpage_url, concurrency=8)
        measured = [_passed(meter) for _ in range(_RUNS)]
    return [
        Figure("probes through bookinfo in the lab, 8 in flight", rates, "requests/s", "at least 150"),
        Figure("the same while a 50/50 split is measured", tuple(m.rate for m in measured), "requests/s"),
        Figure("a 50/50 split, measured to its verdict", tuple(m.elapsed for m in measured), "s"),
    ]


def _passed(meter: SplitMeter) -> Measurement:
    found = meter.measure((50, 50))
    if not found.passed:
        raise RuntimeError(found.report)
    return found


def _rate(url: str, count: int, concurrency: int) -> float:
    answered: list[Probe] = []
    with ProbeClient(url, "bench", answered.append, count, concurrency) as client:
        client.wait()
    failed = [probe for probe in answered if probe.page is not Page.STARS]
    if failed or len(answered) != count:
        raise RuntimeError(f"{len(failed)} of {len(answered)} probes failed, first: {failed[:1]}")
    return client.rate
