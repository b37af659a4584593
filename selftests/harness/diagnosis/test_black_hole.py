"""An API server that accepts connections and never answers: who looks at it ends in time, and at once on Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from datetime import UTC, datetime

import pytest

from harness.cluster import transport
from harness.cluster.cluster import Cluster
from harness.diagnosis.walk import diagnose
from harness.report.evidence import collect
from harness.run.waiting import Cancelled, wait_for
from selftests.support.dead_api import DeadApi


@pytest.fixture
def silent(tmp_path):
    """Both clusters and the connections that came to them."""
    with contextlib.ExitStack() as stack:
        apis, clusters = [DeadApi(silent=True), DeadApi(silent=True)], {}
        for api, name in zip(apis, ("mesh1", "mesh2"), strict=True):
            clusters[name] = Cluster(name, stack.enter_context(api.running(tmp_path / name, name)))
            stack.callback(clusters[name].close)
        yield clusters, lambda: apis[0].connections


@pytest.fixture
def plain_ctrl_c():
    """Python's own Ctrl-C, as the one of a run of pytest takes a second one within 2 s for an echo."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


LOOKS = {
    "diagnosis": lambda clusters, _: diagnose(clusters),
    "evidence": lambda clusters, directory: collect(clusters, datetime.now(UTC), directory / "evidence"),
}


@pytest.mark.timeout(25)  # no answer for as long as a run waits would be 30 s
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_look_at_a_server_that_never_answers_ends(silent, tmp_path, monkeypatch, look):
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 1.0)
    look(silent[0], tmp_path)


@pytest.mark.timeout(25)
@pytest.mark.usefixtures("plain_ctrl_c")
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_ctrl_c_ends_a_look_at_a_server_that_never_answers(silent, tmp_path, monkeypatch, look):
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 300)
    monkeypatch.setattr(transport, "READ_SECONDS", 300)
    clusters, connections = silent

    def press():
        wait_for("a connection", lambda: (bool(connections()) or None, ""), 20)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        look(clusters, tmp_path)


def test_a_cluster_that_is_closed_is_asked_nothing_more(silent):
    clusters, connections = silent
    clusters["mesh1"].close()
    with pytest.raises(Cancelled):
        clusters["mesh1"].version()
    assert connections() == []
