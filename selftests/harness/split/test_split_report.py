"""What people read of a measurement: one line without statistics, one with all the numbers."""

from __future__ import annotations

import pytest

from harness.split.independence import Independence
from harness.split.ledger import Account
from harness.split.meter import Measurement
from harness.split.sequential import SplitTest

ASKED = {"mesh1": 50, "mesh2": 50}
TEST = SplitTest((50, 50))


def measurement(counts: tuple[int, int], unattributed: int = 0, **more) -> Measurement:
    return Measurement(ASKED, TEST, TEST.decide(counts, unattributed), **more)


@pytest.mark.parametrize(
    ("counts", "unattributed", "headline"),
    [
        ((1003, 1013), 0, "The 50/50 split is in force: mesh1 served 49.8 %, mesh2 served 50.2 % of 2016 requests."),
        ((32, 0), 0, "The traffic is not split 50/50: mesh1 served 100.0 %, mesh2 served 0.0 % of 32 requests."),
        (
            (4100, 4476),
            0,
            "Whether the 50/50 split is in force cannot be told: mesh1 served 47.8 %, mesh2 served 52.2 % of 8576 "
            "requests, neither close enough to the weights nor far enough off.",
        ),
        (
            (300, 300),
            90,
            "Whether the 50/50 split is in force cannot be told: 90 of 690 requests failed or left no trace "
            "(most often: for no known reason).",
        ),
    ],
)
def test_every_outcome_has_its_own_line(counts, unattributed, headline):
    assert measurement(counts, unattributed).headline == headline


def test_the_most_frequent_reason_is_named():
    account = Account(690, {"mesh1": 300, "mesh2": 300}, 90, 0, {"rare": 1, "ratings call: 503": 89}, {}, {})
    assert "(most often: ratings call: 503)" in measurement((300, 300), 90, account=account).headline


@pytest.fixture
def full() -> Measurement:
    """A measurement with all that can be told of one."""
    account = Account(2100, {"mesh1": 1043, "mesh2": 1053}, 4, 0, {"503": 4}, {"mesh1 ratings": 2}, {})
    independence = Independence(1.04, -3.2, -5.0, regular=("a note",))
    return measurement((1003, 1009), 4, account=account, independence=independence, rate=170.4, elapsed=12.3)


@pytest.mark.parametrize(
    "part",
    [
        "PASS, n=2016 of at most 8576",
        "mesh1 1003 (49.9 %, 99 % interval ",
        "failed or unattributed 4 (at most ",
        "(PASS from 1e+03)",
        "(FAIL from 1e+04)",
        "margin 5 and tolerance 1 points, alpha 0.0001, beta 0.001",
        "phi 1.04",
        "round robin?): a note",
        "12.3 s, 170 requests/s",
        "2100 sent = 1043 served by mesh1 + 1053 served by mesh2 + 4 failed + 0 unattributed; 4 x 503",
        "2 foreign lines of mesh1 ratings",
    ],
)
def test_all_figures_are_in_the_line_of_numbers(full, part):
    assert part in full.numbers


def test_a_report_is_the_line_for_people_and_the_line_of_numbers(full):
    assert full.report == f"{full.headline}\n{full.numbers}"


def test_what_was_not_measured_says_why_and_does_not_pass():
    found = Measurement(ASKED, TEST, problem="the route still carries 90/10")
    assert not found.passed
    assert found.headline == "The 50/50 split was not measured: the route still carries 90/10."
    assert found.numbers == "NOT PROGRAMMED"


def test_what_leaves_no_trace_is_inconclusive():
    found = Measurement(ASKED, TEST, problem="nobody keeps a log", untraceable=True)
    assert not found.passed
    assert found.headline == "Whether the 50/50 split is in force cannot be told: nobody keeps a log."
    assert found.numbers == "INCONCLUSIVE:unattributed"


def test_only_pass_passes():
    outcomes = {measurement(counts).outcome: measurement(counts).passed for counts in ((2000, 2000), (0, 64), (5, 5))}
    assert outcomes == {"PASS": True, "FAIL": False, "INCONCLUSIVE:budget": False}
