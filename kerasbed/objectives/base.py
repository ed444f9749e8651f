"""What every EIG bound shares."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasbed.backend import Tensor, batch, errors, numerics
from kerasbed.designs import Design
from kerasbed.networks import flows
from kerasbed.networks.encoding import has_histories
from kerasbed.networks.posterior import ROWS_PER_CALL, Posterior
from kerasbed.objectives.posterior_terms import PosteriorTerms
from kerasbed.priors.base import Parameters

AUXILIARY_ROWS = 128  # that the integral over an auxiliary coordinate takes


class Surrogate(NamedTuple):
    """What is climbed in training where that is no bound itself, and the bound that is shown.

    values: (rows,), whose gradient is taken.
    bound: (rows,), constants; None where the values are the bound.
    terms: makes the terms by which scores are averaged over the parameters that may have made an outcome; None where
        scores are those of the true ones.
    """

    values: Tensor
    bound: Tensor | None = None
    terms: Callable[[], PosteriorTerms] | None = None


class Objective(keras.layers.Layer):
    """A bound or estimate of the EIG as a function of base samples: per-draw contributions in nats.

    A concrete objective defines `call`, and what applies of the rest. `DesignModel` calls `setup` once, before
    training, and hands over pilot draws through `adapt`.

    Args:
        posterior: a `kerasbed.networks.posterior.Posterior`, where the objective holds one.

    Example:
        Every objective says which side of the EIG it is on, and what it needs.

        >>> objective = kb.objectives.NestedMonteCarlo()
        >>> isinstance(objective, kb.objectives.Objective), objective.direction, objective.needs_likelihood
        (True, 'upper bound', True)
        >>> kb.objectives.PriorContrastive(63).ceiling(rows=128), np.log(64)  # the most that it can show
        (4.159, 4.159)
    """

    described = "an objective, such as kb.objectives.BarberAgakov(network),"

    direction = "lower bound"
    is_bound = True  # or estimate of the EIG; else the contributions are a score that a posterior is trained on
    needs_likelihood = False
    takes_horizons = False  # whether experiments may end early; see `kerasbed.objectives.horizons`

    @property
    def needs_independent_draws(self) -> bool:
        """Whether the draws of a batch serve as contrast to each other, so that they may not be Sobol points.

        Balanced points keep away from each other, so that the others of a batch are no draws of the prior given one of
        them, and what is a lower bound for independent draws can exceed the EIG.
        """
        return False

    def __init__(self, posterior: Posterior | None = None, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        if self.is_bound and posterior is not None and posterior.network is not None:
            flows.check_density(posterior.network)
        # In the constructor and not on the class: torch looks submodules up after class attributes.
        self.posterior: Any = posterior

    def set_target(self, target: Any) -> None:
        """Learn about a part or function of the parameters instead of all; `kerasbed.targets.Target`.

        Raises:
            ValueError: the objective cannot.
        """
        if self.posterior is None:
            raise ValueError(
                f"{type(self).__name__} compares outcomes with all parameters, so it cannot leave some out; use "
                "kb.objectives.BarberAgakov, which learns the posterior of the target alone."
            )
        self.posterior.target = target

    def setup(self, simulator: Any, design: Design, outcome_shape: tuple[int, ...]) -> None:
        """Create every weight for a problem.

        Raises:
            ValueError: the objective needs a likelihood and the simulator has none.
            PolicyError: experiments of the policy may end early, and the objective takes whole ones.
        """
        if batch.HORIZON in design.exploration_draws and not self.takes_horizons:
            raise errors.PolicyError(
                f"{type(self).__name__} takes experiments of one number of measurements, but shortest= was given, so "
                "that some end early; use kb.objectives.PriorContrastive, BarberAgakov, InfoNCE or NWJ, or leave "
                "shortest= out."
            )
        if self.needs_likelihood and not simulator.has_likelihood:
            raise ValueError(
                f"{type(self).__name__} needs the likelihood, but {type(simulator).__name__} has no "
                "log_likelihood(outcome, parameters, design). Define it, or use an objective for implicit likelihoods: "
                "kb.objectives.BarberAgakov, InfoNCE or NWJ."
            )
        self.simulator, self.space = simulator, design.space
        self.starts_of = design.starts_of  # the function alone: a layer would bring its weight along
        if self.posterior is not None:
            self.posterior.setup(simulator, design.space, outcome_shape, adaptive=has_histories(design))
        self.built = True

    def adapt(self, parameters: Parameters, outcome: np.ndarray) -> None:
        """Fix constants that standardise from pilot draws: dict of (num, d), (num, *outcome_shape)."""
        if self.posterior is not None:
            self.posterior.adapt(parameters, outcome)

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Base samples the objective needs besides the simulator's; every array has `num` rows."""
        return {} if self.posterior is None else self.posterior.extra_draws(num, rng)

    @property
    def descending_variables(self) -> list:
        """Weights that minimize the contributions while all others maximize them (proposals of upper bounds)."""
        return []

    def estimation_rows(self, rows_per_draw: int = 1) -> int:
        """Draws that an estimate evaluates in one call: what fits in memory, and for in-batch bounds their batch."""
        auxiliary = self.posterior is not None and self.posterior.auxiliary_dim
        return max(1, ROWS_PER_CALL // (rows_per_draw * (AUXILIARY_ROWS if auxiliary else 1)))

    def ceiling(self, rows: int) -> float:
        """The largest value that the objective can take, whatever the EIG, from batches of `rows` draws."""
        return np.inf

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Any:
        """Contributions (batch,), whose mean is the bound; a `Surrogate` where training climbs something else."""
        raise NotImplementedError

    def loss(self, contributions: Tensor, draws: Mapping[str, Any]) -> Tensor:
        """The scalar to minimize; minus the bound, or something that differs from it by a constant.

        Contributions that are not finite are those of draws that do not count: means are over the others.
        """
        return -numerics.mean_of_finite(contributions)

    def warn_about_search(self, design: Design) -> None:
        """Warn where a design is to be learned by climbing something that is not below the EIG."""
        if self.direction == "upper bound" and design.trainable:
            errors.warn(
                f"{type(self).__name__} is an upper bound, whose bias differs from design to design: a search climbs "
                "the bias together with the EIG. Learn the design on a lower bound (PriorContrastive, "
                "AdaptiveContrastive, BarberAgakov) and use this one at a fixed design (trainable=False).",
                errors.SettingWarning,
            )
