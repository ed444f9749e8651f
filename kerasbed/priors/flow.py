"""A normalizing flow fitted to draws, as a prior: draws, density and inverse transformation from one object.

Maximum likelihood on a training part of the draws, with the weights kept that are best on the rest, so that a flow with
more freedom than the draws determine is stopped before it fits their noise. The same held-out draws judge the flow
beside a mixture of normal laws fitted to the training part (`kerasbed.priors.fitted_density`).

The flow is fitted to coordinates with bent tails (`kerasbed.priors.tail_maps`), standardised, so that a few far draws
neither set the scale nor lie where no step of a spline reaches. With q(z) = N(f(z); 0, I) |det df/dz|, draws are f's
inverse of normal base samples.
"""

from collections.abc import Mapping

import bayesflow as bf
import keras
import numpy as np
from keras import ops
from scipy import special

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, errors
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.networks import flows
from kerasbed.networks.density_fit import DensityFit
from kerasbed.networks.scaling import Standardize
from kerasbed.priors import fitted_density
from kerasbed.priors.base import Parameters
from kerasbed.priors.fitted import FittedPrior
from kerasbed.priors.tail_maps import choose_maps

HELD_OUT = 0.1
BATCH = 256
STEPS = 3000  # at most
PATIENCE = 10  # rounds of ROUND steps without improvement on the draws held out
ROUND = 50
WORSE = 0.02  # nats of held-out log density below a mixture's, beyond chance, above which is warned
LEAST_DRAWS = 100


class FlowPrior(FittedPrior):
    """A BayesFlow flow as a prior; made by `Prior.from_samples(..., flow=True)`.

    Args:
        draws, limits: see `FittedPrior`.
        network: a BayesFlow inference network with a density and a normal base; None takes a coupling flow.
        seed: of training.

    Raises:
        ValueError: as `FittedPrior`, one coordinate, or fewer than 100 draws.
        TypeError: the network has no density or another base distribution.

    Warns:
        PoorFitWarning: as `Prior.from_samples`, or the held-out draws have a higher density under a mixture.
    """

    def __init__(
        self,
        draws: Parameters,
        limits: Mapping[str, tuple[np.ndarray, np.ndarray]],
        network: bf.networks.InferenceNetwork | None,
        seed: int,
    ):
        super().__init__(draws, limits)
        if self.dim < 2:
            raise ValueError(
                "A coupling flow splits the coordinates in two, but there is only one; leave out flow= and a mixture "
                "of normal laws or kernels are fitted."
            )
        if len(self._distinct) < LEAST_DRAWS:
            raise ValueError(
                f"{len(self._distinct)} distinct draws were given, but a flow needs at least {LEAST_DRAWS}."
            )
        self.network = flows.default_flow(self.dim, 1, seed) if network is None else flows.check_density(network)
        flows.build_network(self.network, self.dim, 1, keras.config.floatx())
        if not flows.has_standard_normal_base(self.network):
            raise TypeError("The flow's base distribution must be N(0, I); use base_distribution='normal'.")
        rng = np.random.default_rng(seed)
        self.maps = choose_maps(self._distinct, self._edges, rng)
        v = self.maps.forward(self._distinct)[0]
        self.standardize = Standardize((self.dim,))
        self.standardize.adapt(v)
        order = rng.permutation(len(v))
        held, rest = np.split(order, [max(1, int(HELD_OUT * len(v)))])
        z = (v - v.mean(axis=0)) / v.std(axis=0)
        self._train(z[held], z[rest], self._counts[rest] / self._counts[rest].sum(), rng)
        # After training: a compiled function may hold the weights it was compiled with.
        self._log_prob = backend.compile_function(self.log_density, keras.config.floatx())
        self._inverse = backend.compile_function(self._from_base, keras.config.floatx())
        self._end_of_fit(draws, warned=self._judge(held, rest, rng))

    def _train(self, held_out, z, probability, rng):
        fit = DensityFit(self.network, self._log_density_of)
        fit.compile(keras.optimizers.Adam(2e-3), steps_per_execution=backend.fused_steps(ROUND))
        held_out = {"z": held_out.astype(keras.config.floatx())}
        best, kept, waited = -np.inf, fit.get_weights(), 0
        for _ in range(STEPS // ROUND):
            rows = rng.choice(len(z), size=ROUND * BATCH, p=probability)
            fit.fit({"z": z[rows].astype(keras.config.floatx())}, batch_size=BATCH, shuffle=False, verbose=0)
            value = -float(fit.evaluate(held_out, batch_size=BATCH, verbose=0))
            best, kept, waited = (value, fit.get_weights(), 0) if value > best else (best, kept, waited + 1)
            if waited == PATIENCE:
                break
        fit.set_weights(kept)

    def _judge(self, held, rest, rng) -> bool:
        """Whether held-out draws have a higher density under a mixture fitted to the same draws; warns where so."""
        weights, rest = self._counts[held], rest[: fitted_density.MOST_DRAWS]
        log_prob = backend.compile_function(self._log_density_of_coordinates, keras.config.floatx())
        of_flow = log_prob(self._distinct[held])
        own = log_prob(self.coordinates(self.sample(fitted_density.OWN_DRAWS, rng)))
        self.held_out = fitted_density.compare(of_flow, weights, own)
        mixture = fitted_density.fit_mixture_on(self.maps, self._distinct[rest], self._counts[rest], rng)
        gain = fitted_density.compare(mixture.log_prob(self._distinct[held]) - of_flow, weights, own)
        if worse := gain.log_density > WORSE + 2.0 * gain.standard_error:
            errors.warn(
                f"Held-out draws have log density {self.held_out.log_density:.3f} under the flow and "
                f"{gain.log_density:.3f} +- {gain.standard_error:.3f} more under a mixture of normal laws; leave out "
                "flow=, or pass a larger network.",
                errors.PoorFitWarning,
            )
        return worse

    def _log_density_of(self, draws, training):
        return self.network.log_prob(draws["z"], conditions=_no_conditions(draws["z"]), training=True)

    def _from_base(self, base):
        z = self.network(base, conditions=_no_conditions(base), inverse=True)
        return self.from_unconstrained(self.maps.inverse_of_tensor(self.standardize.inverse(z)))

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        return self.check(self._inverse(np.random.default_rng(seed).standard_normal((num_samples, self.dim))))

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        return self.check(self._inverse(special.ndtri(uniform)))

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        u, log_det = self.to_unconstrained(parameters)
        return self._log_density_of_coordinates(u) + log_det

    def _log_density_of_coordinates(self, u):
        v, log_det = self.maps.forward_of_tensor(u)
        flat = ops.reshape(self.standardize(v), (-1, self.dim))
        log_q = self.network.log_prob(flat, conditions=_no_conditions(flat)) + self.standardize.log_det(flat)
        return ops.reshape(log_q, ops.shape(log_det)) + log_det


def _no_conditions(z):
    return ops.zeros_like(z[:, :1])
