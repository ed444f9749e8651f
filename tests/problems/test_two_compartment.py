"""Concentrations against the matrix exponential of all three compartments, the gradient in times and dose, the cost."""

import numpy as np
import pytest
from keras import ops
from scipy import linalg

import kerasbed as kb
from kerasbed import backend
from kerasbed.problems import two_compartment

SIMULATOR = kb.problems.TwoCompartment()
TIMES = np.array([0.3, 0.8, 2.2, 5.0, 11.0, 24.0])


def by_exponential(draw, times, dose):
    """With the gut as a compartment of its own."""
    k = {name: draw[name].item() for name in draw}
    out, there = k["clearance"] / k["blood_volume"], k["flow"] / k["blood_volume"]
    back = k["flow"] / k["tissue_volume"]
    rates = np.array([[-k["absorption"], 0, 0], [k["absorption"], -out - there, back], [0, there, -back]])
    return np.array([(linalg.expm(t * rates) @ [dose, 0, 0])[1] for t in times]) / k["blood_volume"]


def test_concentrations_are_those_of_the_closed_form_for_draws_of_the_prior():
    draws = SIMULATOR.prior.sample(200, seed=0)
    design = {"times": TIMES[None], "dose": np.array([[100.0]])}
    found = backend.compile_function(SIMULATOR.mean)(draws, design)
    truth = [by_exponential({n: v[i] for n, v in draws.items()}, TIMES, 100.0) for i in range(200)]
    assert np.abs(found - truth).max() < 1e-4 * np.max(truth)
    assert np.all(np.abs(found - truth).max(axis=1) < 2e-3 * np.max(truth, axis=1))  # a tenth of a percent of the noise


def test_gradients_in_times_and_dose_are_those_of_differences():
    draws = SIMULATOR.prior.sample(8, seed=1)

    def total(point):
        design = {"times": point[None, :6], "dose": point[None, 6:]}
        parameters = backend.to_tensor(draws, "float64")
        return ops.sum(SIMULATOR.mean(parameters, design))

    at = np.array([*TIMES, 100.0])
    _, gradient = backend.value_and_gradient(total)(at)
    evaluate = backend.compile_function(total)
    for i, step in enumerate(1e-4 * np.eye(7)):
        assert gradient[i] == pytest.approx((evaluate(at + step) - evaluate(at - step)) / 2e-4, rel=1e-5)


@pytest.mark.one_backend
def test_a_higher_dose_teaches_more_and_costs_more():
    designs = [{"times": TIMES, "dose": np.array([dose])} for dose in (20.0, 200.0)]
    gain = kb.eig.compare(SIMULATOR, designs, 256, 2048, seed=0)
    assert gain["difference"][1] > 4 * gain["difference_se"][1]
    low, high = (SIMULATOR.cost(backend.cast({n: v[None] for n, v in d.items()})) for d in designs)
    assert float(low[0]) == pytest.approx(20.0 + 24.0 * two_compartment.MG_PER_HOUR)
    assert float(high[0] - low[0]) == pytest.approx(180.0)
    assert SIMULATOR.design.contains(designs[0])


@pytest.mark.one_backend
def test_improper_settings_are_refused():
    with pytest.raises(ValueError, match="additive_scale=0"):
        kb.problems.TwoCompartment(additive_scale=0.0)
