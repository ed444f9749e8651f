"""Training data that a user brings as arrays: checked, completed, and cut into batches."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras
import numpy as np

from kerasbed import backend
from kerasbed.backend import streams
from kerasbed.backend.batch import EXTRA, KEYS, LOG_PRIOR, LOG_TARGET, NOISE, PARAMETERS, REQUIRED, drawn_extra
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.simulators.simulator import Simulator


class ArrayDataset(keras.utils.PyDataset):
    """Batches of a dict of arrays in their own float type; Keras' own adapter makes all floats those of the process.

    Args:
        arrays: nested arrays with the same number of rows.
        batch_size: rows in a batch; the last one may be shorter.
        shuffle: whether every epoch has an order of its own.
        seed: of the orders.
    """

    def __init__(self, arrays: Any, batch_size: int, shuffle: bool, seed: streams.Entropy | None):
        super().__init__()
        self.arrays, self.batch_size, self.num = arrays, int(batch_size), len(keras.tree.flatten(arrays)[0])
        self.rng = np.random.default_rng(seed) if shuffle else None
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        self.order = np.arange(self.num) if self.rng is None else self.rng.permutation(self.num)

    def skip(self, epochs: int) -> None:
        """Go on where an earlier run was after some epochs."""
        for _ in range(epochs):
            self.on_epoch_end()

    def __len__(self) -> int:
        return -(-self.num // self.batch_size)

    def __getitem__(self, index: int):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return (keras.tree.map_structure(lambda leaf: leaf[rows], self.arrays),)


def density_column(prior: AbstractPrior, target: Any) -> dict[str, Callable[[Parameters], np.ndarray]]:
    """The column with the density of what is learned: {key: parameters -> (num,)}; empty where it has none."""
    if target is not None:
        return {LOG_TARGET: target.log_prior} if target.has_density else {}
    return {LOG_PRIOR: prior.log_prob} if prior.has_density else {}


def complete_draws(
    draws: Mapping,
    simulator: Simulator,
    providers: Collection[Any],
    seed: streams.Entropy | None,
    target: Any = None,
) -> dict:
    """Draws that a user brings as arrays, checked, with the density's column and `extra` added where they are missing.

    Raises:
        ValueError: parameters or noise are missing, names are unknown, or lengths differ.
    """
    missing = set(REQUIRED) - set(draws)
    unknown = set(draws) - set(KEYS)
    if missing or unknown:
        raise ValueError(
            f"The training data has keys {sorted(draws)}, but 'parameters' and 'noise' (and optionally 'design') were "
            "expected: base samples of the outcome, not outcomes, so that the design gets a gradient. "
            "kb.SimulatorDataset(...)[0][0] shows a batch."
        )
    parameters = simulator.prior.check(draws[PARAMETERS])
    draws = {**draws, PARAMETERS: parameters}
    num = len(draws[NOISE])
    if any(len(leaf) != num for leaf in keras.tree.flatten(draws)):
        lengths = sorted({len(leaf) for leaf in keras.tree.flatten(draws)})
        raise ValueError(
            f"The arrays of the training data have lengths {lengths}, but one number of draws was expected."
        )
    for key, density in density_column(simulator.prior, target).items():
        if key not in draws:
            draws[key] = density(parameters)
    if EXTRA not in draws and (extra := drawn_extra(providers, num, np.random.default_rng(seed))):
        draws[EXTRA] = extra
    return as_floats(draws)


def as_floats(structure: Any, dtype: str | None = None) -> Any:
    """Floating leaves in the float type that experiments are simulated in."""
    dtype = dtype or backend.simulation_dtype()
    return keras.tree.map_structure(
        lambda leaf: np.asarray(leaf).astype(dtype, copy=False) if np.asarray(leaf).dtype.kind == "f" else leaf,
        structure,
    )
