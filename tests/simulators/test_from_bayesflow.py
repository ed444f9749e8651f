"""BayesFlow simulators as experiments: repeatable black boxes, and with gradients where a function takes its noise."""

import bayesflow as bf
import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb

TIMES = np.array([0.5, 2.0])


def prior():
    return {"rate": np.random.lognormal(0.0, 0.5), "offsets": np.random.normal(size=2)}  # noqa: NPY002


def decay(rate, offsets, times):
    assert np.ndim(rate) == 0
    return {"activity": np.exp(-rate * times) + offsets + 0.05 * np.random.normal(size=times.shape)}  # noqa: NPY002


def in_keras(batch_shape, rate, times, noise):
    return {"activity": ops.exp(-rate * times) + 0.05 * noise}


@pytest.mark.one_backend
def test_draws_and_outcomes_are_those_of_the_simulator_and_repeat():
    simulator = kb.Simulator.from_bayesflow(bf.make_simulator([prior, decay]), outcome="activity", design="times")
    assert simulator.prior.dims == {"rate": 1, "offsets": 2}
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, three = (simulator.simulate(400, TIMES, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    np.testing.assert_array_equal(one["outcome"], two["outcome"])
    assert not np.array_equal(one["outcome"], three["outcome"])
    drawn = one["parameters"]
    residual = one["outcome"] - np.exp(-drawn["rate"] * TIMES) - drawn["offsets"]
    assert residual.std() == pytest.approx(0.05, rel=5 / np.sqrt(1600))
    assert np.log(drawn["rate"]).std() == pytest.approx(0.5, rel=5 / np.sqrt(800))


@pytest.mark.one_backend
def test_other_designs_meet_the_same_random_numbers_and_a_model_tells_of_black_boxes():
    simulator = kb.Simulator.from_bayesflow(bf.make_simulator([prior, decay]), outcome="activity", design="times")
    early, late = (simulator.simulate(50, times, seed=0) for times in (TIMES, TIMES + 1.0))
    draws = early["parameters"]
    change = np.exp(-draws["rate"] * (TIMES + 1.0)) - np.exp(-draws["rate"] * TIMES)
    np.testing.assert_allclose(late["outcome"] - early["outcome"], change, atol=1e-6)
    with pytest.raises(kb.errors.OutcomeError, match=r"kb\.search\.design_black_box"):
        kb.DesignModel(simulator, kb.designs.Box((2,), 0.0, 5.0), seed=0)


def test_a_function_of_a_batch_that_takes_its_noise_carries_gradients():
    likelihood = bf.simulators.LambdaSimulator(in_keras, is_batched=True)
    simulator = kb.Simulator.from_bayesflow(
        likelihood, outcome="activity", design="times", prior=kb.Prior(rate=stats.lognorm(0.5)), noise_shape=(2,)
    )
    model = kb.DesignModel(simulator, kb.designs.Box((2,), 0.0, 5.0, seed=0), seed=0)
    assert model.gradient == "reparameterization"
    data = simulator.simulate(100, TIMES, seed=0)
    assert keras.ops.shape(data["outcome"]) == (100, 2)


@pytest.mark.one_backend
def test_what_is_no_simulator_of_parameters_and_an_outcome_is_refused():
    with pytest.raises(TypeError, match="make_simulator"):
        kb.Simulator.from_bayesflow(decay, outcome="activity")
    with pytest.raises(ValueError, match="Name them by parameters="):
        kb.Simulator.from_bayesflow(bf.make_simulator([prior, decay]), outcome="activity", parameters=["speed"])
