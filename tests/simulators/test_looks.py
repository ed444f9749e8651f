"""Experiments with a state, and sums over looks, against SciPy."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend

DESIGN = np.array([[1.0], [2.0], [0.5]])


class Tank(kb.Simulator):
    """What flows out of a tank is a share of what is left in it."""

    prior, noise_shape = kb.Prior(rate=stats.lognorm(0.3)), (1,)

    def initial_state(self, parameters):
        return 10.0 * ops.ones_like(parameters["rate"])

    def outcome(self, parameters, design, noise, state):
        flow = parameters["rate"] * design * state / 10.0 + 0.1 * noise
        return flow, state - flow

    def log_likelihood(self, outcome, parameters, design, state):
        residual = (outcome - parameters["rate"] * design * state / 10.0) / 0.1
        log_p = -0.5 * ops.square(residual) - float(np.log(0.1 * np.sqrt(2.0 * np.pi)))
        return ops.sum(log_p, axis=-1), state - outcome


def by_hand(rate, flows, design=DESIGN):
    left, total = 10.0, 0.0
    for place, flow in zip(design[:, 0], flows[:, 0], strict=True):
        total += stats.norm(rate * place * left / 10.0, 0.1).logpdf(flow)
        left -= flow
    return total


@pytest.fixture(scope="module")
def drawn():
    return kb.Sequence(Tank(), 3).simulate(5, DESIGN, seed=0)


def test_the_state_passes_from_look_to_look(drawn):
    rate, flows = drawn["parameters"]["rate"], drawn["outcome"]
    left = 10.0 - np.cumsum(flows[..., 0], axis=1)
    expected = rate * DESIGN[1:, 0] * left[:, :2] / 10.0
    assert np.all(np.abs(flows[:, 1:, 0] - expected) < 0.1 * 5)  # 5 standard deviations of the noise
    assert np.std(flows[:, 1:, 0] - expected) > 0.02


def test_likelihoods_follow_the_chain(drawn):
    simulator, rate = kb.Sequence(Tank(), 3), drawn["parameters"]["rate"]
    expected = [[by_hand(theta, flows) for theta in rate[:, 0]] for flows in drawn["outcome"]]
    own = backend.compile_function(simulator.log_likelihood, "float64")(drawn["outcome"], {"rate": rate}, DESIGN[None])
    np.testing.assert_allclose(own, np.diag(expected), rtol=1e-10)
    pairs = backend.compile_function(simulator.log_likelihood, "float64")(
        drawn["outcome"][:, None], {"rate": rate[None]}, np.repeat(DESIGN[None, None], 5, axis=0)
    )
    np.testing.assert_allclose(pairs, expected, rtol=1e-10)


@pytest.mark.parametrize("shared", [True, False])
def test_looks_without_a_state_are_summed_for_pairs(shared):
    class One(kb.GaussianSimulator):
        prior, noise_shape = kb.Prior(slope=stats.norm()), (2,)

        def mean(self, parameters, design):
            return parameters["slope"] * design

        def scale(self, parameters, design):
            return 1.0 + 0.1 * ops.abs(parameters["slope"])

    simulator, rng = kb.Sequence(One(), 3), np.random.default_rng(1)
    outcome, slope = rng.normal(size=(4, 3, 2)), rng.normal(size=(5, 1))
    design = rng.normal(size=(1 if shared else 4, 3, 2))
    found = backend.compile_function(simulator.log_likelihood, "float64")(
        outcome[:, None], {"slope": slope[None]}, design[:, None]
    )
    law = stats.norm(slope[None, :, :, None] * design[:, None], 1.0 + 0.1 * np.abs(slope)[None, :, :, None])
    np.testing.assert_allclose(found, law.logpdf(outcome[:, None]).sum(axis=(-1, -2)), rtol=1e-10)


def test_a_static_design_learns_with_a_state():
    design = kb.designs.Sequence(kb.designs.Box((1,), 0.1, 3.0, seed=0), length=2, seed=0)
    model = kb.DesignModel(kb.Sequence(Tank(), 2), design, kb.objectives.PriorContrastive(), seed=0)
    history = model.fit(epochs=2, steps_per_epoch=15, verbose=0, diagnose=False)
    assert model.gradient == "reparameterization"
    assert history.history["eig"][1] > history.history["eig"][0]


def test_a_look_by_itself_is_refused_by_name():
    with pytest.raises(kb.errors.OutcomeError, match=r"kb\.Sequence\(SIR\(\), length\)"):
        kb.problems.SIR().simulate(4, np.array([10.0]), seed=0)
    assert kb.Sequence(kb.problems.SIR(), 1).simulate(4, np.array([[10.0]]), seed=0)["outcome"].shape[:2] == (4, 1)
