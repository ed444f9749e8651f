r"""Does float32 hold what has to be told apart, beside where it lies?

Near a value v, floats of relative spacing eps are eps |v| apart. That is harmless where it is small against what has to
be told apart: the spread of a parameter in its unconstrained coordinate u, the spread of a design over its space, and,
for an outcome, its spread at *fixed* parameters and design, since an error beside the noise is error in a likelihood.
With rounding errors r of that spread, independent of everything else, a Gaussian log density is off by about r^2 / 2.

Where float32 is too coarse (a Julian date, an offset of 1e8, 1e40), or does not hold the squares of a spread, which
stand in derivatives (1e-20), experiments are simulated in float64, centred, and only then cast for the networks
(`backend.wide_simulation`). Where float64 is too coarse as well, nothing but another origin or unit in the user's own
hands can help, and an error says of which quantity. Outcomes are judged in `kerasbed.simulators.number_range`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasbed.backend import errors

TOLERANCE = 0.02  # rounding errors, in units of the spread that they disturb: 2e-4 nats
SHARE = 0.01  # of the draws that may be disturbed more: tails, edges of a support
DRAWS = 512  # of designs or parameters
SMALLEST_SQUARED = 1e-15  # draws below it, or above its inverse, vary by squares that float32 does not hold


def design_needs_float64(space: Any) -> bool:
    """Whether float32 cannot hold the designs of a space beside their spread over it.

    Raises:
        ValueError: float64 cannot either.
    """
    values = space.sample(DRAWS, seed=0)
    parts = values if isinstance(values, dict) else {"": values}
    wide = False
    for name, part in parts.items():
        part = np.asarray(part, "float64")
        spread = deviation(part)
        if disturbed(np.spacing(np.abs(part)), spread):
            raise errors.NumberRangeError(
                f"Designs {f'{name!r} ' if name else ''}of {space!r} are about {np.abs(part).max():.3g} large, where "
                f"neighbouring float64 numbers are {np.spacing(np.abs(part).max()):.3g} apart, but spread by only "
                f"{spread.max():.3g}. Choose another origin or unit for the design."
            )
        wide = wide or disturbed(rounding(part), spread) or squares_are_lost(spread)
    return wide


def parameters_need_float64(prior: Any, parameters: Mapping[str, np.ndarray]) -> bool:
    """Whether float32 cannot hold draws {name: (num, d)} of a prior beside their spread in unconstrained coordinates.

    Raises:
        ValueError: float64 cannot either.
    """
    wide, supports = False, prior.supports()
    for name, values in parameters.items():
        if name in prior.discrete:
            continue
        low, high = supports[name]
        slope, u = _slope_and_coordinate(values, low, high)
        spread = quartiles(u)
        spread = np.where(spread > 0, spread, deviation(u))
        with np.errstate(invalid="ignore", over="ignore"):
            here, there = np.spacing(np.abs(values)) * slope, rounding(values) * slope
        if disturbed(here, spread) or not np.all(spread > 0):
            raise errors.NumberRangeError(
                f"Draws of the parameter {name!r} lie between {values.min():.17g} and {values.max():.17g}, where "
                "float64 cannot tell them from each other or from an edge of the support. Choose another origin or "
                "unit, or a prior with less mass at its edges."
            )
        wide = wide or disturbed(there, spread) or squares_are_lost(quartiles(values))
    return wide


def with_room(values: np.ndarray) -> np.ndarray:
    """Values whose squares float32 cannot hold as float64, so that their standard deviation can be taken."""
    largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    return values if largest == 0.0 or SMALLEST_SQUARED < largest < 1.0 / SMALLEST_SQUARED else values.astype("float64")


def values_need_float64(values: np.ndarray) -> bool:
    """Whether float32 is too coarse for simulations (num, ...), beside a hundredth of their spread."""
    values = np.asarray(values, "float64")
    return disturbed(rounding(values), 0.01 * deviation(values))


def _slope_and_coordinate(values, low, high):
    """du/dtheta and u of `kerasbed.priors.marginals`, where draws on an edge have an infinite slope."""
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = np.where(np.isfinite(low), values - low, 1.0), np.where(np.isfinite(high), high - values, 1.0)
        slope = np.where(np.isfinite(low), 1.0 / left, 0.0) + np.where(np.isfinite(high), 1.0 / right, 0.0)
        slope = np.where(np.isfinite(low) | np.isfinite(high), slope, 1.0)
        u = np.where(np.isfinite(low) | np.isfinite(high), np.log(left) - np.log(right), values)
    return slope, np.clip(u, -1e300, 1e300)


def rounding(values: np.ndarray) -> np.ndarray:
    """Distance of each value to its float32 neighbour; infinite beyond float32's range."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype("float32").astype("float64")
    gap = np.abs(rounded - values)
    # A value may be a float32 number by chance: its neighbours are a spacing away all the same, and 0 is exact.
    with np.errstate(over="ignore", invalid="ignore"):
        spacing = np.spacing(np.abs(rounded).astype("float32")).astype("float64")
    return np.where(values == 0.0, 0.0, np.maximum(gap, np.where(np.isfinite(rounded), 0.25 * spacing, np.inf)))


def deviation(values: np.ndarray) -> np.ndarray:
    """Standard deviation over the first axis, also of numbers whose squares are no floats."""
    unit = np.maximum(np.abs(values).max(axis=0), np.finfo("float64").tiny)
    return unit * (values / unit).std(axis=0)


def quartiles(values: np.ndarray) -> np.ndarray:
    """Distance of the quartiles over the first axis."""
    return np.subtract(*np.quantile(values, [0.75, 0.25], axis=0))


def squares_are_lost(spread: np.ndarray) -> bool:
    """Whether a spread that is not zero has a square, as in a derivative by a scale, that float32 does not hold."""
    return bool(np.any((spread > 0) & ((spread < SMALLEST_SQUARED) | (spread > 1.0 / SMALLEST_SQUARED))))


def disturbed(rounded: np.ndarray, spread: np.ndarray) -> bool:
    """Whether more than a few rows of errors (num, ...) are large against the spread (...) of an entry that has one."""
    large = (rounded > TOLERANCE * spread) & (spread > 0)
    return bool(np.any(np.mean(large, axis=0) > SHARE))
