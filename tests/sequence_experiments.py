"""Experiments of several measurements whose evidence is known for every history, whatever chose its designs."""

import numpy as np
from keras import ops
from scipy import special, stats

import kerasbed as kb

LOOKS = 4
NOISE = 0.5
COVARIANCE, MEAN = np.diag([1.0, 4.0]), np.array([0.0, 1.0])  # of the parameters of `Plane`


class Plane(kb.GaussianSimulator):
    """One measurement of a x_1 + b x_2."""

    prior, noise_shape = kb.Prior(a=stats.norm(), b=stats.norm(1.0, 2.0)), (1,)

    def mean(self, parameters, design):
        return parameters["a"] * design[..., :1] + parameters["b"] * design[..., 1:]

    def scale(self, parameters, design):
        return NOISE


class Slope(kb.GaussianSimulator):
    """One reading of a line through 0."""

    prior, noise_shape = kb.Prior(slope=stats.norm()), (1,)

    def mean(self, parameters, design):
        return parameters["slope"] * design

    def scale(self, parameters, design):
        return NOISE


class Kinds(kb.GaussianSimulator):
    """One measurement of a x_1 + k x_2, with one of three kinds k."""

    prior, noise_shape = kb.Prior(a=stats.norm(), k=stats.binom(2, 0.4)), (1,)

    def mean(self, parameters, design):
        return parameters["a"] * design[..., :1] + parameters["k"] * design[..., 1:]

    def scale(self, parameters, design):
        return NOISE


class Coins(kb.Simulator):
    """One toss of a coin whose bias is one of three, with an effort that moves it."""

    prior = kb.Prior(bias=stats.randint(0, 3))
    noise, noise_shape, differentiable = stats.uniform(), (1,), False

    def chance(self, parameters, design):
        return ops.sigmoid((parameters["bias"] - 1.0) * design)

    def outcome(self, parameters, design, noise):
        return ops.cast(noise < self.chance(parameters, design), noise.dtype)

    def log_likelihood(self, outcome, parameters, design):
        chance = self.chance(parameters, design)
        return ops.sum(outcome * ops.log(chance) + (1.0 - outcome) * ops.log1p(-chance), axis=-1)

    def outcome_space(self):
        return np.array([[0.0], [1.0]])


def space():
    return kb.designs.Box((2,), -1.0, 1.0)


def policy(single=None, simulator=None):
    """A policy that makes something of the history."""
    made = kb.policies.Policy(single or space(), LOOKS, seed=0)
    made.prepare(kb.Sequence(simulator or Plane(), LOOKS))
    rng = np.random.default_rng(0)
    for weights in made.skip.weights:
        weights.assign(0.3 * rng.standard_normal(weights.shape))
    return made


STATIC = np.array([[1.0, 0.2], [-0.5, 1.0], [0.3, -0.8], [0.9, 0.9]])


def _normal(rollouts, columns, covariance, mean):
    """log density of outcomes X theta + noise at designs of their own, theta ~ N(mean, covariance), (M,)."""
    x = np.broadcast_to(rollouts.design.astype("float64"), (len(rollouts), LOOKS, 2))[..., columns]
    total = x @ covariance @ np.swapaxes(x, 1, 2) + NOISE**2 * np.eye(LOOKS)
    gap = rollouts.outcome[..., 0] - x @ mean
    squared = np.einsum("ri,rij,rj->r", gap, np.linalg.inv(total), gap)
    return -0.5 * (squared + np.linalg.slogdet(total)[1] + LOOKS * np.log(2.0 * np.pi))


def plane_evidence(rollouts):
    """log p(h) of histories of `Plane`, (M,)."""
    return _normal(rollouts, slice(None), COVARIANCE, MEAN)


def kinds_evidence(rollouts):
    """log p(h) of histories of `Kinds`: the sum over kinds."""
    found = []
    for kind in range(3):
        x = np.broadcast_to(rollouts.design, (len(rollouts), LOOKS, 2))
        moved = rollouts.outcome[..., 0] - kind * x[..., 1]
        total = x[..., :1] * np.swapaxes(x[..., :1], 1, 2) + NOISE**2 * np.eye(LOOKS)
        squared = np.einsum("ri,rij,rj->r", moved, np.linalg.inv(total), moved)
        log_p = -0.5 * (squared + np.linalg.slogdet(total)[1] + LOOKS * np.log(2.0 * np.pi))
        found.append(log_p + stats.binom.logpmf(kind, 2, 0.4))
    return special.logsumexp(found, axis=0)


class PlanePosterior:
    """The exact posterior of `Plane`, wider by a factor of the variance."""

    def __init__(self, wider=1.0, shift=0.0):
        self.wider, self.shift = wider, shift

    def _moments(self, history):
        x, y = np.asarray(history["design"], "float64"), np.asarray(history["outcome"], "float64")[..., 0]
        covariance = np.linalg.inv(np.linalg.inv(COVARIANCE) + np.swapaxes(x, 1, 2) @ x / NOISE**2)
        informed = np.einsum("rti,rt->ri", x, y) / NOISE**2 + np.linalg.inv(COVARIANCE) @ MEAN
        return np.einsum("rij,rj->ri", covariance, informed) + self.shift, self.wider * covariance

    def sample_q(self, history, num, seed):
        mean, covariance = self._moments(history)
        z = np.random.default_rng(seed).standard_normal((len(mean), num, 2))
        draws = mean[:, None] + np.einsum("rij,rnj->rni", np.linalg.cholesky(covariance), z)
        return {"a": draws[..., :1], "b": draws[..., 1:]}

    def log_q(self, parameters, history):
        mean, covariance = self._moments(history)
        gap = np.concatenate([parameters["a"], parameters["b"]], axis=-1) - mean[:, None]
        squared = np.einsum("rni,rij,rnj->rn", gap, np.linalg.inv(covariance), gap)
        return -0.5 * (squared + np.linalg.slogdet(covariance)[1][:, None]) - np.log(2.0 * np.pi)
