"""Experiments that several rows share."""

import time

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import keras
import numpy as np
from keras import ops
from scipy import stats

LOG_2PI = float(np.log(2.0 * np.pi))


class Measured(kb.GaussianSimulator):
    """y = gain theta + scale e for one number theta; the gain is the design, or one."""

    noise_shape = (1,)

    def __init__(self, prior, scale: float, by_design: bool = False):
        self.prior = prior if isinstance(prior, kb.Prior) else kb.Prior(theta=prior)
        self.noise_scale, self.by_design = scale, by_design

    def mean(self, parameters, design):
        theta = parameters["theta"]
        return theta * design if self.by_design else theta + 0.0 * design

    def scale(self, parameters, design):
        return self.noise_scale


class Trials(kb.Simulator):
    """Counts of successes in `trials` trials at each of the settings; `logit` is to be written."""

    noise = stats.uniform()
    differentiable = False

    def __init__(self, prior, trials: int, settings: int = 1):
        self.prior, self.trials, self.noise_shape = prior, trials, (settings, trials)
        arrangements = stats.binom(trials, 0.5).logpmf(np.arange(trials + 1)) + trials * np.log(2.0)
        self.log_arrangements = arrangements

    def logit(self, parameters, design):
        raise NotImplementedError

    def outcome_space(self):
        return np.arange(self.trials + 1.0)[:, None] if self.noise_shape[0] == 1 else None

    def outcome(self, parameters, design, noise):
        probability = ops.sigmoid(self.logit(parameters, design))
        return ops.sum(ops.cast(noise < probability[..., None], probability.dtype), axis=-1)

    def log_likelihood(self, outcome, parameters, design):
        logit = self.logit(parameters, design)
        arrangements = ops.convert_to_tensor(self.log_arrangements, dtype=logit.dtype)
        arrangements = ops.take(arrangements, ops.cast(outcome, "int32"))
        return ops.sum(arrangements + outcome * logit - self.trials * ops.softplus(logit), axis=-1)


def normal_log_density(z):
    return -0.5 * ops.square(z) - 0.5 * LOG_2PI


def trained(simulator, space, steps: int = 500, batch_size: int = 128, seed: int = 1, **options):
    """A model after a short training with the defaults."""
    keras.utils.set_random_seed(seed)
    model = kb.DesignModel(simulator, space, seed=seed, **options)
    model.fit(epochs=1, steps_per_epoch=steps, batch_size=batch_size, verbose=0)
    return model


def fixed(value) -> kb.designs.Box:
    """One number that is no design: a box that is not trained."""
    return kb.designs.Box((1,), 0.5 * value, 2.0 * value, initial=np.array([float(value)]), trainable=False)


def timed_values(search, seeds):
    """Values that a search finds from several seeds, and the processor seconds of the slowest."""
    values, seconds = [], []
    for seed in seeds:
        begin = time.process_time()
        values.append(search(seed))
        seconds.append(time.process_time() - begin)
    return values, max(seconds)
