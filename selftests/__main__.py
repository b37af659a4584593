"""`python -m selftests`: all selftests, as many processes of pytest at a time as there are processors.

Most selftests wait for a lab that they have to themselves, so two processes take little more than half as long as one.
Not with xdist: the suite refuses that, since all of its own tests look at one federation. Arguments are for pytest,
which then runs once: `python -m selftests -k cap`. Exit code: 0 if every test passed, else 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from harness.run.interrupts import interrupt_on_signals

_PARTS = 24  # enough that none of them is long; neighbours by name, which may both be slow, are in different ones
_PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
_COUNTED = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")


class Parts:
    """Runs the parts; `counts` says what the tests came to, `failed` which parts did not end well."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = Event()

    def run(self, files: list[str]) -> None:
        """One process of pytest; what it says is shown when it ends."""
        if self._ended.is_set():
            return
        process = subprocess.Popen(
            [*_PYTEST, *files], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )
        self._running.add(process)
        said, _ = process.communicate()
        self._running.discard(process)
        print(said, flush=True)
        for number, what in _COUNTED.findall(said.rstrip().rpartition("\n")[2]):
            self.counts[what.rstrip("s") if what.startswith("error") else what] += int(number)
        if process.returncode:
            self.failed.append(" ".join(files))

    def end(self) -> None:
        """Begins no further part, and has those that run clean up after themselves."""
        self._ended.set()
        for process in list(self._running):
            process.terminate()


def main() -> int:
    if arguments := sys.argv[1:]:
        return subprocess.call([*_PYTEST, *arguments])
    interrupt_on_signals()
    files = sorted(os.path.relpath(path) for path in Path(__file__).parent.rglob("test_*.py"))
    parts = Parts()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            list(pool.map(parts.run, (files[number::_PARTS] for number in range(_PARTS))))
        except BaseException:
            parts.end()
            raise
    for failed in parts.failed:
        print(f"not in order: {failed}")
    counts = parts.counts
    print(f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed, {counts['skipped']} skipped")
    return 1 if parts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
