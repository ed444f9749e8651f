"""A certificate for the EIG: a lower and an upper bound with standard errors from the same draws.

For theta_m, y_m ~ p(theta) p(y | theta, xi), m = 1..M, and L further draws theta'_n of the prior,

    upper (nested Monte Carlo; Rainforth et al., 2018)     log p(y_m|theta_m) - log 1/L sum_n p(y_m|theta'_n)
    lower (prior contrastive; Foster et al., 2020)         log p(y_m|theta_m)
                                                             - log 1/(L+1) [p(y_m|theta_m) + sum_n p(y_m|theta'_n)]

are averaged over m. By Jensen's inequality the first is above the EIG in expectation and the second below it; the
second cannot exceed log(L + 1), and both close in like 1/L. The draws theta'_n are shared by all outer draws, so that
a matrix product serves where the simulator has one. A draw theta' enters the average over m through the mean over m of
p(y_m|theta') / p(y_m), whose expectation is 1 for every theta', but which for finite M is carried by the outcomes
near theta': the standard errors hold that source, too, by a jackknife over inner draws (`kerasbed.eig.reliability`).

How many inner draws? The lower bound reaches 95% of an EIG of I nats near L = 10 exp(I), and 99% near 50 exp(I). The
upper bound is carried by rare outcomes far out, which no inner draw comes near: measured on normal, uniform and
two-mode priors it is 2 to 24% high at 10 exp(I), within 4% at 50 exp(I) and within 1% at 500 exp(I); on a t prior with
four degrees of freedom it is many times too high before 500 exp(I). Where such outcomes carry it, that is said. The
lower bound without its bias of order 1/L, by the same jackknife, is within 2% of I at 10 exp(I) in all of these:
`method` says it, as an estimate that is no bound, and `compare` takes it.

For a target, some of the parameters by name, p(y | theta) becomes p(y | t); see `kerasbed.eig.target_terms`.

The sum over n runs through blocks and is kept as a running log-sum-exp, so that memory depends on the block alone.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend import errors, numerics, streams
from kerasbed.backend.programs import compiled, light
from kerasbed.backend.validation import checked, positive_integer, several
from kerasbed.designs import Design
from kerasbed.eig import reliability, target_terms
from kerasbed.eig.estimate import Bracket, EIGEstimate
from kerasbed.eig.likelihood_check import check_likelihood, require_likelihood
from kerasbed.eig.nested_terms import Terms, summarise
from kerasbed.priors.base import Parameters
from kerasbed.simulators import experiments, pairs
from kerasbed.simulators.simulator import Simulator
from kerasbed.targets import Target

# Outcome entries x pairs in memory at once: 16 MB for each intermediate array in float64.
BLOCK_ENTRIES = 2**21


def nested_bracket(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    num_outer: int,
    num_inner: int,
    seed: int,
    *,
    block: int = BLOCK_ENTRIES,
    check: bool = True,
    target: str | list | Callable | Target | None = None,
    num_nuisance: int = 4096,
) -> Bracket:
    """Both bounds at one design; see `kerasbed.eig.bracket`."""
    begin = time.process_time()
    require_likelihood(simulator)
    if check:
        check_likelihood(simulator, design, seed)
    contributions = Contributions(simulator, num_outer, num_inner, block, target, num_nuisance)
    terms = contributions.terms(design, seed)
    found = summarise(terms, num_inner, contributions.method)
    settings = {"num_outer": num_outer, "num_inner": num_inner, "seed": seed}
    settings |= {} if target is None else {"num_nuisance": num_nuisance}
    return as_bracket(found, terms, settings, num_inner, time.process_time() - begin)


def as_bracket(found: EIGEstimate, terms: Terms, settings: dict, num_inner: int, seconds: float) -> Bracket:
    """An estimate from nested bounds, with the distance of the bounds, the ceiling and the cost."""
    with np.errstate(invalid="ignore"):
        width_se = numerics.mean_and_error(terms.upper - terms.lower)[1]
    fields: dict[str, Any] = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    fields["settings"] = settings
    return Bracket(
        **fields,
        width_se=width_se,
        ceiling=float(np.log(num_inner + 1.0)),
        likelihoods=len(terms.lower) * num_inner,
        seconds=seconds,
    )


class Contributions:
    """Per-draw terms of both bounds at any number of designs of one shape; the sum over inner draws is compiled once
    for a simulator.

    Equal seeds give equal parameters and noise at every design, so that differences between designs are paired.
    """

    @checked(num_outer=several, num_inner=several, block=positive_integer, num_nuisance=positive_integer)
    def __init__(
        self,
        simulator: Simulator,
        num_outer: int,
        num_inner: int,
        block: int = BLOCK_ENTRIES,
        target: str | list | Callable | Target | None = None,
        num_nuisance: int = 4096,
    ):
        self.simulator, self.num_outer, self.num_inner, self.block = simulator, num_outer, num_inner, block
        self.target, self.num_nuisance, self.method = None, num_nuisance, ""
        if target is not None:
            self.target = target if isinstance(target, Target) else Target(simulator.prior, target)
            target_terms.check_target(simulator.prior, self.target)
            self.method = ", inner sums over the parameters that are not the target"
        self._use(simulator)

    def _use(self, simulator):
        """Evaluate the pairs as this simulator does."""
        self.simulator, self.pair_check = simulator, pairs.PairCheck(simulator)
        self.measure = backend.compile_function(simulator.measure, compiled=False)
        self.own = compiled("log_density", simulator, make=light)
        self.add_block = compiled(sums_of_pairs, simulator)

    def at(
        self, design: np.ndarray | dict[str, np.ndarray] | Design, seed: streams.Entropy
    ) -> tuple[np.ndarray, np.ndarray]:
        """Terms whose means are the lower and the upper bound, (M,) each."""
        function, sums, _, _ = self._ingredients(design, seed)
        return function(np.logaddexp.reduce(sums, axis=0), self.num_inner)

    def terms(self, design: np.ndarray | dict[str, np.ndarray] | Design, seed: streams.Entropy) -> Terms:
        """Terms of both bounds, also without each block of inner draws."""
        function, sums, sizes, own = self._ingredients(design, seed)
        total = np.logaddexp.reduce(sums, axis=0)
        lower, upper = function(total, self.num_inner)
        left_out = zip(reliability.without_each(sums), sizes, strict=True)
        without = [function(others, self.num_inner - size) for others, size in left_out]
        lower_left_out, upper_left_out = (np.stack(part) for part in zip(*without, strict=True))
        far = np.zeros(len(lower), bool) if own is None else own > total
        return Terms(lower, upper, lower_left_out, upper_left_out, sizes, far)

    def _ingredients(self, design, seed):
        """Both bounds' terms as a function of (log sum over inner draws, their number), the sums of blocks of draws,
        their sizes, and log p(y_m | theta_m) to compare with the sums.

        For a target with few values the sums are (blocks, M, values), and nothing compares with them (None).
        """
        own, parameters, outcome, values, rng = self._outer(design, seed)
        if self.target is not None and target_terms.has_few_values(self.target):
            found = target_terms.by_values(self, self.target, own, outcome, parameters, values, rng)
            return (*found, None)
        sums, sizes = self.block_sums(outcome, values, lambda count: self.simulator.prior.sample(count, rng))
        below = above = own
        if self.target is not None:
            below, above = target_terms.log_likelihood(
                self, self.target, self.num_nuisance, own, outcome, parameters, values, rng
            )

        def function(log_sum, count):
            return below - np.logaddexp(own, log_sum) + np.log(count + 1.0), above - log_sum + np.log(count)

        return function, sums, sizes, own

    def draws(
        self, design: np.ndarray | dict[str, np.ndarray] | Design, seed: streams.Entropy
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[dict[str, np.ndarray], np.ndarray]]:
        """log p(y_m | theta_m), `block_sums` (blocks, M) and sizes, and the outer draws (parameters, outcome)."""
        own, parameters, outcome, values, rng = self._outer(design, seed)
        sums, sizes = self.block_sums(outcome, values, lambda count: self.simulator.prior.sample(count, rng))
        return own, sums, sizes, (parameters, outcome)

    def _outer(self, design, seed):
        """log p(y_m | theta_m), parameters and outcomes of the outer draws, the design, and a stream for the inner."""
        of_parameters, of_noise, of_inner = streams.children(seed, 3)
        values = experiments.lifted(design)
        if not self.pair_check.product_is_exact(values):
            self._use(pairs.with_direct_pairs(self.simulator))
        parameters, noise = experiments.draw(self.simulator, values, self.num_outer, of_parameters, of_noise)
        outcome = self.measure(parameters, values, noise)
        own = self.own(outcome, parameters, values)
        if not np.all(np.isfinite(own)):
            raise errors.LikelihoodError(
                f"log_likelihood is not finite at {int(np.sum(~np.isfinite(own)))} of {self.num_outer} simulated "
                "outcomes; an outcome must be possible under its own parameters. Check scales, supports and logs."
            )
        return own, parameters, outcome, values, of_inner

    def evidence_sum(
        self,
        outcome: np.ndarray,
        design: np.ndarray | dict[str, np.ndarray],
        sample: Callable[[int], Parameters],
        num_inner: int | None = None,
    ) -> np.ndarray:
        """log sum_n p(y_m | theta'_n) over draws `sample(count)` of the parameters, (M,)."""
        return np.logaddexp.reduce(self.block_sums(outcome, design, sample, num_inner)[0], axis=0)

    def block_sums(
        self,
        outcome: np.ndarray,
        design: np.ndarray | dict[str, np.ndarray],
        sample: Callable[[int], Parameters],
        num_inner: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`evidence_sum` of about `reliability.BLOCKS` blocks of the draws, (blocks, M), and their sizes."""
        num_inner = self.num_inner if num_inner is None else num_inner
        rows, columns = self._block_shape(int(np.prod(outcome.shape[1:])), num_inner)
        starts = range(0, num_inner, columns)
        blocks = min(len(starts), reliability.BLOCKS)
        totals, sizes = np.full((blocks, self.num_outer), -np.inf), np.zeros(blocks)
        for i, start in enumerate(starts):
            count, total = min(columns, num_inner - start), totals[i * blocks // len(starts)]
            sizes[i * blocks // len(starts)] += count
            parameters = sample(count)
            padded = {name: np.resize(draws, (columns, *draws.shape[1:])) for name, draws in parameters.items()}
            log_weights = np.where(np.arange(columns) < count, 0.0, -np.inf)
            for first in range(0, self.num_outer, rows):
                of_outer = np.arange(first, first + rows) % self.num_outer
                real = of_outer[: self.num_outer - first]
                own_design = _designs_of(design, of_outer)
                found = self.add_block(outcome[of_outer], padded, own_design, log_weights)
                total[real] = np.logaddexp(total[real], found[: len(real)])
        if np.any(np.isnan(totals)):
            raise errors.LikelihoodError(
                f"log_likelihood is NaN for pairs of {int(np.sum(np.any(np.isnan(totals), axis=0)))} outcomes with "
                "other parameters; it must be -inf where an outcome is impossible. Look for 0 * inf and logs of "
                "negative numbers."
            )
        return totals, sizes

    def _block_shape(self, outcome_size, num_inner) -> tuple[int, int]:
        """Outer and inner draws of a block: as many inner ones as the jackknife's blocks have, as square as can be."""
        pairs = max(1, self.block // (1 if self.simulator.has_pairwise_product else outcome_size))
        rows = min(self.num_outer, max(int(np.sqrt(pairs)), reliability.BLOCKS * pairs // num_inner, 1))
        most = min(-(-num_inner // reliability.BLOCKS), max(1, pairs // rows))
        return rows, -(-num_inner // (-(-num_inner // most)))


def _designs_of(design, rows):
    """The designs of some outcomes, or the one of all."""
    return tree.map_structure(lambda leaf: leaf if len(leaf) == 1 else leaf[rows], design)


def sums_of_pairs(
    simulator: Simulator,
    outcome: backend.Tensor,
    parameters: dict[str, backend.Tensor],
    design: backend.Tensor,
    log_weights: backend.Tensor,
) -> backend.Tensor:
    """log sum_n w_n p(y_m | theta_n) over a block of inner draws, (M,), tensors."""
    log_p = simulator.pairwise_log_density(outcome, parameters, design)
    return numerics.log_sum_exp(log_p + log_weights, axis=1)
