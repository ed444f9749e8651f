"""The evidence lower bound on base samples (Jordan et al., 1999; Kingma and Welling, 2014).

For one data set y and a family q_phi with draws z = t_phi(eps),

    log p(y) = ELBO(phi) + KL(q_phi || p(z | y)),
    ELBO(phi) = E_q[log p(y | z)] - KL(q_phi || p(z)) = E_q[log p(y | z) + log p(z) - log q_phi(z)],

so that the ELBO is at most the log evidence, and equal to it where q is the posterior. With base samples eps_s and
weights w_s both forms are smooth deterministic functions of phi:

    closed form   sum_s w_s log p(y | t_phi(eps_s)) - KL(q_phi || p)               prior and q Gaussian in z
    sampled       sum_s w_s [log p(y | z_s) + log p(z_s) - log q_phi(z_s)]         otherwise

On a fixed set of eps_s the maximum over phi fits those points and is optimistic; the honest value is the sampled form
on fresh draws, whose terms are the log importance weights of the posterior (and constant where q is exact).
Several data sets, with inputs, contribute the average of their ELBOs.

The Hessian of -ELBO, for Newton's method, is the forward difference of the exact gradient: at the root of the rounding
step its error is near 1e-8, so that a Newton step near the optimum still gains eight digits. A family that takes a phi
for each row gives the gradients at phi and its P neighbours in one evaluation, which costs a small fit little more.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor, errors, numerics
from kerasbed.variational.families import Family
from kerasbed.variational.gaussian import divergence


class NegativeELBO:
    """Minus the ELBO as a function of phi, base samples and data; compiled once, for as many data sets as wanted.

    Args:
        family: a family bound to coordinates.
        log_likelihood: ({name: (..., S, d)}, data) tensors -> (..., S).
    """

    def __init__(self, family: Family, log_likelihood: Callable):
        self.family, self.coordinates, self.log_likelihood = family, family.coordinates, log_likelihood
        self.value_and_gradient = backend.value_and_gradient(self)
        self._rows = backend.value_and_gradient(self._of_rows)
        self.hessian_vector_product = backend.hessian_vector_product(self)
        self.log_weights = backend.compile_function(self._log_weights_at)
        self.draws = backend.compile_function(self._draws)
        self.coordinates_of_draws = backend.compile_light(family.draw)
        self.log_prob = backend.compile_function(self._log_prob)
        self._gaussian = backend.compile_function(self._gaussian_of)

    def _local(self, phi, data):
        """phi of each data set."""
        return self.family.local(phi, data["inputs"]) if self.family.is_conditional else phi

    def __call__(self, phi, base, weights, data):
        """Average over data sets.

        Args:
            phi: (P,).
            base, weights: (S, base_dim), (S,).
            data: dict of what the likelihood needs, and "inputs" (datasets, k) of a conditional family.
        """
        return ops.mean(self._of_rows(self._local(phi, data), base, weights, data))

    def _of_rows(self, local, base, weights, data):
        """-ELBO of each row of local phi: (..., P) -> (...,)."""
        if self.coordinates.correlation is None or not self.family.is_gaussian:
            return -ops.sum(weights * self._log_weights(local, base, data), axis=-1)
        fit = ops.sum(weights * self.likelihood(self.family.draw(local, base), data), axis=-1)
        return divergence(self.family.gaussian(local), self.coordinates) - fit

    def value_gradient_and_hessian(
        self, phi: np.ndarray, base: Tensor, weights: Tensor, data: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Minus the ELBO, its gradient (P,) and its Hessian (P, P) at phi, NumPy."""
        size = len(phi)
        if not self.family.takes_rows:
            value, gradient = self.value_and_gradient(phi, base, weights, data)
            columns = [self.hessian_vector_product(phi, unit, base, weights, data) for unit in np.eye(size)]
            return value, gradient, _symmetric(np.array(columns))
        step = numerics.forward_step()
        neighbours = phi + step * np.eye(size + 1, size, k=-1)
        values, gradients = self._rows(neighbours, base, weights, data)
        return values[0], gradients[0], _symmetric((gradients[1:] - gradients[0]) / step)

    def _log_weights_at(self, phi, base, data):
        return self._log_weights(self._local(phi, data), base, data)

    def _log_weights(self, local, base, data):
        """log p(y | z) + log p(z) - log q(z): (..., P) -> (..., S)."""
        z, log_q = self.family.transform(local, base)
        return self.likelihood(z, data) + self.coordinates.log_prior(z) - log_q

    def _draws(self, phi, base, data):
        """{name: (S, d)}, or (datasets, S, d)."""
        z = self.family.draw(self._local(phi, data), base)
        return self.coordinates.to_parameters(z)

    def _log_prob(self, phi, parameters, data):
        """Log density of the family in the user's units, (S,) or (datasets, S)."""
        z, log_det = self.coordinates.to_z(parameters)
        return self.family.log_density(self._local(phi, data), z) + log_det

    def gaussian(self, phi: np.ndarray, data: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Mean and covariance root of the family in z, NumPy, or None: see `Family.gaussian`."""
        if not self.family.is_gaussian:
            return None
        return self._gaussian(phi, data)

    def _gaussian_of(self, phi, data):
        return self.family.gaussian(self._local(phi, data))

    def likelihood(self, z: Tensor, data: Mapping[str, Any]) -> Tensor:
        """log p(y | z), with the shape of what the user's function returns checked (while tracing: shapes are static).

        Raises:
            ValueError: it is not one value for each draw.
        """
        of_rows = not self.family.is_conditional and len(z.shape) > 2  # the user's function knows one axis of draws
        flat = ops.reshape(z, (-1, z.shape[-1])) if of_rows else z
        values = self.log_likelihood(self.coordinates.to_parameters(flat), data)
        if tuple(values.shape) != tuple(flat.shape[:-1]):
            raise errors.LikelihoodError(
                f"log_likelihood returned shape {tuple(values.shape)}, but {tuple(flat.shape[:-1])} was expected: one "
                "value for each draw. Parameters arrive as {name: (..., d)}; reduce the last axis, e.g. theta[..., 0]."
            )
        return ops.reshape(values, ops.shape(z)[:-1]) if of_rows else values

    def check(self, phi: np.ndarray, base: np.ndarray, data: Mapping[str, Any]) -> np.ndarray:
        """Evaluate the likelihood and the prior once at the start; returns the log weights of the draws, (..., S).

        Raises:
            ValueError: the log-likelihood has the wrong shape, or it or the prior's density is not finite.
        """
        log_weights = self.log_weights(phi, base, data)
        bad = int(np.sum(~np.isfinite(log_weights)))
        if not bad:
            return log_weights
        of_likelihood = backend.compile_function(self.log_likelihood)(self.draws(phi, base, data), data)
        if unusable := int(np.sum(~np.isfinite(of_likelihood))):
            raise errors.LikelihoodError(
                f"log_likelihood is NaN or infinite for {unusable} of {log_weights.size} draws at the start of the "
                "fit. Check it there (overflow, log of a negative number), or start closer with initial= draws."
            )
        raise ValueError(
            f"The density of the prior or of the family is NaN or infinite for {bad} draws at the start of the fit; "
            "start from draws inside the prior's support with initial=."
        )


def _symmetric(matrix):
    return 0.5 * (matrix + matrix.T)
