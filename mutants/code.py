"""Which version of the project something was found with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent.parent
# What is tested, and by what: the suite and the lab. Neither documents nor the selftests change what comes of a run.
_TESTED = ("conftest.py", "fixtures", "harness", "lab", "manifests", "tests")


@dataclass(frozen=True)
class Code:
    """A commit, '' where none is known, and whether suite and lab were those of that commit."""

    commit: str
    clean: bool

    @classmethod
    @cache
    def now(cls) -> Code:
        """The project as it was when this was first asked for: a run that takes half an hour is of one version."""
        try:
            commit = _git("rev-parse", "HEAD").strip()
            return cls(commit, not _git("status", "--porcelain", "--", *_TESTED).strip())
        except (OSError, subprocess.CalledProcessError):
            return cls("", False)

    def same_as(self, other: Code) -> bool:
        """Whether suite and lab are certainly the same in both: changed files are the same as nothing."""
        return self.clean and other.clean and bool(self.commit) and _tested(self.commit) == _tested(other.commit)

    def __str__(self) -> str:
        if not self.commit:
            return "no commit (not in a git checkout)"
        return f"commit {self.commit[:12]}{'' if self.clean else ' with changes'}"


@cache
def _tested(commit: str) -> str:
    """What suite and lab consist of in a commit; for one that is not known here, the commit itself."""
    try:
        return _git("ls-tree", commit, *_TESTED)
    except (OSError, subprocess.CalledProcessError):
        return commit


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True).stdout
