"""A flow on a banana-shaped posterior against a full-covariance Gaussian and long MCMC."""

import emcee
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb

pytestmark = [
    pytest.mark.filterwarnings("ignore:The (Full|Flow) family is too narrow:UserWarning"),
    pytest.mark.filterwarnings(
        "ignore:The variational fit did not converge. STOP. TOTAL NO. OF ITERATIONS:UserWarning"
    ),
]

PRIOR = kb.Prior(x=(stats.norm(0.0, 2.0), 2))


def banana(parameters):
    x = parameters["x"]
    return -0.5 * ops.square((x[..., 1] - ops.square(x[..., 0])) / 0.5)


@pytest.fixture(scope="module")
def flow():
    return kb.variational.fit(
        banana,
        PRIOR,
        family=kb.variational.Flow(depth=2, widths=(16,)),
        optimizer="L-BFGS-B",
        base_samples=kb.base_samples.Sobol(512),
        max_iterations=120,
    )


@pytest.fixture(scope="module")
def full():
    return kb.variational.fit(banana, PRIOR, family="full")


@pytest.fixture(scope="module")
def chain():
    """Draws of the posterior by an ensemble sampler: 64 walkers, 1,000 of 1,500 steps, every 10th kept."""

    def log_prob(x):
        return -0.5 * ((x[:, 1] - x[:, 0] ** 2) / 0.5) ** 2 - np.sum(x**2, axis=1) / 8.0

    rng = np.random.default_rng(0)
    sampler = emcee.EnsembleSampler(64, 2, log_prob, vectorize=True)
    sampler._random = np.random.RandomState(0)
    sampler.run_mcmc(rng.normal(0, 0.5, (64, 2)), 1500)
    return sampler.get_chain(discard=500, thin=10, flat=True)


def energy_distance(a, b):
    """2 E|a - b| - E|a - a'| - E|b - b'| of two samples (Szekely and Rizzo, 2013): 0 for equal laws."""

    def mean_distance(u, v):
        return np.sqrt(((u[:, None] - v[None]) ** 2).sum(axis=-1)).mean()

    return 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)


def test_the_flow_beats_the_gaussian_by_its_elbo(flow, full):
    assert flow.negative_elbo < full.negative_elbo - 0.4 - 3 * (flow.negative_elbo_se + full.negative_elbo_se)


def test_the_flow_is_closer_to_mcmc_draws(flow, full, chain):
    draws = chain[np.random.default_rng(1).choice(len(chain), 1000, replace=False)]
    fits = {"flow": flow, "full": full}
    distances = {name: energy_distance(fit.sample(1000)["x"][0], draws) for name, fit in fits.items()}
    assert distances["flow"] < 0.5 * distances["full"]


def test_draws_have_the_density_claimed(flow):
    """E_q[exp(log r - log q)] = 1 for a law r inside q; the density goes the other way through the network."""
    z = flow.sample(4000, seed=3)
    inner = stats.multivariate_normal(z["x"][0].mean(axis=0), 0.1 * np.cov(z["x"][0].T))
    weights = np.exp(inner.logpdf(z["x"][0]) - flow.log_prob({"x": z["x"][0]}))
    # 4.5 standard errors: false alarm 1 in 150,000.
    assert abs(weights.mean() - 1.0) < 4.5 * weights.std() / np.sqrt(weights.size)


def test_every_backend_starts_from_the_same_network(flow):
    """Weights come from NumPy: their sum is a number of the seed, not of the backend."""
    assert round(float(np.sum(np.abs(flow.path[0][2]))), 3) == 16.382
