"""`python -m lab.manager --cluster-dir DIR`: all controllers of one emulated cluster in one process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal

import lab.operator
from lab.client import ApiClient, Informer
from lab.kube import controllers
from lab.operator.inject import make_injector
from lab.resources import NAMESPACE, NODE, SMCP
from lab.settings import ClusterSettings


async def run(settings: ClusterSettings) -> None:
    """Runs the controllers of Kubernetes and the OSSM operator until cancelled."""
    async with (
        ApiClient(settings, "kube-controller-manager") as kube,
        ApiClient(settings, "istio-operator") as operator,
    ):
        namespaces, smcps, nodes = Informer(kube, NAMESPACE), Informer(kube, SMCP), Informer(kube, NODE)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(namespaces.run())
            tasks.create_task(smcps.run())
            tasks.create_task(nodes.run())
            mutate_pod = make_injector(namespaces, smcps, nodes, settings.ossm_version)
            tasks.create_task(controllers.run(kube, settings, mutate_pod))
            tasks.create_task(lab.operator.run(operator, settings))


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
