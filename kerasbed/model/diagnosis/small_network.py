"""Without a likelihood: designs are compared by a small posterior network that is trained over the whole space.

The network that was trained at the learned design knows nothing of others. A small one, trained for a moment on
experiments at designs from all over the space, finds the plateaus and wrong edges that a contrastive bound finds; it
knows the learned design less well than the network that was trained there, and where it knows much less, its
comparison is inconclusive.
"""

from collections.abc import Sequence

import numpy as np
from keras import tree

from kerasbed.backend import streams
from kerasbed.eig.study import Study
from kerasbed.model import comparisons
from kerasbed.networks.density_fit import DensityFit
from kerasbed.objectives import BarberAgakov
from kerasbed.simulators import datasets, experiments

STEPS, BATCH = 300, 256
EXPERIMENTS = 2**14
DRAWS = 512  # common to all designs
WELL_KNOWN = 0.5  # of the learned bound, that the small network must reach at the learned design


class SmallNetwork:
    """A comparison of designs by a network trained over the space.

    Args:
        study: of any objective; its target, if there is one, is kept.
        seed: of the training and of the draws.
    """

    ceiling = np.inf

    def __init__(self, study: Study, seed: int | Sequence[int]):
        self.seed, self.shape = seed, experiments.lifted(study.design)
        objective = BarberAgakov()
        if study.target is not None:
            objective.set_target(study.target)
        objective.setup(study.simulator, study.design, study.outcome_shape)
        self.study = study.with_objective(objective)
        self._train(objective)
        self.comparison = comparisons.by_objective(self.study)

    def _train(self, objective):
        study, seed = self.study, streams.integer(self.seed, "diagnosis over the space")
        data = datasets.SimulatorDataset(study.simulator, study.design, EXPERIMENTS, 1, seed=seed, designs="space")
        draws = data.bind(study).batch(0)
        outcome = experiments.measured(study.simulator, draws["parameters"], draws["design"], draws["noise"])
        finite = np.all(np.isfinite(outcome.reshape(len(outcome), -1)), axis=1)
        draws = tree.map_structure(lambda leaf: leaf[finite], draws)
        objective.adapt(draws["parameters"], outcome[finite])
        fit = DensityFit(objective, lambda x, training: study.terms(x).values)
        fit.train_on(draws, STEPS, BATCH, seed)

    def terms(self, designs: list, purpose: str, index: int = 0) -> np.ndarray:
        """Terms of the bound at designs (1, *shape) each, on common draws: (count, DRAWS)."""
        stacked = tree.map_structure(lambda *leaves: np.concatenate(leaves), *designs)
        return self.comparison.terms(stacked, DRAWS, streams.entropy(self.seed, f"diagnosis {purpose}", index))
