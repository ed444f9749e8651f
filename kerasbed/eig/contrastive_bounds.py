"""The nested bounds of `kerasbed.eig.nested_bounds` over the rollouts of a policy, as papers report them.

    lower (sPCE)   log p(h_m | theta_m) - log 1/(L + 1) [p(h_m | theta_m) + sum_n p(h_m | theta'_n)]
    upper (sNMC)   log p(h_m | theta_m) - log 1/L sum_n p(h_m | theta'_n)

(Foster et al., 2021, "Deep adaptive design", equations 8 and 11), with draws theta'_n of the prior that all histories
share. The lower one cannot exceed log(L + 1): the gains of good policies lie above what any L can reach, so that both
stand here for comparison, and `kerasbed.eig.annealed_bounds` for the gain.

Looks are summed in a loop and draws in blocks, so that memory grows with neither; pairs are evaluated in float32 where
that gives the likelihoods of the true parameters.
"""

import time

import numpy as np

from kerasbed.backend import streams
from kerasbed.backend.programs import compiled
from kerasbed.eig import nested_terms
from kerasbed.eig.estimate import Bracket
from kerasbed.eig.nested_bounds import Contributions, as_bracket, sums_of_pairs
from kerasbed.eig.rollouts import Rollouts
from kerasbed.simulators.pairs import with_direct_pairs
from kerasbed.simulators.sequence import Sequence

HEADROOM = 1.5  # nats below the ceiling from which the lower bound of a policy says nothing
PAIRS = 2**18  # of a history and a draw, evaluated at once: as many as the cache holds beside their parts


class RolloutContributions(Contributions):
    """Terms of both bounds for given experiments, each at a design of its own.

    Args:
        rollouts: the experiments.
        num_inner: L.
    """

    def __init__(self, rollouts: Rollouts, num_inner: int):
        super().__init__(with_direct_pairs(rollouts.simulator), len(rollouts), num_inner, PAIRS)
        self.rollouts = rollouts
        self.add_block = compiled(sums_of_pairs, self.simulator, dtype=rollouts.dtype)

    def _outer(self, design, seed):
        made = self.rollouts
        return made.own, made.parameters, made.outcome, made.design, streams.of(seed, "contrasts of rollouts")

    def _block_shape(self, outcome_size, num_inner):
        looks = self.simulator.length if isinstance(self.simulator, Sequence) else 1
        return super()._block_shape(max(outcome_size // looks, 1), num_inner)


def contrastive_bracket(rollouts: Rollouts, num_inner: int, seed: int) -> Bracket:
    """Both bounds of given experiments, with the ceiling beside them.

    Warns:
        SaturatedWarning: the lower bound is within `HEADROOM` of its ceiling.
        UnreliableWarning: as `kerasbed.eig.bracket`.
    """
    begin = time.process_time()
    terms = RolloutContributions(rollouts, num_inner).terms(np.zeros(()), seed)
    ceiling = float(np.log(num_inner + 1.0))
    found = nested_terms.summarise(terms, num_inner, f", ceiling log(L + 1) = {ceiling:.2f}", HEADROOM)
    settings = {"num_outer": len(rollouts), "num_inner": num_inner, "seed": seed}
    return as_bracket(found, terms, settings, num_inner, time.process_time() - begin)
