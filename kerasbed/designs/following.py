"""A space whose coordinates, and the choices in them, are those of another one."""

from collections.abc import Mapping

import numpy as np

from kerasbed.backend import Tensor
from kerasbed.designs.space import Space


class FollowingSpace(Space):
    """What concerns coordinates and choices alone; such spaces define the maps to the user's units."""

    @property
    def followed(self) -> Space:
        """The space whose coordinates these are."""
        raise NotImplementedError

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        return self.followed.unconstrained_shape

    @property
    def choice_names(self) -> tuple[str, ...]:
        return self.followed.choice_names

    def choice_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self.followed.choice_draws(num, rng)

    def choice_log_prob(self, u: Tensor, choice: Mapping[str, Tensor]) -> Tensor | float:
        return self.followed.choice_log_prob(u, choice)

    def propose(self, u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.followed.propose(u, rng)

    def neighbours(self, u: np.ndarray) -> np.ndarray:
        return self.followed.neighbours(u)

    def settled(self, u: np.ndarray) -> np.ndarray:
        return self.followed.settled(u)

    def continuous_coordinates(self) -> np.ndarray:
        return self.followed.continuous_coordinates()
