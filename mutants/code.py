"""Which version of the project something was found with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Code:
    """A commit, '' where none is known, and whether the files were those of that commit."""

    commit: str
    clean: bool

    @classmethod
    @cache
    def now(cls) -> Code:
        """The project as it was when this was first asked for: a run that takes half an hour is of one version."""
        try:
            commit = _git("rev-parse", "HEAD").strip()
            return cls(commit, not _git("status", "--porcelain").strip())
        except (OSError, subprocess.CalledProcessError):
            return cls("", False)

    def same_as(self, other: Code) -> bool:
        """Whether both are certainly the same code: changed files are the same as nothing."""
        return bool(self.commit) and self == other and self.clean

    def __str__(self) -> str:
        if not self.commit:
            return "no commit (not in a git checkout)"
        return f"commit {self.commit[:12]}{'' if self.clean else ' with changes'}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True).stdout
