"""`python -m harness.diagnosis` where there is no federation to look at: its exit codes, and nothing secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from selftests.harness.scenario.test_options import kubeconfig

ROOT = Path(__file__).parents[3]
SECRET = "c0ffee-" + "do-not-show-me"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MESH")}
    whole = [sys.executable, "-m", "harness.diagnosis", *arguments]
    return subprocess.run(whole, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)


def both(path: Path, *others: str) -> subprocess.CompletedProcess[str]:
    return command(f"--mesh1-kubeconfig={path}", f"--mesh2-kubeconfig={path}", *others)


def test_what_cannot_begin_is_neither_broken_nor_unknown(tmp_path: Path) -> None:
    usable = kubeconfig(tmp_path / "usable")
    for said, why in (
        (command(), "missing --mesh1-kubeconfig and --mesh2-kubeconfig"),
        (both(usable, "--no-such-option"), "--no-such-option"),
        (both(usable, "--weights", "half"), "two numbers such as 50/50"),
        (both(tmp_path / "nowhere"), "nowhere"),
        (both(usable, "--mesh2-context", "elsewhere"), "elsewhere"),
    ):
        assert said.returncode == 3, said.stdout + said.stderr
        assert why in said.stderr
        assert "Traceback" not in said.stderr
        assert said.stdout == ""


def test_the_exit_codes_are_in_the_help() -> None:
    said = command("--help")
    assert said.returncode == 0
    assert "3 it could not begin" in " ".join(said.stdout.split())


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_what_cannot_be_reached_is_broken_and_shown_without_secrets(tmp_path: Path, form: tuple[str, ...]) -> None:
    path = kubeconfig(tmp_path / "unreachable")
    content = yaml.safe_load(path.read_text())
    content["clusters"][0]["cluster"] = {
        "server": f"https://me:{SECRET}@127.0.0.1:1",
        "proxy-url": f"http://me:{SECRET}@127.0.0.1:1",
    }
    content["users"][0]["user"] = {"token": SECRET}
    path.write_text(yaml.safe_dump(content))
    said = both(path, *form)
    assert said.returncode == 1, said.stdout + said.stderr
    assert "127.0.0.1:1" in said.stdout
    assert SECRET not in said.stdout + said.stderr


def test_a_broken_kubeconfig_is_not_quoted_with_its_secrets(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_text(f"users:\n- user: {{token: {SECRET}\n  password: x: y\n")
    said = both(path)
    assert said.returncode == 3, said.stdout + said.stderr
    assert SECRET not in said.stdout + said.stderr
