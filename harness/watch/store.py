"""The record of a watch on disk: append-only files of JSON lines, each line written at once.

What is there stays readable whatever kills the writer: a line that was cut off is left out by the reader. A second
start in the same directory goes on, and the time between is a gap. While a disk is full nothing is written, and when
there is room again the first line says how much is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.watch.segments import Sample
from harness.watch.steady_time import SteadyTime
from harness.watch.timeline import FailedLine, Gap, Mark, Role, StateEvent, StreamFacts, Timeline

Line = dict[str, Any]
RUNS, PROBES, STATES, MARKS, GAPS, LINES = "runs", "probes", "states", "marks", "gaps", "lines"
FORMAT = 1


class RecordError(Exception):
    """A directory that is no record, or one that somebody else is writing."""


class Store:
    """Writes one run of a watch into a directory. Thread-safe.

    told: gets one sentence when lines begin to get lost, and one when that is over. Raises RecordError where another
    watch is writing there, OSError where the directory cannot be written to.
    """

    def __init__(self, directory: Path, time: SteadyTime, told: Callable[[str], None] = lambda _: None) -> None:
        self.directory, self._time, self._told = directory, time, told
        self._lock = threading.Lock()
        self._files: dict[str, int] = {}
        self._torn: set[str] = set()
        self._lost, self._lost_since, self._lost_why = 0, 0.0, ""
        directory.mkdir(parents=True, exist_ok=True)
        self._guard = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._guard)
            raise RecordError(f"{directory}: another watch is writing there") from error

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Notes that a run begins, with what whoever reads it must know."""
        now = self._time.moment()
        self.write(RUNS, {"t": now.at, "boot": now.boot, "host": now.host, "format": FORMAT, **facts})

    def write(self, file: str, line: Mapping[str, Any]) -> None:
        """Appends one line; where that is not possible, it is lost and counted."""
        with self._lock:
            try:
                if self._lost:
                    self._append(GAPS, self._lost_gap())
                    self._told(f"writing to {self.directory} goes on, {self._lost} lines are lost")
                    self._lost = 0
                self._append(file, line)
            except OSError as error:
                if not self._lost:
                    self._lost_since, self._lost_why = self._time.now(), error.strerror or str(error)
                    self._told(f"nothing can be written to {self.directory}: {self._lost_why}")
                self._lost += 1

    def _lost_gap(self) -> Line:
        why = f"nothing could be written ({self._lost_why}), {self._lost} lines are lost"
        return {"from": self._lost_since, "to": self._time.now(), "why": why}

    def _append(self, file: str, line: Mapping[str, Any]) -> None:
        if file not in self._files:
            path = self.directory / f"{file}.jsonl"
            self._files[file] = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
            if _is_torn(path):
                self._torn.add(file)
        raw = (json.dumps(line, separators=(",", ":")) + "\n").encode()
        if file in self._torn:
            raw = b"\n" + raw
        written = os.write(self._files[file], raw)
        if written == len(raw):
            self._torn.discard(file)
        else:
            self._torn.add(file)
            raise OSError(28, "the disk is full")

    def close(self) -> None:
        with self._lock:
            for descriptor in (*self._files.values(), self._guard):
                os.close(descriptor)
            self._files.clear()


def _is_torn(path: Path) -> bool:
    """Whether a file ends within a line."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        if not file.tell():
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def mark(directory: Path, text: str) -> None:
    """Notes something that somebody did, from any process, also while nothing watches. Raises RecordError."""
    if not (directory / f"{RUNS}.jsonl").is_file():
        raise RecordError(f"{directory}: no watch has written there; begin one with --out {directory}")
    now = SteadyTime().moment()
    line = json.dumps({"t": now.at, "boot": now.boot, "host": now.host, "text": text}) + "\n"
    with (directory / f"{MARKS}.jsonl").open("a") as file:
        file.write(line)


class _Reader:
    """Reads the files of one record; `broken` counts the lines that cannot be read."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.broken = directory, 0

    def lines(self, file: str) -> Iterator[Line]:
        path = self._directory / f"{file}.jsonl"
        if not path.is_file():
            return
        with path.open("rb") as stream:
            for raw in stream:
                if not raw.strip():
                    continue
                try:
                    found = json.loads(raw)
                except ValueError:
                    found = None
                if isinstance(found, dict):
                    yield found
                else:
                    self.broken += 1


def read_timeline(directory: Path) -> Timeline:
    """What a watch recorded in a directory, up to now if it still does. Raises RecordError where there is nothing."""
    reader = _Reader(directory)
    runs = list(reader.lines(RUNS))
    begins = [run for run in runs if "format" in run]
    if not begins:
        raise RecordError(f"{directory}: there is no record of a watch")
    if newer := [run["format"] for run in begins if run["format"] > FORMAT]:
        raise RecordError(f"{directory}: the record has format {max(newer)}, this version reads up to {FORMAT}")
    streams: dict[str, list[Sample]] = {}
    alive = [run["t"] for run in runs]
    for line in reader.lines(PROBES):
        if "good" in line:
            sample = Sample(line["t"], line["good"], line.get("d", 0.0), line.get("saw", ""))
            streams.setdefault(line["s"], []).append(sample)
        alive.append(line["t"] + line.get("d", 0.0))
    states = _continued(sorted((_state(line) for line in reader.lines(STATES)), key=lambda state: state.at))
    gaps = [Gap(line["from"], line["to"], line["why"], line.get("mesh", "")) for line in reader.lines(GAPS)]
    lines = [_failed_line(line) for line in reader.lines(LINES)]
    marks = [Mark(_time_of(line, begins), line["text"]) for line in reader.lines(MARKS)]
    alive += [state.at for state in states]
    gaps += _between(begins, runs, sorted(alive))
    last = begins[-1]
    return Timeline(
        begins[0]["t"],
        max(alive),
        {name: sorted(found, key=lambda sample: sample.at) for name, found in streams.items()},
        {name: StreamFacts(**facts) for name, facts in last.get("streams", {}).items()},
        states,
        sorted(marks, key=lambda one: one.at),
        sorted(gaps, key=lambda gap: gap.start),
        sorted(lines, key=lambda line: line.at),
        {mesh: {name: Role(role) for name, role in of.items()} for mesh, of in last.get("roles", {}).items()},
        reader.broken,
    )


def _state(line: Line) -> StateEvent:
    return StateEvent(
        line["t"], line["mesh"], line["kind"], line["name"], line.get("ns", ""), line["was"], line["is"],
        line.get("first", False),
    )  # fmt: skip


def _continued(states: list[StateEvent]) -> list[StateEvent]:
    """What a later run found is a change where an earlier one had seen it otherwise, and nothing where it is the same.

    When it changed is not known: in the gap between the two.
    """
    known: dict[tuple[str, str, str, str], Any] = {}
    found = []
    for state in states:
        if state.first and state.key in known:
            if state.now == known[state.key]:
                continue
            state = replace(state, was=known[state.key], first=False)
        known[state.key] = state.now
        found.append(state)
    return found


def _failed_line(line: Line) -> FailedLine:
    return FailedLine(line["t"], line["mesh"], line["workload"], line["flags"], line["upstream"], line["text"])


def _time_of(line: Line, begins: list[Line]) -> float:
    """When a mark was made, by the time of the run it fell into: the clock may have been set since that began."""
    host, boot = line.get("host"), line.get("boot")
    runs = [run for run in begins if host and run.get("host") == host and run["boot"] <= boot]
    return runs[-1]["t"] + (boot - runs[-1]["boot"]) if runs else line["t"]


def _between(begins: list[Line], runs: list[Line], alive: list[float]) -> list[Gap]:
    """The times between two runs: from the last sign of life of one to the begin of the next."""
    found = []
    for run in begins[1:]:
        before = [moment for moment in alive if moment < run["t"]]
        ended = any("ended" in other and before and other["t"] >= before[-1] for other in runs if other["t"] < run["t"])
        why = "the watch was ended and begun again" if ended else "the watch had died and was begun again"
        if before:
            found.append(Gap(before[-1], run["t"], why))
    return found
