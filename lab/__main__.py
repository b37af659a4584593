"""`python -m lab`: the embedded pair of clusters, from the command line."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

from lab.processes.supervisor import LabError, Supervisor
from lab.settings import DEFAULT_KUBERNETES_VERSION, KNOBS

DEFAULT_OSSM_VERSION = "2.1.6"


def up(arguments: argparse.Namespace) -> int:
    """Starts both clusters, prints where their kubeconfigs are, and serves until asked to stop."""
    knobs = {name: getattr(arguments, name) for name in KNOBS}
    with Supervisor(arguments.ossm, arguments.directory, arguments.kubernetes, knobs) as supervisor:
        supervisor.serve(arguments.until_eof)
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Says whether the lab in --directory runs, and where its kubeconfigs are."""
    from lab.processes.running import read_state

    state = read_state(arguments.directory)
    for name, directory in state["clusters"].items():
        print(f"export {name.upper()}_KUBECONFIG={shlex.quote(str(Path(directory) / 'admin.kubeconfig'))}")
    return 0


def _ossm_version(text: str) -> str:
    if not re.fullmatch(r"2\.[1-6]\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text} is not a release of OSSM 2.1 to 2.6, such as {DEFAULT_OSSM_VERSION}")
    return text


def _kubernetes_version(text: str) -> str:
    if not re.fullmatch(r"v1\.\d+\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text} is not a release of Kubernetes, such as {DEFAULT_KUBERNETES_VERSION}")
    return text


def _parser(words: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    start = commands.add_parser("up", help="start both clusters and serve until interrupted", description=up.__doc__)
    start.add_argument(
        "--ossm",
        type=_ossm_version,
        default=DEFAULT_OSSM_VERSION,
        metavar="VERSION",
        help="the operator's version, 2.1.x to 2.6.x (default: %(default)s)",
    )
    start.add_argument(
        "--kubernetes",
        type=_kubernetes_version,
        default=DEFAULT_KUBERNETES_VERSION,
        metavar="VERSION",
        help="what the API servers are; before v1.21 they ask for the protocol of every port (default: %(default)s)",
    )
    start.add_argument("--directory", metavar="DIR", help="where to keep files; must not exist; removed at the end")
    start.add_argument("--until-eof", action="store_true", help="also end when standard input ends")
    for name, knob in KNOBS.items():
        start.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(knob.product),
            default=knob.lab,
            metavar="N",
            help=f"{knob.text} (default: %(default)s; the product: {knob.product:g})",
        )
    start.set_defaults(run=up)

    if words[:1] != ["up"]:  # the others import what would cost `up` a sixth of its time
        _add_commands_for_a_running_lab(commands)
    return parser


def _add_commands_for_a_running_lab(commands: argparse._SubParsersAction) -> None:
    from lab.faults import command as faults
    from lab.processes.running import DIRECTORY_VARIABLE

    look = commands.add_parser("status", help="say whether a lab runs", description=status.__doc__)
    look.add_argument(
        "--directory", metavar="DIR", default=os.environ.get(DIRECTORY_VARIABLE), help="the lab's directory"
    )
    look.set_defaults(run=status)
    faults.add_to(commands)


def main() -> int:
    words = sys.argv[1:]
    arguments = _parser(words).parse_args(words)
    try:
        return arguments.run(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
