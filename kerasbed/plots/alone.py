"""Noiseless outcomes, or chances of a yes, over many settings, where each outcome follows its own setting alone.

A simulator is asked at designs of the length that it was written for: settings are dealt to as many designs as they
need, one for each row of a batch, in order within each. Whether outcomes follow their own settings alone is seen where
every second setting changes, and the outcomes of the others must not; and where every setting moves up by one place,
and its outcome must move along, which a count of new cases does not.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree
from scipy import special

from kerasbed import backend
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator, design_shape

SHARE = 0.4  # of the way to a neighbour, by which settings change


def leaves(values: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], np.ndarray]:
    """The parts of a design by their names from the outside in; of an array the only one, ()."""
    if isinstance(values, dict):
        return {key: leaf for name, part in values.items() for key, leaf in leaves(part, (*path, name)).items()}
    return {path: np.asarray(values)}


def noiseless(
    simulator: Simulator, parameters: dict[str, np.ndarray], designs: Any, entry: str | None = None
) -> np.ndarray:
    """Outcomes (rows, k, ...) in the middle of their noise; of those that are dicts one entry."""
    median = simulator.resolve_noise(design_shape(designs)).median()
    noise = np.broadcast_to(median, (len(next(iter(parameters.values()))), *median.shape))
    found = experiments.measured(simulator, parameters, designs, noise, "float64")
    return found if entry is None else simulator.layouts.split(found)[entry]


def chances(simulator: Simulator, parameters: dict[str, np.ndarray], designs: Any) -> np.ndarray:
    """Chance of a yes of each of k outcomes, (rows, k), by the likelihoods of none and of this one alone."""
    (length,) = simulator.simulate(1, tree.map_structure(lambda leaf: leaf[0], designs), seed=0)["outcome"].shape[1:]
    told = np.concatenate([np.zeros((1, length)), np.eye(length)])[:, None]  # over the rows
    given = {name: values[None] for name, values in parameters.items()}
    rows = tree.map_structure(lambda leaf: np.asarray(leaf)[None], designs)
    with backend.precision("float64"), backend.no_gradients():
        found = backend.to_numpy(simulator.log_density(*backend.to_tensor((told, given, rows), "float64")))
    return special.expit(found[1:] - found[0]).T


def responses(
    simulator: Simulator,
    parameters: dict[str, np.ndarray],
    values: Any,
    part: tuple[str, ...],
    settings: np.ndarray,
    ask: Callable = noiseless,
) -> np.ndarray | None:
    """What each experiment gives at settings, while the other parts of the design stay.

    Args:
        parameters: {name: (num, d)}.
        values: of one design.
        part: of the design whose entries, (k,) or places (k, d), are replaced.
        settings: (count,) or (count, d).
        ask: `noiseless` or `chances`.

    Returns:
        (num, count, *rest) of outcomes (k, *rest); None where outcomes follow other settings, too, or the simulator
        fails there.
    """
    own = leaves(values)[part]
    dealt, num = _dealt(settings, len(own)), len(next(iter(parameters.values())))
    rows = np.concatenate([own[None], _mixed(own), _moved_up(own), dealt])
    designs = _with_part(values, part, np.tile(rows, (num, *([1] * own.ndim))), (num * len(rows)))
    repeated = {name: np.repeat(drawn, len(rows), axis=0) for name, drawn in parameters.items()}
    try:
        found = ask(simulator, repeated, designs)
    except Exception:  # outside of where it was written for; each backend has its own errors for that
        return None
    if found.ndim < 2 or found.shape[1] != len(own):
        return None
    found = found.reshape(num, len(rows), *found.shape[1:])
    known, even, odd, moved, wanted = *np.moveaxis(found[:, :4], 1, 0), found[:, 4:]
    kept = _agree(even[:, 1::2], known[:, 1::2]) and _agree(odd[:, ::2], known[:, ::2])
    if not kept or not _agree(moved[:, :-1], known[:, 1:]):
        return None
    wanted = np.swapaxes(wanted, 1, 2)  # (num, k, rows, *rest): setting j * rows + r stands in entry j of row r
    return wanted.reshape(num, -1, *found.shape[3:])[:, : len(settings)]


def _dealt(settings, length):
    """Settings (count, ...) as designs (rows, length, ...), filled up with the last one."""
    rows = -(-len(settings) // length)
    filled = settings[np.minimum(np.arange(rows * length), len(settings) - 1)]
    return np.swapaxes(filled.reshape(length, rows, *settings.shape[1:]), 0, 1)


def _mixed(own):
    """The design with its even entries moved, and with its odd ones: towards the next, so that order stays."""
    if len(own) == 1:
        return np.stack([own, own])
    steps = np.diff(own, axis=0)
    moved = own + SHARE * np.concatenate([steps, -steps[-1:]])
    moved = np.where(moved == own, own + 0.01 * (np.ptp(own) or 1.0), moved)
    even = np.reshape(np.arange(len(own)) % 2 == 0, (-1, *([1] * (own.ndim - 1))))
    return np.stack([np.where(even, moved, own), np.where(even, own, moved)])


def _moved_up(own):
    """Every entry in the place of the one before it, (1, k, ...)."""
    return np.concatenate([own[1:], own[-1:]])[None]


def _with_part(values, part, rows, count):
    """A dict of designs with a leading axis, of which one part has values of its own."""
    if not part:
        return rows
    return {
        name: _with_part(inner, part[1:], rows, count)
        if name == part[0]
        else tree.map_structure(lambda leaf: np.repeat(np.asarray(leaf)[None], count, axis=0), inner)
        for name, inner in values.items()
    }


def _agree(some, others) -> bool:
    return bool(np.allclose(some, others, rtol=1e-4, atol=1e-5))
