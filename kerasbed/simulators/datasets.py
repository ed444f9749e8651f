"""Simulated training data: every batch a pure function of (seed, stream, epoch, index).

A batch holds base samples and what is derived from them without the design, as NumPy arrays; `kerasbed.backend.batch`
says under which keys.

Purity is what makes a resumed run equal an undisturbed one, whatever Keras does to the order of calls and however many
workers draw. Batches are drawn in blocks, because one large call to SciPy costs hardly more than a small one.
"""

import copy
import threading
from typing import Any

import keras
import numpy as np

from kerasbed import backend
from kerasbed.backend import streams
from kerasbed.backend.batch import DESIGN, EXTRA, NOISE, PARAMETERS, drawn_extra
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import checked, optional, positive_integer, repeatable_seed
from kerasbed.base_samples import sobol
from kerasbed.designs import Design
from kerasbed.simulators.arrays import as_floats, density_column
from kerasbed.simulators.simulator import Simulator

BLOCK_DRAWS = 2**13  # draws of one block: a power of two, so that Sobol batches stay balanced
BLOCK_NUMBERS = 2**23  # at most this many numbers in a block
SOBOL_DRAWS, SOBOL_NUMBERS = 2**15, 2**19  # more where they are few: scrambling a block costs as much as its points
MAX_SOBOL_DIM = 256  # beyond it the scrambling costs more than the balance of the points gains
RULES = ("monte_carlo", "sobol")
TRAINING, VALIDATION, ESTIMATION = 0, 1, 2


class SimulatorDataset(keras.utils.PyDataset):
    """Online simulations for `fit`, also as `validation_data`.

    Args:
        simulator: `kerasbed.Simulator`.
        design: the design space; only its shape and, with designs="space", its `sample` are used.
        batch_size: draws in a batch.
        num_batches: batches in an epoch; `fit(steps_per_epoch=...)` overrides it.
        seed: integer or sequence of integers; None draws one and keeps it.
        base_samples: "monte_carlo" or "sobol" (scrambled; unbiased, with less noise in the gradient); None takes Sobol
            where the prior and the noise have inverse CDFs and the objective does not compare the draws of a batch.
        designs: "learned" trains at the design being learned, "space" at designs drawn uniformly over the space, so
            that the posterior holds for any of them.
        workers, max_queue_size: threads that draw ahead, and how far; see `keras.utils.PyDataset`.

    Raises:
        ValueError: sizes that are not positive, or an unknown rule.

    Example:
        >>> space = kb.designs.Box((3,), -1.0, 1.0)
        >>> data = kb.SimulatorDataset(kb.problems.Quadratic(), space, batch_size=64, num_batches=10, seed=0)
        >>> draws = data[0][0]  # the first batch; an epoch later it is another one
        >>> len(data), draws["parameters"]["coefficients"].shape, draws["noise"].shape  # for `model.fit(data)`
        (10, (64, 3), (64, 3))
    """

    @checked(
        batch_size=positive_integer,
        num_batches=positive_integer,
        seed=repeatable_seed,
        workers=positive_integer,
        max_queue_size=positive_integer,
    )
    def __init__(
        self,
        simulator: Simulator,
        design: Design,
        batch_size: int = 128,
        num_batches: int = 100,
        *,
        seed: streams.Entropy | None = None,
        base_samples: str | None = None,
        designs: str = "learned",
        workers: int = 1,
        max_queue_size: int = 10,
    ):
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=max_queue_size)
        if base_samples not in (None, *RULES):
            raise ValueError(f"base_samples is {base_samples!r}, but one of {RULES} or None was expected.")
        if designs not in ("learned", "space"):
            raise ValueError(f"designs is {designs!r}, but 'learned' or 'space' was expected.")
        self.prior, self.noise = simulator.prior, simulator.resolve_noise(design.shape)
        self.draw_designs = design.sample if designs == "space" else None
        self.batch_size = batch_size
        self.num_steps = num_batches
        self.seed = draw_seed() if seed is None else seed
        dim = self.prior.dim + self.noise.size
        self.requested_samples = base_samples
        self.base_samples = base_samples or ("sobol" if self._allows_sobol(dim) else "monte_carlo")
        self.stream, self.dtype = TRAINING, backend.simulation_dtype()
        self.providers = ()
        self.column = density_column(self.prior, None)
        self._block, self._block_key, self._lock = [], None, threading.Lock()
        draws = min(BLOCK_DRAWS, max(1, BLOCK_NUMBERS // dim))
        of_sobol = max(draws, min(SOBOL_DRAWS, 2 ** int(np.log2(max(1, SOBOL_NUMBERS // dim)))))
        self.draws_of_block = {"monte_carlo": draws, "sobol": of_sobol}
        if base_samples == "sobol":
            self.prior.transform(np.full((1, self.prior.dim), 0.5))  # a sampler has no inverse CDF: says so now

    def _allows_sobol(self, dim: int) -> bool:
        return dim <= MAX_SOBOL_DIM and self.prior.has_transform and self.noise.is_continuous

    @property
    def block_batches(self) -> int:
        """Batches that are drawn at once."""
        return max(1, self.draws_of_block[self.base_samples] // self.batch_size)

    # -- what Keras calls ---

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, index: int):
        return (self.batch(index),)

    # -- what kerasbed calls ---

    def batch(self, index: int, epoch: int = 0) -> dict:
        """One batch of an epoch; see `kerasbed.backend.batch`."""
        block, row = divmod(int(index), self.block_batches)
        found = dict(self._block_of(epoch, block, self._batches_in(block, int(index)))[row])
        if self.providers:
            extra = drawn_extra(self.providers, self.batch_size, streams.of(self._key(epoch, index), "extra"))
            if extra:
                found[EXTRA] = as_floats(extra, self.dtype)
        return found

    def bind(self, model: Any) -> "SimulatorDataset":
        """A copy with the extra draws that the model's objective and design ask for; this one stays as it is.

        Raises:
            ValueError: Sobol points were asked for, and the model needs independent draws.
        """
        twin = copy.copy(self)
        providers = (model.objective, model.design)
        asked = drawn_extra(providers, 1, np.random.default_rng(0))
        twin.providers = providers if asked else ()  # a generator for each batch is a fortieth of a small step
        if model.needs_independent_draws and self.base_samples == "sobol":
            if self.requested_samples == "sobol":
                raise ValueError(
                    f"base_samples is 'sobol', but {type(model.objective).__name__} with gradient={model.gradient!r} "
                    "compares the draws of a batch, which Sobol points place apart from each other: it would be no "
                    "bound. Use base_samples='monte_carlo' or None."
                )
            twin.base_samples = "monte_carlo"
        twin.column = density_column(self.prior, model.target)
        with backend.wide_simulation(model.wide):  # kept here: threads that draw ahead do not know the context
            twin.dtype = backend.simulation_dtype()
        return twin

    @checked(steps=optional(positive_integer))
    def with_steps(self, steps: int | None) -> "SimulatorDataset":
        """This data set, or for another number of batches an epoch a copy, so that the caller's stays as it is."""
        if steps in (None, self.num_steps):
            return self
        twin = copy.copy(self)
        twin.num_steps = int(steps)
        return twin

    def in_stream(self, stream: int) -> "SimulatorDataset":
        """A copy of another random stream; the caller's data set stays as it is."""
        twin = copy.copy(self)
        twin.stream = stream
        return twin

    def __getstate__(self):
        """What the batches follow from; a copy draws its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_block", "_block_key", "_lock")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._block, self._block_key, self._lock = [], None, threading.Lock()

    def _key(self, epoch, index):
        return [*np.atleast_1d(self.seed).tolist(), self.stream, epoch, index]

    def _batches_in(self, block, index):
        """How many batches of a block to draw: of Sobol points, whose first ones are the same, what the epoch needs."""
        left = self.num_steps - block * self.block_batches
        is_cut = self.base_samples == "sobol" and self.draw_designs is None and index < self.num_steps
        return min(left, self.block_batches) if is_cut else self.block_batches

    def _block_of(self, epoch, index, batches):
        with self._lock:
            key = (self.stream, epoch, index, batches)
            if self._block_key != key:
                self._block, self._block_key = self._draw_block(epoch, index, batches), key
            return self._block

    def _draw_block(self, epoch, index, batches):
        num = batches * self.batch_size
        rng = streams.of(self._key(epoch, index), "block")
        if self.base_samples == "sobol":
            points = sobol(num, self.prior.dim + self.noise.size, rng)
            parameters = self.prior.transform(points[:, : self.prior.dim])
            noise = self.noise.transform(points[:, self.prior.dim :])
        else:
            parameters = self.prior.sample(num, rng)
            noise = self.noise.draw(num, rng)
        block = {PARAMETERS: parameters, NOISE: noise}
        block |= {key: density(parameters) for key, density in self.column.items()}
        if self.draw_designs is not None:
            block[DESIGN] = self.draw_designs(num, rng)
        return _rows(as_floats(block, self.dtype), batches, self.batch_size)


def _rows(values, batches, batch_size) -> list:
    """A block, taken apart into its batches at once: one after the other takes a hundredth of a small step."""
    if isinstance(values, dict):
        parts = [_rows(value, batches, batch_size) for value in values.values()]
        return [dict(zip(values, row, strict=True)) for row in zip(*parts, strict=True)]
    return [values[i * batch_size : (i + 1) * batch_size] for i in range(batches)]


class Epochs(keras.utils.PyDataset):
    """A data set as one `fit` goes through it: Keras asks for batches by their index alone.

    Args:
        dataset: `SimulatorDataset`; it stays as it is.
    """

    def __init__(self, dataset: SimulatorDataset):
        super().__init__(workers=dataset.workers, use_multiprocessing=False, max_queue_size=dataset.max_queue_size)
        self.dataset, self._epoch = dataset, 0

    def go_to(self, epoch: int) -> None:
        """Take the batches of that epoch from now on."""
        self._epoch = int(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        return (self.dataset.batch(index, self._epoch),)
