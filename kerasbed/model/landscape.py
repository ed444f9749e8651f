"""The EIG as a function of the design, from one posterior trained over the whole space.

Training on designs drawn from the space (`SimulatorDataset(..., designs="space")`) gives q(theta | y, xi) for every xi,
so that L(xi) = E[log q(theta | y(xi), xi) - log p(theta)] can be evaluated, differentiated and maximised without
further training. Here the network does not follow the design, so its condition is part of the function: dL / dxi
includes the path through q's argument xi, which is cut while design and network are learned together (Foster et al.,
2020).
"""

import keras
import numpy as np
import pandas as pd
from keras import ops
from scipy import optimize

from kerasbed import backend
from kerasbed.backend import numerics
from kerasbed.model import ranking


class Landscape(backend.KerasModel):
    """Methods of `DesignModel` that compare and climb designs with trained networks."""

    @backend.simulates
    def eig_landscape(
        self, designs: int | np.ndarray | dict = 256, num_samples: int = 1024, seed: int = 0
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
        self._warn_untrained("eig_landscape")
        if not isinstance(designs, dict) and np.ndim(designs) == 0:
            designs = self.design.sample(int(designs), seed)
        designs = self._checked_designs(designs)
        if self.objective.posterior is not None:
            with backend.no_gradients():
                self.objective.posterior.warn_outside_region(backend.cast(designs))
        value, error = np.transpose(
            [numerics.mean_and_error(c) for c in self.contributions_at(designs, num_samples, seed)]
        )
        return pd.DataFrame({"eig": value, "eig_se": error, "design": _rows(designs)})

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
        if self.design.choice_draws(1, np.random.default_rng(0)):
            raise ValueError(
                f"{self.design!r} is discrete, so its landscape has no slope; compare designs with eig_landscape(...)."
            )
        self._warn_untrained("ascend")
        if not isinstance(starts, dict) and np.ndim(starts) == 0:
            starts = self.design.sample(int(starts), seed)
        with backend.no_gradients():
            first = ops.convert_to_numpy(self.design.unconstrain(backend.cast(self._checked_designs(starts))))
        descend = self._negative_bound(num_samples, seed)
        found = [
            optimize.minimize(descend, u.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
            for u in first.astype("float64")
        ]
        u = np.stack(found).reshape(-1, *self.design.unconstrained_shape)
        self.starts_table = ranking.rank_coordinates(self, u, seed=[seed, 1])
        return self.starts_table

    def _negative_bound(self, num_samples, seed):
        """u, flat -> minus the bound at one design and its gradient, on fixed base samples."""
        draws = self._without_exploration(next(self._estimation_draws(num_samples, seed)))

        def loss(u, draws):
            design = self.design.constrain(u)
            bound = self(draws | {"design": design}, training=False)
            return -ops.mean(bound if self.cost is None else bound - self.cost.penalty(design))

        evaluate = backend.value_and_gradient(loss, keras.config.floatx())
        shape = (1, *self.design.unconstrained_shape)

        def flat(u):
            self.design.detach_condition = False
            try:
                value, gradient = evaluate(u.reshape(shape), draws)
            finally:
                self.design.detach_condition = True
            return float(value), np.asarray(gradient, "float64").ravel()

        return flat

    def _checked_designs(self, designs):
        """Designs (count, *shape) as float arrays, each inside the space."""
        if isinstance(designs, dict):
            designs = {name: np.asarray(values, "float64") for name, values in designs.items()}
        else:
            designs = np.asarray(designs, "float64")
        checked = [self.design.check(design) for design in _rows(designs)]
        return keras.tree.map_structure(lambda *leaves: np.stack(leaves), *checked)


def _rows(designs) -> list:
    count = len(keras.tree.flatten(designs)[0])
    return [keras.tree.map_structure(lambda v, i=i: v[i], designs) for i in range(count)]
