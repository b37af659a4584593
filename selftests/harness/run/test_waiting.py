"""Waits: they end with the answer, with the deadline, or when the run is given up, and say what was seen last."""

from __future__ import annotations

from threading import Event

import pytest

from harness.run.waiting import Cancelled, Deadline, WaitTimeout, settled, wait_for


def test_the_first_answer_ends_the_wait():
    answers = iter([(None, "one"), (None, "two"), ("three", "")])
    assert wait_for("a third answer", lambda: next(answers), 60, interval=0) == "three"
    assert list(answers) == []


def test_every_observation_before_the_answer_is_told():
    answers = iter([(None, "one"), (None, "two"), ("three", "")])
    told: list[str] = []
    wait_for("a third answer", lambda: next(answers), 60, interval=0, seen=told.append)
    assert told == ["one", "two"]


def test_an_answer_that_is_false_is_an_answer():
    assert wait_for("a number", lambda: (0, ""), 0) == 0


def test_a_probe_is_asked_once_even_when_there_is_no_time():
    assert wait_for("anything", lambda: ("here", ""), 0) == "here"


def test_the_failure_says_what_was_seen_last_and_where():
    observations = iter(["first", "second"])
    with pytest.raises(WaitTimeout) as caught:
        wait_for("stars", lambda: (None, next(observations)), 0, "mesh2", hint="Look at reviews")
    assert (caught.value.mesh, caught.value.what, caught.value.last) == ("mesh2", "stars", "first")
    assert str(caught.value) == "mesh2: waited 0 s for stars; last seen: first. Look at reviews"


def test_a_wait_that_is_given_up_ends_without_another_look():
    cancelled, looks = Event(), []

    def look():
        looks.append(1)
        cancelled.set()
        return None, ""

    with pytest.raises(Cancelled):
        wait_for("never", look, 60, cancelled=cancelled)
    assert looks == [1]


def scripted(*answers: str | Exception):
    """A look that finds, or raises, these in turn, and '' for ever after."""
    left = list(answers)

    def look() -> str:
        found = left.pop(0) if left else ""
        if isinstance(found, Exception):
            raise found
        return found

    return look


def test_what_passes_is_no_finding_and_is_told_while_it_lasts():
    told: list[str] = []
    look = scripted("closed", KeyError("nobody"), "closed")
    assert settled(look, 60, str, KeyError, interval=0, seen=told.append) == ""
    assert told == ["closed", "'nobody'", "closed"]


def test_what_lasts_is_found_or_raised_in_the_end():
    assert settled(scripted("closed"), 0, str) == "closed"
    with pytest.raises(KeyError):
        settled(scripted(KeyError("nobody")), 0, str, KeyError)


def test_an_error_that_will_not_pass_ends_the_look():
    with pytest.raises(ValueError, match="nonsense"):
        settled(scripted(ValueError("nonsense")), 60, str, KeyError, interval=0)


def test_a_look_at_the_end_of_the_time_is_the_one_that_counts():
    looks: list[int] = []

    def look() -> int:
        looks.append(1)
        return len(looks)

    assert settled(look, 0.05, lambda _: "never fine", interval=0.01) == len(looks) > 1


def test_a_deadline_never_has_less_than_nothing_left():
    deadline = Deadline(-1)
    assert (deadline.left, deadline.passed) == (0, True)
