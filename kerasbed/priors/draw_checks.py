"""What draws must be before a density is fitted to them: finite, inside their supports, distinct, not discrete."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kerasbed.backend import errors
from kerasbed.priors.base import Parameters

AT_EDGE = 0.02  # share of draws on the edge of a support that may be rounding
FEW_VALUES = 20  # of a coordinate, with ten times as many draws: no density


def check_named(draws: Any) -> None:
    """Raise TypeError for draws that have no names, ValueError where there are none."""
    if not isinstance(draws, Mapping) and not hasattr(draws, "items"):
        raise TypeError(
            f"Draws are given as {type(draws).__name__}, but a dict was expected: parameter's name -> (num, d)."
        )
    if not len(draws):
        raise ValueError("Draws of no parameter were given; pass at least one, e.g. {'rate': draws of shape (num, 1)}.")


def real_values(name: str, values: np.ndarray) -> np.ndarray:
    """Draws of one parameter in float64.

    Raises:
        ValueError: masked entries, or no real numbers.
    """
    if np.any(np.ma.getmaskarray(values)):
        raise ValueError(
            f"{int(np.ma.getmaskarray(values).sum())} draws of {name!r} are masked, but draws of all parameters were "
            "expected; leave these draws out of every parameter."
        )
    if np.iscomplexobj(values):
        raise ValueError(f"Draws of {name!r} are complex, but real numbers were expected.")
    try:
        return np.asarray(values, "float64")
    except (TypeError, ValueError):
        raise ValueError(f"Draws of {name!r} are no real numbers, but values (num, d) were expected.") from None


def one_dataset(name: str, values: np.ndarray, dataset: int) -> np.ndarray:
    """Draws of one parameter as (num, d).

    Raises:
        ValueError: no such data set, another shape, or values that are not finite real numbers.
    """
    values = real_values(name, values)
    if values.ndim == 3:
        if not -len(values) <= dataset < len(values):
            raise ValueError(f"dataset is {dataset}, but draws of {name!r} are of {len(values)} data sets.")
        values = values[dataset]
    if values.ndim != 2 or not np.all(np.isfinite(values)):
        bad = f", {np.sum(~np.isfinite(values))} of them not finite," if values.size else ""
        raise ValueError(
            f"Draws of {name!r} have shape {np.shape(values)}{bad} but finite values (num, d), or (datasets, num, d) "
            "as a model's sample returns them, were expected."
        )
    return values


def check_counts(draws: Parameters, dim: int) -> None:
    """Raise ValueError where parameters have unequal or too few draws."""
    counts = {len(values) for values in draws.values()}
    if len(counts) > 1 or counts.pop() <= dim:
        raise ValueError(
            f"Numbers of draws are { {name: len(values) for name, values in draws.items()} }, but the same number, "
            f"above {dim}, was expected for every parameter."
        )


def limits(
    dims: Mapping[str, int],
    supports: Mapping[str, tuple[ArrayLike, ArrayLike]],
    origin: Mapping[str, tuple[ArrayLike, ArrayLike]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (low, high), each (d,): the user's supports before those of the prior that the draws come from.

    Raises:
        ValueError: an unknown name, or limits that do not fit the parameter's coordinates.
    """
    if not isinstance(supports, Mapping):
        raise TypeError(f"supports is {supports!r}, but a dict was expected: parameter's name -> (low, high).")
    if unknown := set(supports) - set(dims):
        raise ValueError(f"supports name {sorted(unknown)}, but the draws are of {sorted(dims)}.")
    found = {}
    for name, dim in dims.items():
        given = supports.get(name, origin.get(name, (-np.inf, np.inf)))
        try:
            low, high = given
            low, high = (np.broadcast_to(np.asarray(edge, "float64"), (dim,)).copy() for edge in (low, high))
        except (TypeError, ValueError):
            raise ValueError(
                f"The support of {name!r} is {given}, but (low, high) was expected, a number or {dim} of them for each."
            ) from None
        if not np.all(low < high):
            raise ValueError(f"The support of {name!r} is {(low, high)}, but low < high was expected.")
        found[name] = low, high
    return found


def inside(name: str, values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Draws (num, d) with those on an edge moved in, half as far as the nearest draw that is not on it.

    Raises:
        ValueError: draws outside, or so many on an edge that rounding does not explain them.
    """
    if np.any((values < low) | (values > high)):
        outside = int(np.sum(np.any((values < low) | (values > high), axis=1)))
        shown = (low[0], high[0]) if np.all(low == low[0]) and np.all(high == high[0]) else (low, high)
        raise ValueError(
            f"{outside} of {len(values)} draws of {name!r} leave the support {shown} given; correct supports=."
        )
    values = values.copy()
    for i, column in enumerate(values.T):
        for edge, sign in ((low[i], 1.0), (high[i], -1.0)):
            if np.isfinite(edge):
                column[:] = _off_edge(name, column, edge, sign, high[i] - low[i])
    return values


def _off_edge(name, column, edge, sign, width):
    distance = sign * (column - edge)
    # As `numerics.inside_open_interval`: nearer than this a distance is rounding.
    rounding = 16.0 * np.finfo("float64").eps * max(abs(edge), width if np.isfinite(width) else 0.0)
    on = distance <= rounding
    if on.sum() > max(2, AT_EDGE * len(column)):
        nearest = max(rounding, float(np.finfo("float64").tiny))
        raise errors.NoDensityError(
            f"{on.sum()} of {len(column)} draws of {name!r} lie on the edge {edge:g} of its support, or nearer to it "
            f"than {nearest:.2g}, so they have no density there. If the edge has a probability of its own, make it a "
            "discrete parameter; if the draws were rounded or cut off, pass them as they were."
        )
    if not on.any() or on.all():
        return column
    return np.where(on, edge + sign * max(0.5 * distance[~on].min(), 2.0 * rounding), column)


def check_spread(names: Sequence[str], u: np.ndarray) -> None:
    """Raise ValueError for coordinates (N, D) that have no joint density.

    Args:
        names: the parameter of each coordinate.
        u: all draws, repeats among them.
    """
    for name, column in zip(names, u.T, strict=True):
        values = len(np.unique(column))
        if 1 < values < FEW_VALUES and len(column) >= 10 * values:
            raise errors.NoDensityError(
                f"{name!r} takes only {values} values in {len(column)} draws, so it has no density. If it is "
                "discrete, pass discrete={name: possible values}, or like=, the prior of the model that made the "
                "draws; if a Markov chain stood still, run it longer."
            )
    spread = np.std(u, axis=0)
    correlation = np.atleast_2d(np.corrcoef(u, rowvar=False)) if np.all(spread > 0) else np.zeros((1, 1))
    if np.linalg.eigvalsh(correlation)[0] < 1e-12:
        raise errors.NoDensityError(
            "The draws have a singular covariance: a parameter is constant or a function of the others, so they "
            "have no density. Leave such a parameter out."
        )
