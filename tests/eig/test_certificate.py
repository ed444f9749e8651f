"""The certificate's critic: bounded, and a lower bound whatever ratio it is given."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.backend import numerics
from kerasbed.eig import certificate
from tests import toys

CONTRASTS = 127


def bound(log_ratio, epsilon, seed=0):
    """InfoNCE of a correlated normal pair, correlation 0.9, with a given log ratio: value and standard error."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(4000)
    t = 0.9 * y + np.sqrt(0.19) * rng.standard_normal(4000)
    own = log_ratio(t, y)
    against = log_ratio(rng.standard_normal((4000, CONTRASTS)), y[:, None])
    terms = certificate._critic(own, epsilon, CONTRASTS) - certificate._log_mean(own, against, epsilon, CONTRASTS)
    return numerics.mean_and_error(terms)


def exact_ratio(t, y):
    return stats.norm.logpdf(t, 0.9 * y, np.sqrt(0.19)) - stats.norm.logpdf(t)


INFORMATION = -0.5 * np.log(0.19)  # 0.830 nats
RATIOS = {
    "exact": exact_ratio,
    "marginal too narrow": lambda t, y: exact_ratio(t, y) + 3.0 * t**2,
    "posterior too narrow": lambda t, y: stats.norm.logpdf(t, 0.9 * y, 0.02) - stats.norm.logpdf(t),
    "nothing of the tails": lambda t, y: np.where(np.abs(t) > 1.0, -np.inf, exact_ratio(t, y)),
    "nonsense": lambda t, y: 40.0 * np.sin(50.0 * t * y),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("epsilon", [0.001, 0.2])
def test_every_ratio_gives_a_lower_bound_with_a_finite_error(name, epsilon):
    value, error = bound(RATIOS[name], epsilon)
    assert value < INFORMATION + 3 * error  # false alarm 0.13% where the bound is tight; seeds fixed
    assert error < 0.15  # of terms within 14 nats: at most 7 / sqrt(4000) = 0.11
    largest = np.log(CONTRASTS + 1.0) + certificate.EXCESS
    assert np.log(epsilon) - largest < value <= np.log(CONTRASTS + 1.0)


@pytest.mark.one_backend
def test_the_exact_ratio_loses_little_to_the_bounds_of_the_critic():
    value, error = bound(exact_ratio, 0.01)
    # 0.01 nats of the mixture, and the bias of 127 contrasts, below 0.03 at 0.83 nats.
    assert value > INFORMATION - 0.04 - 3 * error


@pytest.mark.slow
def test_a_square_is_certified():
    """The target theta^2, whose density is singular at 0, at an EIG of 0.730 by quadrature: on the right side, near."""
    simulator = kb.Simulator.from_functions(kb.Prior(t=stats.norm()), lambda p, d, e: p["t"] * d + 0.3 * e)
    keras.utils.set_random_seed(1)
    design = kb.designs.Box((1,), 0.1, 1.0, initial=[1.0], trainable=False)
    model = kb.DesignModel(simulator, design, toys.lean_objective(), target=lambda p: ops.square(p["t"]), seed=1)
    model.fit(epochs=1, steps_per_epoch=600, batch_size=128, verbose=0)
    for seed in range(3):
        estimate = model.estimate_eig(1024, seed=seed)
        assert 0.4 < estimate.lower < 0.7304 + 3 * estimate.lower_se
        assert estimate.lower_se < 0.1
