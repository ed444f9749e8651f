"""Float types belong to a thread: what one computes in changes nothing for the others."""

import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.backend.programs import Programs


def test_overlapping_contexts_of_two_threads_leave_the_type_as_it_was():
    within, leave = threading.Barrier(2), threading.Event()

    def first():
        with backend.precision("float64"):
            within.wait()
            leave.wait()
        return keras.config.floatx()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first)
        within.wait()
        with backend.precision("float64"):
            leave.set()
            assert waiting.result() == "float32"
            assert keras.config.floatx() == "float64"
    assert keras.config.floatx() == "float32"


def test_a_thread_does_not_see_the_type_of_another():
    with backend.precision("float64"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(keras.config.floatx).result() == "float32"
        table = keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE
        narrow = "float64" if backend.NAME == "tensorflow" else "float32"
        assert pool.submit(table.get, "float64").result() == narrow
        assert table.get("float64", "float64") == "float64"
        assert table.get("int64", "int64") == table["int64"]


def test_a_context_within_another_ends_with_it():
    with backend.precision("float64"):
        with backend.precision("float32"):
            assert keras.config.floatx() == "float32"
        assert keras.config.floatx() == "float64"
        assert backend.to_numpy(ops.sin(ops.ones((2,)))).dtype == "float64"
    assert backend.to_numpy(ops.sin(ops.ones((2,)))).dtype == "float32"


def test_a_threads_policy_is_that_of_the_process():
    def policy():
        with backend.precision("float64"):
            keras.config.dtype_policy()
        return keras.config.dtype_policy().name

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(policy).result() == "float32"


def test_the_type_of_the_process_can_be_set():
    keras.config.set_floatx("float16")
    try:
        assert keras.config.floatx() == "float16"
        with backend.constants_in("float64"):
            assert keras.config.floatx() == "float64"
    finally:
        keras.config.set_floatx("float32")


def test_a_program_is_made_once_by_many_threads():
    programs, made = Programs(), []

    def make():
        made.append(1)
        return len(made)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: programs.get("key", make), range(64))) == {1}
    assert programs.compilations == 1


class Line(kb.GaussianSimulator):
    prior = kb.Prior(a=stats.norm(), b=stats.norm())

    def mean(self, parameters, design):
        return parameters["a"] + parameters["b"] * design

    def scale(self, parameters, design):
        return 0.5


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore::kerasbed.errors.KerasbedWarning")
def test_estimates_in_threads_are_those_of_one():
    simulator, designs = Line(), np.random.default_rng(0).uniform(-1.0, 1.0, (6, 2))

    def estimate(design):
        return kb.eig.bracket(simulator, design, 128, 128, check=False).lower

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(estimate, designs))
    assert together == [estimate(design) for design in designs]
    assert keras.config.floatx() == "float32"


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore::kerasbed.errors.KerasbedWarning")
def test_a_search_with_workers_leaves_the_float_type_and_finds_the_same():
    def value(design):
        return kb.eig.bracket(Line(), design, 64, 64, check=False).lower

    space = kb.designs.Box((2,), -1.0, 1.0)
    best = [kb.search.BlackBoxSearch(value, space, workers=workers).run(4).value for workers in (1, 4)]
    assert best[0] == best[1]
    assert keras.config.floatx() == "float32"
