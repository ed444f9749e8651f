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
"""

import numpy as np
from keras import ops

from kerasbed import backend, numerics
from kerasbed.variational.gaussian import divergence


class NegativeELBO:
    """Minus the ELBO as a function of phi and base samples.

    Args:
        family: a family bound to coordinates.
        log_likelihood: {name: (..., S, d)} tensors -> (..., S).
        inputs: (datasets, k) standardised, or None for one data set.
    """

    def __init__(self, family, log_likelihood, inputs=None):
        self.family, self.coordinates = family, family.coordinates
        self.log_likelihood, self.inputs = log_likelihood, inputs
        self.value_and_gradient = backend.value_and_gradient(self)
        self.hessian_vector_product = backend.hessian_vector_product(self)
        self.log_weights = backend.compile_function(self._log_weights)

    def local(self, phi, inputs=None):
        """phi of each data set."""
        inputs = self.inputs if inputs is None else inputs
        return phi if inputs is None else self.family.local(phi, numerics.like(inputs, phi))

    def __call__(self, phi, base, weights):
        """Average over data sets: (P,), (S, base_dim), (S,) -> scalar."""
        local = self.local(phi)
        if self.coordinates.correlation is None or (gaussian := self.family.gaussian(local)) is None:
            return -ops.mean(ops.sum(weights * self._log_weights(phi, base), axis=-1))
        z, _ = self.family.transform(local, base)
        fit = ops.sum(weights * self.log_likelihood(self.coordinates.to_parameters(z)), axis=-1)
        return ops.mean(divergence(gaussian, self.coordinates.correlation) - fit)

    def _log_weights(self, phi, base):
        """log p(y | z) + log p(z) - log q(z): (P,), (S, base_dim) -> (S,) or (datasets, S)."""
        z, log_q = self.family.transform(self.local(phi), base)
        log_likelihood = self.log_likelihood(self.coordinates.to_parameters(z))
        return log_likelihood + self.coordinates.log_prior(z) - log_q

    def check(self, phi, base) -> None:
        """Evaluate the likelihood and the prior once at the start.

        Raises:
            ValueError: the log-likelihood has the wrong shape, or it or the prior's density is not finite.
        """
        z_of = backend.compile_function(lambda phi, base: self.family.transform(self.local(phi), base)[0])
        expected = z_of(phi, base).shape[:-1]

        def evaluate(phi, base):
            z, _ = self.family.transform(self.local(phi), base)
            return self.log_likelihood(self.coordinates.to_parameters(z))

        values = backend.compile_function(evaluate)(phi, base)
        if np.shape(values) != expected:
            raise ValueError(
                f"log_likelihood returned shape {np.shape(values)}, but {expected} was expected: one value for each "
                "draw. Parameters arrive as {name: (..., d)}; sum over the last axis, e.g. theta[..., 0]."
            )
        if bad := int(np.sum(~np.isfinite(values))):
            raise ValueError(
                f"log_likelihood is NaN or infinite for {bad} of {values.size} draws at the start of the fit. Check it "
                "there (overflow, log of a negative number), or start closer with initial= draws."
            )
        if bad := int(np.sum(~np.isfinite(self.log_weights(phi, base)))):
            raise ValueError(
                f"The density of the prior or of the family is NaN or infinite for {bad} draws at the start of the fit; "
                "start from draws inside the prior's support with initial=."
            )
