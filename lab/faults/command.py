"""`python -m lab fault`: breaks a running lab on purpose, and mends it."""

from __future__ import annotations

import argparse
import asyncio
import os

import aiohttp

from lab.client import ApiError
from lab.processes.running import DIRECTORY_VARIABLE, KUBECONFIG_VARIABLE, RunningLab, default_directory, read_state
from lab.processes.supervisor import LabError


def fault(arguments: argparse.Namespace) -> int:
    """Puts a fault of the catalogue in force in a running lab, or takes it back with --off."""
    from lab.faults import CATALOGUE
    from lab.faults.changes import Ledger

    if arguments.list:
        width = max(map(len, CATALOGUE))
        for item in CATALOGUE.values():
            print(f"{item.name:{width}}  {item.title} [{item.reference}]")
        return 0
    read_state(arguments.directory)
    if not arguments.name:
        for name in Ledger(RunningLab(arguments.directory).directory).active():
            print(name)
        return 0
    if arguments.name not in CATALOGUE:
        raise LabError(f"there is no fault {arguments.name}; `python -m lab fault --list` names all")
    if not 0 <= arguments.rate <= 1:
        raise LabError(f"--rate {arguments.rate}: a share of requests is between 0 and 1")
    try:
        asyncio.run(_run(arguments))
    except (ApiError, aiohttp.ClientError, OSError) as error:
        raise LabError(f"{arguments.name}: {error}") from error
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    from lab.faults import CATALOGUE

    chosen = CATALOGUE[arguments.name]
    async with RunningLab(arguments.directory, arguments.rate) as lab:
        await (chosen.revert(lab) if arguments.off else chosen.inject(lab))


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the command to those of `python -m lab`."""
    parser = commands.add_parser("fault", help="break a running lab on purpose, or mend it", description=fault.__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one; without it those in force are named")
    parser.add_argument("--list", action="store_true", help="name all faults there are")
    parser.add_argument("--off", action="store_true", help="put back what was there before")
    parser.add_argument(
        "--rate", type=float, default=0.05, metavar="SHARE", help="for api-*: of all requests (default: %(default)s)"
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        default=default_directory(os.environ),
        help=f"the lab's directory (default: {DIRECTORY_VARIABLE}, or where {KUBECONFIG_VARIABLE} lies)",
    )
    parser.set_defaults(run=fault)
