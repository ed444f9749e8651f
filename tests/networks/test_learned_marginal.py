"""The learned marginal of the certificate: a density that follows singularities and is broad in the tails."""

import numpy as np
import pytest
from scipy import stats

from kerasbed.networks.learned_marginal import EqualCounts, LearnedMarginal

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    "law", [stats.norm(), stats.chi2(1), stats.cauchy(), stats.uniform(3.0, 1e-3)], ids=lambda law: law.dist.name
)
def test_one_coordinate_is_a_density_near_the_truth(law):
    """Its divergence from the truth: counts of 256 a bin cost 1/512, the steps within bins a few times that."""
    draws = law.rvs(2**16, random_state=0)
    density = EqualCounts(draws)
    fresh = law.rvs(20_000, random_state=1)
    divergence = np.mean(law.logpdf(fresh) - density(fresh)[0])
    assert -0.005 < divergence < 0.03
    z = np.sort(fresh)
    below = density(z)[1]
    np.testing.assert_allclose(below, law.cdf(z), atol=0.01)
    # Between the outermost quantiles the histogram's mass, beyond them a Pareto law's: together one.
    inside = np.sum(np.exp(density.log_inside) * np.diff(density.edges))
    assert inside + density.mass[0] + density.mass[-1] == pytest.approx(1.0, abs=1e-9)
    log_far = np.linspace(0.0, np.log(1e5), 4001)  # of 1 + excess / scale
    x = density.edges[-1] + density.scales[1] * np.expm1(log_far)
    tail = np.trapezoid(np.exp(density(x)[0] + log_far), log_far) * density.scales[1]
    assert tail == pytest.approx(density.mass[-1], rel=1e-3)


def test_two_correlated_coordinates_with_heavy_tails():
    """A copula of correlation 0.8 under Cauchy marginals, whose information is -log(1 - 0.64) / 2 nats."""
    rng = np.random.default_rng(0)

    def draw(num):
        scores = rng.standard_normal((num, 2)) @ np.linalg.cholesky([[1.0, 0.8], [0.8, 1.0]]).T
        return stats.cauchy.ppf(stats.norm.cdf(scores))

    marginal = LearnedMarginal(draw(2**15))
    fresh = draw(2000)
    gain = np.mean(marginal(fresh) - np.sum(stats.cauchy.logpdf(fresh), axis=1))
    assert gain == pytest.approx(-0.5 * np.log(1 - 0.64), abs=0.08)  # the kernels' smoothing and the broad tenth
    assert np.all(np.isfinite(marginal(np.array([[1e12, -1e12], [0.0, 1e30]]))))


def test_constant_draws_have_no_density():
    with pytest.raises(ValueError, match="no density"):
        EqualCounts(np.ones(1000))
