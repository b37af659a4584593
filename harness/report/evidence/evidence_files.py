"""The directory of evidence: files within a limit, an index of them, and nothing of an earlier run among them."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from harness.report.evidence.evidence_logs import newest, span
from harness.report.report_files import write_atomically
from harness.run.redact import redacted, redacted_text

INDEX = "index.yaml"
_INDEX_BYTES = 256 << 10  # kept for the index, at most
_KEYS = {"since", "limit_bytes", "files", "missing"}  # of an index of ours


@dataclass(frozen=True)
class Entry:
    """One file of the directory.

    cut: it was shortened to keep within a limit; first, last: of a log, the times its lines begin and end at ('' where
    no line has one).
    """

    file: str
    what: str
    mesh: str
    bytes: int
    cut: bool = False
    first: str = ""
    last: str = ""


@dataclass(frozen=True)
class Index:
    """What was gathered: files of both meshes first, then by name, and what could not be read, a sentence each.

    complete: False while it is being gathered, which remains where that was cut short.
    """

    directory: Path
    since: datetime
    until: datetime
    limit_bytes: int
    files: tuple[Entry, ...] = ()
    missing: tuple[str, ...] = ()
    complete: bool = False

    def __str__(self) -> str:
        size = sum(entry.bytes for entry in self.files)
        cut = sum(entry.cut for entry in self.files)
        notes = f", {cut} cut" if cut else ""
        notes += f", {len(self.missing)} could not be read" if self.missing else ""
        return f"{self.directory} ({len(self.files)} files, {size / 1024:.0f} KiB{notes})"

    def to_dict(self) -> dict[str, Any]:
        return {
            "complete": self.complete,
            "since": self.since.isoformat(timespec="seconds"),
            "until": self.until.isoformat(timespec="seconds"),
            "limit_bytes": self.limit_bytes,
            "files": [_plain(entry) for entry in self.files],
            "missing": list(self.missing),
        }


def _plain(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in asdict(entry).items() if value != "" or key not in ("first", "last")}


def discard(directory: Path) -> None:
    """Removes the evidence of an earlier run, also one that was cut short; where there is none, nothing.

    Raises FileExistsError where something else is there, which is left alone, and OSError where it cannot be removed.
    """
    if not directory.exists() and not directory.is_symlink():
        return
    if not _is_ours(directory):
        raise FileExistsError(f"{directory} holds other things than evidence of an earlier run: move it away")
    shutil.rmtree(directory)


def _is_ours(directory: Path) -> bool:
    if directory.is_symlink() or not directory.is_dir():
        return False
    if not any(directory.iterdir()):
        return True
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        found = yaml.safe_load((directory / INDEX).read_text(encoding="utf-8"))
        return isinstance(found, dict) and found.keys() >= _KEYS
    return False


@dataclass
class Store:
    """Writes files within the limit, of which the index has a part of its own. Thread-safe.

    A file that is written again takes the place of what it was.
    """

    directory: Path
    limit: int
    files: list[Entry] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def _make_room(self, file: str) -> int:
        """Bytes that are left for a file, which is forgotten as it was."""
        self.files = [entry for entry in self.files if entry.file != file]
        room = self.limit - min(self.limit // 10, _INDEX_BYTES)
        return max(0, room - sum(entry.bytes for entry in self.files))

    def write(self, file: str, what: str, mesh: str, text: str) -> None:
        """What does not fit any more is cut off at the end."""
        data = redacted_text(text).encode()
        with self._lock:
            kept = data[: self._make_room(file)]
            self.files.append(Entry(file, what, mesh, len(kept), len(kept) < len(data)))
        self._put(file, kept)

    def write_log(self, file: str, what: str, mesh: str, lines: Sequence[str], cut: bool) -> None:
        """Of what does not fit any more the newest lines are kept; `cut`: older ones are missing already."""
        clean = redacted_text("\n".join(lines)).split("\n") if lines else []
        with self._lock:
            kept, shortened = newest(clean, self._make_room(file))
            data = "".join(f"{line}\n" for line in kept).encode()
            self.files.append(Entry(file, what, mesh, len(data), cut or shortened, *span(kept)))
        self._put(file, data)

    def _put(self, file: str, data: bytes) -> None:
        path = self.directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(data)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()  # a part of it would be taken for all
            raise

    def miss(self, sentence: str) -> None:
        """Says what could not be read."""
        with self._lock:
            self.missing.append(redacted_text(" ".join(sentence.split()))[:500])

    def index(self, since: datetime, until: datetime) -> Index:
        """Of all that was written, which is whole now."""
        files = sorted(self.files, key=lambda entry: (entry.mesh != "both", entry.file))
        return Index(self.directory, since, until, self.limit, tuple(files), tuple(sorted(self.missing)), True)

    def write_index(self, index: Index) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        write_atomically(self.directory / INDEX, as_yaml(index.to_dict()))


def as_yaml(value: Any) -> str:
    """Plain data as YAML, without secrets."""
    return yaml.safe_dump(redacted(value), sort_keys=False, allow_unicode=True, width=120)
