"""Independent Beta laws for bounded parameters, by the inverse CDF of uniform base samples.

theta = low + (high - low) t with t ~ Beta(a, b) in each coordinate; phi = (log a, log b). The unconstrained coordinate
of a bounded parameter is logit(t), so the family works there: z = logit(F^-1(epsilon; a, b)), whose derivatives in a
and b are exact (`kerasbed.backend.special`). The inverse CDF as a reparameterization: Figurnov, Mohamed and Mnih
(2018).
"""

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, special
from kerasbed.variational.families import Family


class Beta(Family):
    """Independent Beta laws on the supports of the prior: 2 dim free parameters; base samples in (0, 1), (S, dim).

    Example:
        Three successes and a failure under a flat prior: the posterior is Beta(4, 2).

        >>> fit = kb.variational.fit(
        ...     lambda parameters: ops.sum(3 * ops.log(parameters["p"]) + ops.log(1 - parameters["p"]), axis=-1),
        ...     kb.Prior(p=stats.uniform()),
        ...     family="beta",
        ...     num_samples=1000,
        ... )
        >>> fit.mean["p"], stats.beta(4, 2).mean()
        (array([0.667]), 0.667)
    """

    base = "uniform"
    standardised = False

    @property
    def num_parameters(self) -> int:
        return 2 * self.dim

    def bind(self, num_inputs: int | None) -> None:
        super().bind(num_inputs)
        for name, (low, high) in self.coordinates.prior.supports().items():
            if not (np.all(np.isfinite(low)) and np.all(np.isfinite(high))):
                raise ValueError(
                    f"The Beta family needs bounded parameters, but the prior of {name!r} has support "
                    f"({np.min(low):g}, {np.max(high):g}). Use family='diagonal' or 'full', which suit any support, or "
                    "give it a bounded prior."
                )

    def initial(self, mean: np.ndarray, covariance: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """Beta laws with the mean and variance of the draws, or else of the prior's, on (0, 1)."""
        draws = self.coordinates.prior_draws if draws is None else draws
        share = 1.0 / (1.0 + np.exp(-draws))
        mean, variance = share.mean(axis=0), share.var(axis=0)
        concentration = np.maximum(mean * (1.0 - mean) / variance - 1.0, 0.1)
        return np.concatenate([np.log(mean * concentration), np.log((1.0 - mean) * concentration)])

    def _shapes(self, phi):
        return ops.exp(phi[..., None, : self.dim]), ops.exp(phi[..., None, self.dim :])

    def transform(self, phi: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self._shapes(phi)
        shape = (*ops.shape(a)[:-2], *ops.shape(base))  # TensorFlow knows no number of draws once it has seen two
        base, *full = (ops.broadcast_to(values, shape) for values in (base, a, b))
        z = special.beta_logit_quantile(base, *full)
        return z, ops.sum(special.beta_logit_log_density(z, a, b), axis=-1)

    def log_density(self, phi: Tensor, z: Tensor) -> Tensor:
        return ops.sum(special.beta_logit_log_density(z, *self._shapes(phi)), axis=-1)

    def summary(self, phi: np.ndarray) -> dict[str, np.ndarray]:
        values = np.exp(phi)
        labels = [f"{letter}[{name}]" for letter in "ab" for name in self.coordinates.labels()]
        return dict(zip(labels, values, strict=True))
