"""`python -m lab.node --cluster-dir DIR`: the node of one cluster."""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import signal

from lab.client import ApiClient
from lab.node.kubelet import Kubelet
from lab.node.node import Node
from lab.settings import ClusterSettings


async def serve(settings: ClusterSettings) -> None:
    """Runs the node and its kubelet API until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with ApiClient(settings, "kubelet") as api:
        node = Node(api, settings)
        kubelet = Kubelet(node)
        await kubelet.start()
        running = asyncio.ensure_future(node.run())
        waiting = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (running, waiting):
                task.cancel()
            results = await asyncio.gather(running, waiting, return_exceptions=True)
            await kubelet.close()
    if isinstance(results[0], Exception):
        raise results[0]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.node", description=__doc__)
    parser.add_argument("--cluster-dir", required=True, help="directory with cluster.json")
    settings = ClusterSettings.load(parser.parse_args().cluster_dir)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
