"""Experiments of one measurement whose posteriors are known."""

import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb

THRESHOLDS = np.linspace(-2.0, 2.0, 21)


class Listed(kb.BernoulliSimulator):
    """Yes or no; threshold and lapse rate are of lists."""

    prior = kb.Prior.from_table(
        {"threshold": np.repeat(THRESHOLDS, 2), "lapse": np.tile([0.0, 0.1], 21)}, np.full(42, 1.0 / 42)
    )
    noise_shape = (1,)

    def probability(self, parameters, design):
        detected = ops.sigmoid(4.0 * (design - parameters["threshold"]))
        return 0.02 + (0.98 - parameters["lapse"]) * detected


class Line(kb.GaussianSimulator):
    """A line with normal noise: the posterior is normal."""

    prior, noise_shape, noise_scale = kb.Prior(level=stats.norm(), slope=stats.norm()), (1,), 0.5

    def mean(self, parameters, design):
        return parameters["level"] + parameters["slope"] * design

    def scale(self, parameters, design):
        return self.noise_scale


class Curve(kb.BernoulliSimulator):
    """Yes or no; the posterior of threshold and slope is curved."""

    prior, noise_shape = kb.Prior(threshold=stats.norm(), slope=stats.lognorm(0.7, scale=3.0)), (1,)

    def probability(self, parameters, design):
        return 0.05 + 0.9 * ops.sigmoid(parameters["slope"] * (design - parameters["threshold"]))


class Plane(kb.GaussianSimulator):
    """A plane in four coefficients, too many for a grid; its design has three entries."""

    prior, noise_shape = kb.Prior(weights=(stats.norm(), 4)), (1,)

    def mean(self, parameters, design):
        return parameters["weights"][..., :1] + ops.sum(parameters["weights"][..., 1:] * design, axis=-1, keepdims=True)

    def scale(self, parameters, design):
        return 0.5


class Apart(kb.GaussianSimulator):
    """A plane read at a place in two coordinates, at a time: a design in parts, and two outcomes."""

    prior, noise_shape = kb.Prior(gain=stats.lognorm(0.5), shift=stats.norm()), (2,)

    def mean(self, parameters, design):
        place = design["place"]
        read = parameters["gain"] * place[..., :1] + parameters["shift"] * place[..., 1:]
        return ops.concatenate([read, read * design["time"]], axis=-1)

    def scale(self, parameters, design):
        return 0.3


PARTS = kb.designs.Product(place=kb.designs.Box((2,), -1.0, 1.0), time=kb.designs.Box((1,), 0.0, 2.0))
STIMULI = kb.designs.Choice((1,), options=np.linspace(-2.0, 2.0, 17))
PLACES = kb.designs.Box((1,), -1.0, 1.0)


def normal_posterior(features: np.ndarray, outcomes: np.ndarray, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of coefficients with standard normal priors, given features (n, d) and outcomes (n,)."""
    covariance = np.linalg.inv(np.eye(features.shape[1]) + features.T @ features / noise**2)
    return covariance @ features.T @ outcomes / noise**2, covariance
