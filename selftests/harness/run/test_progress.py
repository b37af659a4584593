"""Progress: one line per mesh that is rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
import threading

from harness.run import progress as progress_module
from harness.run.progress import Progress
from harness.run.waiting import pause, wait_for

UP = re.compile(r"\x1b\[(\d+)A")


def screen(written: str) -> list[str]:
    """What a terminal shows after `written`: line feeds, cursor up and erased lines."""
    rows, row = [""], 0
    for part in re.split(r"(\n|\x1b\[\d+A|\x1b\[2K)", written):
        if part == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif match := UP.fullmatch(part):
            row -= int(match[1])
        elif part == "\x1b[2K":
            rows[row] = ""
        else:
            rows[row] += part
    return [re.sub(r"^ +[\d.]+ s  ", "", row) for row in rows if row]


def test_plain_lines_tell_every_step_and_begin_below_what_others_wrote():
    stream = io.StringIO("tests/test_x.py ..")
    stream.seek(0, io.SEEK_END)
    progress = Progress(stream, live=False)
    progress.step("mesh1", "one")
    with progress.waiting("mesh1", "two"):
        progress.step("mesh1", "three")
    assert screen(stream.getvalue()) == ["tests/test_x.py ..", "mesh1  one", "mesh1  three"]


def test_a_terminal_shows_one_line_per_mesh_with_what_it_waits_for():
    stream = io.StringIO()
    progress = Progress(stream, live=True)
    progress.step("mesh2", "applied")
    progress.step("mesh1", "applied")
    with progress.waiting("mesh1", "a root"), progress.waiting("mesh1", "an address"):
        assert screen(stream.getvalue()) == ["mesh1  applied; waiting for a root, an address", "mesh2  applied"]
    progress.step("mesh1", "Ready")
    assert screen(stream.getvalue()) == ["mesh1  Ready", "mesh2  applied"]


def test_what_is_written_after_settling_begins_below():
    stream = io.StringIO()
    progress = Progress(stream, live=True)
    progress.step("mesh1", "first")
    progress.settle()
    stream.write("dots")
    progress.step("mesh1", "second")
    assert screen(stream.getvalue()) == ["mesh1  first", "dots", "mesh1  second"]


def test_a_long_line_is_cut_so_that_it_stays_one():
    stream = io.StringIO()
    progress = Progress(stream, live=True)
    progress.step("mesh1", "x" * 500)
    assert len(screen(stream.getvalue())) == 1
    assert max(map(len, stream.getvalue().splitlines())) < 90


def test_every_step_is_kept_with_its_time():
    progress = Progress(io.StringIO(), live=False)
    progress.step("mesh1", "one")
    progress.step("mesh2", "two")
    assert [(step.mesh, step.text) for step in progress.timings] == [("mesh1", "one"), ("mesh2", "two")]
    assert progress.timings[0].seconds <= progress.timings[1].seconds


def test_a_wait_shows_what_was_seen_last_until_it_ends():
    stream = io.StringIO()
    progress = Progress(stream, live=True)
    progress.step("mesh1", "applied")
    with progress.waiting("mesh1", "a root") as seen:
        seen("no such object")
        seen("empty")
        assert screen(stream.getvalue()) == ["mesh1  applied; waiting for a root (empty)"]
    progress.step("mesh1", "done")
    assert screen(stream.getvalue()) == ["mesh1  done"]


def test_plain_lines_tell_of_a_long_wait_now_and_then_with_what_was_seen_last(monkeypatch):
    monkeypatch.setattr(progress_module, "_LONG", 0.1)
    monkeypatch.setattr(progress_module, "_AGAIN", 0.2)
    stream = io.StringIO()
    progress = Progress(stream, live=False)
    told = re.compile(r"mesh1  still waiting for a root, since 0 s(?:; last seen: (.*))?")

    def lines():
        return [match[1] for line in screen(stream.getvalue()) if (match := told.fullmatch(line))]

    with progress.waiting("mesh1", "a root") as seen:
        wait_for("the first line", lambda: (lines() or None, stream.getvalue()), 10, interval=0.01)
        assert lines() == [None]
        seen("no such object")
        wait_for("the second line", lambda: (lines()[1:] or None, stream.getvalue()), 10, interval=0.01)
        assert lines() == [None, "no such object"]
    wait_for("its thread to end", lambda: (not threads() or None, str(threads())), 10, interval=0.01)


def test_a_terminal_tells_of_a_long_wait_that_has_no_line_to_be_shown_on(monkeypatch):
    monkeypatch.setattr(progress_module, "_LONG", 0.1)
    monkeypatch.setattr(progress_module, "_AGAIN", 1000.0)
    stream = io.StringIO()
    progress = Progress(stream, live=True)
    progress.step("mesh1", "shown")
    progress.settle()
    lines = {what: f"mesh1  still waiting for {what}, since 0 s" for what in ("first", "second")}
    for what, line in lines.items():
        stream.write("dots")
        with progress.waiting("mesh1", what):
            wait_for(what, lambda line=line: (line in screen(stream.getvalue()) or None, stream.getvalue()), 10)
    assert screen(stream.getvalue()) == ["mesh1  shown", "dots", lines["first"], "dots", lines["second"]]


def test_a_short_wait_leaves_no_line(monkeypatch):
    monkeypatch.setattr(progress_module, "_LONG", 1000.0)
    monkeypatch.setattr(progress_module, "_AGAIN", 0.1)
    stream = io.StringIO()
    progress = Progress(stream, live=False)
    with progress.waiting("mesh1", "a root"):
        assert threads()
        pause(0.1)
    assert stream.getvalue() == ""


def threads() -> list[str]:
    """The threads that tell of long waits."""
    return [thread.name for thread in threading.enumerate() if thread.name == "long waits"]
