"""Trainings in which draws fail or steps cannot be taken.

S1: a straight line y = a + b x + noise is measured at two places in [-1, 1], and the experiment fails where a is in the
upper 2% of its prior. What a tells does not depend on the design while b's share does, so that the best places are the
two ends with and without failures: EIG 0.5 log det(I + X'X / sd^2).

S2: y = a sqrt|x| + b + noise, started at x = 0, where the outcome is finite and its derivative is not.
"""

import warnings

import keras
import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb

SHARE = 0.02
NOISE = 0.5


class Line(kb.GaussianSimulator):
    """y = a + b x + noise; with an edge, NaN where a is beyond it."""

    prior = kb.Prior(a=stats.norm(), b=stats.norm())

    def __init__(self, edge: float | None = None):
        self.edge = edge

    def mean(self, parameters, design):
        a = parameters["a"]
        if self.edge is not None:
            a = self.edge - ops.square(ops.sqrt(self.edge - a))
        return a + parameters["b"] * design

    def scale(self, parameters, design):
        return NOISE


class Root(kb.Simulator):
    """y = a sqrt|x| + b + noise."""

    prior = kb.Prior(a=stats.norm(), b=stats.norm())

    def outcome(self, parameters, design, noise):
        return parameters["a"] * ops.sqrt(ops.abs(design)) + parameters["b"] + 0.1 * noise


def exact_eig(design: np.ndarray) -> float:
    """EIG of the line without failures, nats."""
    features = np.stack([np.ones_like(design), design], axis=1)
    return 0.5 * np.linalg.slogdet(np.eye(2) + features.T @ features / NOISE**2)[1]


def _trained(simulator, space, epochs=4, seed=0):
    """A model after `fit`, its history, and what was warned of."""
    keras.utils.set_random_seed(seed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", kb.errors.KerasbedWarning)
        model = kb.DesignModel(simulator, space, seed=seed)
        history = model.fit(epochs=epochs, steps_per_epoch=100, verbose=0)
    return model, history, [str(warning.message) for warning in told]


def failing_draws(seed: int = 0) -> tuple[float, float, str]:
    """S1: the largest difference between designs (sorted) learned with and without 2% failing draws; truth 0."""
    designs, told = [], []
    for edge in (None, stats.norm.isf(SHARE)):
        model, history, told = _trained(Line(edge), kb.designs.Box((2,), -1.0, 1.0, seed=seed), seed=seed)
        designs.append(np.sort(model.design.numpy()))
    reached = [exact_eig(design) / exact_eig(np.array([-1.0, 1.0])) for design in designs]
    failed, skipped = np.sum(history.history["nonfinite"]), np.sum(history.history["skipped"])
    named = [text for text in told if "experiments that do not fail" in text and "left out" in text]
    note = (
        f"{failed:.0f} of {400 * 128} draws left out, {skipped:.0f} steps skipped; share of the best EIG without "
        f"{reached[0]:.4f}, with {reached[1]:.4f}; count and bias named: {'yes' if named else 'no'}"
    )
    return float(np.abs(designs[0] - designs[1]).max()), 0.0, note


def gradient_at_an_edge(seed: int = 0) -> tuple[float, float, str]:
    """S2: steps tried before training stopped, at most 20; the note is what was warned of."""
    space = kb.designs.Box((2,), -1.0, 1.0, initial=[0.0, 0.5])
    _, history, told = _trained(Root(), space, seed=seed)
    named = [text for text in told if "entry [0] of the design" in text and "Training stopped" in text]
    note = named[0] if named else "cause and design not named"
    return float(np.sum(history.history["skipped"])), 20.0, f"{keras.backend.backend()}: {note}"
