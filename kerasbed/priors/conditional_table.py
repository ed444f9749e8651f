r"""Draws with discrete parameters as a prior: a table of joint values, and a density given each of them.

    p(k, theta) = f_k q_k(theta),    f_k = n_k / n,

k the joint values of the discrete coordinates that were drawn, n_k how often (`kerasbed.priors.table`), and q_k a
density fitted to the continuous parameters of those draws. Frequencies are not smoothed: a joint value that was never
drawn has probability zero. An estimated entropy -sum f log f is too low by about (K - 1) / (2 n) nats for K joint
values (Miller, 1955).
"""

from collections.abc import Callable, Collection, Mapping

import numpy as np
from keras import ops

from kerasbed.backend import Seed, Tensor, finite
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.priors.fitted import PosteriorPrior
from kerasbed.priors.table import TablePrior

LEAST_DRAWS = 30  # of a joint value, for a density of the continuous parameters given it
MOST_PARTS = 64  # joint values with a density of their own


def table_of(
    draws: dict[str, np.ndarray],
    values: Mapping[str, tuple],
    limits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    fit: Callable[[Parameters], AbstractPrior],
) -> AbstractPrior:
    """The prior of draws with discrete parameters: a `TablePrior` where all are, else a `ConditionalTablePrior`.

    Args:
        draws: {name: (num, d)}.
        values: name -> possible values of each coordinate, for the discrete parameters.
        limits: name -> (low, high), each (d,), for the others.
        fit: {name: (num, d)} of the continuous parameters -> prior.

    Raises:
        ValueError: draws of other values, or too few of a joint value for a density given it.
    """
    listed = {name: _listed(name, drawn, values[name]) for name, drawn in draws.items() if name in values}
    if len(listed) < len(draws):
        return ConditionalTablePrior(draws | listed, {name: values[name] for name in listed}, limits, fit)
    supports = {name: _ends(values[name]) for name in listed}
    return TablePrior(listed, np.ones(len(next(iter(listed.values())))), supports)


class ConditionalTablePrior(PosteriorPrior):
    """A table of joint values with densities given them; arguments and errors are those of `table_of`."""

    def __init__(
        self,
        draws: Parameters,
        values: Mapping[str, tuple],
        limits: Mapping[str, tuple[np.ndarray, np.ndarray]],
        fit: Callable[[Parameters], AbstractPrior],
    ):
        dims = {name: drawn.shape[1] for name, drawn in draws.items()}
        supports = {name: limits[name] for name in dims} | {name: _ends(found) for name, found in values.items()}
        super().__init__(dims, supports)
        self._discrete = dict(values)
        coordinates = np.concatenate([draws[name] for name in self._discrete], axis=-1)
        self.rows, index, counts = np.unique(coordinates, axis=0, return_inverse=True, return_counts=True)
        self.frequencies = counts / counts.sum()
        others = {name: drawn for name, drawn in draws.items() if name not in self._discrete}
        self._check_counts(counts, list(others))
        index = np.reshape(index, -1)
        self.parts = [fit({n: drawn[index == k] for n, drawn in others.items()}) for k in range(len(counts))]
        self.has_transform = all(part.has_transform for part in self.parts)

    def _check_counts(self, counts, others):
        if len(counts) > MOST_PARTS or counts.min() < LEAST_DRAWS:
            raise ValueError(
                f"The draws have {len(counts)} joint values of {list(self._discrete)}, the rarest drawn "
                f"{counts.min()} times, but a density of {others} given each needs at least {LEAST_DRAWS} draws of "
                f"every value and at most {MOST_PARTS} values. Pass more draws, or leave parameters out."
            )

    # -- draws ---

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return self._with_parts(rng.choice(len(self.rows), size=num_samples, p=self.frequencies), rng)

    def _with_parts(self, chosen, rng, uniform=None):
        """Parameters of chosen rows of the table, (num,): drawn given them, or from points of the unit cube."""
        found = self._named(self.rows[chosen])
        for k in np.unique(chosen):
            here = chosen == k
            part = self.parts[k]
            drawn = part.sample(int(here.sum()), rng) if uniform is None else part.transform(uniform[here])
            for name, values in drawn.items():
                found.setdefault(name, np.empty((len(chosen), self.dims[name])))[here] = values
        return self.check(found)

    def _named(self, rows):
        ends = np.cumsum([self.dims[name] for name in self._discrete])[:-1]
        return dict(zip(self._discrete, np.split(rows, ends, axis=-1), strict=True))

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        """The first coordinate chooses the joint value, those of the continuous parameters their draw."""
        chosen = np.searchsorted(np.cumsum(self.frequencies)[:-1], uniform[:, 0])
        inside = [np.full(dim, name not in self._discrete) for name, dim in self.dims.items()]
        return self._with_parts(chosen, None, uniform[:, np.concatenate(inside)])

    # -- density ---

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        parameters = self.check(parameters)
        coordinates = np.concatenate([parameters[name] for name in self._discrete], axis=-1)
        found = np.full(coordinates.shape[:-1], -np.inf)
        for k, row in enumerate(self.rows):
            here = np.all(coordinates == row, axis=-1)
            if here.any():
                given = {n: v[here] for n, v in parameters.items() if n not in self._discrete}
                found[here] = np.log(self.frequencies[k]) + self.parts[k].log_prob(given)
        return found

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """`log_prob` in `keras.ops`: a value off the support counts as the nearest one on it."""
        index = finite.cell_of_tensors(parameters, self._discrete)
        table = finite.cell(self._named(self.rows), self._discrete)
        others = {name: values for name, values in parameters.items() if name not in self._discrete}
        some = next(iter(parameters.values()))
        found = ops.full_like(some[..., 0], -np.inf)
        for k, part in enumerate(self.parts):
            value = float(np.log(self.frequencies[k])) + part.log_density(others)
            found = ops.where(ops.equal(index, int(table[k])), value, found)
        return found

    # -- parts ---

    def marginal(self, names: Collection[str]) -> AbstractPrior | None:
        if not set(names) <= set(self._discrete):
            return None
        listed = self._named(self.rows)
        supports = {name: self._supports[name] for name in names}
        return TablePrior({name: listed[name] for name in names}, self.frequencies, supports)

    def can_sample_given(self, names: Collection[str]) -> bool:
        return set(names) <= set(self._discrete)

    def sample_given(self, parameters: Parameters, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Joint values by their frequencies given those of some parameters, and the rest given the joint values."""
        given = np.concatenate([parameters[name] for name in parameters], axis=-1)
        listed = self._named(self.rows)
        fits = np.all(np.concatenate([listed[name] for name in parameters], axis=-1) == given[:, None], axis=-1)
        ends = np.cumsum(fits * self.frequencies, axis=1)
        chosen = np.sum(ends <= rng.random((len(given), 1)) * ends[:, -1:], axis=1)
        return self._with_parts(np.minimum(chosen, len(self.rows) - 1), rng)


def _ends(values):
    return np.array([found[0] for found in values]), np.array([found[-1] for found in values])


def _listed(name, draws, values):
    """Draws (num, d), each the nearest of the possible values of its coordinate.

    Raises:
        ValueError: a draw is none of them.
    """
    columns = [found[finite.nearest(column, found)] for column, found in zip(draws.T, values, strict=True)]
    nearest = np.stack(columns, axis=-1)
    if np.any(away := np.abs(draws - nearest) > 1e-6 * (1.0 + np.abs(nearest))):
        raise ValueError(
            f"{int(away.any(axis=1).sum())} of {len(draws)} draws of {name!r} are none of its possible values, such as "
            f"{draws[away][0]:g}; correct discrete= or like=."
        )
    return nearest
