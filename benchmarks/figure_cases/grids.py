"""Grids, Laplace's approximation and bounds by prior draws: what their errors leave out."""

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import numpy as np
from judging import judge
from keras import ops
from scipy import special, stats

from figure_cases import truths
from figure_cases.simulators import Measured

EDGE, FINE, COARSE = float(stats.norm.ppf(0.3)), 1e-3, 0.1


class Uneven(kb.GaussianSimulator):
    """Three in ten parameters are measured a hundred times better than the others."""

    noise_shape = (1,)
    prior = kb.Prior(theta=stats.norm())

    def mean(self, parameters, design):
        return parameters["theta"] + 0.0 * design

    def scale(self, parameters, design):
        return ops.where(parameters["theta"] < EDGE, FINE, COARSE) + 0.0 * design


def uneven_truth() -> float:
    """p(y) = sum over both parts of N(y; 0, 1 + s^2) P(theta in the part | y, s); a quadrature over y."""
    step = 1e-4
    y = np.arange(-7.0, 7.0, step)

    def below(scale):  # theta given y without its bound is N(y / (1 + s^2), s^2 / (1 + s^2))
        deviation = scale / np.sqrt(1.0 + scale**2)
        return stats.norm.cdf((EDGE - y / (1.0 + scale**2)) / deviation)

    def marginal(scale):
        return stats.norm.pdf(y, scale=np.sqrt(1.0 + scale**2))

    density = marginal(FINE) * below(FINE) + marginal(COARSE) * (1.0 - below(COARSE))
    noise = 0.5 * np.log(2.0 * np.pi * np.e) + 0.3 * np.log(FINE) + 0.7 * np.log(COARSE)
    return truths.entropy_of_density(density, step) - noise


def shares():
    """A third of the posteriors too narrow for the grid, and a prior with its mass at the edges."""
    edges = stats.beta(0.02, 0.02)
    at_edges = Measured(edges, 0.1)
    return [
        judge("V7", lambda: kb.eig.grid(Uneven(), np.zeros(1), num_samples=4000), uneven_truth()),
        judge(
            "V7/mass at the edges",
            lambda: kb.eig.grid(at_edges, np.zeros(1), num_samples=4000),
            truths.noisy(truths.nodes(edges), 1.0, 0.1),
        ),
    ]


def heavy_tails():
    """The exact posterior under a Cauchy prior, and of an outcome far from a normal one."""

    def posterior_mean(law, scale, outcome):
        simulator = Measured(law, scale)
        conditions = {"outcome": np.array([[outcome]]), "design": np.ones(1)}
        draws = kb.reference.sample(simulator, 4000, conditions, seed=1)["theta"]
        return draws.mean(), draws.std() / np.sqrt(draws.size)

    def exact(law, scale, outcome):
        theta = np.linspace(outcome - 40.0 * scale - 8.0, outcome + 40.0 * scale + 8.0, 400_001)
        weights = law.pdf(theta) * stats.norm.pdf(outcome, theta, scale)
        return weights @ theta / weights.sum()

    cauchy, normal = stats.cauchy(), stats.norm()
    return [
        judge("V7b", lambda: posterior_mean(cauchy, 0.3, 0.7), exact(cauchy, 0.3, 0.7)),
        judge("V7b/far outcome", lambda: posterior_mean(normal, 0.288, 20.0), exact(normal, 0.288, 20.0)),
        judge(
            "V7b/EIG",
            lambda: kb.eig.grid(Measured(cauchy, 0.3), np.zeros(1), num_samples=4000),
            cauchy_truth(),
        ),
    ]


def cauchy_truth() -> float:
    """y = theta + .3 e with theta Cauchy: h(y) - h(.3 e), with y = sinh(v) for the tails of the Voigt profile."""
    v = np.arange(-16.0, 16.0, 2e-4)
    p = special.voigt_profile(np.sinh(v), 0.3, 1.0)
    entropy = float(np.sum(-p * np.log(p) * np.cosh(v)) * 2e-4)
    return entropy - float(stats.norm(scale=0.3).entropy())


def laplace():
    """Exact for linear-Gaussian experiments, so that every seed must give the same, to rounding."""
    simulator, truth = Measured(stats.norm(), 0.1), truths.linear(10.0)

    def pair(found):
        return found.value, found.value_se

    def worst():
        found = [pair(kb.eig.laplace(simulator, np.zeros(1), 64, seed=seed)) for seed in range(5)]
        return max(found, key=lambda pair: abs(pair[0] - truth))

    two = stats.multivariate_normal([1.0, -2.0], [[1.0, 0.8], [0.8, 4.0]])
    return [
        judge("V8", worst, truth),
        judge("V8/correlated", lambda: pair(kb.eig.laplace(Pair(two), np.zeros(1), 64)), pair_truth(two.cov)),
    ]


class Pair(kb.GaussianSimulator):
    """Both coordinates of theta, each with noise of one."""

    noise_shape = (2,)

    def __init__(self, law):
        self.prior = law if isinstance(law, kb.Prior) else kb.Prior(theta=law)

    def mean(self, parameters, design):
        return parameters["theta"] + 0.0 * design[..., :1]

    def scale(self, parameters, design):
        return 1.0


def pair_truth(covariance) -> float:
    return float(0.5 * np.linalg.slogdet(np.eye(2) + covariance)[1])


def upper_bounds():
    """Twenty seeds of an upper bound: how far the seeds scatter against the error that is reported; and differences."""
    simulator, truth = Measured(stats.norm(), 0.03), truths.linear(1.0 / 0.03)
    worse = Measured(stats.norm(), 0.03, by_design=True)
    difference = truths.linear(0.5 / 0.03) - truth

    def scatter():
        found = [kb.eig.bracket(simulator, np.zeros(1), 512, 2048, seed=seed) for seed in range(20)]
        spread = np.std([estimate.upper for estimate in found], ddof=1)
        return spread / np.mean([estimate.upper_se for estimate in found]), 0.17  # of a ratio of 20 draws

    def bound():
        found = kb.eig.bracket(simulator, np.zeros(1), 512, 2048, seed=0)
        return found.upper, found.upper_se, "upper"

    def compared():
        table = kb.eig.compare(worse, [np.ones(1), 0.5 * np.ones(1)], 512, 2048, seed=0)
        return table["difference"].iloc[1], table["difference_se"].iloc[1]

    def advised():
        """The advice for inner draws taken: within 5% of the truth."""
        found = kb.eig.bracket(simulator, np.zeros(1), 2048, int(10.0 * np.exp(truth)), seed=0)
        return found.upper, max(found.upper_se, 0.05 / 3.0 * truth)

    return [
        judge("V12", bound, truth),
        judge("V12/scatter over error", scatter, 1.0),
        judge("V12/compare", compared, difference),
        judge("V12/ten exp(EIG) inner draws", advised, truth),
    ]
