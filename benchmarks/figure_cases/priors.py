"""Priors from draws, priors whose density is infinite at an edge, and targets that are functions of the parameters."""

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import numpy as np
from judging import Found, judge
from keras import ops
from scipy import stats

from figure_cases import truths
from figure_cases.simulators import Measured, fixed, trained

SEEDS = 6  # of a certificate


def two_narrow_modes():
    """Draws at 5 and -5, each with a standard deviation of .1, as the next prior: log 2 + log(2) / 2."""
    rng = np.random.default_rng(0)
    draws = np.where(rng.random(4000) < 0.5, 5.0, -5.0) + 0.1 * rng.standard_normal(4000)

    def bound():
        prior = kb.Prior.from_posterior({"theta": draws[:, None]})
        return kb.eig.bracket(Measured(prior, 0.1), np.zeros(1), 4096, 4096)

    def width():
        found = kb.Prior.from_posterior({"theta": draws[:, None]}).sample(20_000, 1)["theta"]
        return found[found > 0].std(), 0.01

    return [
        judge("V5", bound, 1.5 * np.log(2.0)),
        judge("V5/width of a mode", width, 0.1),
        judge("V5/edge of the support", on_the_edge, half_normal_truth()),
    ]


def on_the_edge():
    """Draws of a half-normal law, one of them on the edge of the support, through `supports`."""
    draws = np.abs(np.random.default_rng(1).standard_normal(4000))
    draws[0] = 0.0
    prior = kb.Prior.from_posterior({"theta": draws[:, None]}, supports={"theta": (0.0, np.inf)})
    return kb.eig.bracket(Measured(prior, 0.5), np.zeros(1), 4096, 4096)


def half_normal_truth() -> float:
    return truths.noisy(truths.nodes(stats.halfnorm()), 1.0, 0.5)


def jeffreys():
    """Beta(1/2, 1/2), infinite at both edges: the estimate of a trained model at a fixed design."""
    law, gain = stats.beta(0.5, 0.5), 0.9

    def estimate():
        model = trained(Measured(law, 0.1, by_design=True), fixed(gain))
        return model.estimate_eig(4096)

    return [judge("V6", estimate, truths.noisy(truths.nodes(law), gain, 0.1), about="prior|edge|support|infinit")]


def square():
    """A certificate for theta^2: the mean over some seeds with the error of their scatter, and the error reported."""
    simulator, made = Measured(stats.norm(), 0.3, by_design=True), {}

    def estimates():
        if not made:
            model = trained(simulator, kb.designs.Box((1,), 0.1, 1.0, seed=1), target=lambda p: ops.square(p["theta"]))
            made["truth"] = square_truth(float(model.design.numpy()[0]))
            made["found"] = [model.estimate_eig(1024, seed=seed) for seed in range(SEEDS)]
        return made["found"], made["truth"]

    def bound():
        found, truth = estimates()
        values = np.array([estimate.lower for estimate in found])
        return Found((values.mean(), values.std(ddof=1) / np.sqrt(len(values)), "lower"), truth)

    def ratio():
        found, _ = estimates()
        reported = np.mean([estimate.lower_se for estimate in found])
        # An error that is too large harms nobody; the ratio's own error is that of a standard deviation of so few.
        return max(np.std([estimate.lower for estimate in found], ddof=1) / reported, 1.0), 1.0 / np.sqrt(
            2.0 * (SEEDS - 1)
        )

    return [judge("V10", bound), judge("V10/scatter over error", ratio, 1.0)]


def square_truth(gain: float, scale: float = 0.3) -> float:
    """h(y) - E h(y | |theta|), where y given |theta| has the two modes +-gain |theta|."""
    size, step = truths.nodes(stats.halfnorm(), 2000), 0.02
    y = np.arange(-8.0, 8.0, step)
    both = 0.5 * (stats.norm.pdf(y, gain * size[:, None], scale) + stats.norm.pdf(y, -gain * size[:, None], scale))
    return truths.information(np.ones(len(size)), both, step)
