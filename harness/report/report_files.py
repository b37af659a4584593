"""Writes the report's files, each whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from harness.report.page import page
from harness.scenario.options import REPORT_FILES

REPORT, JUNIT, PAGE = REPORT_FILES


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file; readers see the old one or the new one, also when this is interrupted. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_report(directory: Path, content: dict[str, Any]) -> None:
    """Writes report.yaml and index.html of `document`'s content; report.yaml is there even if the page fails."""
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / REPORT, dump(content))
    write_atomically(directory / PAGE, page(content))


def dump(content: dict[str, Any]) -> str:
    """YAML, keys in the order of the document, rows of numbers on one line."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
