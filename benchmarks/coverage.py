"""Do the errors of EIG estimates hold what they promise? Coverage over 60 seeds, problem by problem.

    KERAS_BACKEND=jax python benchmarks/coverage.py [seeds]

Four priors of theta with y = theta + noise: normal, heavy-tailed (Student's t with 4 degrees of freedom), bounded
(uniform) and two modes, at an EIG of about 2 nats. A miss is

    lower bounds          the mean of that bound, by a long run, further than 2 standard errors away
    exact estimators      the true EIG (grid) or the estimator's own limit (laplace) further than 2 standard errors away
    upper bounds          the true EIG above upper + 2 standard errors
    compare               the true difference between two designs further than 2 standard errors away

Truth by quadrature. 9 misses in 60 come by chance in 0.15% of runs where the nominal 4.55% hold; more fail the cell.
`importance` takes a hand-made posterior, a Gaussian of the conjugate mean and 1.3 times its spread, for every prior: a
poor one on purpose, with bounds that are apart.
"""

import sys
import time
import warnings

import numpy as np
import pandas as pd
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import numerics

SEEDS, MOST_MISSES, LONG = 60, 9, 40
SCALE = 0.13
OUTER, INNER = 512, 1024
TWO_MODES = 3.0, 0.5  # places and spread of the modes


class Modes(stats.rv_continuous):
    """Two normal modes of equal weight."""

    def _pdf(self, x):
        return 0.5 * (stats.norm.pdf(x, -TWO_MODES[0], TWO_MODES[1]) + stats.norm.pdf(x, *TWO_MODES))

    def _cdf(self, x):
        return 0.5 * (stats.norm.cdf(x, -TWO_MODES[0], TWO_MODES[1]) + stats.norm.cdf(x, *TWO_MODES))

    def _ppf(self, q):
        grid = np.linspace(-TWO_MODES[0] - 10.0, TWO_MODES[0] + 10.0, 20_001)
        return np.interp(q, self._cdf(grid), grid)

    def _rvs(self, size=None, random_state=None):
        sign = np.where(random_state.random(size) < 0.5, -1.0, 1.0)
        return sign * TWO_MODES[0] + TWO_MODES[1] * random_state.standard_normal(size)

    def _stats(self):
        return 0.0, TWO_MODES[0] ** 2 + TWO_MODES[1] ** 2, 0.0, None


LAWS = {
    "normal": stats.norm(),
    "heavy tails": stats.t(4),
    "bounded": stats.uniform(-1.5, 3.0),
    "two modes": Modes(name="two_modes")(),
}


class Direct(kb.GaussianSimulator):
    """y = theta + noise whose standard deviation is the design."""

    noise_shape = (1,)

    def __init__(self, law):
        self.prior = kb.Prior(theta=law)

    def mean(self, parameters, design):
        return parameters["theta"]

    def scale(self, parameters, design):
        return ops.ones_like(parameters["theta"]) * design


class Conjugate:
    """A hand-made posterior N(shrunken outcome, (1.3 spread)^2) in the user's units, with a posterior's interface."""

    auxiliary_dim, base_dim, compute_dtype, branches = 0, 1, "float64", ()

    def __init__(self, prior, law, scale):
        self.prior, self.width = prior, 1.3 * scale
        low, high = law.support()
        self.limits = (float(low), float(high)) if np.isfinite(low) else None

    def conditions(self, outcome, design):
        return outcome

    def log_prob(self, parameters, conditions, auxiliary=None):
        z = (parameters["theta"] - conditions) / self.width
        return numerics.standard_normal_log_density(z) - float(np.log(self.width)) - self._log_mass(conditions)

    def sample_with_log_prob(self, base, conditions, training=False):
        if self.limits is None:
            theta = conditions + self.width * base
        else:  # inverse distribution function of the normal law cut at the prior's ends
            low, high = self._ends(conditions)
            uniform = low + (high - low) * 0.5 * (1.0 + ops.erf(base / float(np.sqrt(2.0))))
            theta = conditions + self.width * float(np.sqrt(2.0)) * ops.erfinv(2.0 * uniform - 1.0)
        parameters = {"theta": theta}
        return parameters, self.log_prob(parameters, conditions)

    def _ends(self, conditions):
        return [0.5 * (1.0 + ops.erf((end - conditions) / (self.width * float(np.sqrt(2.0))))) for end in self.limits]

    def _log_mass(self, conditions):
        if self.limits is None:
            return 0.0
        low, high = self._ends(conditions)
        return ops.log(high - low)[:, 0]


def exact_eig(law, scale) -> float:
    """h(y) - h(y | theta) by quadrature over y, whose density is an average over quantiles of the prior."""
    q = (np.arange(20_000) + 0.5) / 20_000
    theta = law.ppf(q)
    low, high = law.ppf(1e-8), law.ppf(1.0 - 1e-8)
    y = np.concatenate([np.linspace(low - 6 * scale, theta[0], 400)[:-1], np.linspace(theta[0], theta[-1], 6000)])
    y = np.concatenate([y, np.linspace(theta[-1], high + 6 * scale, 400)[1:]])
    nodes, weights = np.polynomial.legendre.leggauss(60)
    offsets = 8.0 * scale * nodes  # density of y: a quadrature over theta = y + offset
    density = law.pdf(y[:, None] + offsets) * stats.norm.pdf(offsets, scale=scale)
    density = density @ weights * 8.0 * scale
    if np.isfinite(law.support()[0]):  # edges of the density: the closed form of a uniform law
        a, b = law.support()
        density = (stats.norm.cdf(y, a, scale) - stats.norm.cdf(y, b, scale)) / (b - a)
    entropy = np.trapezoid(-np.where(density > 0, density * np.log(np.maximum(density, 1e-300)), 0.0), y)
    return float(entropy - 0.5 * np.log(2.0 * np.pi * np.e * scale**2))


def estimates(law, seed, outer=OUTER) -> dict:
    """Every estimator at one seed: name -> (value, standard error)."""
    simulator, designs = Direct(law), [np.full(1, SCALE), np.full(1, 1.5 * SCALE)]
    bracket = kb.eig.bracket(simulator, designs[0], outer, INNER, seed=seed, check=False)
    posterior = Conjugate(simulator.prior, law, SCALE)
    weighed = kb.eig.importance(simulator, designs[0], posterior, outer, 16, seed=seed, check=False)
    table = kb.eig.compare(simulator, designs, outer, INNER, seed=seed)
    grid = kb.eig.grid(simulator, designs[0], num_samples=outer, seed=seed)
    return {
        "bracket lower": (bracket.lower, bracket.lower_se),
        "bracket upper": (bracket.upper, bracket.upper_se),
        "importance lower": (weighed.lower, weighed.lower_se),
        "importance upper": (weighed.upper, weighed.upper_se),
        "compare": (table["difference"][1], table["difference_se"][1]),
        "grid": (grid.lower, grid.lower_se),
        "laplace": kb.eig.laplace(simulator, designs[0], 64, seed=seed)[:2],
    }


def coverage(name, seeds=SEEDS) -> list[dict]:
    """One row for each estimator on one problem: misses and what they were counted against."""
    law, rows = LAWS[name], []
    truth = exact_eig(law, SCALE)
    difference = exact_eig(law, 1.5 * SCALE) - truth
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heavy tails are warned about: the coverage is counted all the same
        found = [estimates(law, seed) for seed in range(seeds)]
        long = [estimates(law, 10_000 + seed, 4096) for seed in range(max(2, LONG // 8))]
    for method in found[0]:
        value, error = np.transpose([estimate[method] for estimate in found])
        own = float(np.mean([estimate[method][0] for estimate in long]))
        if method.endswith("upper"):
            against, missed = truth, truth > value + 2.0 * error
        else:
            against = {"grid": truth, "compare": difference}.get(method, own)
            missed = np.abs(value - against) > 2.0 * error + 1e-9
        rows.append(
            {
                "problem": name,
                "estimator": method,
                "truth": difference if method == "compare" else truth,
                "against": against,
                "mean": value.mean(),
                "spread": value.std(),
                "mean error": error.mean(),
                "misses": int(np.sum(missed)),
                "passes": bool(np.sum(missed) <= MOST_MISSES * seeds / SEEDS),
            }
        )
    return rows


def study(seeds=SEEDS) -> pd.DataFrame:
    """The whole table."""
    return pd.DataFrame([row for name in LAWS for row in coverage(name, seeds)])


def main(seeds=SEEDS) -> int:
    start = time.process_time()
    table = study(seeds)
    print(table.round(4).to_string(index=False))
    print(f"{time.process_time() - start:.0f} s of processor time")
    return int(not table["passes"].all())


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS))
