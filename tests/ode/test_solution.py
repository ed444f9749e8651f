"""Solutions against closed forms and SciPy's, their order, their gradients, and what is refused.

Where nothing else is said, programs are compiled in float64; gradients are compared with central differences.
"""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, linalg

import kerasbed as kb
from kerasbed import backend

MATRIX = np.array([[-0.3, 1.0], [-1.0, -0.3]])  # a damped rotation
START = np.array([[1.0, 0.0], [0.5, 2.0]])
TIMES = np.array([0.5, 1.0, 2.0, 2.5])


def rotation(t, x, rate=1.0):
    left, right = x[..., :1], x[..., 1:]
    return rate * ops.concatenate([right - 0.3 * left, -left - 0.3 * right], axis=-1)


def exact(times, start=START):
    return np.stack([start @ linalg.expm(t * MATRIX).T for t in times], axis=1)


def drug(t, amounts, absorption, elimination):
    absorbed = absorption * amounts["gut"]
    return {"gut": -absorbed, "blood": absorbed - elimination * amounts["blood"]}


def after_a_dose(t, absorption=1.0, elimination=0.2):
    """Blood after one dose of 1 at time 0."""
    t = np.maximum(t, 0.0)
    return absorption / (absorption - elimination) * (np.exp(-elimination * t) - np.exp(-absorption * t))


def values(function, *arrays):
    return backend.compile_function(function)(*arrays)


@pytest.mark.parametrize("method", ["rk4", "rk45", "tsit5"])
def test_linear_equations_have_their_matrix_exponential_and_the_order_shows(method):
    errors = []
    for steps in (4, 8):
        found = values(lambda x, n=steps: kb.ode.solve(rotation, x, TIMES, steps_per_interval=n, method=method), START)
        errors.append(np.abs(found - exact(TIMES)).max())
    order = 4 if method == "rk4" else 5
    assert errors[1] < 1e-5
    assert errors[0] / errors[1] > 0.8 * 2**order


def test_at_defaults_a_solution_is_that_of_scipy_to_five_digits():
    def hunt(t, x):
        prey, hunters = x[..., :1], x[..., 1:]
        return ops.concatenate([prey * (1.0 - 0.5 * hunters), hunters * (0.3 * prey - 1.0)], axis=-1)

    def by_numpy(t, x):
        return [x[0] * (1.0 - 0.5 * x[1]), x[1] * (0.3 * x[0] - 1.0)]

    times = np.linspace(0.0, 12.0, 25)
    truth = integrate.solve_ivp(by_numpy, (0.0, 12.0), [5.0, 1.0], "DOP853", times, rtol=1e-12, atol=1e-12).y.T
    found = values(lambda x: kb.ode.solve(hunt, x, times), np.array([[5.0, 1.0]]))[0]
    assert np.abs(found - truth).max() < 1e-5 * np.abs(truth).max()


def test_order_of_times_and_rows_of_times_change_nothing_else():
    shuffled, rows = TIMES[[2, 0, 3, 1]], np.stack([TIMES, TIMES[::-1]])
    np.testing.assert_allclose(values(lambda t: kb.ode.solve(rotation, START, t), shuffled), exact(shuffled), atol=1e-5)
    found = values(lambda x, t: kb.ode.solve(rotation, x, t), START, rows)
    for row in range(2):
        np.testing.assert_allclose(found[row], exact(rows[row], START[row : row + 1])[0], atol=1e-5)


def test_leading_axes_broadcast_as_those_of_a_mean():
    """Times (M, 1, k), rates (1, N, 1) and a state that all share."""
    times, rates = np.stack([TIMES, TIMES + 0.25])[:, None], np.array([0.5, 1.0, 1.5])[None, :, None]
    found = values(lambda t, r: kb.ode.solve(rotation, START[0], t, (r,), 16), times, rates)
    assert found.shape == (2, 3, 4, 2)
    np.testing.assert_allclose(found[1, 2], exact(1.5 * times[1, 0], START[:1])[0], atol=1e-5)


def test_a_state_that_all_share_meets_parameters_in_some_components_only():
    def field(t, x, rate):
        return ops.concatenate([-rate * x[..., :1], 1.0 - x[..., 1:]], axis=-1)

    rates = np.array([[1.0], [2.0], [3.0]])
    found = values(lambda r: kb.ode.solve(field, [[1.0, 0.0]], TIMES, (r,), 16), rates)
    np.testing.assert_allclose(found[..., 0], np.exp(-rates * TIMES), atol=1e-5)
    np.testing.assert_allclose(found[1, :, 1], 1.0 - np.exp(-TIMES), atol=1e-5)


def test_components_without_their_axis_are_right_where_rows_share_their_times():
    """As in `state[:, 0]` beside parameters (batch,), with a number for the time."""

    def field(t, x, rate):
        return ops.stack([rate * x[:, 1] + 0.0 * t, -rate * x[:, 0]], axis=-1)

    rates = np.array([1.0, 2.0])
    found = values(lambda x, r: kb.ode.solve(field, x, TIMES, (r,), 16), np.array([[0.0, 1.0]] * 2), rates)
    np.testing.assert_allclose(found[..., 0], np.sin(rates[:, None] * TIMES), atol=1e-5)


def test_an_explicit_time_and_another_start():
    found = values(
        lambda x: kb.ode.solve(lambda t, x: ops.cos(t) + 0.0 * x, x, [2.0, 3.0], start=1.0), np.zeros((1, 1))
    )
    np.testing.assert_allclose(found[0, :, 0], np.sin([2.0, 3.0]) - np.sin(1.0), atol=1e-7)


def test_doses_at_given_times_add_up_and_a_time_at_a_dose_sees_it():
    times, second = np.array([4.0, 1.0, 6.0]), np.array([[4.0]])

    def amounts(t, when):
        doses = [(when, {"gut": 2.0}), (0.0, {"gut": 1.0})]
        return kb.ode.solve(drug, {"gut": 0.0, "blood": 0.0}, t, (1.0, 0.2), 16, events=doses)

    found = values(amounts, times, second)
    np.testing.assert_allclose(
        found["blood"][0, :, 0], after_a_dose(times) + 2.0 * after_a_dose(times - 4.0), atol=1e-5
    )
    assert found["gut"][0, 0, 0] == pytest.approx(np.exp(-4.0) + 2.0, abs=1e-5)


def test_an_event_may_be_a_function_and_one_beyond_the_last_time_does_nothing():
    events = [(1.0, lambda t, x: 0.5 * x), (100.0, lambda t, x: 1e30 * x)]
    found = values(lambda x: kb.ode.solve(lambda t, x: -x, x, [0.5, 2.0], events=events), np.ones((1, 1)))
    np.testing.assert_allclose(found[0, :, 0], [np.exp(-0.5), 0.5 * np.exp(-2.0)], atol=1e-6)


def test_an_infusion_that_ends_between_two_times_is_exact_with_an_event_at_its_end():
    def field(t, x):
        return ops.where(t < 1.3, 1.0, 0.0) - x

    found = values(lambda x: kb.ode.solve(field, x, [2.0], events=[(1.3, 0.0)]), np.zeros((1, 1)))
    assert found.item() == pytest.approx((1.0 - np.exp(-1.3)) * np.exp(-0.7), abs=1e-5)


def test_gradients_in_states_times_doses_and_parameters_are_those_of_differences():
    at = np.array([0.7, 2.2, 0.9, 1.4, 3.0])  # rate, dose, its time, two sampling times

    def total(p):
        def field(t, x):
            return -p[0] * x + 0.1 * ops.sin(t)

        times = ops.stack([p[4:5], p[3:4]], axis=-1)
        found = kb.ode.solve(field, ops.ones((1, 1), p.dtype), times, events=[(p[2:3, None], p[1:2, None])])
        return ops.sum(ops.square(found) * ops.convert_to_tensor([[[1.0], [2.0]]], p.dtype))

    value, gradient = backend.value_and_gradient(total)(at)
    evaluate = backend.compile_function(total)
    for i, step in enumerate(1e-5 * np.eye(5)):
        slope = (evaluate(at + step) - evaluate(at - step)) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-8)
    assert np.isfinite(value)
    assert np.all(gradient != 0.0)


def test_float_types_are_those_of_the_tensors_and_of_the_process():
    assert keras.backend.standardize_dtype(kb.ode.solve(rotation, START, TIMES).dtype) == keras.config.floatx()
    with backend.precision("float64"):
        found = kb.ode.solve(rotation, ops.convert_to_tensor(START, "float64"), TIMES)
        assert keras.backend.standardize_dtype(found.dtype) == "float64"


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "euler"}, "method is 'euler', but one of 'rk4', 'rk45', 'tsit5' was expected"),
        ({"times": [1.0, -1.0]}, "finite times from start=0.0 on"),
        ({"times": [1.0, np.nan]}, "finite times"),
        ({"times": 1.0}, r"\(k,\) or \(batch, k\)"),
        ({"start": 0.8}, "set start="),
        ({"start": [0.0, 0.0]}, r"start has shape \(2,\)"),
        ({"events": [(-1.0, 1.0)]}, "The time of an event is -1.0"),
        ({"events": [(1.0, {"gut": 1.0})]}, "The change of an event gives a dict of"),
        ({"events": [(1.0, np.ones((2, 1)))]}, r"The change of an event gives shape \(2, 1\)"),
        ({"events": [(1.0, [1.0, 0.0, 0.0])]}, r"The change of an event gives shape \(3,\)"),
        ({"field": lambda t, x: [x, x]}, "field gives a list"),
        ({"field": lambda t, x: x[..., :1]}, r"field gives shape \(2, 1\) for a state of shape \(2, 2\)"),
        ({"field": lambda t, x: x[..., 0] * x[..., :1] * ops.ones((2, 2, 2))}, "take components with their axis"),
        ({"state": {"a": 1.0}, "field": lambda t, x: {"b": x["a"]}}, "a dict of .'b'."),
        ({"state": {"a": 1.0}, "field": lambda t, x: x, "events": [(1.0, {"b": 1.0})]}, "An event changes .'b'."),
    ],
)
def test_what_makes_no_solution_is_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        kb.ode.solve(**{"field": rotation, "state": START, "times": TIMES} | changed)
