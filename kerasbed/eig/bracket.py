"""A certificate for the EIG: a lower and an upper bound with standard errors from the same draws.

For theta_m, y_m ~ p(theta) p(y | theta, xi), m = 1..M, and L further draws theta'_n of the prior,

    upper (nested Monte Carlo; Rainforth et al., 2018)     log p(y_m|theta_m) - log 1/L sum_n p(y_m|theta'_n)
    lower (prior contrastive; Foster et al., 2020)         log p(y_m|theta_m)
                                                             - log 1/(L+1) [p(y_m|theta_m) + sum_n p(y_m|theta'_n)]

are averaged over m. By Jensen's inequality the first is above the EIG in expectation and the second below it; the
second cannot exceed log(L + 1), and both close in like 1/L. The draws theta'_n are shared by all outer draws, so that
a matrix product serves where the simulator has one. Sharing adds nothing to the standard error at first order: a draw
theta' enters the average over m through mean_m p(y_m|theta') / p(y_m), whose expectation is 1 for every theta'.

For a target, some of the parameters by name, p(y | theta) becomes p(y | t); see `kerasbed.eig.target_terms`.

The sum over n runs through blocks and is kept as a running log-sum-exp, so that memory depends on the block alone.
"""

import warnings

import numpy as np
from keras import tree

from kerasbed import backend, numerics, pairs
from kerasbed.eig import target_terms
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.likelihood_check import check_likelihood, require_likelihood
from kerasbed.simulators import Simulator, design_shape, design_values
from kerasbed.targets import Target

# Outcome entries x pairs in memory at once: 16 MB for each intermediate array in float64.
BLOCK_ENTRIES = 2**21
# The lower bound reaches 95% of an EIG of I nats when L + 1 is about ten times exp(I).
HEADROOM = float(np.log(10.0))


def bracket(
    simulator: Simulator,
    design,
    num_outer: int = 2048,
    num_inner: int = 16384,
    seed: int = 0,
    block: int = BLOCK_ENTRIES,
    check: bool = True,
    target=None,
    num_nuisance: int = 4096,
) -> EIGEstimate:
    """Lower (PCE) and upper (NMC) bound of the EIG at one design, in float64.

    Args:
        simulator: an experiment with a `log_likelihood`.
        design: values (*shape), a dict of those, or a space at its current values.
        num_outer: M, at least 2; the standard errors fall like 1 / sqrt(M).
        num_inner: L, at least 2; about 10 exp(EIG) makes the bounds meet within 5%, more closes them further.
        seed: seed of all draws.
        block: numbers held at once; a number for every pair, times the outcome's size where the simulator has no matrix
            product for its pairs.
        check: first compare the likelihood with simulated outcomes (`check_likelihood`).
        target: a parameter's name or a list of names, where the EIG about these alone is wanted; the others must be
            independent of them in the prior, or depend on them in a hierarchical one.
        num_nuisance: K, draws of the others for each outcome; for a target with few values, L for each value serve.

    Returns:
        `EIGEstimate` with lower, lower_se, upper, upper_se in nats.

    Raises:
        NotImplementedError: the simulator has no likelihood.
        ValueError: too few draws, a likelihood that does not match `outcome` or is NaN, or a target given which the
            other parameters cannot be drawn.

    Warns:
        UserWarning: the lower bound comes near log(L + 1), or outcomes are impossible under every inner draw.
    """
    require_likelihood(simulator)
    if check:
        check_likelihood(simulator, design, seed)
    contributions = Contributions(simulator, num_outer, num_inner, block, target, num_nuisance)
    return summarise(*contributions.at(design, seed), num_inner, contributions.method)


def summarise(lower: np.ndarray, upper: np.ndarray, num_inner: int, note: str = "") -> EIGEstimate:
    """Means and standard errors of contributions (M,), with warnings where they mean less than they seem to."""
    impossible = int(np.sum(np.isposinf(upper)))
    if impossible:
        warnings.warn(
            f"{impossible} of {len(upper)} outcomes have likelihood zero under all {num_inner} inner draws, so the "
            "upper bound is infinite. Raise num_inner, or take proposals from a posterior network.",
            UserWarning,
            stacklevel=3,
        )
        upper_value, upper_se = np.inf, np.inf
    else:
        upper_value, upper_se = numerics.mean_and_error(upper)
    lower_value, lower_se = numerics.mean_and_error(lower)
    ceiling = float(np.log(num_inner + 1.0))
    if lower_value > ceiling - HEADROOM:
        warnings.warn(
            f"The lower bound, {lower_value:.3f} nats, is near its ceiling log(L + 1) = {ceiling:.3f}, so the EIG may "
            f"be well above it; the upper bound is {upper_value:.3f}. Raise num_inner to at least "
            f"{10.0 * np.exp(min(max(upper_value, lower_value), 50.0)):.3g}.",
            UserWarning,
            stacklevel=3,
        )
    method = f"PCE and NMC, {len(lower)} outer x {num_inner} inner draws{note}"
    return EIGEstimate(lower_value, lower_se, upper_value, upper_se, method)


class Contributions:
    """Per-draw terms of both bounds at any number of designs of one shape; the sum over inner draws is compiled once.

    Equal seeds give equal parameters and noise at every design, so that differences between designs are paired.
    """

    def __init__(self, simulator, num_outer, num_inner, block=BLOCK_ENTRIES, target=None, num_nuisance=4096):
        sizes = {"num_outer": num_outer, "num_inner": num_inner, "block": block, "num_nuisance": num_nuisance}
        for name, value in sizes.items():
            if int(value) != value or value < 2:
                raise ValueError(f"{name} is {value!r}, but an estimate with an error needs an integer of at least 2.")
        self.simulator, self.num_outer, self.num_inner, self.block = simulator, int(num_outer), int(num_inner), block
        self.target, self.num_nuisance, self.method = None, int(num_nuisance), ""
        if target is not None:
            self.target = target if isinstance(target, Target) else Target(simulator.prior, target)
            target_terms.check_target(simulator.prior, self.target)
            self.method = ", inner sums over the parameters that are not the target"
        self._use(simulator)

    def _use(self, simulator):
        """Evaluate the pairs as this simulator does."""
        self.simulator, self.pair_check = simulator, pairs.PairCheck(simulator)
        self.measure = backend.compile_function(simulator.measure, compiled=False)
        self.own = backend.compile_function(simulator.log_likelihood, compiled=False)
        self.add_block = backend.compile_function(self._add_block)

    def at(self, design, seed) -> tuple[np.ndarray, np.ndarray]:
        """Terms whose means are the lower and the upper bound, (M,) each."""
        if self.target is not None:
            return self._of_target(design, seed)
        own, evidence_sum, _ = self.draws(design, seed)
        lower = own - np.logaddexp(own, evidence_sum) + np.log(self.num_inner + 1.0)
        return lower, own - evidence_sum + np.log(self.num_inner)

    def _of_target(self, design, seed):
        own, parameters, outcome, values, rng = self._outer(design, seed)
        if target_terms.has_few_values(self.target):
            return target_terms.by_values(self, self.target, own, outcome, parameters, values, rng)
        evidence_sum = self.evidence_sum(outcome, values, lambda count: self.simulator.prior.sample(count, rng))
        below, above = target_terms.log_likelihood(
            self, self.target, self.num_nuisance, own, outcome, parameters, values, rng
        )
        lower = below - np.logaddexp(own, evidence_sum) + np.log(self.num_inner + 1.0)
        return lower, above - evidence_sum + np.log(self.num_inner)

    def draws(self, design, seed):
        """log p(y_m | theta_m), log sum_n p(y_m | theta'_n), and the outer draws (parameters, outcome)."""
        own, parameters, outcome, values, rng = self._outer(design, seed)
        evidence_sum = self.evidence_sum(outcome, values, lambda count: self.simulator.prior.sample(count, rng))
        return own, evidence_sum, (parameters, outcome)

    def _outer(self, design, seed):
        """log p(y_m | theta_m), parameters and outcomes of the outer draws, the design, and a stream for the inner."""
        streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)]
        values = tree.map_structure(lambda leaf: leaf[None], design_values(design))
        if not self.pair_check.product_is_exact(values):
            self._use(pairs.with_direct_pairs(self.simulator))
        parameters = self.simulator.prior.sample(self.num_outer, streams[0])
        noise_shape = self.simulator.resolve_noise_shape(design_shape(values))
        noise = self.simulator.draw_noise(self.num_outer, noise_shape, streams[1])
        outcome = self.measure(parameters, values, noise)
        own = self.own(outcome, parameters, values)
        if not np.all(np.isfinite(own)):
            raise ValueError(
                f"log_likelihood is not finite at {int(np.sum(~np.isfinite(own)))} of {self.num_outer} simulated "
                "outcomes; an outcome must be possible under its own parameters. Check scales, supports and logs."
            )
        return own, parameters, outcome, values, streams[2]

    def evidence_sum(self, outcome, design, sample, num_inner=None) -> np.ndarray:
        """log sum_n p(y_m | theta'_n) over draws `sample(count)` of the parameters, (M,)."""
        num_inner = self.num_inner if num_inner is None else num_inner
        rows, columns = self._block_shape(int(np.prod(outcome.shape[1:])))
        total = np.full(self.num_outer, -np.inf)
        for start in range(0, num_inner, columns):
            count = min(columns, num_inner - start)
            parameters = sample(count)
            padded = {name: np.resize(draws, (columns, *draws.shape[1:])) for name, draws in parameters.items()}
            log_weights = np.where(np.arange(columns) < count, 0.0, -np.inf)
            for first in range(0, self.num_outer, rows):
                of_outer = np.arange(first, first + rows) % self.num_outer
                real = of_outer[: self.num_outer - first]
                found = self.add_block(outcome[of_outer], padded, design, log_weights)
                total[real] = np.logaddexp(total[real], found[: len(real)])
        if np.any(np.isnan(total)):
            raise ValueError(
                f"log_likelihood is NaN for pairs of {int(np.sum(np.isnan(total)))} outcomes with other parameters; it "
                "must be -inf where an outcome is impossible. Look for 0 * inf and logs of negative numbers."
            )
        return total

    def _block_shape(self, outcome_size) -> tuple[int, int]:
        """Outer and inner draws of a block, as square as the numbers of draws allow."""
        pairs = max(1, self.block // (1 if self.simulator.has_pairwise_product else outcome_size))
        rows = min(self.num_outer, max(int(np.sqrt(pairs)), pairs // self.num_inner, 1))
        return rows, min(self.num_inner, max(1, pairs // rows))

    def _add_block(self, outcome, parameters, design, log_weights):
        log_p = self.simulator.pairwise_log_likelihood(outcome, parameters, design)
        return numerics.log_sum_exp(log_p + log_weights, axis=1)
