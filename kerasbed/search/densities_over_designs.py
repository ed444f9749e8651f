"""Densities learned from stored simulations at designs drawn over the space: all that a black box needs to give.

    posterior    q(theta | y, xi)    maximise E log q(theta | y, xi)
    likelihood   q(y | theta, xi)    maximise E log q(y | theta, xi)

over (theta, xi, y) with theta from the prior, xi over the space and y from the simulator. Both objectives are highest
where q is the true conditional density (Gibbs' inequality), so both networks hold for every design at once.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor, number_range, numerics, streams
from kerasbed.designs import Design
from kerasbed.networks import flows
from kerasbed.networks.density_fit import DensityFit
from kerasbed.networks.posterior import Posterior
from kerasbed.networks.scaling import Standardize
from kerasbed.simulators.simulator import Simulator


class Stored(NamedTuple):
    """Simulations at designs of their own: {name: (num, d)}, (num, *outcome_shape), (num, *shape)."""

    parameters: dict
    outcome: np.ndarray
    design: Any  # or a dict of those

    def __len__(self):
        return len(self.outcome)

    def and_more(self, other: "Stored") -> "Stored":
        """These and other simulations together."""
        return Stored(*keras.tree.map_structure(lambda a, b: np.concatenate([a, b]), tuple(self), tuple(other)))

    def finite(self) -> "Stored":
        """The simulations whose outcomes are finite.

        Raises:
            ValueError: fewer than half are.
        """
        keep = np.all(np.isfinite(self.outcome.reshape(len(self), -1)), axis=1)
        if keep.mean() < 0.5:
            raise ValueError(
                f"Only {keep.sum()} of {len(self)} simulated outcomes are finite. "
                "Check the simulator, or narrow the prior and the design space to where it runs."
            )
        if keep.all():
            return self
        return Stored(*keras.tree.map_structure(lambda leaf: leaf[keep], tuple(self)))


def simulate_over_space(simulator: Simulator, design: Design, num: int, seed: int, ordered: bool = False) -> Stored:
    """`num` simulations, each at a design drawn over the space; `ordered`: of exchangeable entries, sorted."""
    # Streams of their own: equal seeds would tie the designs to the parameters, and the network would learn that.
    of_designs, of_repeats, of_draws = streams.integers(seed, 3)
    designs = design.sample(num, seed=of_designs)
    designs = np.sort(_with_repeats(designs, of_repeats), axis=-1) if ordered else designs
    return simulate_at(simulator, designs, of_draws)


def simulate_at(simulator: Simulator, designs: np.ndarray | dict, seed: int) -> Stored:
    """A simulation at each of the designs, (num, *shape) or a dict of those."""
    drawn = simulator.simulated(len(keras.tree.flatten(designs)[0]), designs, seed=seed, per_draw=True)
    return Stored(drawn["parameters"], drawn["outcome"], designs).finite()


def _with_repeats(designs, seed):
    """Designs (num, d) of exchangeable entries, every second one with its entries drawn from few of its values.

    Good designs repeat measurements, which independent draws hardly ever do: a network would not know them.
    """
    num, dim = designs.shape
    rng = np.random.default_rng(seed)
    levels = rng.integers(1, dim + 1, (num, 1))
    chosen = np.minimum((levels * rng.uniform(size=designs.shape)).astype(int), levels - 1)
    repeated = np.take_along_axis(designs, chosen, axis=1)
    return np.where(np.arange(num)[:, None] % 2 == 0, designs, repeated)


class LearnedLikelihood(keras.layers.Layer):
    """q(y | theta, xi): a coupling flow on the standardised outcome, y = mean + scale * flow^-1(z; theta, xi).

    Where each entry of the outcome is a measurement of its own, made alike at its own entry of the design, the density
    is a product, q(y | theta, xi) = prod_k q(y_k | theta, xi_k), of one flow that learns from all entries. Otherwise
    one flow has the whole outcome. Either way a flow sees rows, `entries` of them for each simulation.

    A row of one number is modelled beside an auxiliary a ~ N(0, 1) where the network needs two coordinates: the density
    of the pair is that of the number times N(a).

    Args:
        simulator: whose prior and outcomes it is for. design: the space. outcome_shape: of one outcome.
        separate: whether the entries are such measurements, see `kerasbed.simulators.symmetry.entries_are_separate`.
        network: BayesFlow inference network; None: a coupling flow sized to a row.
        seed: of the initial weights.
    """

    def __init__(
        self,
        simulator: Simulator,
        design: Design,
        outcome_shape: tuple[int, ...],
        separate: bool = False,
        network: keras.Layer | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.prior, self.space, self.outcome_shape = simulator.prior, design.space, tuple(outcome_shape)
        self.entries = int(np.prod(self.outcome_shape)) if separate else 1
        self.size = int(np.prod(self.outcome_shape)) // self.entries
        self.standardize_outcome = Standardize((self.size,), name="standardize_outcome")
        self.standardize_parameters = Standardize((self.prior.dim,), name="standardize_parameters")
        width = self.prior.dim + design.encoding_width() // self.entries
        network = flows.default_flow(max(2, self.size), width, seed) if network is None else network
        self.network = flows.check_density(network)
        self.dim = self.size + flows.auxiliary_dim(network, self.size)
        flows.build_network(network, self.dim, width, self.compute_dtype)
        self.built = True

    @property
    def wide(self) -> bool:
        """Whether simulations are taken and given in float64; see `kerasbed.backend.number_range`."""
        return self.standardize_outcome.wide

    def adapt(self, parameters: Mapping[str, np.ndarray], outcome: np.ndarray) -> None:
        """Fix the standardisation by stored simulations."""
        self.standardize_parameters.adapt(self.prior.coordinates(parameters))
        self.standardize_outcome.adapt(outcome.reshape(-1, self.size))

    def conditions(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """What each row is given, (batch * entries, width)."""
        u, _ = self.prior.to_unconstrained(parameters)
        features = ops.cast(self.space.encode(design), self.compute_dtype)
        features = ops.broadcast_to(features, (ops.shape(u)[0], features.shape[-1]))
        features = ops.reshape(features, (-1, features.shape[-1] // self.entries))
        return ops.concatenate([ops.repeat(self.standardize_parameters(u), self.entries, axis=0), features], axis=-1)

    def sample(self, noise: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Outcomes (batch, *outcome_shape), differentiable in the design, from base samples (batch, entries * dim)."""
        rows = ops.cast(ops.reshape(noise, (-1, self.dim)), self.compute_dtype)
        conditions = self.conditions(parameters, design)
        with backend.constants_in(self.compute_dtype):
            z = self.network(rows, conditions=conditions, inverse=True)
        return ops.reshape(self.standardize_outcome.inverse(z[:, : self.size]), (-1, *self.outcome_shape))

    def log_prob(
        self,
        outcome: Tensor,
        auxiliary: Tensor,
        parameters: Mapping[str, Tensor],
        design: Tensor,
        training: bool = False,
    ) -> Tensor:
        """log q of outcomes (batch, *outcome_shape) beside the auxiliary (batch, entries * (dim - size)): (batch,)."""
        z = self.standardize_outcome(ops.reshape(outcome, (-1, self.size)))
        auxiliary = ops.cast(ops.reshape(auxiliary, (ops.shape(z)[0], self.dim - self.size)), z.dtype)
        joint = self.network.log_prob(
            ops.concatenate([z, auxiliary], axis=-1),
            conditions=self.conditions(parameters, design),
            training=training,
        )
        rows = backend.as_simulated(joint - numerics.standard_normal_log_density(auxiliary))
        rows = rows + self.standardize_outcome.log_det(z)
        return ops.sum(ops.reshape(rows, (-1, self.entries)), axis=-1)


class LearnedSimulator(Simulator):
    """A simulator whose outcomes are samples of a learned likelihood: a black box that has become differentiable."""

    def __init__(self, likelihood: LearnedLikelihood):
        self.likelihood, self.prior = likelihood, likelihood.prior
        self.noise_shape = (likelihood.entries * likelihood.dim,)

    def outcome(self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor) -> Tensor:
        return self.likelihood.sample(noise, parameters, design)


def posterior_over(simulator: Simulator, design: Design, stored: Stored) -> Posterior:
    """An untrained posterior network, amortised over designs, its inputs standardised by stored simulations."""
    posterior = Posterior(name="posterior")
    with backend.wide_simulation(_need_float64(simulator, design, stored)), backend.no_gradients():
        posterior.setup(simulator, design.space, stored.outcome.shape[1:])
        posterior.adapt(stored.parameters, stored.outcome)
    return posterior


def _need_float64(simulator, design, stored: Stored) -> bool:
    """Whether float32 is too coarse for stored simulations, beside a small part of their spread.

    What they spread by at fixed parameters, the noise, is not known of simulations that were each made once.
    """
    parameters = number_range.parameters_need_float64(simulator.prior, stored.parameters)
    return design.find_range() or parameters or number_range.values_need_float64(stored.outcome)


def train_posterior(posterior: Posterior, stored: Stored, steps: int, batch_size: int, seed: int) -> None:
    """Train, or go on training, on stored simulations."""

    def log_prob(x, training):
        conditions = posterior.conditions(x["outcome"], x["design"], training=training)
        return posterior.log_prob(x["parameters"], conditions, x.get("auxiliary"), training=training)

    arrays = stored._asdict() | posterior.extra_draws(len(stored), np.random.default_rng(seed))
    with backend.wide_simulation(posterior.wide):
        DensityFit(posterior, log_prob).train_on(arrays, steps, batch_size, seed)


def fit_likelihood(
    simulator: Simulator, design: Design, stored: Stored, separate: bool, steps: int, batch_size: int, seed: int
) -> LearnedLikelihood:
    """The likelihood network, amortised over designs, trained on stored simulations."""
    shape = stored.outcome.shape[1:]
    with backend.wide_simulation(_need_float64(simulator, design, stored)), backend.no_gradients():
        likelihood = LearnedLikelihood(simulator, design, shape, separate, seed=seed, name="likelihood")
        likelihood.adapt(stored.parameters, stored.outcome)

    def log_prob(x, training):
        return likelihood.log_prob(x["outcome"], x["auxiliary"], x["parameters"], x["design"], training=training)

    width = likelihood.entries * (likelihood.dim - likelihood.size)
    auxiliary = np.random.default_rng(seed).standard_normal((len(stored), width))
    simulations = -(-batch_size // likelihood.entries)  # `batch_size` rows
    arrays = stored._asdict() | {"auxiliary": auxiliary}
    with backend.wide_simulation(likelihood.wide):
        DensityFit(likelihood, log_prob).train_on(arrays, steps, simulations, seed)
    return likelihood
