r"""The Barber-Agakov bound: learn the posterior, and the design that makes it most informative.

Derivation. With I(theta; y | xi) = E log p(theta | y, xi) - E log p(theta) and any density q(theta | y, xi),

    I(theta; y | xi) - E[log q(theta | y, xi) - log p(theta)] = E_y KL(p(theta | y, xi) || q(theta | y, xi)) >= 0,

so that L(xi, q) = E[log q(theta | y, xi) - log p(theta)] is a lower bound, tight when q is the posterior. Joint ascent
on xi and q needs the gradient of the expectation in xi: outcomes are y = y(theta, xi, epsilon), functions of base
samples, so that it is the expectation of a gradient. The path of xi through q's *conditioning* argument has expectation
zero at the optimal q (it is a score) and is cut for a static design; see `kerasbed.designs.conditions`.

For discrete parameters densities are probabilities, and the bound is that of a classifier; see
`kerasbed.networks.classifier`.

*Histories.* With a policy, y and xi are the T outcomes and designs of a rollout, h_T, and the bound is that of all of
it. The same network is to give the posterior after any number of measurements, so that it is trained beside on
histories that end early: to the bound's loss comes -E log q(theta | h_t), t uniform on 1..T-1, for every second rollout
of a batch. These rows are held fixed: they teach the network, and what they are worth is part neither of the bound nor
of the policy's gradient. The loss is the sum of two proper scores, each at its smallest at the posterior.

The prior does not depend on xi or q, so ascent on L is descent on -E log q, the loss; the metric is L itself.

References: Barber and Agakov (2003), eq. 3; Foster et al. (2019), eq. 12; Foster et al. (2020) for the joint ascent.
"""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import Tensor, batch, numerics
from kerasbed.networks.posterior import Posterior
from kerasbed.objectives import horizons
from kerasbed.objectives.base import Objective

LENGTHS = "lengths"  # the extra draw that says after how many measurements a history ends


@keras.saving.register_keras_serializable("kerasbed")
class BarberAgakov(Objective):
    """Lower bound on the EIG from an amortised posterior.

    Args:
        network: a BayesFlow inference network with a tractable density, e.g. `bf.networks.CouplingFlow()`;
            default `kerasbed.networks.AutoregressiveMixture` for one continuous parameter, and a coupling flow sized to
            the problem, `kerasbed.networks.default_flow`, for more; with a policy
            `kerasbed.networks.GaussianMixture`.
        summary_network: optional BayesFlow summary network for outcomes of shape (set, features) or (time, features);
            with a policy, of histories (measurements, outcome and design features and a 1), zeros where a measurement
            was not made; by default `kerasbed.networks.HistoryNetwork`, or `RecurrentHistory` where the experiment has
            a state.
        classifier: Keras layer, (batch, width) to (batch, features), below the probabilities of discrete parameters;
            default a network with two hidden layers.

    Raises:
        TypeError: the network has no density that can be differentiated.

    Example:
        >>> import bayesflow as bf
        >>> flow = bf.networks.CouplingFlow(depth=2, subnet_kwargs={"dropout": 0.0})  # instead of the default one
        >>> objective = kb.objectives.BarberAgakov(flow)
        >>> model = kb.DesignModel(kb.problems.LinearGaussian(), kb.designs.Simplex(2), objective, seed=0)
        >>> history = model.fit(epochs=1, steps_per_epoch=2, verbose=0)
        >>> history.history["eig"][0] < 0.5 * np.log(8.25)  # a lower bound, far off before the flow has learned
        True
    """

    takes_horizons = True

    def __init__(
        self,
        network: keras.Layer | None = None,
        summary_network: keras.Layer | None = None,
        classifier: keras.Layer | None = None,
        posterior: Posterior | None = None,
        **kwargs: Any,
    ):
        super().__init__(posterior or Posterior(network, summary_network, classifier, name="posterior"), **kwargs)

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Tensor:
        parameters, auxiliary = self.posterior.select(draws["parameters"]), batch.extra(draws, "auxiliary")
        if training and batch.extra(draws, LENGTHS) is not None:
            return self._log_q_of_all_lengths(draws, parameters, auxiliary, outcome, design) - self._log_prior(draws)
        conditions = self.posterior.conditions(outcome, design, training, horizons.lengths(draws))
        log_q = self.posterior.log_prob(parameters, conditions, auxiliary, training=training)
        return log_q - self._log_prior(draws)

    def _log_q_of_all_lengths(self, draws, parameters, auxiliary, outcome, design):
        """log q of whole histories, (rows,), with the gradient of log q of shorter ones beside it."""
        rows, lengths = ops.shape(outcome)[0], batch.extra(draws, LENGTHS)
        some = rows // 2

        def with_some(leaf):
            return ops.concatenate([leaf, ops.stop_gradient(leaf[:some])], axis=0)

        whole = horizons.lengths(draws)
        whole = ops.full_like(lengths, float(self.posterior.layout.length)) if whole is None else whole
        lengths = ops.concatenate([whole, ops.minimum(lengths, whole)[:some]], axis=0)
        design = tree.map_structure(lambda leaf: ops.broadcast_to(leaf, (rows, *leaf.shape[1:])), design)
        data = with_some(outcome), tree.map_structure(with_some, design)
        conditions = self.posterior.conditions(*data, training=True, lengths=lengths)
        parameters = {name: with_some(values) for name, values in parameters.items()}
        auxiliary = None if auxiliary is None else with_some(auxiliary)
        log_q = self.posterior.log_prob(parameters, conditions, auxiliary, training=True)
        of_short = log_q[rows:] - ops.stop_gradient(log_q[rows:])  # zeros
        return log_q[:rows] + ops.concatenate([of_short, ops.zeros_like(log_q[some:rows])], axis=0)

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        drawn, layout = super().extra_draws(num, rng), self.posterior.layout
        if layout is None or layout.length == 1:
            return drawn
        return drawn | {LENGTHS: rng.integers(1, layout.length, num).astype("float64")}

    def loss(self, contributions: Tensor, draws: Mapping[str, Any]) -> Tensor:
        """Minus the mean log density of the parameters."""
        return -numerics.mean_of_finite(contributions + self._log_prior(draws))

    def _log_prior(self, draws):
        """log p of what is learned; 0 where it has no density, minus its entropy where the data lacks the column."""
        prior, key = self.posterior.prior, batch.LOG_PRIOR if self.posterior.target is None else batch.LOG_TARGET
        if key in draws:
            return backend.as_simulated(draws[key])
        return -float(prior.entropy()) if prior.has_density else 0.0

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"posterior": keras.saving.serialize_keras_object(self.posterior)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config["posterior"] = keras.saving.deserialize_keras_object(config["posterior"])
        return cls(**config)
