"""Ctrl-C and SIGTERM: what is being done ends at once, a second signal too many does no harm."""

from __future__ import annotations

import _thread
import contextlib
import io
import signal
import sys
import threading
import traceback
from concurrent.futures import Future
from queue import Queue

import pytest

from harness.cluster.cluster import Cluster
from harness.run import interrupts
from harness.run.interrupts import (
    ECHO_SECONDS,
    hurried_by,
    interrupt_on_signals,
    patient_with,
    undisturbed,
    until_one_fails,
)
from harness.run.progress import Progress
from harness.run.waiting import pause, wait_for
from harness.scenario.provision import Provisioner
from selftests.support.scripted_api import Reply, ScriptedApi

UID = Reply(body={"metadata": {"uid": "u"}})


@pytest.fixture(autouse=True)
def signals(monkeypatch):
    """Handled as in a run, none heard yet; as before afterwards."""
    monkeypatch.setattr(interrupts, "_echo", interrupts._Echo())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupt_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Pressed(Cluster):
    """A cluster whose user presses Ctrl-C again as soon as its waits are being ended."""

    def interrupt(self, writes: bool = False) -> None:
        if not self.again.is_set():
            self.again.set()
            pause(ECHO_SECONDS)
            signal.raise_signal(signal.SIGINT)
        super().interrupt(writes)

    again: threading.Event


@pytest.fixture
def pressed_again(tmp_path):
    """Clusters whose API servers have the first step of provisioning wait, and whose user gets impatient."""
    with contextlib.ExitStack() as stack:
        clusters, apis = {}, []
        for name in ("mesh1", "mesh2"):
            apis.append(ScriptedApi(UID, Reply(503, headers={"retry-after": "600"})))
            file = stack.enter_context(apis[-1].running(tmp_path / name))
            clusters[name] = Pressed(name, file, patience=600)
            clusters[name].again = threading.Event()
            stack.callback(clusters[name].close)
        yield clusters, apis


def press_once_begun(apis):
    """A Ctrl-C for the main thread, when provisioning has asked every API server for more than who it is."""
    begun = lambda: (all(len(api.requests) > 1 for api in apis) or None, "no request")  # noqa: E731
    wait_for("provisioning to begin", begun, 30)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_a_second_ctrl_c_while_provisioning_ends_leaves_no_step_waiting(pressed_again):
    clusters, apis = pressed_again
    before = set(threading.enumerate())
    threading.Thread(target=press_once_begun, args=[apis]).start()
    with pytest.raises(KeyboardInterrupt):
        Provisioner(clusters, "run", Progress(io.StringIO(), live=False)).run()
    assert clusters["mesh1"].again.is_set()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("provision")]


def test_a_signal_that_comes_twice_at_once_counts_once():
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    done = Queue()
    with patient_with(True, done.put, lambda: done.put("given up")):
        signal.raise_signal(signal.SIGTERM)
        pause(ECHO_SECONDS)
        signal.raise_signal(signal.SIGTERM)
    assert done.get(timeout=30) == "given up"
    assert done.empty()


def test_a_run_that_was_interrupted_is_only_hurried_by_later_signals(monkeypatch):
    monkeypatch.setattr(interrupts, "_ONE_INTERRUPT_SECONDS", 0.0)
    done = Queue()
    with hurried_by(lambda: done.put("hurried")):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert done.empty()
        signal.raise_signal(signal.SIGINT)
        assert done.get(timeout=30) == "hurried"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_what_may_not_be_disturbed_is_interrupted_at_its_end():
    done = Queue()
    ended = []

    def work():
        with undisturbed(lambda: done.put("hurried")):
            signal.raise_signal(signal.SIGINT)
            assert done.get(timeout=30) == "hurried"
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert ended


def waits_for_tasks(thread: threading.Thread) -> bool:
    stack = [entry.name for entry in traceback.extract_stack(sys._current_frames()[thread.ident or 0])]
    return until_one_fails.__name__ in stack and stack[-1] == threading.Condition.wait.__name__


@pytest.mark.timeout(20)
def test_a_signal_that_does_not_wake_python_is_acted_upon_all_the_same():
    main, never = threading.current_thread(), Future[None]()

    def signal_without_waking():
        wait_for("the main thread to wait", lambda: (waits_for_tasks(main) or None, ""), 10)
        _thread.interrupt_main()

    threading.Thread(target=signal_without_waking).start()
    with pytest.raises(KeyboardInterrupt):
        until_one_fails([never])
