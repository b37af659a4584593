"""However a run of the suite ends, its lab goes with it: no process, no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.waiting import wait_for

ROOT = Path(__file__).parent.parent


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


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, pytest.ExitCode.INTERRUPTED),
        (signal.SIGINT, pytest.ExitCode.INTERRUPTED),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
    ids=["SIGTERM", "Ctrl-C", "kill -9"],
)
def test_nothing_of_an_interrupted_run_remains(tmp_path, number, code):
    mark = f"SELFTEST_MARK={tmp_path.name}-{os.getpid()}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST"))}
    environment |= {"TMPDIR": str(tmp_path), mark.partition("=")[0]: mark.partition("=")[2]}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_install.py"]
    run = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert run.stderr
    try:
        said = next((line for line in run.stderr if "control plane: applied" in line), None)
        assert said, "the run ended before it had provisioned anything"
        assert len(processes_with(mark)) > 5, "the lab is not there: this test would prove nothing"
        run.send_signal(number)
        run.stderr.read()
        assert run.wait() == code

        def look():
            processes, files = processes_with(mark), sorted(str(path) for path in tmp_path.iterdir())
            return (None if processes or files else True), f"processes {processes}, files {files}"

        assert wait_for("the lab to be gone", look, 60)
    finally:
        run.kill()
        run.wait()
        run.stderr.close()
