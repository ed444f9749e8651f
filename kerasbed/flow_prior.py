"""A normalizing flow fitted to draws, as a prior: draws, density and inverse transformation from one object.

Maximum likelihood on a training part of the draws, with the weights kept that are best on the rest, so that a flow with
more freedom than the draws determine is stopped before it fits their noise.
"""

import keras
import numpy as np
from keras import ops
from scipy import special

from kerasbed import backend, networks
from kerasbed.density_fit import DensityFit
from kerasbed.posterior_prior import FittedPrior
from kerasbed.scaling import Standardize

HELD_OUT = 0.1
BATCH = 256
STEPS = 3000  # at most
PATIENCE = 10  # rounds of ROUND steps without improvement on the draws held out
ROUND = 50
LEAST_DRAWS = 100


class FlowPrior(FittedPrior):
    """A BayesFlow flow as a prior; made by `Prior.from_samples(..., flow=True)`.

    Args:
        draws, supports: see `FittedPrior`.
        network: a BayesFlow inference network with a density and a normal base; None takes a coupling flow.
        seed: of training.

    Raises:
        ValueError: as `FittedPrior`, one coordinate, or fewer than 100 draws.
        TypeError: the network has no density or another base distribution.
    """

    def __init__(self, draws, supports, network, seed):
        super().__init__(draws, supports)
        if self.dim < 2:
            raise ValueError(
                "A coupling flow splits the coordinates in two, but there is only one; leave out flow= and a kernel "
                "density is fitted."
            )
        u = self.coordinates(draws)
        if len(u) < LEAST_DRAWS:
            raise ValueError(f"{len(u)} draws were given, but a flow needs at least {LEAST_DRAWS}.")
        self.network = networks.default_flow(self.dim, 1, seed) if network is None else networks.check_density(network)
        networks.build_network(self.network, self.dim, 1, keras.config.floatx())
        if not networks.has_standard_normal_base(self.network):
            raise TypeError("The flow's base distribution must be N(0, I); use base_distribution='normal'.")
        self.standardize = Standardize((self.dim,))
        self.standardize.adapt(u)
        self._train((u - u.mean(axis=0)) / u.std(axis=0), np.random.default_rng(seed))
        # After training: a compiled function may hold the weights it was compiled with.
        self._log_prob = backend.compile_function(self.log_density, keras.config.floatx())
        self._inverse = backend.compile_function(self._from_base, keras.config.floatx())

    def _train(self, z, rng):
        z = rng.permutation(z)
        held_out, z = np.split(z, [max(1, int(HELD_OUT * len(z)))])
        fit = DensityFit(self.network, self._log_density_of)
        fit.compile(keras.optimizers.Adam(2e-3), steps_per_execution=backend.fused_steps(ROUND))
        held_out = {"z": held_out.astype(keras.config.floatx())}
        best, kept, waited = -np.inf, fit.get_weights(), 0
        for _ in range(STEPS // ROUND):
            rows = rng.integers(len(z), size=ROUND * BATCH)
            fit.fit({"z": z[rows].astype(keras.config.floatx())}, batch_size=BATCH, shuffle=False, verbose=0)
            value = -float(fit.evaluate(held_out, batch_size=BATCH, verbose=0))
            best, kept, waited = (value, fit.get_weights(), 0) if value > best else (best, kept, waited + 1)
            if waited == PATIENCE:
                break
        fit.set_weights(kept)

    def _log_density_of(self, draws, training):
        return self.network.log_prob(draws["z"], conditions=_no_conditions(draws["z"]), training=True)

    def _from_base(self, base):
        z = self.network(base, conditions=_no_conditions(base), inverse=True)
        return self.from_unconstrained(self.standardize.inverse(z))

    def sample(self, num, seed=None):
        return self.check(self._inverse(np.random.default_rng(seed).standard_normal((num, self.dim))))

    def transform(self, uniform):
        return self.check(self._inverse(special.ndtri(uniform)))

    def log_density(self, parameters):
        u, log_det = self.to_unconstrained(parameters)
        flat = ops.reshape(self.standardize(u), (-1, self.dim))
        log_q = self.network.log_prob(flat, conditions=_no_conditions(flat))
        return ops.reshape(log_q, ops.shape(log_det)) - self.standardize.log_scale() + log_det


def _no_conditions(z):
    return ops.zeros_like(z[:, :1])
