"""The error that is told, against the true one: smooth, oscillating, stiff beyond the method's order, in float32."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed import backend

CASES = {
    "decay": (lambda t, x: -x, [[1.0]], lambda t: np.exp(-t)[None, :, None]),
    "growth": (lambda t, x: x, [[1.0]], lambda t: np.exp(t)[None, :, None]),
    "forced": (lambda t, x: ops.cos(3.0 * t) + 0.0 * x, [[0.0]], lambda t: np.sin(3.0 * t)[None, :, None] / 3.0),
    "logistic": (
        lambda t, x: 2.0 * x * (1.0 - x),
        [[0.1], [0.5]],
        lambda t: 1.0 / (1.0 + np.array([9.0, 1.0])[:, None, None] * np.exp(-2.0 * t)[None, :, None]),
    ),
}
TIMES = np.array([0.5, 2.0, 4.0])


def told_and_true(name, steps, method, dtype):
    field, state, solution = CASES[name]
    with backend.precision(dtype):
        told = kb.ode.error(field, state, TIMES, steps_per_interval=steps, method=method)
        found = ops.convert_to_numpy(kb.ode.solve(field, state, TIMES, steps_per_interval=steps, method=method))
    return told, np.abs(found - solution(TIMES))


@pytest.mark.parametrize(
    ("name", "steps", "method"),
    [("decay", 1, "rk4"), ("growth", 4, "rk4"), ("forced", 1, "rk4"), ("forced", 4, "tsit5"), ("logistic", 1, "tsit5")],
)
def test_the_error_is_told_within_a_factor_of_three(name, steps, method):
    told, true = told_and_true(name, steps, method, "float64")
    assert told.shape == true.shape
    assert 1 / 3 < told.max() / true.max() < 3
    np.testing.assert_allclose(told, true, atol=0.1 * true.max())


def test_rounding_counts_where_steps_are_short():
    told, true = told_and_true("growth", 32, "rk45", "float32")
    assert 1 / 3 < told.max() / true.max() < 3
    assert told.max() > 0.1 * np.finfo("float32").eps


@pytest.mark.one_backend
def test_steps_that_are_far_too_long_are_halved_until_the_error_shows():
    """h times the rate is 8, where one step is wrong by a factor of 100, and two more halvings are wrong, too."""
    told = kb.ode.error(lambda t, x: -16.0 * x, [[1.0]], [1.0], steps_per_interval=2)
    found = ops.convert_to_numpy(kb.ode.solve(lambda t, x: -16.0 * x, [[1.0]], [1.0], steps_per_interval=2))
    assert told.item() == pytest.approx(abs(found.item() - np.exp(-16.0)), rel=1e-3)


@pytest.mark.one_backend
def test_a_jump_between_times_is_found_and_an_event_cures_it():
    def field(t, x):
        return ops.where(t < 0.77, 1.0, 0.0) + 0.0 * x

    found = ops.convert_to_numpy(kb.ode.solve(field, [[0.0]], [1.0, 2.0]))
    with pytest.warns(kb.errors.UnreliableWarning, match="events="):
        told = kb.ode.error(field, [[0.0]], [1.0, 2.0])
    true = np.abs(found - 0.77).max()
    assert told.max() < 3 * true
    assert true < 3 * told.max()


@pytest.mark.one_backend
def test_states_by_name_and_doses_have_errors_by_name():
    told = kb.ode.error(
        lambda t, x: {"a": -x["a"], "b": x["a"]}, {"a": 0.0, "b": 0.0}, [1.0, 2.0], events=[(0.5, {"a": 1.0})]
    )
    assert {name: errors.shape for name, errors in told.items()} == {"a": (1, 2, 1), "b": (1, 2, 1)}
    assert 0.0 < told["a"].max() < 1e-5


@pytest.mark.one_backend("tensorflow")
def test_a_field_with_numbers_of_its_own_type_is_solved_in_it():
    rate = ops.convert_to_tensor([[1.5]], dtype=keras.config.floatx())
    told = kb.ode.error(lambda t, x: -rate * x, [[1.0]], [2.0], steps_per_interval=2)
    found = ops.convert_to_numpy(kb.ode.solve(lambda t, x: -rate * x, [[1.0]], [2.0], steps_per_interval=2))
    assert told.item() == pytest.approx(abs(found.item() - np.exp(-3.0)), rel=0.2)
