"""`python -m lab.manager --cluster-dir DIR`: all controllers of one emulated cluster in one process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import signal
from collections.abc import Callable

import lab.operator
from lab.client import ApiClient, Informer, Object
from lab.kube import controllers
from lab.resources import NAMESPACE, SMCP
from lab.settings import ClusterSettings


async def run(settings: ClusterSettings) -> None:
    """Runs the controllers of Kubernetes and the OSSM operator until cancelled."""
    async with (
        ApiClient(settings, "kube-controller-manager") as kube,
        ApiClient(settings, "istio-operator") as operator,
    ):
        namespaces, smcps = Informer(kube, NAMESPACE), Informer(kube, SMCP)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(namespaces.run())
            tasks.create_task(smcps.run())
            tasks.create_task(controllers.run(kube, settings, _injector(namespaces, smcps)))
            if hasattr(lab.operator, "run"):
                tasks.create_task(lab.operator.run(operator, settings))


def _injector(namespaces: Informer, smcps: Informer) -> Callable[[Object], Object] | None:
    try:
        inject = importlib.import_module("lab.operator.inject")
    except ImportError:
        return None
    return inject.make_injector(namespaces, smcps)


async def _until_told_to_stop(settings: ClusterSettings) -> None:
    work = asyncio.create_task(run(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.manager", description=__doc__)
    parser.add_argument("--cluster-dir", required=True, help="directory with the cluster's cluster.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_until_told_to_stop(ClusterSettings.load(arguments.cluster_dir)))


if __name__ == "__main__":
    main()
