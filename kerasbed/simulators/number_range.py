r"""Does float32 hold the outcomes of an experiment beside their spread, and have they any noise?

By `kerasbed.backend.number_range`, with the spread at *fixed* parameters and design, since an error beside
the noise is error in a likelihood.

An outcome that does not spread at all at fixed parameters, but changes with continuous ones, determines them: its EIG
is infinite, and every finite figure says more about rounding or the network than about the experiment.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend import errors, number_range, streams
from kerasbed.backend.programs import compiled
from kerasbed.simulators.simulator import Simulator

PROBES, REPEATS = 256, 8  # draws of parameters and designs, and of the noise for each
FEW = 16  # parameters, and outcomes at each, for an estimate in float64
DRAWS = 512  # of parameters, likewise
FAR = 1e9  # where float64 has six digits left behind the point
NO_NOISE = 1e-11  # of the noise: what rounding leaves of a combination from which it cancels


def refuse_rounded_at(simulator: Simulator, design: np.ndarray | dict[str, np.ndarray], seed: int = 0) -> None:
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


def refuse_rounded(simulator: Simulator, outcome: np.ndarray) -> None:
    """Refuse an experiment that float64 cannot hold, as every estimate in float64 takes it.

    Args:
        simulator: the experiment.
        outcome: at a few parameters, (num, repeats, *outcome_shape).

    Raises:
        ValueError: draws of a parameter, or of an outcome at fixed parameters, lie closer than rounding, or an outcome
            has no noise.
    """
    for name, values in simulator.prior.sample(DRAWS, 0).items():
        spread = number_range.quartiles(values)
        spread = np.where(spread > 0, spread, np.maximum(number_range.deviation(values), np.finfo("float64").tiny))
        if name not in simulator.prior.discrete and number_range.disturbed(np.spacing(np.abs(values)), spread):
            raise errors.NumberRangeError(
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


def choose(
    simulator: Simulator,
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
        NumberRangeWarning: `outcome` fails in float64, or varies far more with the design than at a fixed one.
    """
    parameters, values, noise = draws
    wide = number_range.parameters_need_float64(simulator.prior, parameters)
    probes = min(PROBES, len(noise))
    try:
        exact, by_parameter = _simulate(simulator, target, parameters, values, noise, probes)
    except Exception as error:  # each backend has its own type for types that do not fit together
        errors.warn(
            f"{type(simulator).__name__}.outcome raises {type(error).__name__} in float64 ({error}), so whether "
            "float32 holds its outcomes could not be found out. Let it compute in the type of its arguments.",
            errors.NumberRangeWarning,
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
        raise errors.NumberRangeError(
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
    measure = compiled("measure", simulator, make=backend.compile_once)
    found = measure(chosen, designs, pick(noise, other, same)).reshape(len(rows) + probes, -1)
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
            raise errors.NumberRangeError(
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
    unit = number_range.deviation(residuals[:, noisy])
    _, sizes, directions = np.linalg.svd(residuals[:, noisy] / unit, full_matrices=False)
    values = by_parameter[:, noisy] / unit
    for direction in directions[sizes < NO_NOISE * sizes[0]]:
        combined = values @ direction
        if np.ptp(combined) > 1e6 * NO_NOISE * np.abs(values).max() and len(np.unique(combined)) > len(combined) // 2:
            raise errors.NumberRangeError(
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
    overall = number_range.deviation(first - first.mean(axis=0))
    resolution = np.broadcast_to(np.finfo("float32").eps * overall, spread.shape)
    if number_range.disturbed(resolution, np.median(spread, axis=0)):
        worst = int(np.argmax(overall / np.maximum(np.median(spread, axis=0), np.finfo("float64").tiny)))
        errors.warn(
            f"Entry {worst} of {type(simulator).__name__}.outcome varies by {overall[worst]:.3g} over parameters and "
            f"designs, but by {np.median(spread[:, worst]):.3g} at fixed ones, less than a network can resolve in "
            "float32: bounds will be loose. Subtract what the design alone explains from the outcome, or narrow the "
            "design space.",
            errors.NumberRangeWarning,
        )


def _outcome_needs_float64(simulator, first, rounded, spread) -> bool:
    if number_range.disturbed(np.spacing(np.abs(first)), spread):
        raise errors.NumberRangeError(
            f"Outcomes of {type(simulator).__name__} are about {np.abs(first).max():.3g} large, where neighbouring "
            f"float64 numbers are {np.spacing(np.abs(first).max()):.3g} apart, but at fixed parameters their standard "
            f"deviation is only {np.median(spread):.3g}. Subtract a constant from the outcome, or choose another unit."
        )
    with np.errstate(invalid="ignore"):
        rounding = np.abs(rounded - first)
    coarse = number_range.disturbed(np.where(np.isnan(rounding), np.inf, rounding), spread)
    return coarse or number_range.squares_are_lost(np.median(spread, axis=0))
