"""The EIG as a function of the design, from one posterior trained over the whole space.

Training on designs drawn from the space (`SimulatorDataset(..., designs="space")`) gives q(theta | y, xi) for every xi,
so that L(xi) = E[log q(theta | y(xi), xi) - log p(theta)] can be evaluated, differentiated and maximised without
further training. Here the network does not follow the design, so its condition is part of the function: dL / dxi
includes the path through q's argument xi, which is cut while design and network are learned together (Foster et al.,
2020).
"""

from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops
from scipy import optimize

from kerasbed import backend
from kerasbed.backend import batch, numerics, streams
from kerasbed.backend.programs import value_and_gradient
from kerasbed.backend.validation import checked, count_or_values, integer_seed, positive_integer, several
from kerasbed.designs import Design
from kerasbed.designs.conditions import followed_conditions
from kerasbed.eig import learned_bound
from kerasbed.eig.rollouts import refuse_policy
from kerasbed.eig.study import Study, without_auxiliary
from kerasbed.model import comparisons, ranking
from kerasbed.model.training_region import warn_untrained


class Landscape(backend.KerasModel):
    """Methods of `DesignModel` that compare and climb designs with trained networks."""

    @checked(designs=count_or_values, num_samples=several, seed=integer_seed)
    @backend.simulates
    def eig_landscape(
        self, designs: int | np.ndarray | dict = 256, *, num_samples: int = 1024, seed: int = 0
    ) -> pd.DataFrame:
        """The bound at many designs, on common draws; meant for networks trained over the space.

        Args:
            designs: (count, *shape) values, a dict of those, or a number of designs to draw from the space.
            num_samples: simulated experiments, the same at every design.
            seed: integer.

        Returns:
            One row for each design in the order given: `eig` and `eig_se` in nats, and `design`.

        Raises:
            ValueError: designs have the wrong shape or lie outside the space.

        Example:
            >>> other = kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.PriorContrastive(255), seed=0)
            >>> table = other.eig_landscape(np.array([[0.5, 0.5], [0.9, 0.1]]), num_samples=1024)
            >>> exact = 0.5 * np.log(6.81 / 8.25)  # of the two EIGs
            >>> table["eig"].diff()[1].round(1), round(exact, 1)
            (-0.1, -0.1)
        """
        return compare(self.study, designs, num_samples, seed)

    @checked(starts=count_or_values, steps=positive_integer, num_samples=several, seed=integer_seed)
    @backend.simulates
    def ascend(
        self, starts: int | np.ndarray | dict = 16, steps: int = 100, num_samples: int = 2048, seed: int = 0
    ) -> pd.DataFrame:
        """Climb the landscape from several designs with fixed networks, and keep the best design.

        The bound on fixed base samples is a smooth deterministic function, maximised by L-BFGS; the designs reached are
        then ranked on fresh common draws.

        Args:
            starts: number of designs to draw from the space, or (count, *shape) values to start from.
            steps: L-BFGS iterations from each start.
            num_samples: simulated experiments behind the function that is climbed.
            seed: integer.

        Returns:
            The table of `ranking.rank_coordinates`, best first; the model's design becomes the best.

        Raises:
            ValueError: the space is discrete, where nothing can be climbed.

        Example:
            >>> other = kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.PriorContrastive(255), seed=0)
            >>> table = other.ascend(starts=2, steps=20, num_samples=512)
            >>> other.design.numpy().round(1)
            array([0.5, 0.5], dtype=float32)
        """
        self.starts_table = climb(self.study, starts, steps, num_samples, seed)
        return self.starts_table


def compare(study: Study, designs: int | np.ndarray | dict, num_samples: int, seed: int) -> pd.DataFrame:
    """The bound at many designs; see `Landscape.eig_landscape`."""
    refuse_policy(study.design, "eig_landscape", "kb.eig.compare(simulator, [policy, ...])")
    warn_untrained(study.objective.posterior, "eig_landscape")
    values = _designs(study.design, designs, seed)
    if study.objective.posterior is not None:
        with backend.no_gradients():
            study.objective.posterior.warn_outside_region(backend.cast(values))
    terms = learned_bound.contributions_at(study, values, num_samples, seed)
    value, error = np.transpose([numerics.mean_and_error(row) for row in terms])
    return pd.DataFrame({"eig": value, "eig_se": error, "design": comparisons.singles(values)})


def climb(study: Study, starts: int | np.ndarray | dict, steps: int, num_samples: int, seed: int) -> pd.DataFrame:
    """Climb the landscape from several designs; see `Landscape.ascend`."""
    space = study.design
    refuse_policy(space, "ascend", "model.fit(), which learns the policy, and kb.eig.compare for several")
    if space.is_discrete:
        raise ValueError(
            f"{space!r} is discrete, so its landscape has no slope; compare designs with eig_landscape(...)."
        )
    warn_untrained(study.objective.posterior, "ascend")
    with backend.no_gradients():
        first = ops.convert_to_numpy(space.unconstrain(backend.cast(_designs(space, starts, seed))))
    descend = _negative_bound(study, num_samples, seed)
    found = [
        optimize.minimize(descend, u.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
        for u in first.astype("float64")
    ]
    u = np.stack(found).reshape(-1, *space.unconstrained_shape)
    return ranking.rank_coordinates(study, u, seed=streams.entropy(seed, "ranking"))


def _negative_bound(study, num_samples, seed):
    """u, flat -> minus the bound at one design and its gradient, on fixed base samples."""
    draws = without_auxiliary(next(study.draws(num_samples, seed)))
    cost = () if study.cost is None else (study.cost,)
    evaluate = study.program(_minus_bound if study.cost is None else _minus_worth, *cost, make=value_and_gradient)
    shape = (1, *study.design.unconstrained_shape)

    def flat(u):
        with followed_conditions():
            value, gradient = evaluate(u.reshape(shape), draws)
        return float(value), np.asarray(gradient, "float64").ravel()

    return flat


def _minus_bound(terms, space, u, draws):
    return -ops.mean(terms(batch.at_design(draws, space.constrain(u))))


def _minus_worth(terms, space, cost, u, draws):
    """Minus the bound less what the design costs beyond the budget."""
    design = space.constrain(u)
    return -ops.mean(terms(batch.at_design(draws, design)) - cost.penalty(design))


def _designs(space: Design, designs, seed) -> Any:
    """Designs (count, *shape) as float arrays, each inside the space; that many drawn from it for a number."""
    if np.ndim(designs) == 0 and not isinstance(designs, dict):
        designs = space.sample(designs, seed)
    if isinstance(designs, dict):
        designs = {name: np.asarray(values, "float64") for name, values in designs.items()}
    else:
        designs = np.asarray(designs, "float64")
    checked = [space.check(design) for design in comparisons.singles(designs)]
    return keras.tree.map_structure(lambda *leaves: np.stack(leaves), *checked)
