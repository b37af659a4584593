"""Files of budgets: what they may say, and that a bad one counts for nothing."""

from __future__ import annotations

import pytest

from harness.watch.budgets import DEFAULTS, WATCHES, BudgetErrors, allowed, duration, read_budgets
from harness.watch.changes import Cause


def written(tmp_path, text):
    path = tmp_path / "budgets.yaml"
    path.write_text(text)
    return path


def test_a_file_takes_the_place_of_the_defaults(tmp_path):
    text = """
    budgets:
    - {cause: ingress-replaced, streams: [fresh, ratings], longest: 3s}
    - {cause: egress-replaced, longest: resync}
    - {cause: mark, longest: 2m, text: "^drained"}
    - {cause: istiod-replaced, streams: [watches], longest: 0}
    """
    rows = read_budgets(written(tmp_path, text))
    assert allowed(rows, Cause.INGRESS_REPLACED, "fresh", "", 60) == 3.0
    assert allowed(rows, Cause.INGRESS_REPLACED, "kept", "", 60) == 0.0
    assert allowed(rows, Cause.EGRESS_REPLACED, "kept", "", 60) == 60.0
    assert allowed(rows, Cause.MARK, "fresh", "drained node 3", 60) == 120.0
    assert allowed(rows, Cause.MARK, "fresh", "node 3 drained", 60) == 0.0
    assert allowed(rows, Cause.ISTIOD_REPLACED, WATCHES, "", 60) == 0.0


def test_what_no_row_is_about_may_be_no_outage():
    assert allowed(DEFAULTS, Cause.SERVICE_EDITED, "fresh", "", 60) == 0.0
    assert allowed(DEFAULTS, Cause.ISTIOD_REPLACED, "fresh", "", 60) == 0.0
    assert allowed(DEFAULTS, Cause.ENTRY_REPLACED, "control", "", 60) == 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("budgets: [", "is not YAML"),
        ("- cause: mark", "one list"),
        ("budgets: []\nmore: 1", "one list"),
        ("budgets: [5]", "row 1: is no mapping"),
        ("budgets: [{cause: gateway, longest: 1s}]", "cause gateway is none of"),
        ("budgets: [{cause: mark}]", "longest None must be a time"),
        ("budgets: [{cause: mark, longest: 5}]", "longest 5 must be a time"),
        ("budgets: [{cause: mark, longest: -1s}]", "longest -1s must be a time"),
        ("budgets: [{cause: mark, longest: .inf}]", "longest inf must be a time"),
        ("budgets: [{cause: mark, longest: true}]", "longest True must be a time"),
        ("budgets: [{cause: mark, longest: false}]", "longest False must be a time"),
        ("budgets: [{cause: mark, longest: 1s, streams: all}]", "streams all must be a list"),
        ("budgets: [{cause: mark, longest: 1s, streams: [pages]}]", "must be a list of fresh"),
        ("budgets: [{cause: mark, longest: 1s, longst: 1s}]", "longst is none of"),
        ("budgets: [{cause: mark, longest: 1s, text: '('}]", "no regular expression"),
        ("budgets: [{cause: mark, longest: 1s}, {cause: mark, longest: 2s}]", "two rows for fresh"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path, text, words):
    with pytest.raises(BudgetErrors) as refused:
        read_budgets(written(tmp_path, text))
    assert any(words in problem for problem in refused.value.problems), refused.value.problems
    assert all("budgets.yaml" in problem for problem in refused.value.problems)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    text = "budgets: [{cause: a, longest: 1}, {cause: mark, longest: 1s}, {cause: b, longest: 2s}]"
    with pytest.raises(BudgetErrors) as refused:
        read_budgets(written(tmp_path, text))
    assert len(refused.value.problems) == 3


def test_a_file_that_is_not_there_is_said_to_be(tmp_path):
    with pytest.raises(BudgetErrors, match="cannot be read"):
        read_budgets(tmp_path / "none.yaml")


def test_times_have_units():
    assert (duration("40m"), duration("1.5s"), duration("250ms")) == (2400.0, 1.5, 0.25)
    for text in ("40", "resync", "soon", ""):
        with pytest.raises(ValueError, match="no time"):
            duration(text)
