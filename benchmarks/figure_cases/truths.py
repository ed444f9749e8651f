"""Exact answers by tables: nodes of the parameters times values of the outcome."""

import numpy as np
from scipy import special, stats


def information(weights, densities, measure=1.0) -> float:
    """Mutual information of a table, in nats.

    Args:
        weights: (T,) probabilities of the parameter's nodes.
        densities: (T, Y) densities or probabilities of the outcomes given each node.
        measure: what an outcome counts: a spacing for densities, 1 for probabilities; a number or (Y,).
    """
    weights = np.asarray(weights) / np.sum(weights)
    marginal = weights @ densities
    logs = np.log(np.where(densities > 0, densities, 1.0)) - np.log(np.where(marginal > 0, marginal, 1.0))
    return float(weights @ (densities * logs) @ np.broadcast_to(measure, densities.shape[1:]))


def nodes(law, count: int = 4000) -> np.ndarray:
    """Midpoints of equal probabilities of a law of scipy.stats, (count,)."""
    return law.ppf((np.arange(count) + 0.5) / count)


def noisy(parameters, gain: float, scale: float, step: float = 0.05, margin: float = 9.0) -> float:
    """EIG of y = gain theta + scale e from equally likely nodes of theta; `step` and `margin` in units of the scale."""
    centres = gain * np.asarray(parameters)
    outcomes = np.arange(centres.min() - margin * scale, centres.max() + margin * scale, step * scale)
    densities = stats.norm.pdf(outcomes, centres[:, None], scale)
    return information(np.full(len(centres), 1.0 / len(centres)), densities, step * scale)


def linear(signal_to_noise: float) -> float:
    """EIG of one measurement of a normal number, with the ratio of both standard deviations."""
    return float(0.5 * np.log1p(signal_to_noise**2))


def entropy_of_density(density, step: float) -> float:
    return float(np.sum(special.entr(density)) * step)


def binomial(probabilities, trials: int):
    """Probabilities (T, trials + 1) of the numbers of successes; also where a success is impossible or certain."""
    p, number = np.asarray(probabilities)[:, None], np.arange(trials + 1.0)
    return special.comb(trials, number) * np.exp(special.xlogy(number, p) + special.xlog1py(trials - number, -p))


def counts(weights, probabilities, trials: int) -> float:
    """EIG of a number of successes out of `trials`, from nodes with success probabilities (T,)."""
    return information(weights, binomial(probabilities, trials))


def square_grid(mean, covariance, half_width: float = 7.0, size: int = 801):
    """Nodes (size^2, 2) and probabilities of a bivariate normal, even in its whitened coordinates."""
    axis = np.linspace(-half_width, half_width, size)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = np.exp(-0.5 * np.sum(z**2, axis=1))
    return np.asarray(mean) + z @ np.linalg.cholesky(covariance).T, weights / weights.sum()
