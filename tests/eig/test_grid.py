import sys

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.eig.grid import grid_contributions, parameter_grid
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
    one, two = (grid_contributions(toys.Line(), design, 400, seed=0) for design in (DESIGN, DESIGN + 1e-3))
    assert np.std(one - two) < 0.02 * np.std(one)


def test_blocks_do_not_change_the_numbers(monkeypatch):
    expected = grid_contributions(toys.Line(), DESIGN, 50, grid_size=64)
    monkeypatch.setattr(sys.modules["kerasbed.eig.grid"], "BLOCK_PAIRS", 7 * 64**2)
    np.testing.assert_allclose(grid_contributions(toys.Line(), DESIGN, 50, grid_size=64), expected, rtol=1e-10)


def test_a_grid_that_is_too_coarse_warns():
    with pytest.warns(RuntimeWarning, match="raise grid_size"):
        kb.eig.grid(toys.Line(), DESIGN, num_samples=50, grid_size=8)


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
