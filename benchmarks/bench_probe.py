"""Requests per second of the probe client alone, against a server that does nothing but answer."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measure import Figure
from harness.probe import Probe, ProbeClient

_REQUESTS = 4000
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
    with subprocess.Popen(
        [sys.executable, "-c", _BARE_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/productpage"
        rates = tuple(_rate(url) for _ in range(3))
        server.communicate()
    return [Figure("probe client alone, bare server, 16 in flight", rates, "requests/s", "at least 800")]


def _rate(url: str) -> float:
    answered: list[Probe] = []
    client = ProbeClient(url, "bench", answered.append, limit=_REQUESTS)
    with client:
        client.wait()
    failed = [probe for probe in answered if probe.status != 200]
    if failed or len(answered) != _REQUESTS:
        raise RuntimeError(f"{len(failed)} of {len(answered)} probes failed, first: {failed[:1]}")
    return client.rate
