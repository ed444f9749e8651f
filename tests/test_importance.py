"""Importance-sampled bounds and posteriors fitted at a learned design."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed import numerics
from tests.linear_experiments import DESIGN, Line, line_eig, roughen, space


class ExactPosterior:
    """The posterior of `Line`: covariance S = (I + X'X)^-1 and mean S X'y."""

    prior, auxiliary_dim, base_dim, compute_dtype = Line.prior, 0, 2, "float64"

    def __init__(self, shift=0.0):
        self.matrix = np.stack([np.ones(2), DESIGN], axis=1)
        self.covariance = np.linalg.inv(np.eye(2) + self.matrix.T @ self.matrix)
        self.factor = np.linalg.cholesky(self.covariance)
        self.shift = shift

    def conditions(self, outcome, design):
        return ops.matmul(outcome, numerics.like(self.matrix @ self.covariance, outcome)) + self.shift

    def log_prob(self, parameters, conditions, auxiliary=None):
        white = np.linalg.inv(self.factor)
        z = ops.matmul(parameters["theta"] - conditions, numerics.like(white.T, conditions))
        return numerics.standard_normal_log_density(z) - float(np.log(np.diag(self.factor)).sum())

    def sample_with_log_prob(self, base, conditions, training=False):
        theta = conditions + ops.matmul(base, numerics.like(self.factor.T, base))
        parameters = {"theta": theta}
        return parameters, self.log_prob(parameters, conditions)


def test_the_exact_posterior_gives_the_eig_from_both_sides_with_one_draw():
    found = kb.eig.importance(Line(), DESIGN, ExactPosterior(), num_outer=4096, num_inner=1, seed=0)
    assert found.lower == pytest.approx(found.upper, abs=1e-9)
    assert abs(found.lower - line_eig()) < 3 * found.lower_se  # false alarm 0.3%, fixed seed
    assert "ACE" in found.method


def test_bounds_of_a_shifted_posterior_enclose_the_eig():
    """A proposal half a posterior standard deviation off; each side false alarm 0.13%, fixed seed."""
    found = kb.eig.importance(Line(), DESIGN, ExactPosterior(shift=0.4), num_outer=8192, num_inner=4, seed=1)
    assert found.lower - 3 * found.lower_se <= line_eig() <= found.upper + 3 * found.upper_se
    assert found.upper - found.lower > 0.01


def test_a_poor_posterior_warns():
    with pytest.warns(UserWarning, match="far from the posterior"):
        kb.eig.importance(Line(), DESIGN, ExactPosterior(shift=4.0), num_outer=256, num_inner=64)


@pytest.fixture(scope="module")
def fitted():
    """A model whose objective holds no posterior, with one fitted at its design."""
    keras.utils.set_random_seed(0)
    model = kb.DesignModel(Line(), space(), objective=kb.objectives.PriorContrastive(), seed=0)
    with pytest.raises(ValueError, match="fit_posterior"):
        model.sample(3, {"outcome": np.zeros(2)})
    model.fit_posterior(epochs=1, steps_per_epoch=150, batch_size=128, verbose=0)
    return model


def test_a_fitted_posterior_samples(fitted):
    y = np.array([1.5, -0.5])
    drawn = fitted.sample(4000, {"outcome": y}, seed=0)["theta"][0]
    exact = ExactPosterior()
    mean, spread = y @ exact.matrix @ exact.covariance, np.sqrt(np.diag(exact.covariance))
    # 150 steps bring the flow within a few hundredths; 0.2 posterior standard deviations leave room for backends.
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 0.2 * spread)
    assert np.all(np.abs(drawn.std(axis=0) / spread - 1.0) < 0.2)


def test_a_fitted_posterior_brackets_the_eig(fitted):
    found = fitted.estimate_eig(num_samples=2048, seed=1)
    assert "importance samples of the trained posterior" in found.method
    assert found.lower - 3 * found.lower_se <= line_eig() <= found.upper + 3 * found.upper_se
    assert found.upper - found.lower < 0.01 * line_eig()


def test_a_fitted_posterior_is_saved(fitted, tmp_path):
    fitted.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", simulator=Line())
    theta, y = {"theta": np.array([[0.3, -0.2]])}, {"outcome": np.array([[1.0, 0.5]])}
    np.testing.assert_allclose(loaded.log_prob(theta, y), fitted.log_prob(theta, y), atol=1e-5)


def test_training_goes_on_after_a_fitted_posterior(fitted):
    before = kb.backend.to_numpy([variable.value for variable in fitted.posterior.network.variables])
    count = len(fitted.trainable_variables)
    fitted.fit(epochs=1, steps_per_epoch=4, batch_size=16, verbose=0)
    after = kb.backend.to_numpy([variable.value for variable in fitted.posterior.network.variables])
    assert count == 1  # the design
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_proposals_agree_with_the_network_density():
    """Draws and density of one pass equal the density evaluated at the draws."""
    keras.utils.set_random_seed(0)
    model = kb.DesignModel(Line(), space(False), seed=0)
    roughen(model)
    rng = np.random.default_rng(0)
    base, y = (kb.simulators.cast(rng.standard_normal((64, 2))) for _ in range(2))
    with kb.backend.no_gradients():
        conditions = model.posterior.conditions(y, model.design())
        parameters, log_q = model.posterior.sample_with_log_prob(base, conditions)
        again = model.posterior.log_prob(parameters, conditions)
    np.testing.assert_allclose(ops.convert_to_numpy(log_q), ops.convert_to_numpy(again), atol=2e-5)
