"""One istiod pod: `python -m lab.istiod` with LAB_CLUSTER_DIR, POD_NAME, POD_NAMESPACE, POD_IP and REVISION set."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterable

from aiohttp import web

from lab.client import ApiClient
from lab.istiod import debug, logs, xds
from lab.istiod.ca import CertificateAuthority, RootPublisher
from lab.istiod.debug import DebugServer
from lab.istiod.federation import run_federation
from lab.istiod.state import MeshState
from lab.istiod.xds import ConfigServer
from lab.settings import ClusterSettings

log = logging.getLogger("default")


async def _listen(stack: contextlib.AsyncExitStack, host: str, port: int, routes: Iterable[web.RouteDef]) -> None:
    app = web.Application()
    app.add_routes(routes)
    # a proxy that goes away must not leave its poll behind
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port).start()


async def _serve(state: MeshState, stack: contextlib.AsyncExitStack) -> None:
    """Everything istiod does, until cancelled or until a part of it fails."""
    pages = DebugServer(state)
    await _listen(stack, state.pod_ip, debug.HTTP_PORT, pages.http_routes())
    await _listen(stack, state.pod_ip, debug.MONITORING_PORT, pages.monitoring_routes())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(state.run())
        await state.synced()
        await state.until_configured()
        authority = await CertificateAuthority.load(state.api, state.namespace, state.trust_domain)
        server = ConfigServer(state, authority)
        tasks.create_task(RootPublisher(state, authority.root).run())
        tasks.create_task(run_federation(state))
        await _listen(stack, state.pod_ip, xds.PORT, server.routes())
        pages.server = server
        log.info("istiod %s serves mesh %s", state.pod_name, state.trust_domain)


async def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    logs.set_up()
    env = os.environ
    settings = ClusterSettings.load(env["LAB_CLUSTER_DIR"])
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(ApiClient(settings, "pilot-discovery"))
        state = MeshState(settings, api, env["POD_NAMESPACE"], env["REVISION"], env["POD_NAME"], env["POD_IP"])
        serving = asyncio.create_task(_serve(state, stack))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving


if __name__ == "__main__":
    asyncio.run(main())
