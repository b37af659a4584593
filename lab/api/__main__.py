"""`python -m lab.api --cluster-dir DIR`: serves one cluster's API until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from lab.api.http.server import Server
from lab.settings import ClusterSettings


def tls(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "apiserver.crt", directory / "apiserver.key")
    context.load_verify_locations(directory / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def serve(settings: ClusterSettings) -> None:
    """Serves until the process is asked to end."""
    server = Server(settings)
    inner = web.Server(server.handle, handler_cancellation=True, access_log=None, keepalive_timeout=3600)
    runner = web.ServerRunner(inner, shutdown_timeout=0.1)
    await runner.setup()
    address = urlsplit(settings.server)
    site = web.TCPSite(runner, address.hostname, address.port, ssl_context=tls(settings.path), backlog=512)
    try:
        await site.start()
    except OSError as error:
        sys.exit(f"the API of {settings.name} cannot listen on {settings.server}: {os.strerror(error.errno or 0)}")
    ended = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, ended.set)
    await ended.wait()
    await server.close()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.api", description=__doc__)
    parser.add_argument("--cluster-dir", required=True, type=Path, help="directory with cluster.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    asyncio.run(serve(ClusterSettings.load(arguments.cluster_dir)))


if __name__ == "__main__":
    main()
