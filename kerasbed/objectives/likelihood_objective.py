"""What bounds from a likelihood share: a target is served by an inner sum over nuisance parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasbed.backend import Tensor
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.networks.posterior import Posterior
from kerasbed.objectives import horizons, nuisance, pool
from kerasbed.objectives.base import Objective


class LikelihoodObjective(Objective):
    """A bound of E log p(y | t, xi) - E log p(y | xi); the first term is exact where t are all parameters.

    Args:
        num_nuisance: K draws of the nuisance parameters for each outcome, where a target leaves some out.
        posterior: a `kerasbed.networks.posterior.Posterior` of all parameters, where the bound proposes from one.
    """

    needs_likelihood = True

    @checked(num_nuisance=positive_integer)
    def __init__(self, num_nuisance: int = 128, posterior: Posterior | None = None, **kwargs: Any):
        super().__init__(posterior, **kwargs)
        self.num_nuisance = num_nuisance
        self.target = None

    def set_target(self, target: Any) -> None:
        nuisance.check_target(type(self).__name__, target.source, target)
        self.target = target

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, Any]:
        if self.target is None:
            return {}
        return nuisance.extra_draws(self.simulator.prior, self.target, num, self.num_nuisance, rng)

    def estimation_rows(self, rows_per_draw: int = 1) -> int:
        return max(1, pool.PAIRS_PER_CALL // (rows_per_draw * (1 if self.target is None else self.num_nuisance)))

    def log_likelihood(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor) -> Tensor:
        """log p(y | t, xi), on the side that keeps the bound's direction, (rows,)."""
        side = nuisance.UPPER if self.direction == "upper bound" else nuisance.LOWER
        simulator = horizons.counted(self.simulator, draws)
        return nuisance.log_likelihood(simulator, self.target, side, draws, outcome, design)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"num_nuisance": self.num_nuisance}
