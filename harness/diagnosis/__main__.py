"""`python -m harness.diagnosis`: looks at both meshes and says what is broken, where, and what to do."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError
from harness.diagnosis import Diagnosis, Hints, State, diagnose
from harness.run.redact import redacted, redacted_text

EXIT = {State.OK: 0, State.BROKEN: 1, State.UNKNOWN: 2}
NOT_BEGUN = 3  # nothing was looked at, so nothing is said of the meshes


class _Parser(argparse.ArgumentParser):
    """Its own code for arguments that are wrong: argparse's 2 would mean that something could not be seen."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(NOT_BEGUN, redacted_text(f"{self.prog}: error: {message}\n"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m harness.diagnosis",
        description=__doc__,
        epilog="Exit code: 0 all in order, 1 something is broken, 2 nothing is, but not everything could be seen, "
        f"{NOT_BEGUN} it could not begin: an argument or a kubeconfig is wrong.",
    )
    for mesh in ("mesh1", "mesh2"):
        default = os.environ.get(f"{mesh.upper()}_KUBECONFIG")
        parser.add_argument(
            f"--{mesh}-kubeconfig", metavar="FILE", default=default, help=f"default: ${mesh.upper()}_KUBECONFIG"
        )
        parser.add_argument(f"--{mesh}-context", metavar="NAME", help="if not the current one")
    parser.add_argument("--weights", metavar="A/B", help="percent that ratings-split is to carry for mesh1 and mesh2")
    parser.add_argument("--json", action="store_true", help="print the diagnosis as JSON")
    return parser


def _weights(text: str | None) -> dict[str, float] | None:
    if not text:
        return None
    mesh1, _, mesh2 = text.partition("/")
    return {"mesh1": float(mesh1), "mesh2": float(mesh2)}


def _print(found: Diagnosis) -> None:
    for link in found.links:
        print(redacted_text(str(link)))
    print()
    for line in found.summary:
        print(redacted_text(line))


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    given = {"mesh1": arguments.mesh1_kubeconfig, "mesh2": arguments.mesh2_kubeconfig}
    contexts = {"mesh1": arguments.mesh1_context, "mesh2": arguments.mesh2_context}
    if missing := [f"--{mesh}-kubeconfig" for mesh, path in given.items() if not path]:
        parser.error(f"missing {' and '.join(missing)}")
    try:
        hints = Hints(weights=_weights(arguments.weights))
    except ValueError:
        parser.error(f"--weights {arguments.weights}: two numbers such as 50/50")
    clusters: dict[str, Cluster] = {}
    try:
        for mesh, path in given.items():
            clusters[mesh] = Cluster(mesh, Path(path), contexts[mesh])
        found = diagnose(clusters, hints)
    except ClusterError as error:
        print(redacted_text(str(error)), file=sys.stderr)
        return NOT_BEGUN
    finally:
        for cluster in clusters.values():
            cluster.close()
    if arguments.json:
        print(json.dumps(redacted(found.to_dict()), indent=2))
    else:
        _print(found)
    return EXIT[found.state]


if __name__ == "__main__":
    sys.exit(main())
