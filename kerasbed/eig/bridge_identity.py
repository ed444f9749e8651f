"""What both comparisons of a likelihood rest on: the identity of `kerasbed.eig.likelihood_check`, and simulations."""

import numpy as np
from scipy import special

from kerasbed.backend import programs
from kerasbed.priors.base import Parameters
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator, design_shape

NUM_OUTCOMES = 1024
# With some hundred comparisons a check, 6 standard errors raise a false alarm less than once in a million checks.
ALARM = 6.0
# A share of the outcomes that is off by less has no visible effect on an EIG, however many standard errors it is.
VISIBLE = 0.02
MOST_FEATURES = 64


def differs(
    log_p: np.ndarray,
    log_q: np.ndarray,
    log_p_of_q: np.ndarray,
    log_q_of_q: np.ndarray,
    features: np.ndarray,
    features_of_q: np.ndarray,
    inside: float | np.ndarray = 1.0,
    inside_of_q: float | np.ndarray = 1.0,
) -> tuple[float, float] | None:
    """By how much the two sides of the identity differ, and its standard error, for the worst feature that alarms.

    Terms of a rare kind may be missing among the draws of one side, and with them their variance: what one side has
    more than the other is counted as such terms, of size one.
    """
    with np.errstate(invalid="ignore"):
        left = np.nan_to_num(special.expit(log_q - log_p)) * inside
        right = np.nan_to_num(special.expit(log_p_of_q - log_q_of_q)) * inside_of_q
    left, right = left[:, None] * features, right[:, None] * features_of_q
    above = np.maximum(left, 0.0).mean(axis=0) - np.maximum(right, 0.0).mean(axis=0)
    below = np.minimum(left, 0.0).mean(axis=0) - np.minimum(right, 0.0).mean(axis=0)
    variance = left.var(axis=0, ddof=1) / len(left) + right.var(axis=0, ddof=1) / len(right)
    missing = (np.abs(above) + np.abs(below)) / min(len(left), len(right))
    off, error = np.abs(above + below), np.sqrt(variance + missing) + np.finfo(float).tiny
    worst = int(np.argmax(off / error))
    return (off[worst], error[worst]) if off[worst] > max(ALARM * error[worst], VISIBLE) else None


def bounded_ratio(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """tanh of the log ratio of two laws; 0 where neither knows."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.tanh(log_p - log_q))


def simulate(
    simulator: Simulator, parameters: Parameters, design: np.ndarray | dict[str, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Outcomes at each of a few parameters, (parameters, NUM_OUTCOMES, *outcome_shape)."""
    num = len(next(iter(parameters.values())))
    noise = simulator.resolve_noise(design_shape(design)).draw(num * NUM_OUTCOMES, rng)
    repeated = {name: np.repeat(block, NUM_OUTCOMES, axis=0) for name, block in parameters.items()}
    outcomes = experiments.measured(simulator, repeated, design, noise, "float64")
    return outcomes.reshape(num, NUM_OUTCOMES, *outcomes.shape[1:]).astype("float64")


def log_likelihood(
    simulator: Simulator, outcome: np.ndarray, parameters: Parameters, design: np.ndarray | dict[str, np.ndarray]
) -> np.ndarray:
    """The simulator's own, in float64, NumPy; a program, since it is called many times, and may hold a loop."""
    evaluate = programs.compiled("log_density", simulator)
    return evaluate(outcome, parameters, design)
