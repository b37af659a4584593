"""However a run of the suite ends, its lab goes with it: no process, no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.waiting import wait_for

ROOT = Path(__file__).parent.parent
VARIABLE = "SELFTEST_MARK"


def processes_with(mark: str) -> dict[int, str]:
    """Processes that were started with `mark` in their environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
    return found


def remains(mark: str, directory: Path) -> str:
    """What is there of a run, '' for nothing."""
    processes, files = processes_with(mark), sorted(str(path) for path in directory.iterdir())
    return f"processes {processes}, files {files}" if processes or files else ""


@pytest.fixture
def run(tmp_path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(a run of the suite that has provisioned something, the mark of its processes); its files are in tmp_path."""
    mark = f"{tmp_path.name}-{os.getpid()}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST"))}
    environment = clean | {"TMPDIR": str(tmp_path), VARIABLE: mark}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_install.py"]
    begun = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert begun.stderr
    try:
        said = next((line for line in begun.stderr if "control plane: applied" in line), None)
        assert said, "the run ended before it had provisioned anything"
        yield begun, f"{VARIABLE}={mark}"
    finally:
        begun.kill()
        begun.wait()
        begun.stderr.close()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, pytest.ExitCode.INTERRUPTED),
        (signal.SIGINT, pytest.ExitCode.INTERRUPTED),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
    ids=["SIGTERM", "Ctrl-C", "kill -9"],
)
def test_nothing_of_an_interrupted_run_remains(tmp_path, run, number, code):
    begun, mark = run
    assert len(processes_with(mark)) > 5, "the lab is not there: this test would prove nothing"
    begun.send_signal(number)
    begun.stderr.read()
    assert begun.wait() == code
    assert wait_for("the lab to be gone", lambda: (not (left := remains(mark, tmp_path)) or None, left), 60)
