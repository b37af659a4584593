"""`python -m harness.watch`: records what happens to a federation while something is changed, and judges it.

Three commands: without a name it watches, until Ctrl-C or for --for; `mark DIR TEXT` notes what somebody did, from any
other terminal; `judge DIR` judges a record again, also one that is being written.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TextIO

import yaml

from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError
from harness.run.interrupts import interrupt_on_signals
from harness.run.redact import redacted_text
from harness.watch.budgets import DEFAULTS, Budget, BudgetErrors, duration, read_budgets
from harness.watch.outages_file import EXIT, NAME, document, summary
from harness.watch.recorder import Recorder
from harness.watch.steady_time import SteadyTime
from harness.watch.store import RecordError, Store, mark, read_timeline
from harness.watch.verdict import judge

NOT_BEGUN = 3  # nothing was watched or judged, so nothing is said of the meshes
_LINE_EVERY = 30.0  # seconds between lines where there is no terminal
_RATES = 0.1, 200.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(NOT_BEGUN, redacted_text(f"{self.prog}: error: {message}\n"))


def _parser(command: str) -> _Parser:
    epilog = (
        "Exit code: 0 safe, 1 not safe: an outage that nothing explains or that is over its budget, a lasting loss, or "
        f"something gone; 2 nothing of that, but not everything was watched; {NOT_BEGUN} it could not begin."
    )
    parser = _Parser(prog=f"python -m harness.watch{command}", description=__doc__, epilog=epilog)
    if command == " mark":
        parser.add_argument("directory", type=Path, metavar="DIR")
        parser.add_argument("text", help="what was done, such as 'operator 2.5 approved in mesh1'")
        return parser
    if command == " judge":
        parser.add_argument("directory", type=Path, metavar="DIR")
    else:
        for mesh in ("mesh1", "mesh2"):
            parser.add_argument(f"--{mesh}-kubeconfig", type=Path, required=True, metavar="FILE")
            parser.add_argument(f"--{mesh}-context", metavar="NAME")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the record is, or goes on")
        parser.add_argument("--for", dest="seconds", metavar="TIME", help="such as 40m; until Ctrl-C without it")
        parser.add_argument("--rate", type=float, default=20.0, help="probes a second of each stream (default: 20)")
    parser.add_argument("--upgrade-budget", type=Path, metavar="FILE", help="how long outages may be, by their cause")
    return parser


def _budgets(parser: _Parser, path: Path | None) -> Sequence[Budget]:
    if path is None:
        return DEFAULTS
    try:
        return read_budgets(path)
    except BudgetErrors as error:
        return parser.error("--upgrade-budget: " + "; ".join(error.problems))


def _judged(directory: Path, budgets: Sequence[Budget]) -> int:
    """Writes `outages.yaml` into the record, shows the verdict, and gives the exit code."""
    found = judge(read_timeline(directory), budgets)
    for line in summary(found):
        print(redacted_text(line))
    path = directory / NAME
    path.write_text(yaml.safe_dump(document(found), sort_keys=False, allow_unicode=True, width=120))
    print(f"all of it is in {path}")
    return EXIT[found.state]


class _Screen:
    """Says how the watch stands: on one line that is rewritten on a terminal, now and then elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._live = stream, stream.isatty()
        self._lock = threading.Lock()
        self._shown = 0.0

    def told(self, text: str) -> None:
        with self._lock:
            self._stream.write(("\r\x1b[2K" if self._live else "") + redacted_text(text) + "\n")
            self._stream.flush()

    def stands(self, line: str, seconds: float) -> None:
        with self._lock:
            if self._live:
                self._stream.write(f"\r\x1b[2K{line[:110]}")
            elif seconds - self._shown >= _LINE_EVERY:
                self._shown = seconds
                self._stream.write(line + "\n")
            self._stream.flush()


def _watch(parser: _Parser, arguments: argparse.Namespace) -> int:
    budgets = _budgets(parser, arguments.upgrade_budget)
    try:
        seconds = duration(arguments.seconds) if arguments.seconds else None
    except ValueError as error:
        parser.error(f"--for: {error}")
    if not _RATES[0] <= arguments.rate <= _RATES[1]:
        parser.error(f"--rate {arguments.rate:g}: must be from {_RATES[0]:g} to {_RATES[1]:g}")
    screen, time = _Screen(sys.stderr), SteadyTime()
    with contextlib.ExitStack() as opened:
        clusters: dict[str, Cluster] = {}
        for mesh in ("mesh1", "mesh2"):
            given = vars(arguments)
            clusters[mesh] = Cluster(mesh, given[f"{mesh}_kubeconfig"], given[f"{mesh}_context"])
            opened.callback(clusters[mesh].close)
        store = Store(arguments.out, time, screen.told)
        opened.callback(store.close)
        opened.callback(interrupt_on_signals())
        recorder = opened.enter_context(Recorder(clusters, store, time, arguments.rate, screen.told))
        screen.told(f"watching; marks: python -m harness.watch mark {arguments.out} TEXT")
        recorder.ended(_until_over(recorder, screen, time, seconds))
    return _judged(arguments.out, budgets)


def _until_over(recorder: Recorder, screen: _Screen, time: SteadyTime, seconds: float | None) -> str:
    """Waits until the time is over or somebody ends it; says which."""
    begin, never = time.now(), threading.Event()
    try:
        while seconds is None or time.now() - begin < seconds:
            never.wait(1.0 if seconds is None else min(1.0, seconds))
            passed = time.now() - begin
            screen.stands(recorder.standing.line(passed), passed)
    except KeyboardInterrupt as interrupt:
        screen.told("")
        return str(interrupt) or "Ctrl-C"
    return "its time was over"


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    command = f" {given[0]}" if given and given[0] in ("mark", "judge") else ""
    parser = _parser(command)
    parsed = parser.parse_args(given[1:] if command else given)
    try:
        if command == " mark":
            mark(parsed.directory, parsed.text)
            return 0
        if command == " judge":
            return _judged(parsed.directory, _budgets(parser, parsed.upgrade_budget))
        return _watch(parser, parsed)
    except (ClusterError, RecordError, OSError) as error:
        print(redacted_text(str(error)), file=sys.stderr)
        return NOT_BEGUN


if __name__ == "__main__":
    sys.exit(main())
