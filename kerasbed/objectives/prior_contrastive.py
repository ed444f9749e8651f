r"""The prior contrastive bound (PCE): the likelihood of the true parameters against that of others.

Derivation. Let theta_0, y ~ p(theta) p(y | theta, xi) and theta_1..L ~ p(theta). Then

    L(xi) = E log { p(y | theta_0) / [1/(L+1) sum_{l=0}^L p(y | theta_l)] } <= I(theta; y | xi).

Given y, theta_0 is a posterior draw among L prior draws; with their roles exchanged at random, all L + 1 have the
density prod p(theta_l) * 1/(L+1) sum_l p(theta_l | y)/p(theta_l), and I - L(xi) is the expected Kullback-Leibler
divergence from that to prod p(theta_l). The denominator holds the term l = 0, so the bound cannot exceed log(L + 1); it
reaches 95% of the EIG near L + 1 = 10 exp(EIG), and its bias falls like 1/L.

In-batch, the contrast of a draw are the other draws of its batch (L + 1 = batch size): each pair of the batch is used,
and there is nothing more to simulate. Fresh draws form one pool for the batch, which leaves L free of the batch size.
Sharing costs nothing at first order: the average over outcomes of p(y | theta_l) / p(y) is 1 for every theta_l.

*Histories.* For a policy y is a whole history of designs and outcomes, and the bound is the sequential one (sPCE): the
designs' probabilities given the history are the same for all theta_l and cancel. Training then takes the gradient of
the largest terms and of a sample of the others (`objectives.largest_terms`), and beside the prior draws some around
theta_0 (`objectives.local_draws`). With the latter what is climbed is no bound, while every value that is shown is the
bound with the prior draws alone.

With a target, p(y | theta_0) in the numerator is replaced by p(y | t_0) from below; the denominator stays a bound of
p(y) from above. See `objectives.nuisance`.

References: Foster et al. (2020), the bound I_PCE; Foster et al. (2021), theorem 2, for histories.
"""

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor, batch, numerics
from kerasbed.backend.validation import checked, natural_number, optional, positive_integer
from kerasbed.designs import Design
from kerasbed.objectives import failures, horizons, largest_terms, pool, posterior_terms
from kerasbed.objectives.base import Surrogate
from kerasbed.objectives.largest_terms import Candidates, whole_sum, without_gradient
from kerasbed.objectives.likelihood_objective import LikelihoodObjective
from kerasbed.objectives.local_draws import LocalDraws, local_draws_of

SHARED, LOCAL, LARGEST = 1024, 256, 32  # draws and terms with a gradient, where a policy is learned


@keras.saving.register_keras_serializable("kerasbed")
class PriorContrastive(LikelihoodObjective):
    """Lower bound on the EIG from a likelihood; it has no network and needs no training of its own.

    Args:
        num_contrastive: L fresh contrastive draws of the prior, shared by a batch; None takes the other draws of the
            batch, and for a policy 1,024 fresh ones.
        num_nuisance: K draws of nuisance parameters for each outcome, where the model has a target.
        num_largest: terms of the sum that have a gradient in training, the largest and a fair sample of the others;
            None gives all terms one, and for a policy 32.
        num_local: draws around each row's true parameters beside those of the prior, in training alone; None takes
            none, and for a policy 256 where the prior has a density in `keras.ops` and a continuous parameter. They are
            never part of an estimate, nor of the values that training shows.

    Raises:
        ValueError: a number of draws is no positive integer, or the simulator has no log_likelihood; draws around the
            true parameters are asked for without `num_contrastive`, or of a prior without density.

    Example:
        A bound that cannot exceed log(L + 1): with L = 1 it stays below log 2, whatever the EIG, here 1.055.

        >>> design = kb.designs.Simplex(2, initial=[0.5, 0.5])
        >>> for L in 1, 255:
        ...     model = kb.DesignModel(kb.problems.LinearGaussian(), design, kb.objectives.PriorContrastive(L), seed=0)
        ...     print(round(float(model.contributions(1024).mean()), 1))
        0.4
        1.0
    """

    takes_horizons = True

    @checked(
        num_contrastive=optional(positive_integer),
        num_nuisance=positive_integer,
        num_largest=optional(positive_integer),
        num_local=optional(natural_number),
    )
    def __init__(
        self,
        num_contrastive: int | None = None,
        num_nuisance: int = 128,
        num_largest: int | None = None,
        num_local: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(num_nuisance, **kwargs)
        self.num_contrastive, self.num_largest, self.num_local = num_contrastive, num_largest, num_local
        self.of_policy = False
        self._around: Any = None  # `LocalDraws`, where there are any

    def setup(self, simulator: Any, design: Design, outcome_shape: tuple[int, ...]) -> None:
        super().setup(simulator, design, outcome_shape)
        self.of_policy = design.is_adaptive
        if self.num_local and self.shared is None:
            raise ValueError(
                f"num_local={self.num_local} draws around the true parameters stand beside fresh draws of the prior, "
                "but num_contrastive is None, which takes the other draws of the batch; set num_contrastive as well."
            )
        if self.num_local:
            self._around = LocalDraws(simulator.prior)
        elif self.num_local is None and self.of_policy:
            self._around = local_draws_of(simulator.prior)
        else:
            self._around = None

    # -- the numbers of draws, which depend on what is learned ---

    @property
    def shared(self) -> int | None:
        """Fresh draws of the prior for a batch; None where the draws of a batch contrast each other."""
        return SHARED if self.num_contrastive is None and self.of_policy else self.num_contrastive

    @property
    def local(self) -> int:
        """Draws around the true parameters of each row, in training."""
        return 0 if self._around is None else self.num_local or LOCAL

    @property
    def largest(self) -> int | None:
        """Terms with a gradient in training; None: all."""
        if self.num_largest is None and (self.of_policy or self.local):
            return LARGEST
        return self.num_largest

    @property
    def needs_independent_draws(self) -> bool:
        return self.shared is None

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, Any]:
        extra = super().extra_draws(num, rng)
        if self.shared is not None:
            extra["contrastive"] = pool.draw_pool(self.simulator.prior, num, self.shared, rng)
        if self._around is not None:
            extra["local"] = self._around.base_samples(num, self.local, rng)
        if self.largest is not None:
            extra["priority"] = self._priorities(num, rng)
        return extra

    def _priorities(self, num, rng):
        """Uniform numbers for each candidate, spread over the rows, and behind them one for each row."""
        of_pool = 1 if self.shared is None else -(-self.shared // num)
        return rng.random((num, of_pool + -(-self.local // num) + 1), dtype="float32")

    def estimation_rows(self, rows_per_draw: int = 1) -> int:
        if self.shared is None:
            return pool.IN_BATCH_ROWS
        rows = max(1, pool.PAIRS_PER_CALL // max(self.shared, rows_per_draw))
        return min(rows, super().estimation_rows(rows_per_draw))

    def ceiling(self, rows: int) -> float:
        return float(np.log(rows if self.shared is None else self.shared + 1))

    # -- the bound ---

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Any:
        own = horizons.counted(self.simulator, draws).log_density(outcome, draws[batch.PARAMETERS], design)
        log_p = own if self.target is None else self.log_likelihood(draws, outcome, design)
        sampled = None
        if not training or self.largest is None or batch.extra(draws, "priority") is None:
            pairs = self._pairs(draws, outcome, design)
            log_sum = ops.logsumexp(pairs, axis=1)
        else:
            pairs = without_gradient(lambda y, xi: self._pairs(draws, y, xi), outcome, design)
            if batch.extra(draws, "local") is not None:
                return self._with_local_draws(draws, outcome, design, (log_p, own), pool.to_rows(draws, pairs, design))
            sampled = self._sum_of_largest(draws, outcome, design, pairs)
            log_sum = sampled.log_sum
        values = self._bound(log_p, own, pool.to_rows(draws, log_sum, design), pairs)
        return Surrogate(values, terms=self._terms(draws, own, pairs, sampled)) if training else values

    def _terms(self, draws, own, pairs, sampled):
        """Makes `PosteriorTerms`, where rows stand for draws and contrast is shared; else None."""
        if self.shared is None or self.target is not None or batch.possible_outcomes(draws) is not None:
            return None

        def terms():
            shared, log_number = Candidates({}, ops.stop_gradient(pairs)), numerics.log_size(pairs, 1, plus=1)
            taken = whole_sum(pairs) if sampled is None else sampled
            return posterior_terms.of_sum(Candidates({}, own[:, None]), [shared], taken, log_number)

        return terms

    def _bound(self, log_p, own, log_sum, pairs):
        """log p(y | theta_0) minus the log of the mean over the draws of the prior and theta_0, (rows,)."""
        if self.shared is None:  # the draw's own parameters are among them
            return log_p - log_sum + numerics.log_size(pairs, 1)
        return log_p - ops.logaddexp(own, log_sum) + numerics.log_size(pairs, 1, plus=1)

    def _guarded(self, draws):
        """The simulator whose likelihoods count what was measured, and are 0 where they fail."""
        return failures.guarded(horizons.counted(self.simulator, draws), draws)

    def _contrast(self, draws):
        """Contrastive draws of the prior, {name: (N, d)}."""
        return batch.whole(draws)[batch.PARAMETERS] if self.shared is None else pool.take_pool(draws, self.shared)

    def _pairs(self, draws, outcome, design):
        """Log likelihoods of every distinct outcome with every contrastive draw, (rows or S, N)."""
        distinct, starts = pool.distinct_outcomes(draws, outcome, design), self.starts_of(draws)
        simulator = self._guarded(draws)
        pairs = pool.pairwise_log_likelihood(simulator, distinct, self._contrast(draws), design, starts)
        return failures.without_failed(draws, pairs) if self.shared is None else pairs

    # -- with the gradient of the largest terms ---

    def _sum_of_largest(self, draws, outcome, design, pairs):
        shared = Candidates({name: values[None] for name, values in self._contrast(draws).items()}, pairs)
        distinct = pool.distinct_outcomes(draws, outcome, design)
        simulator = self._guarded(draws)
        uniform = self._uniform(draws, pairs, by_row=not pool.are_repeated(draws, design))
        return largest_terms.sampled_sum(simulator, distinct, design, [shared], self.largest or 1, uniform)

    @staticmethod
    def _uniform(draws, terms, by_row=True):
        """Base samples of `largest_terms` for terms (R, N), (1 or R, N): one set, which each row turns by its own."""
        base = batch.extra(batch.whole(draws), "priority")
        of_term = ops.reshape(base[:, :-1], (1, -1))[:, : ops.shape(terms)[1]]
        return (of_term + batch.extra(draws, "priority")[:, -1:]) % 1.0 if by_row else of_term

    def _with_local_draws(self, draws, outcome, design, of_true, pairs) -> Surrogate:
        """What is climbed with draws around the true parameters, and the bound without them."""
        (log_p, own), own_parameters = of_true, draws[batch.PARAMETERS]
        shared, around = {name: values[None] for name, values in self._contrast(draws).items()}, self._around
        near, inside = around.draw(own_parameters, batch.extra(draws, "local"))
        sizes = ops.shape(pairs)[1], ops.shape(inside)[1]
        simulator = self._guarded(draws)
        of_near = without_gradient(
            lambda y, xi: simulator.log_density(y[:, None], near, pool.lift(xi)), outcome, design
        )
        weights = [around.log_weight(parameters, own_parameters, *sizes) for parameters in (shared, near)]
        of_own = {name: values[:, None] for name, values in own_parameters.items()}
        own_weight = around.log_weight(of_own, own_parameters, *sizes)[:, 0]
        groups = (
            Candidates(shared, pairs, weights[0]),
            Candidates(near, ops.where(inside, of_near, -np.inf), weights[1]),
        )
        uniform = self._uniform(draws, ops.concatenate([pairs, of_near], axis=1))
        sampled = largest_terms.sampled_sum(simulator, outcome, design, groups, self.largest or 1, uniform)
        number = numerics.log_size(pairs, 1, plus=1 + self.local)
        climbed = log_p - ops.logaddexp(own + own_weight, sampled.log_sum) + number
        bound = self._bound(log_p, own, ops.logsumexp(pairs, axis=1), pairs)
        of_true = Candidates({}, own[:, None], own_weight[:, None])
        terms = functools.partial(posterior_terms.of_sum, of_true, groups, sampled, number)
        return Surrogate(climbed, ops.stop_gradient(bound), terms if self.target is None else None)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_contrastive": self.num_contrastive,
            "num_largest": self.num_largest,
            "num_local": self.num_local,
        }
