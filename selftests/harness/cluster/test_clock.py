"""The offset of a server's clock is found by answers that tell whole seconds, and is followed where it changes."""

from __future__ import annotations

import math
import random

import pytest

from harness.cluster.clock import ServerClock

AHEAD = (900.4, 0.3, 0.0, -0.9, -3600.7)


def answers(clock: ServerClock, ahead: float, count: int, slowest: float = 0.02, begin: float = 1e9) -> None:
    """`count` answers by a server whose clock is ahead of ours, a quarter of a second or so apart."""
    chance = random.Random(count)
    for number in range(count):
        asked = begin + number * 0.25 + chance.uniform(0, 0.25)
        there, back = chance.uniform(0, slowest), chance.uniform(0, slowest)
        clock.heard(math.floor(asked + there + ahead), asked, asked + there + back)


def test_before_its_first_answer_a_server_is_not_ahead():
    assert ServerClock().offset == 0


@pytest.mark.parametrize("ahead", AHEAD)
def test_one_answer_tells_the_offset_to_half_a_second(ahead):
    clock = ServerClock()
    answers(clock, ahead, 1)
    assert clock.offset == pytest.approx(ahead, abs=0.52)


@pytest.mark.parametrize("ahead", AHEAD)
def test_forty_answers_tell_the_offset_to_a_twentieth_of_a_second(ahead):
    clock = ServerClock()
    answers(clock, ahead, 40)
    assert clock.offset == pytest.approx(ahead, abs=0.05)


def test_an_answer_that_took_long_undoes_nothing_that_is_known():
    clock = ServerClock()
    answers(clock, 900.4, 40)
    answers(clock, 900.4, 40, slowest=5, begin=2e9)
    assert clock.offset == pytest.approx(900.4, abs=0.05)


@pytest.mark.parametrize("then", [0.0, 899.0, 902.0])
def test_a_clock_that_is_set_is_followed_at_once(then):
    clock = ServerClock()
    answers(clock, 900.4, 40)
    answers(clock, then, 1, begin=2e9)
    assert clock.offset == pytest.approx(then, abs=0.52)
