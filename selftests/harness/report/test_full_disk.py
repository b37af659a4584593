"""A disk that fills up while the suite runs: results and exit code stay, and no file is there in part."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from selftests.harness.report.test_report_run import ROOT, TESTS, Run

# Mounted where nobody but the command sees it; what remains on it is told at the end.
_SMALL = 'mount -t tmpfs -o size=256k small "$0" && "$@"; code=$?; echo "remains: "$(ls -A "$0"); exit $code'
_FILL = """
    import errno, pathlib
    with open(pathlib.Path(__file__).parent / "report" / "of-others", "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
"""
# The nearest where nothing may be mounted: whatever is written anew is too large.
_LIMIT = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
"""
_PUT = """
import sys
from pathlib import Path
from harness.report.evidence.evidence_files import Store
try:
    Store(Path(sys.argv[1]), 10 << 20).write("mesh1/a.yaml", "a file", "mesh1", "x" * (1 << 20))
except OSError as error:
    print("told:", error.strerror)
print("left:", [path.name for path in Path(sys.argv[1]).rglob("*") if path.is_file() and path.name != "of-others"])
"""
_MAY_MOUNT = (
    subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "small", "/mnt"], capture_output=True).returncode == 0
)


def on_a_small_disk(directory) -> tuple[str, ...]:
    """What a command begins with that has a small disk at `directory`; nothing where nothing may be mounted."""
    return ("unshare", "-rm", "sh", "-c", _SMALL, str(directory)) if _MAY_MOUNT else ()


@pytest.mark.parametrize("fills", [_FILL if _MAY_MOUNT else _LIMIT, _LIMIT], ids=["full disk", "limited files"])
def test_a_disk_that_fills_up_hides_no_result_and_leaves_no_part_of_a_file(tmp_path, monkeypatch, fills):
    (tmp_path / "report").mkdir()
    if fills == _FILL:
        monkeypatch.setattr(Run, "prefix", on_a_small_disk(tmp_path / "report"))
    run = Run(tmp_path, TESTS.replace("    pass", fills, 1), "-k", "good or bad")
    assert run.done.returncode == pytest.ExitCode.TESTS_FAILED, run.done.stdout + run.done.stderr
    assert "1 failed, 1 passed" in run.done.stdout
    assert "report: could not be written to" in run.done.stdout
    assert "Traceback" not in run.done.stderr + run.done.stdout
    if fills == _FILL:
        assert "junit: could not be written to" in run.done.stdout
        remains = next(line for line in run.done.stdout.splitlines() if line.startswith("remains: "))
        assert sorted(remains.split()[1:]) == ["index.html", "of-others", "report.yaml"]
    else:
        assert {path.name for path in run.report.iterdir()} == {"index.html", "report.yaml", "junit.xml"}
        assert yaml.safe_load((run.report / "report.yaml").read_text())["result"] == "unknown", (
            "as before the first test"
        )


def test_a_file_of_evidence_that_does_not_fit_is_not_there_in_part(tmp_path):
    limit = "" if _MAY_MOUNT else f"import resource{_LIMIT.replace('    ', '')}"
    command = [*on_a_small_disk(tmp_path), sys.executable, "-c", limit + _PUT, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "told: " in done.stdout, done.stderr
    assert "left: []" in done.stdout
