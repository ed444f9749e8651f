r"""Checks of the training itself, from its record: they cost no simulation.

*Slope.* The bound after the last quarter of the steps is a straight line with noise: with group means L_g at steps t_g,
least squares give a slope and, from the residuals, its error; what the line gains over the quarter is alarming where it
is four standard errors and 2% of the bound. Few groups have Student's quantiles.

*Movement.* An optimizer with rates r_t can move a coordinate by about R = sum_t r_t; Adam does under a gradient that
keeps its sign, and moves like R / sqrt(steps) under noise.

*Signal.* Adam's mean of gradients m, over its root mean square, is (1 - b) / (1 + b) in variance for pure noise with
memory b (0.23 for b = 0.9) and one for a gradient that always points the same way. At an optimum inside the space it is
noise.
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import special, stats

from kerasbed.model.diagnosis.findings import ALARM, ALARMING, GOOD, OPEN, WORTH, Finding
from kerasbed.model.diagnosis.record import TrainingRecord
from kerasbed.model.optimizers import PlannedDecay

BRIEF = 200  # steps below which no network is a posterior yet
LAST = 0.25  # of the steps
LEAST_GROUPS = 4  # for a slope with an error
MOST_SKIPPED = 0.01  # of the steps
READINGS = 8  # of a schedule of rates
MOST_SIGNAL = 0.97  # of the root mean square
LONGER = "Train longer: more epochs, or more steps_per_epoch."


def steps_taken(record: TrainingRecord, skipped: float, left_out: float, draws: float) -> list[Finding]:
    """Steps without an update, and draws that were left out.

    Args:
        skipped: steps whose update was not applied.
        left_out: draws without a finite density.
        draws: that were tried in all.
    """
    share, of_draws = skipped / max(record.steps, 1), left_out / max(draws, 1.0)
    found = f"{int(skipped)} of {record.steps} steps could not be taken, since a gradient was not finite."
    remedy = "See model.explain_nonfinite(); look for sqrt, log, abs and divisions at the design in outcome()."
    verdict = ALARM if share > MOST_SKIPPED else GOOD
    steps = Finding("steps", verdict, found, remedy if skipped else "", share, 0.0, MOST_SKIPPED)
    found = f"{int(left_out)} of {int(draws)} simulated experiments had no finite density and did not count."
    remedy = (
        "What was maximised is the information of experiments that do not fail: make failing part of the outcome, or "
        "see model.explain_nonfinite()."
    )
    verdict = ALARM if of_draws > MOST_SKIPPED else GOOD
    return [steps, Finding("draws", verdict, found, remedy if left_out else "", of_draws, 0.0, MOST_SKIPPED)]


def length(steps: int, has_network: bool) -> Finding:
    """Whether there were enough steps for a network to learn anything.

    Args:
        steps: that the networks have had, in all trainings.
        has_network: whether the objective has one.
    """
    if not has_network or steps >= BRIEF:
        return Finding("length", GOOD, f"{steps} steps.", "", steps, 0.0, BRIEF)
    found = f"The networks have had {steps} steps, fewer than the {BRIEF} that a simple posterior takes."
    return Finding("length", ALARM, found, LONGER, steps, 0.0, BRIEF)


def slope(record: TrainingRecord) -> Finding:
    """Whether the bound was still rising in the last quarter of the steps."""
    groups = [g for g in record.groups if g.end > (1.0 - LAST) * record.steps and np.isfinite(g.eig)]
    if len(groups) < LEAST_GROUPS:
        found = f"The last quarter of the training has {len(groups)} groups of steps, too few for a slope."
        return Finding("slope", OPEN, found, "Train longer to see whether the bound still rises.")
    gain, error, level = _gain(groups)
    limit = max(WORTH, WORTH * abs(level))
    found = f"Over its last quarter of steps the bound, {level:.3f}, rose by {gain:.3f} +- {error:.3f}."
    alarm = gain > ALARMING * error and gain > limit
    return Finding("slope", ALARM if alarm else GOOD, found, LONGER if alarm else "", gain, error, limit)


def _gain(groups) -> tuple[float, float, float]:
    """What a straight line through group means gains from first to last, its error, and the mean."""
    steps = np.array([g.end - 0.5 * g.steps for g in groups], float)
    weights, values = np.array([g.steps for g in groups], float), np.array([g.eig for g in groups])
    weights /= weights.sum()
    centred = steps - weights @ steps
    level = float(weights @ values)
    spread = float(weights @ centred**2)
    rate = float(weights @ (centred * values)) / spread
    residuals = values - level - rate * centred
    freedom = len(groups) - 2
    error = np.sqrt(float(weights @ residuals**2) / spread / freedom)
    stretch = special.stdtrit(freedom, special.ndtr(ALARMING)) / ALARMING  # so that four of it are as rare as four
    span = np.ptp(steps)
    return rate * span, float(error * stretch * span), level


def bound(record: TrainingRecord) -> tuple[float, float]:
    """The bound at the end of training, in nats, with an error: the mean of the last tenth of the steps."""
    groups = [g for g in record.groups if np.isfinite(g.eig)]
    last = [g for g in groups if g.end > 0.9 * record.steps] or groups[-1:]
    if not last:
        return np.nan, np.nan
    several = np.array([g.eig for g in groups[len(groups) // 2 :]])
    scatter = np.std(np.diff(several)) / np.sqrt(2.0) if len(several) > 3 else np.nan
    mean = float(np.average([g.eig for g in last], weights=[g.steps for g in last]))
    return mean, float(scatter / np.sqrt(len(last)))


def movement(record: TrainingRecord, design: Any, optimizer: Any) -> Finding:
    """How far the design went, against how far its rate could have taken it."""
    if not design.placed_variables:
        return Finding("movement", GOOD, "The design is fixed.")
    reach = _sum_of_rates(optimizer, record.iterations, record.steps)
    moved = float(np.max(np.abs(ops.convert_to_numpy(design.unconstrained) - record.start)))
    if moved > 0.0:
        found = f"The design moved by up to {moved:.3g} in coordinates that its rate could have moved by {reach:.3g}."
        return Finding("movement", GOOD, found, "", moved, 0.0, 0.0)
    why = "its learning rate is 0." if reach == 0.0 else "its gradient was zero, or no step could be taken."
    found = f"The design did not move in {record.steps} steps: {why}"
    remedy = "Pass design_optimizer=keras.optimizers.Adam(0.1) to compile, or trainable=False for a fixed design."
    if reach > 0.0:
        remedy = "Look whether the outcome depends on the design here; try other starts (starts=8)."
    return Finding("movement", ALARM, found, remedy, moved, 0.0, 0.0)


def _sum_of_rates(optimizer, first, steps) -> float:
    """Sum of the design's rates over the steps; a schedule of the user's is read at a few of them."""
    rate = optimizer.design_optimizer._learning_rate
    if isinstance(rate, PlannedDecay):
        return steps * rate.mean
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        middles = first + steps * (np.arange(READINGS) + 0.5) / READINGS
        return steps * float(np.mean([float(ops.convert_to_numpy(rate(step))) for step in middles]))
    return steps * float(ops.convert_to_numpy(optimizer.design_optimizer.learning_rate))


def signal(design: Any, optimizer: Any, at_edge: np.ndarray) -> Finding:
    """Whether the design's gradient still pointed one way at the end.

    Args:
        at_edge: which coordinates (*unconstrained_shape) of the design are at an edge of the space.
    """
    found = _signal_to_noise(design, optimizer)
    if found is None:
        return Finding("gradient", OPEN, "The design's optimizer keeps no moments of its gradient.")
    ratios, noise = found
    ratios = np.where(at_edge, 0.0, ratios)
    limit = min(float(noise * stats.norm.isf(stats.norm.sf(ALARMING) / ratios.size)), MOST_SIGNAL)
    worst = float(ratios.max(initial=0.0))
    alarm = worst > limit
    told = f"Inside the space the mean gradient of the design is {worst:.2f} of its root mean square at most."
    remedy = f"It still points one way: the design is on its way. {LONGER}" if alarm else ""
    return Finding("gradient", ALARM if alarm else GOOD, told, remedy, worst, noise, limit)


def _signal_to_noise(design, optimizer) -> tuple[np.ndarray, float] | None:
    """|mean| over root mean square of the gradient of each coordinate, and that of noise; None without such moments."""
    inner = optimizer.design_optimizer
    moments, squares = getattr(inner, "_momentums", None), getattr(inner, "_velocities", None)
    count = int(ops.convert_to_numpy(inner.iterations))
    if not moments or not squares or count == 0 or not hasattr(inner, "beta_2"):
        return None
    paths = [variable.path for variable in inner._trainable_variables]
    if design.unconstrained.path not in paths:
        return None
    index = paths.index(design.unconstrained.path)
    mean = ops.convert_to_numpy(moments[index])[_learned_row(design)] / (1.0 - inner.beta_1**count)
    square = ops.convert_to_numpy(squares[index])[_learned_row(design)] / (1.0 - inner.beta_2**count)
    noise = float(np.sqrt((1.0 - inner.beta_1) / (1.0 + inner.beta_1)))
    return np.abs(mean) / np.sqrt(np.maximum(square, np.finfo("float32").tiny)), noise


def _learned_row(design) -> int:
    """Which of the starts the learned design is, or is nearest to."""
    if design.starts == 1:
        return 0
    gap = ops.convert_to_numpy(design.unconstrained) - design.coordinates()
    return int(np.argmin(np.abs(gap).reshape(len(gap), -1).max(axis=1)))
