"""What is said of compilations that take long, and of which."""

import logging
import threading
import time

import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.backend import slow_compilation

pytestmark = pytest.mark.one_backend


class Slow(kb.Simulator):
    """Its outcome takes longer to trace than the first line waits for."""

    prior = kb.Prior(a=stats.norm())

    def outcome(self, parameters, design, noise):
        time.sleep(0.3)
        return parameters["a"] * design + noise + 0.0 * ops.sin(noise)


@pytest.fixture
def impatient(monkeypatch, caplog):
    monkeypatch.setattr(slow_compilation, "FIRST", 0.1)
    caplog.set_level(logging.WARNING, "kerasbed")
    return caplog


def test_a_model_that_compiles_for_long_is_told_of_with_the_line_and_the_cure(impatient):
    kb.DesignModel(Slow(), kb.designs.Box((2,), 0.0, 1.0), seed=0)
    told = [record.getMessage() for record in impatient.records if "has been compiling for" in record.getMessage()]
    assert told
    assert "DesignModel.__init__" in told[0]
    assert f"of {__file__}," in told[0]
    assert "kb.ode.solve" in told[0]


def test_programs_of_others_are_not_told_of(impatient):
    slow_compilation.LISTENER.begun(slow_compilation.EVENTS[0], 0.0)
    time.sleep(0.2)
    slow_compilation.LISTENER.ended(slow_compilation.EVENTS[0], 0.2)
    assert not impatient.records


def test_stages_within_each_other_are_one_and_lines_come_ever_later(impatient, monkeypatch):
    monkeypatch.setattr(slow_compilation, "_asked_for", lambda frame: "A program of a test")
    outer, inner = slow_compilation.EVENTS[0], slow_compilation.EVENTS[2]
    slow_compilation.LISTENER.begun(outer, 0.0)
    slow_compilation.LISTENER.begun(inner, 0.0)
    time.sleep(0.6)
    slow_compilation.LISTENER.ended(inner, 0.6)
    slow_compilation.LISTENER.ended(outer, 0.6)
    time.sleep(0.1)
    told = [record.getMessage() for record in impatient.records]
    assert len(told) == 2  # after 0.1 and 0.3 seconds; the next would come after 0.9
    assert all(text.startswith("A program of a test has been compiling for 0 s. A Python loop") for text in told)


def test_one_thread_looks_after_all_and_ends(impatient, monkeypatch):
    before = set(threading.enumerate())
    monkeypatch.setattr(slow_compilation, "WATCHER", slow_compilation.Watcher())
    watches = [slow_compilation.Watch(f"Program {number}") for number in range(50)]
    (thread,) = set(threading.enumerate()) - before
    for watch in watches[1:]:
        watch.done()
    time.sleep(0.2)
    watches[0].done()
    assert [record.getMessage().split(" has")[0] for record in impatient.records] == ["Program 0"]
    thread.join(5.0)
    assert not thread.is_alive()
    slow_compilation.Watch("Program 50").done()  # the next has a thread again
    assert len(set(threading.enumerate()) - before) == 1
