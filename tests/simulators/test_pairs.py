"""Pairwise likelihoods: the matrix product where it is exact, the direct form where it is not."""

import keras
import numpy as np
import pytest
from scipy import special, stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.simulators import pairs
from tests import toys


class Relative(kb.GaussianSimulator):
    """One reading of a positive quantity with an error of 10% of it; in logs nearly a shift, so that with a wide prior

        EIG = H(log y) - H(log y | log t),   log y = log t + log(1 + 0.1 e),

    two entropies of one-dimensional laws.
    """

    noise_shape = (1,)

    def __init__(self, spread):
        self.spread, self.prior = spread, kb.Prior(t=stats.lognorm(s=spread))

    def mean(self, parameters, design):
        return parameters["t"] + 0.0 * design

    def scale(self, parameters, design):
        return 0.1 * parameters["t"] + 0.0 * design

    def exact(self):
        """By quadrature over e (its density below -1 is 1e-23) on the logarithmic scale."""
        shift = np.linspace(-0.75, 0.75, 1001)  # of log(1 + 0.1 e)
        error = (np.exp(shift) - 1.0) / 0.1
        density = stats.norm.pdf(error) * np.exp(shift) / 0.1
        noise_entropy = np.trapezoid(special.entr(density), shift)
        log_y = np.linspace(-9.0 * self.spread, 9.0 * self.spread, 2001)
        marginal = np.trapezoid(density * stats.norm.pdf(log_y[:, None] - shift, 0.0, self.spread), shift, axis=1)
        return np.trapezoid(special.entr(marginal), log_y) - noise_entropy


@pytest.mark.parametrize("spread", [2.0, 4.0])
def test_bounds_are_right_where_scales_differ_by_orders_of_magnitude(spread):
    simulator = Relative(spread)
    found = kb.eig.bracket(simulator, np.zeros(1), 1024, 4096, seed=1)
    assert found.lower - 3.0 * found.lower_se < simulator.exact() < found.upper + 3.0 * found.upper_se
    assert found.upper - found.lower < 0.1
    assert found.lower_se < 0.05


@pytest.mark.one_backend
def test_a_contrastive_objective_is_right_where_scales_differ_by_orders_of_magnitude():
    simulator, space = Relative(3.0), kb.designs.Box((1,), 0.0, 1.0, seed=0, trainable=False)
    model = kb.DesignModel(simulator, space, kb.objectives.PriorContrastive(256), seed=0)
    assert model.direct_pairs
    values = model.contributions(1024, seed=1)
    error = values.std() / np.sqrt(len(values))
    assert simulator.exact() - 0.3 - 3.0 * error < values.mean() < simulator.exact() + 3.0 * error


@pytest.mark.one_backend
def test_a_saved_model_keeps_its_form_of_pairs(tmp_path):
    space = kb.designs.Box((1,), 0.0, 1.0, seed=0, trainable=False)
    model = kb.DesignModel(Relative(3.0), space, kb.objectives.PriorContrastive(), seed=0)
    model.save(tmp_path / "relative.keras")
    loaded = kb.load(tmp_path / "relative.keras", simulator=model.simulator)
    assert loaded.direct_pairs
    np.testing.assert_allclose(loaded.contributions(64), model.contributions(64), rtol=1e-6)


def test_the_product_is_kept_where_it_is_exact():
    for dtype in ("float32", "float64"):
        assert pairs.PairCheck(toys.LINE, dtype).product_is_exact(np.zeros((1, 2)))
        assert pairs.PairCheck(kb.problems.MichaelisMenten(), dtype).product_is_exact(np.full((1, 7), 0.5))
    assert not pairs.PairCheck(Relative(4.0)).product_is_exact(np.zeros((1, 1)))


def test_direct_pairs_are_the_same_numbers_one_by_one():
    simulator = toys.LINE
    direct = pairs.with_direct_pairs(simulator)
    assert isinstance(direct, toys.Line)
    assert not direct.has_pairwise_product
    assert simulator.has_pairwise_product
    draws = simulator.simulate(5, np.zeros(2), seed=0)
    arguments = backend.to_tensor((draws["outcome"], draws["parameters"], np.zeros((1, 2))), "float32")
    found = [keras.ops.convert_to_numpy(s.pairwise_log_likelihood(*arguments)) for s in (simulator, direct)]
    np.testing.assert_allclose(*found, rtol=1e-4)
