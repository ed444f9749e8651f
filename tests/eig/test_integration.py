import sys

import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed.eig.integration import grid_contributions, parameter_grid
from tests import toys

DESIGN = np.array([-0.9, -0.2, 0.4, 1.0])


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_grid_is_the_closed_form_of_linear_gaussian_experiments(degree):
    """Within 4 standard errors: false alarm 6e-5 each."""
    found = kb.eig.grid(toys.Polynomial(degree), DESIGN, num_samples={1: 4000, 2: 1000, 3: 150}[degree], seed=0)
    assert found.lower == found.upper
    assert abs(found.lower - toys.linear_eig(toys.powers(DESIGN, degree))) < 4 * found.lower_se
    assert 0 < found.lower_se < 0.2


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_evidence_of_each_draw_is_exact(degree):
    """log p(y) against the normal marginal of y, draw by draw: the quadrature error alone."""
    simulator = toys.Polynomial(degree)
    num = 40
    found = grid_contributions(simulator, DESIGN, num, seed=0)
    rng = np.random.default_rng(0)
    theta = simulator.prior.sample(num, rng)["theta"]
    noise = simulator.draw_noise(num, (4,), rng)
    features = toys.powers(DESIGN, degree)
    outcome = theta @ features.T + 0.5 * noise
    marginal = stats.multivariate_normal(np.zeros(4), features @ features.T + 0.25 * np.eye(4))
    expected = stats.norm(theta @ features.T, 0.5).logpdf(outcome).sum(axis=1) - marginal.logpdf(outcome)
    np.testing.assert_allclose(found, expected, atol={1: 1e-6, 2: 1e-6, 3: 1e-4}[degree])


@pytest.mark.parametrize(
    "law", [stats.lognorm(s=0.5), stats.uniform(2.0, 3.0), stats.gamma(2.0)], ids=["lognorm", "uniform", "gamma"]
)
def test_the_quadrature_weights_integrate_the_prior(law):
    """Densities that do not vanish at a bound do so in unconstrained coordinates."""
    _, log_weights = parameter_grid(kb.Prior(a=law))
    assert np.exp(log_weights).sum() == pytest.approx(1.0, abs=1e-6)


def test_the_same_seed_pairs_designs():
    """Close designs differ by far less, draw by draw, than their contributions spread."""
    one, two = (grid_contributions(toys.LINE, design, 400, seed=0) for design in (DESIGN, DESIGN + 1e-3))
    assert np.std(one - two) < 0.02 * np.std(one)


def test_blocks_do_not_change_the_numbers(monkeypatch):
    expected = grid_contributions(toys.LINE, DESIGN, 50, grid_size=64)
    monkeypatch.setattr(sys.modules["kerasbed.eig.integration"], "BLOCK_PAIRS", 7 * 64**2)
    np.testing.assert_allclose(grid_contributions(toys.LINE, DESIGN, 50, grid_size=64), expected, rtol=1e-10)


class Located(kb.Simulator):
    """Parameters measured one by one with normal noise, whose spread may depend on them."""

    def __init__(self, prior, spread=0.3):
        self.prior, self.spread, self.noise_shape = prior, spread, (prior.dim,)

    def _law(self, parameters):
        theta = ops.concatenate([parameters[name] for name in self.prior.names], axis=-1)
        return theta, self.spread(theta) if callable(self.spread) else self.spread

    def outcome(self, parameters, design, noise):
        theta, spread = self._law(parameters)
        return theta + spread * noise + 0.0 * design[..., :1]

    def log_likelihood(self, outcome, parameters, design):
        theta, spread = self._law(parameters)
        spread = ops.broadcast_to(ops.cast(spread, theta.dtype), ops.shape(theta))
        return ops.sum(-0.5 * ops.square((outcome - theta) / spread) - ops.log(spread) - HALF_LOG_2PI, axis=-1)


HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)
NOWHERE = np.zeros(1)


def entropy_of_outcome(density, grid):
    p = np.maximum(density, 1e-300)
    return -np.trapezoid(p * np.log(p), grid)


def two_scales(theta):
    """Three of ten experiments are a hundred times more precise than the others."""
    return ops.where(theta < -0.5244, 1e-3, 0.1)


def mixed_quantiles(law, num=20_001):
    return law.ppf((np.arange(num) + 0.5) / num)


@pytest.mark.one_backend
def test_a_share_of_narrow_posteriors_is_resolved():
    """Each outcome's evidence in closed form; where the noise is small, posteriors lie between the first points."""
    num = 300
    simulator = Located(kb.Prior(theta=stats.norm()), two_scales)
    found = grid_contributions(simulator, NOWHERE, num, seed=0)
    rng = np.random.default_rng(0)
    theta = simulator.prior.sample(num, rng)["theta"][:, 0]
    outcome = theta + np.where(theta < -0.5244, 1e-3, 0.1) * simulator.draw_noise(num, (1,), rng)[:, 0]
    border = -0.5244

    def part(y, spread, low, high):
        """Integral of N(y; t, spread) N(t; 0, 1) over t in (low, high), in closed form."""
        mean, sd = y / (1 + spread**2), spread / np.sqrt(1 + spread**2)
        inside = stats.norm.cdf((high - mean) / sd) - stats.norm.cdf((low - mean) / sd)
        return stats.norm.pdf(y, 0.0, np.sqrt(1 + spread**2)) * inside

    evidence = part(outcome, 1e-3, -np.inf, border) + part(outcome, 0.1, border, np.inf)
    own = stats.norm.logpdf(outcome, theta, np.where(theta < border, 1e-3, 0.1))
    np.testing.assert_allclose(found, own - np.log(evidence), atol=2e-5)


def test_a_prior_with_its_mass_at_the_edges_is_covered():
    """Beta(.02, .02): nine tenths of it are closer to 0 or 1 than any outcome can tell."""
    law = stats.beta(0.02, 0.02)
    y = np.linspace(-0.7, 1.7, 1201)
    density = stats.norm.pdf(y[:, None], mixed_quantiles(law, 4001), 0.1).mean(axis=1)
    exact = entropy_of_outcome(density, y) - 0.5 * np.log(2 * np.pi * np.e * 0.01)
    found = kb.eig.grid(Located(kb.Prior(theta=law), 0.1), NOWHERE, num_samples=3000)
    assert abs(found.lower - exact) < 4 * found.lower_se + 1e-3  # 1 of 16,000 seeds


def cauchy_eig(spread=0.3):
    y = np.sinh(np.linspace(-16.0, 16.0, 20_001))  # the density of y is a Voigt profile
    density = special.voigt_profile(y, spread, 1.0)
    return entropy_of_outcome(density, y) - 0.5 * np.log(2 * np.pi * np.e * spread**2)


CAUCHY = kb.Prior.from_sampler(
    lambda num, rng: {"theta": rng.standard_cauchy((num, 1))},
    log_prob=lambda p: stats.cauchy.logpdf(p["theta"]).sum(axis=-1),
)


@pytest.mark.one_backend
@pytest.mark.parametrize("prior", [kb.Prior(theta=stats.cauchy()), CAUCHY], ids=["marginal", "sampler"])
def test_heavy_tails_are_covered(prior):
    found = kb.eig.grid(Located(prior), NOWHERE, num_samples=3000)
    assert abs(found.lower - cauchy_eig()) < 4 * found.lower_se


def _normal(covariance):
    return kb.Prior(theta=stats.multivariate_normal(np.zeros(len(covariance)), covariance))


COVARIANCE = np.array([[1.0, -0.45, 0.3], [-0.45, 1.0, -0.9], [0.3, -0.9, 1.0]])
TWO_MODES = kb.Prior.from_sampler(
    lambda num, rng: {"theta": np.where(rng.random((num, 2)) < 0.5, 5, -5) + 0.01 * rng.standard_normal((num, 2))},
    log_prob=lambda p: np.logaddexp(*(stats.norm.logpdf(p["theta"], at, 0.01) - np.log(2) for at in (-5, 5))).sum(-1),
)
DEPENDENT = {
    "correlated": (
        kb.Prior(theta=stats.multivariate_normal(np.zeros(2), COVARIANCE[1:, 1:])),
        0.3,
        COVARIANCE[1:, 1:],
        0,
    ),
    "three correlated": (kb.Prior(theta=stats.multivariate_normal(np.zeros(3), COVARIANCE)), 0.3, COVARIANCE, 0),
    "hierarchy": (
        kb.Prior.hierarchical(a=stats.norm(), b=lambda a: stats.norm(-2.0 * a, 0.1)),
        0.3,
        np.array([[1.0, -2.0], [-2.0, 4.01]]),
        0,
    ),
    "four modes of a sampler": (TWO_MODES, 0.01, 1e-4 * np.eye(2), 2 * np.log(2)),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("case", list(DEPENDENT))
def test_priors_that_are_no_product_are_covered(case):
    """Closed forms: 0.5 log det(I + C / spread^2), and log 2 for each choice of a mode, which an outcome tells."""
    prior, spread, covariance, more = DEPENDENT[case]
    exact = 0.5 * np.linalg.slogdet(np.eye(len(covariance)) + covariance / spread**2)[1] + more
    found = kb.eig.grid(Located(prior, spread), NOWHERE, num_samples=150 if prior.dim == 2 else 40)
    assert abs(found.lower - exact) < 4 * found.lower_se
    assert found.lower_se < 0.25


@pytest.mark.one_backend
def test_a_density_that_does_not_integrate_to_one_is_refused():
    prior = kb.Prior.from_sampler(
        lambda num, rng: {"theta": rng.standard_normal((num, 1))}, log_prob=lambda p: -0.5 * p["theta"][..., 0] ** 2
    )
    with pytest.raises(ValueError, match=r"integrates to 2\.507"):
        kb.eig.grid(Located(prior), NOWHERE, num_samples=50)
    with pytest.raises(ValueError, match=r"mass on a grid of 64 points for each parameter is 2\.5"):
        kb.eig.grid(Located(prior), NOWHERE, num_samples=50, grid_size=64)


@pytest.mark.one_backend
def test_a_grid_of_given_size_says_which_share_it_does_not_hold():
    simulator = Located(kb.Prior(theta=stats.norm()), two_scales)
    with pytest.warns(RuntimeWarning, match=r"[23]\d\.\d% of the posteriors are too narrow"):
        found = kb.eig.grid(simulator, NOWHERE, num_samples=500, grid_size=512)
    assert found.lower_se > 0.2


def test_discrete_parameters_are_summed_over():
    """Two values, normal noise: I = H(y) - H(noise) by quadrature."""
    y = np.linspace(-4.0, 5.0, 4001)
    density = 0.7 * stats.norm.pdf(y, 0.0, 0.5) + 0.3 * stats.norm.pdf(y, 1.0, 0.5)
    exact = entropy_of_outcome(density, y) - 0.5 * np.log(2 * np.pi * np.e * 0.25)
    found = kb.eig.grid(Located(kb.Prior(kind=stats.bernoulli(0.3)), 0.5), NOWHERE, num_samples=4000)
    assert abs(found.lower - exact) < 4 * found.lower_se


def test_a_grid_that_is_too_coarse_warns():
    with pytest.warns(RuntimeWarning, match="raise grid_size"):
        kb.eig.grid(toys.LINE, DESIGN, num_samples=50, grid_size=8)


@pytest.mark.parametrize(
    ("simulator", "message"),
    [
        (kb.Simulator.from_functions(toys.Line.prior, lambda p, design, noise: noise), "no log_likelihood"),
        (toys.Polynomial(4), "has 4 coordinates, but a grid holds up to 3"),
    ],
)
def test_what_a_grid_cannot_do_is_said(simulator, message):
    with pytest.raises(ValueError, match=message):
        kb.eig.grid(simulator, DESIGN, num_samples=10)


def test_estimates_print_their_direction():
    assert str(kb.EIGEstimate(1.0, 0.1, 1.0, 0.1, "grid")) == "EIG 1.0000 +- 0.1000 nats (grid)"
    assert str(kb.EIGEstimate(lower=1.0, lower_se=0.1, method="m")) == "EIG >= 1.0000 +- 0.1000 nats (m)"
    assert "<= 2.0000" in str(kb.EIGEstimate(upper=2.0, upper_se=0.1))


@pytest.mark.one_backend
def test_a_grid_that_takes_long_says_so_before_it_starts(monkeypatch):
    module = sys.modules["kerasbed.eig.integration"]  # `kb.eig.grid` is the function
    monkeypatch.setattr(module, "PILOT", 4)
    monkeypatch.setattr(module, "LONG", 0.0)
    monkeypatch.setattr(module, "AGREE", -1.0)  # as if the plain grid held nothing
    with pytest.warns(RuntimeWarning, match="minutes for 32 experiments"):
        kb.eig.grid(toys.LINE, np.array([0.0, 1.0]), num_samples=32)
