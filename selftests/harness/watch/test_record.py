"""What a watch writes is there whatever happens: kill -9, a second start, a full disk, a clock that is set."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from harness.watch.steady_time import Clocks, Pulse, SteadyTime
from harness.watch.store import GAPS, MARKS, PROBES, RUNS, STATES, RecordError, Store, mark, read_timeline

FACTS = {"streams": {"fresh": {"rate": 20.0}}, "roles": {"mesh2": {"mesh1-egress": "federation egress"}}}


class Hands:
    """The clocks of a machine that are moved by hand."""

    def __init__(self, at=1_000_000.0):
        self.real, self.wall, self.slept = at, at, 0.0

    @property
    def clocks(self):
        return Clocks(lambda: self.wall, lambda: self.real, lambda: self.real - self.slept)

    def pass_by(self, seconds, asleep=0.0):
        self.real += seconds
        self.wall += seconds
        self.slept += asleep


def begun(directory, hands=None):
    store = Store(directory, SteadyTime((hands or Hands()).clocks))
    store.begin(FACTS)
    return store


def probe(at, good=True):
    return {"t": at, "s": "fresh", "d": 0.02, "good": good, "saw": "stars" if good else "503"}


def test_what_is_written_is_read_back(tmp_path):
    store = begun(tmp_path)
    store.write(PROBES, probe(1_000_001.0, good=False))
    pod = {"t": 1_000_002.0, "mesh": "mesh2", "kind": "Pod", "name": "a", "ns": "n", "was": None, "is": {"ready": True}}
    store.write(STATES, pod)
    store.close()
    mark(tmp_path, "operator 2.5 approved in mesh1")
    found = read_timeline(tmp_path)
    assert [(one.at, one.good, one.saw) for one in found.streams["fresh"]] == [(1_000_001.0, False, "503")]
    assert found.states[0].now == {"ready": True}
    assert found.facts["fresh"].rate == 20.0
    assert found.role("mesh2", "mesh1-egress") == "federation egress"
    assert [one.text for one in found.marks] == ["operator 2.5 approved in mesh1"]
    assert (found.start, found.unread, found.gaps) == (1_000_000.0, 0, [])


def test_a_record_is_readable_after_kill_9_and_goes_on(tmp_path):
    program = (
        "import sys, itertools, pathlib; from harness.watch.store import *;"
        "from harness.watch.steady_time import SteadyTime; time = SteadyTime();"
        f"store = Store(pathlib.Path({str(tmp_path)!r}), time); store.begin({FACTS!r})\n"
        "for n in itertools.count():\n"
        "    store.write(PROBES, {'t': time.now(), 's': 'fresh', 'good': True, 'n': n, 'saw': 'x' * 3000})\n"
        "    if n == 200: print('enough', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "enough\n"
        process.send_signal(signal.SIGKILL)
    found = read_timeline(tmp_path)
    assert len(found.streams["fresh"]) > 200
    assert found.unread <= 1
    store = Store(tmp_path, SteadyTime())
    store.begin(FACTS)
    store.write(PROBES, probe(SteadyTime().now()))
    store.close()
    later = read_timeline(tmp_path)
    assert len(later.streams["fresh"]) == len(found.streams["fresh"]) + 1
    (gap,) = later.gaps
    assert "died" in gap.why
    assert gap.start == pytest.approx(found.end)
    assert gap.start <= gap.end <= later.end


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    hands = Hands()
    begun(tmp_path, hands).close()
    with (tmp_path / "probes.jsonl").open("w") as file:
        file.write(json.dumps(probe(1_000_001.0)) + '\n{"t":1000002.0,"s":"fre')
    hands.pass_by(10)
    store = begun(tmp_path, hands)
    store.write(PROBES, probe(1_000_011.0))
    store.close()
    found = read_timeline(tmp_path)
    assert [one.at for one in found.streams["fresh"]] == [1_000_001.0, 1_000_011.0]
    assert found.unread == 1


def test_two_watches_cannot_write_to_one_directory(tmp_path):
    store = begun(tmp_path)
    with pytest.raises(RecordError, match="another watch is writing"):
        begun(tmp_path)
    store.close()
    begun(tmp_path).close()


def test_a_full_disk_is_a_gap_and_a_word_to_whoever_looks(tmp_path, monkeypatch):
    """The write that fails is the one system call that a full disk fails, half of a line written before."""
    hands, told = Hands(), []
    store = Store(tmp_path, SteadyTime(hands.clocks), told.append)
    store.begin(FACTS)
    store.write(PROBES, probe(1_000_001.0))
    real = os.write
    monkeypatch.setattr("harness.watch.store.os.write", lambda descriptor, raw: real(descriptor, raw[: len(raw) // 2]))
    hands.pass_by(2)
    store.write(PROBES, probe(1_000_002.0))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("harness.watch.store.os.write", full)
    for n in range(3, 10):
        store.write(PROBES, probe(1_000_000.0 + n))
    monkeypatch.setattr("harness.watch.store.os.write", real)
    hands.pass_by(8)
    store.write(PROBES, probe(1_000_010.0))
    store.close()
    found = read_timeline(tmp_path)
    assert [one.at for one in found.streams["fresh"]] == [1_000_001.0, 1_000_010.0]
    (gap,) = found.gaps
    assert (gap.start, gap.end) == (1_000_002.0, 1_000_010.0)
    assert "8 lines are lost" in gap.why
    assert len(told) == 2


def test_a_record_of_a_later_format_is_refused(tmp_path):
    begun(tmp_path).close()
    run = json.loads((tmp_path / "runs.jsonl").read_text())
    (tmp_path / "runs.jsonl").write_text(json.dumps({**run, "format": 99}))
    with pytest.raises(RecordError, match="format 99"):
        read_timeline(tmp_path)


def test_what_is_no_record_is_said_to_be_none(tmp_path):
    with pytest.raises(RecordError, match="no record of a watch"):
        read_timeline(tmp_path)
    with pytest.raises(RecordError, match="no watch has written"):
        mark(tmp_path, "text")


def test_a_mark_is_at_its_place_though_the_clock_was_set_meanwhile(tmp_path):
    hands = Hands()
    store = begun(tmp_path, hands)
    hands.pass_by(60)
    hands.wall -= 3_600
    now = SteadyTime(hands.clocks).moment()
    store.write(MARKS, {"t": now.at, "boot": now.boot, "host": now.host, "text": "an hour back"})
    store.close()
    assert [one.at for one in read_timeline(tmp_path).marks] == [1_000_060.0]


def test_a_run_that_was_ended_is_told_from_one_that_died(tmp_path):
    hands = Hands()
    store = begun(tmp_path, hands)
    hands.pass_by(5)
    store.write(RUNS, {"t": 1_000_005.0, "ended": "Ctrl-C"})
    store.close()
    hands.pass_by(20)
    begun(tmp_path, hands).close()
    (gap,) = read_timeline(tmp_path).gaps
    assert (gap.start, gap.end, gap.why) == (1_000_005.0, 1_000_025.0, "the watch was ended and begun again")


def test_gaps_that_were_noted_name_the_mesh_they_are_of(tmp_path):
    store = begun(tmp_path)
    store.write(GAPS, {"from": 1.0, "to": 2.0, "why": "no answer", "mesh": "mesh1"})
    store.close()
    assert [(gap.mesh, gap.lasted) for gap in read_timeline(tmp_path).gaps] == [("mesh1", 1.0)]


# The time itself


def test_time_goes_on_evenly_when_the_clock_is_set():
    hands = Hands()
    steady = SteadyTime(hands.clocks)
    pulse = Pulse(steady)
    hands.pass_by(1.0)
    hands.wall -= 7_200
    missed, step = pulse.beat(1.0)
    assert (missed, step) == (None, pytest.approx(-7_200))
    assert steady.now() == 1_000_001.0
    hands.pass_by(1.0)
    assert pulse.beat(1.0) == (None, 0.0)


@pytest.mark.parametrize(("asleep", "words"), [(30.0, "asleep for 30 s"), (0.0, "not let run")])
def test_a_beat_that_comes_late_says_since_when_and_why(asleep, words):
    hands = Hands()
    pulse = Pulse(SteadyTime(hands.clocks))
    hands.pass_by(30.5, asleep)
    missed, step = pulse.beat(0.5)
    assert (missed.start, missed.end, step) == (1_000_000.0, 1_000_030.5, 0.0)
    assert words in missed.why


def test_a_beat_a_little_late_is_nothing():
    hands = Hands()
    pulse = Pulse(SteadyTime(hands.clocks))
    hands.pass_by(1.4)
    assert pulse.beat(0.5) == (None, 0.0)
