"""Kubeconfigs that lie elsewhere, given the way people give them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.commandline import joined

ROOT = Path(__file__).resolve().parent.parent


def test_options_that_take_a_path_are_joined_with_it_and_others_left_alone():
    given = ["-k", "split", "--mesh1-kubeconfig", "/a", "--mesh2-kubeconfig=/b", "--federation-report", "-q", "tests"]
    wanted = ["-k", "split", "--mesh1-kubeconfig=/a", "--mesh2-kubeconfig=/b", "--federation-report", "-q", "tests"]
    assert joined(given) == wanted


@pytest.mark.parametrize("program", [[str(Path(sys.executable).with_name("pytest"))], [sys.executable, "-m", "pytest"]])
def test_kubeconfigs_outside_the_checkout_are_read(program, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("no kubeconfig")
    options = ["--mesh1-kubeconfig", str(tmp_path / "a"), "--mesh2-kubeconfig", str(tmp_path / "b")]
    done = subprocess.run([*program, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 4
    assert f"{tmp_path / 'a'}: is not a kubeconfig" in done.stderr
    assert f"{tmp_path / 'b'}: is not a kubeconfig" in done.stderr
