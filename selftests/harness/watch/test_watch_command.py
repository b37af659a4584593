"""`python -m harness.watch`: what it refuses, what its exit code says, and that a record can be judged again."""

from __future__ import annotations

import json

import pytest
import yaml

from harness.watch.__main__ import main
from harness.watch.steady_time import Clocks, SteadyTime
from harness.watch.store import PROBES, STATES, Store, read_timeline
from selftests.support.captured_upgrade import record_capture

KUBECONFIGS = ["--mesh1-kubeconfig", "none1", "--mesh2-kubeconfig", "none2"]


@pytest.fixture
def captured(tmp_path):
    record_capture(tmp_path)
    return tmp_path


def clean(directory, begin=1_000_000.0):
    store = Store(directory, SteadyTime(Clocks(lambda: begin, lambda: 0.0, lambda: 0.0)))
    store.begin({"streams": {"fresh": {"rate": 20.0}}})
    for n in range(1_000):
        store.write(PROBES, {"t": begin + n / 20, "s": "fresh", "d": 0.02, "good": True})
    return store


def test_a_record_is_judged_again(captured, capsys):
    assert main(["judge", str(captured)]) == 1
    output = capsys.readouterr().out
    assert output.startswith("not safe; longest interruption")
    assert "foreign-gateway-announced" in output
    told = yaml.safe_load((captured / "outages.yaml").read_text())
    assert told["degradations"][0]["cause"] == "foreign-gateway-announced"


def test_a_clean_record_is_safe_and_one_with_a_gap_is_inconclusive(tmp_path, capsys):
    clean(tmp_path).close()
    assert main(["judge", str(tmp_path)]) == 0
    clean(tmp_path, 1_000_200.0).close()
    assert main(["judge", str(tmp_path)]) == 2
    assert "150 s not watched" in capsys.readouterr().out


def test_a_mark_is_in_the_verdict(captured):
    assert main(["mark", str(captured), "node drained"]) == 0
    main(["judge", str(captured)])
    told = yaml.safe_load((captured / "outages.yaml").read_text())
    assert [mark["text"] for mark in told["marks"]] == ["node drained"]


def test_budgets_of_a_file_count_and_a_bad_file_is_refused_whole(captured, tmp_path, capsys):
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text("budgets: [{cause: istiod-replaced, streams: [watches], longest: 5s}]")
    main(["judge", str(captured), "--upgrade-budget", str(budgets)])
    told = yaml.safe_load((captured / "outages.yaml").read_text())
    judged = {one["stream"]: one["judgement"] for one in told["outages"] if "watches" in one["stream"]}
    assert judged["mesh2 watches"] == "over budget"
    budgets.write_text("budgets: [{cause: gateway, longest: 5}]")
    with pytest.raises(SystemExit) as ended:
        main(["judge", str(captured), "--upgrade-budget", str(budgets)])
    assert ended.value.code == 3
    assert all(words in capsys.readouterr().err for words in ("cause gateway is none of",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mark", "DIR", "text"], "no watch has written there"),
        (["judge", "DIR"], "no record of a watch"),
        ([*KUBECONFIGS, "--out", "DIR"], "none1"),
        ([*KUBECONFIGS, "--out", "DIR", "--for", "40"], "40 is no time"),
        ([*KUBECONFIGS, "--out", "DIR", "--rate", "0"], "must be from 0.1 to 200"),
        ([*KUBECONFIGS, "--out", "DIR", "--rate", "nan"], "must be from 0.1 to 200"),
        (KUBECONFIGS, "--out"),
        ([], "--mesh1-kubeconfig"),
    ],
)
def test_what_cannot_begin_says_why_and_ends_with_3(arguments, words, tmp_path, capsys):
    given = [str(tmp_path / "dir") if argument == "DIR" else argument for argument in arguments]
    try:
        code = main(given)
    except SystemExit as ended:
        code = ended.code
    assert code == 3
    assert words in capsys.readouterr().err


def test_what_changed_between_two_runs_is_a_change_of_the_second(tmp_path):
    line = {"mesh": "mesh2", "kind": "Route", "name": "r", "ns": "n", "was": None, "first": True}
    for begin, hosts in ((1_000_000.0, ["a"]), (1_000_200.0, ["a"]), (1_000_400.0, ["b"])):
        store = clean(tmp_path, begin)
        store.write(STATES, {"t": begin + 1, **line, "is": {"hosts": hosts}})
        store.close()
    first, changed = read_timeline(tmp_path).states
    assert (first.first, changed.first, changed.was, changed.now) == (True, False, {"hosts": ["a"]}, {"hosts": ["b"]})
    assert main(["judge", str(tmp_path)]) == 1


def test_secrets_in_a_mark_do_not_get_into_the_verdict(captured):
    main(["mark", str(captured), "ran with token=abcdefghijklmnop"])
    main(["judge", str(captured)])
    assert "abcdefghijklmnop" not in json.dumps(yaml.safe_load((captured / "outages.yaml").read_text()))
