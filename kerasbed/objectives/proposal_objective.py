"""What the bounds with a learned proposal share: the network, its base samples, and how it is saved."""

from typing import Any, Self

import keras
import numpy as np

from kerasbed.backend.validation import checked, positive_integer
from kerasbed.designs import Design
from kerasbed.networks.posterior import ROWS_PER_CALL, Posterior
from kerasbed.objectives import proposals
from kerasbed.objectives.likelihood_objective import LikelihoodObjective


class ProposalObjective(LikelihoodObjective):
    """Base of likelihood objectives whose contrastive draws come from a posterior network.

    Args:
        network: a BayesFlow inference network with a tractable density and a normal base, e.g.
            `bf.networks.CouplingFlow()`; default a coupling flow sized to the problem.
        summary_network: optional BayesFlow summary network for outcomes of shape (set, features) or (time, features).
        num_contrastive: L draws of the posterior for each outcome.
        num_nuisance: K draws of nuisance parameters for each outcome, where the model has a target; the posterior is
            that of all parameters then, too.

    Raises:
        TypeError: the network has no density that can be differentiated.
        ValueError: num_contrastive is no positive integer; the simulator has no log_likelihood; the prior no density.
        NotImplementedError: the prior's density is unknown to `keras.ops`; see `kerasbed.priors.densities.register`.
    """

    @checked(num_contrastive=positive_integer, num_nuisance=positive_integer)
    def __init__(
        self,
        network: keras.Layer | None = None,
        summary_network: keras.Layer | None = None,
        num_contrastive: int = 16,
        num_nuisance: int = 128,
        posterior: Posterior | None = None,
        **kwargs: Any,
    ):
        posterior = posterior or Posterior(network, summary_network, name="posterior")
        super().__init__(num_nuisance, posterior, **kwargs)
        self.num_contrastive = num_contrastive

    def setup(self, simulator: Any, design: Design, outcome_shape: tuple[int, ...]) -> None:
        super().setup(simulator, design, outcome_shape)
        proposals.check_proposal(self.posterior, simulator.prior)

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, Any]:
        base = proposals.extra_draws(self.posterior, num, self.num_contrastive, rng)
        return super().extra_draws(num, rng) | base

    def estimation_rows(self, rows_per_draw: int = 1) -> int:
        rows = max(1, ROWS_PER_CALL // max(self.num_contrastive, rows_per_draw))
        return min(rows, super().estimation_rows(rows_per_draw))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "posterior": keras.saving.serialize_keras_object(self.posterior),
            "num_contrastive": self.num_contrastive,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config["posterior"] = keras.saving.deserialize_keras_object(config["posterior"])
        return cls(**config)
