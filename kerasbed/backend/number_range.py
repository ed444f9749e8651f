r"""Does float32 hold what an experiment is about, beside what it is about it?

Near a value v, floats of relative spacing eps are eps |v| apart. That is harmless where it is small against what has to
be told apart: the spread of a parameter in its unconstrained coordinate u, the spread of a design over its space, and,
for an outcome, its spread at *fixed* parameters and design, since an error beside the noise is error in a likelihood.
With rounding errors r of that spread, independent of everything else, a Gaussian log density is off by about r^2 / 2.

Where float32 is too coarse (a Julian date, an offset of 1e8, 1e40), or does not hold the squares of a spread, which
stand in derivatives (1e-20), experiments are simulated in float64, centred, and
only then cast for the networks (`backend.wide_simulation`). Where float64 is too coarse as well, nothing but another
origin or unit in the user's own hands can help, and an error says of which quantity.

An outcome that does not spread at all at fixed parameters, but changes with continuous ones, determines them: its EIG
is infinite, and every finite figure says more about rounding or the network than about the experiment.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend import streams
from kerasbed.backend.programs import compiled

TOLERANCE = 0.02  # rounding errors, in units of the spread that they disturb: 2e-4 nats
SHARE = 0.01  # of the draws that may be disturbed more: tails, edges of a support
PROBES, REPEATS = 256, 8  # draws of parameters and designs, and of the noise for each
FEW = 16  # parameters, and outcomes at each, for an estimate in float64
FAR = 1e9  # where float64 has six digits left behind the point
NO_NOISE = 1e-11  # of the noise: what rounding leaves of a combination from which it cancels
DRAWS = 512  # of designs or parameters
SMALLEST_SQUARED = 1e-15  # draws below it, or above its inverse, vary by squares that float32 does not hold


# -- designs and parameters: from their values alone ---


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
        spread = _deviation(part)
        if _disturbed(np.spacing(np.abs(part)), spread):
            raise ValueError(
                f"Designs {f'{name!r} ' if name else ''}of {space!r} are about {np.abs(part).max():.3g} large, where "
                f"neighbouring float64 numbers are {np.spacing(np.abs(part).max()):.3g} apart, but spread by only "
                f"{spread.max():.3g}. Choose another origin or unit for the design."
            )
        wide = wide or _disturbed(_rounding(part), spread) or _squares_are_lost(spread)
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
        spread = _quartiles(u)
        spread = np.where(spread > 0, spread, _deviation(u))
        with np.errstate(invalid="ignore", over="ignore"):
            here, there = np.spacing(np.abs(values)) * slope, _rounding(values) * slope
        if _disturbed(here, spread) or not np.all(spread > 0):
            raise ValueError(
                f"Draws of the parameter {name!r} lie between {values.min():.17g} and {values.max():.17g}, where "
                "float64 cannot tell them from each other or from an edge of the support. Choose another origin or "
                "unit, or a prior with less mass at its edges."
            )
        wide = wide or _disturbed(there, spread) or _squares_are_lost(_quartiles(values))
    return wide


def refuse_rounded_at(simulator: Any, design: np.ndarray | dict[str, np.ndarray], seed: int = 0) -> None:
    """`refuse_rounded` for a few simulations at one design (1, *shape), a dict of those in parts."""
    rng = streams.of(seed, "rounding check")
    parameters = simulator.prior.sample(FEW, rng)
    law = simulator.resolve_noise(tree.map_structure(lambda leaf: np.shape(leaf)[1:], design))
    noise = law.draw(FEW * FEW, rng)
    repeated = {name: np.repeat(values, FEW, axis=0) for name, values in parameters.items()}
    with backend.precision("float64"), backend.no_gradients():
        outcome = backend.to_numpy(simulator.measure(*backend.to_tensor((repeated, design, noise), "float64")))
    outcome = outcome.reshape(FEW, FEW, -1)
    if np.all(np.isfinite(outcome)):
        refuse_rounded(simulator, outcome)


def refuse_rounded(simulator: Any, outcome: np.ndarray) -> None:
    """Refuse an experiment that float64 cannot hold, as every estimate in float64 takes it.

    Args:
        simulator: the experiment.
        outcome: at a few parameters, (num, repeats, *outcome_shape).

    Raises:
        ValueError: draws of a parameter, or of an outcome at fixed parameters, lie closer than rounding, or an outcome
            has no noise.
    """
    for name, values in simulator.prior.sample(DRAWS, 0).items():
        spread = _quartiles(values)
        spread = np.where(spread > 0, spread, np.maximum(_deviation(values), np.finfo("float64").tiny))
        if name not in simulator.prior.discrete and _disturbed(np.spacing(np.abs(values)), spread):
            raise ValueError(
                f"Draws of the parameter {name!r} lie between {values.min():.17g} and {values.max():.17g}, where "
                f"neighbouring float64 numbers are {np.spacing(np.abs(values).max()):.3g} apart. Choose another origin "
                "or unit."
            )
    outcome = outcome.reshape(len(outcome), outcome.shape[1], -1)
    if np.abs(outcome).min() > FAR:  # nearer to zero an outcome may be constant at a design that teaches nothing
        _refuse_constant(simulator, outcome)
    spread = np.where(np.all(outcome == outcome[:, :1], axis=1), 0.0, outcome.std(axis=1))
    first = outcome[:, 0]
    if simulator.prior.continuous is not None and not np.all(first == np.round(first)):  # counts may have no noise
        _refuse_without_noise(simulator, spread, first)
    _outcome_needs_float64(simulator, outcome[:, 0], outcome[:, 0], _with_typical(spread))


def with_room(values: np.ndarray) -> np.ndarray:
    """Values whose squares float32 cannot hold as float64, so that their standard deviation can be taken."""
    largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    return values if largest == 0.0 or SMALLEST_SQUARED < largest < 1.0 / SMALLEST_SQUARED else values.astype("float64")


def values_need_float64(values: np.ndarray) -> bool:
    """Whether float32 is too coarse for simulations (num, ...), beside a hundredth of their spread."""
    values = np.asarray(values, "float64")
    return _disturbed(_rounding(values), 0.01 * _deviation(values))


def _slope_and_coordinate(values, low, high):
    """du/dtheta and u of `kerasbed.priors.marginals`, where draws on an edge have an infinite slope."""
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = np.where(np.isfinite(low), values - low, 1.0), np.where(np.isfinite(high), high - values, 1.0)
        slope = np.where(np.isfinite(low), 1.0 / left, 0.0) + np.where(np.isfinite(high), 1.0 / right, 0.0)
        slope = np.where(np.isfinite(low) | np.isfinite(high), slope, 1.0)
        u = np.where(np.isfinite(low) | np.isfinite(high), np.log(left) - np.log(right), values)
    return slope, np.clip(u, -1e300, 1e300)


def _rounding(values):
    """Distance of each value to its float32 neighbour; infinite beyond float32's range."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype("float32").astype("float64")
    gap = np.abs(rounded - values)
    # A value may be a float32 number by chance: its neighbours are a spacing away all the same, and 0 is exact.
    with np.errstate(over="ignore", invalid="ignore"):
        spacing = np.spacing(np.abs(rounded).astype("float32")).astype("float64")
    return np.where(values == 0.0, 0.0, np.maximum(gap, np.where(np.isfinite(rounded), 0.25 * spacing, np.inf)))


def _deviation(values):
    """Standard deviation over the first axis, also of numbers whose squares are no floats."""
    unit = np.maximum(np.abs(values).max(axis=0), np.finfo("float64").tiny)
    return unit * (values / unit).std(axis=0)


def _quartiles(values):
    """Distance of the quartiles over the first axis."""
    return np.subtract(*np.quantile(values, [0.75, 0.25], axis=0))


def _squares_are_lost(spread) -> bool:
    """Whether a spread that is not zero has a square, as in a derivative by a scale, that float32 does not hold."""
    return bool(np.any((spread > 0) & ((spread < SMALLEST_SQUARED) | (spread > 1.0 / SMALLEST_SQUARED))))


def _disturbed(errors, spread) -> bool:
    """Whether more than a few rows of errors (num, ...) are large against the spread (...) of an entry that has one."""
    large = (errors > TOLERANCE * spread) & (spread > 0)
    return bool(np.any(np.mean(large, axis=0) > SHARE))


# -- outcomes: from simulations ---


def choose(
    simulator: Any,
    target: Any,
    draws: tuple[Mapping[str, np.ndarray], np.ndarray | dict[str, np.ndarray], np.ndarray],
    outcome: np.ndarray,
) -> bool:
    """Whether experiments must be simulated in float64.

    Args:
        simulator: the experiment.
        target: `kerasbed.targets.Target`, or None.
        draws: parameters {name: (num, d)}, designs (num, *shape) and noise (num, *noise_shape) of a pilot.
        outcome: their outcomes as simulated in the process' float type, (num, *outcome_shape).

    Raises:
        ValueError: float64 cannot hold parameters or outcomes, or an outcome has no noise.

    Warns:
        RuntimeWarning: `outcome` fails in float64.
    """
    parameters, values, noise = draws
    wide = parameters_need_float64(simulator.prior, parameters)
    probes = min(PROBES, len(noise))
    try:
        exact, by_parameter = _simulate(simulator, target, parameters, values, noise, probes)
    except Exception as error:  # each backend has its own type for types that do not fit together
        warnings.warn(
            f"{type(simulator).__name__}.outcome raises {type(error).__name__} in float64 ({error}), so whether "
            "float32 holds its outcomes could not be found out. Let it compute in the type of its arguments.",
            RuntimeWarning,
            stacklevel=4,
        )
        return wide
    _refuse_constant(simulator, exact)
    spread = np.where(
        np.all(exact == exact[:, :1], axis=1), 0.0, np.std(exact, axis=1)
    )  # 0, and not the mean's rounding
    if _noise_is_complete(simulator.prior, target):
        _refuse_without_noise(simulator, spread, by_parameter)
        _refuse_shared_noise(simulator, exact, by_parameter)
    first, rounded = exact[:, 0], outcome[:probes].reshape(probes, -1).astype("float64")
    finite = np.all(np.isfinite(exact), axis=(1, 2))
    if not finite.any():
        return wide
    spread = _with_typical(spread[finite])
    _warn_beside_design(simulator, first[finite], spread)
    return wide or _outcome_needs_float64(simulator, first[finite], rounded[finite], spread)


def _refuse_constant(simulator, outcome):
    if np.all(outcome == outcome[:1, :1]):
        raise ValueError(
            f"{type(simulator).__name__}.outcome returned the same values, such as {outcome[0, 0, 0]:.17g}, for all "
            "parameters, designs and noise. If they should differ, they are lost in rounding: neighbouring float64 "
            f"numbers are {np.spacing(abs(outcome[0, 0, 0])):.3g} apart there. Subtract a constant, or choose another "
            "unit."
        )


def _simulate(simulator, target, parameters, values, noise, probes):
    """Outcomes in float64: (probes, REPEATS, K) with noise drawn anew, the first with the pilot's own.

    And (probes, K) of other parameters at one design with one noise.
    """
    rng, rows = np.random.default_rng(0), np.repeat(np.arange(probes), REPEATS)
    other = rng.integers(len(noise), size=len(rows))
    other[::REPEATS] = np.arange(probes)
    same = np.zeros(probes, int)

    def pick(leaf, first, second):
        return np.concatenate([leaf[first], leaf[second]])

    chosen = {name: leaf[rows] for name, leaf in parameters.items()}
    if target is not None and target.fn is None and simulator.prior.can_sample_given(list(target.dims)):
        redrawn = simulator.prior.sample_given({name: chosen[name] for name in target.dims}, rng)
        chosen = {
            name: np.where((np.arange(len(rows)) % REPEATS == 0)[:, None], chosen[name], redrawn[name])
            for name in chosen
        }
    chosen = {name: np.concatenate([leaf, parameters[name][:probes]]) for name, leaf in chosen.items()}
    designs = tree.map_structure(lambda leaf: pick(leaf, rows, same), values)
    found = compiled("measure", simulator)(chosen, designs, pick(noise, other, same)).reshape(len(rows) + probes, -1)
    return found[: len(rows)].reshape(probes, REPEATS, -1), found[len(rows) :]


def _noise_is_complete(prior, target) -> bool:
    """Whether what was redrawn is all that hides the continuous parameters that are learned about."""
    if target is None:
        return prior.continuous is not None
    return target.continuous is not None and _has_redrawn_nuisance(prior, target)


def _refuse_without_noise(simulator, spread, by_parameter):
    """An entry that is the same for every noise, and another for nearly every parameter."""
    for entry in np.flatnonzero(np.all(spread == 0, axis=0)):
        if len(np.unique(by_parameter[:, entry])) > len(by_parameter) // 2:
            raise ValueError(
                f"Entry {entry} of {type(simulator).__name__}.outcome has no noise: at fixed parameters and design it "
                "never changes, while other parameters give other values. It would determine them exactly, so the "
                "expected information gain is infinite. Add the noise of the measurement, or the resolution of the "
                "instrument, in outcome()."
            )


def _refuse_shared_noise(simulator, exact, by_parameter):
    """A combination of entries from which the noise cancels, and the parameters do not."""
    residuals = (exact - exact.mean(axis=1, keepdims=True)).reshape(-1, exact.shape[-1])
    noisy = np.all(np.isfinite(residuals), axis=0) & np.any(residuals != 0, axis=0)
    noisy &= np.all(np.isfinite(by_parameter), axis=0)
    if not 1 < np.sum(noisy) <= PROBES:
        return
    unit = _deviation(residuals[:, noisy])
    _, sizes, directions = np.linalg.svd(residuals[:, noisy] / unit, full_matrices=False)
    values = by_parameter[:, noisy] / unit
    for direction in directions[sizes < NO_NOISE * sizes[0]]:
        combined = values @ direction
        if np.ptp(combined) > 1e6 * NO_NOISE * np.abs(values).max() and len(np.unique(combined)) > len(combined) // 2:
            raise ValueError(
                f"The noise cancels from a combination of the entries of {type(simulator).__name__}.outcome, with "
                f"weights {np.array2string((direction / unit)[:8], precision=3)} on entries "
                f"{np.flatnonzero(noisy)[:8].tolist()}, while the parameters do not: it would determine them exactly, "
                "so the expected information gain is infinite. Give every entry noise of its own (noise_shape)."
            )


def _has_redrawn_nuisance(prior, target):
    return target.fn is None and prior.can_sample_given(list(target.dims))


def _with_typical(spread):
    """A clipped or empty reading has no spread of its own: the entry's typical one stands in."""
    typical = np.array([np.median(column[column > 0]) if np.any(column > 0) else 0.0 for column in spread.T])
    return np.where(spread > 0, spread, typical)


def _warn_beside_design(simulator, first, spread):
    """Networks see outcomes in units of their spread over parameters and designs, in float32."""
    overall = _deviation(first - first.mean(axis=0))
    if _disturbed(np.broadcast_to(np.finfo("float32").eps * overall, spread.shape), np.median(spread, axis=0)):
        worst = int(np.argmax(overall / np.maximum(np.median(spread, axis=0), np.finfo("float64").tiny)))
        warnings.warn(
            f"Entry {worst} of {type(simulator).__name__}.outcome varies by {overall[worst]:.3g} over parameters and "
            f"designs, but by {np.median(spread[:, worst]):.3g} at fixed ones, less than a network can resolve in "
            "float32: bounds will be loose. Subtract what the design alone explains from the outcome, or narrow the "
            "design space.",
            UserWarning,
            stacklevel=5,
        )


def _outcome_needs_float64(simulator, first, rounded, spread) -> bool:
    if _disturbed(np.spacing(np.abs(first)), spread):
        raise ValueError(
            f"Outcomes of {type(simulator).__name__} are about {np.abs(first).max():.3g} large, where neighbouring "
            f"float64 numbers are {np.spacing(np.abs(first).max()):.3g} apart, but at fixed parameters their standard "
            f"deviation is only {np.median(spread):.3g}. Subtract a constant from the outcome, or choose another unit."
        )
    with np.errstate(invalid="ignore"):
        errors = np.abs(rounded - first)
    disturbed = _disturbed(np.where(np.isnan(errors), np.inf, errors), spread)
    return disturbed or _squares_are_lost(np.median(spread, axis=0))
