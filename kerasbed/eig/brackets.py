"""Which bounds bracket the EIG of a design or of a policy: `bracket`, and how its method is chosen.

| method        | evidence of an experiment by                  | needs                     | serves                 |
|---------------|-----------------------------------------------|---------------------------|------------------------|
| "contrastive" | draws of the prior (`nested_bounds`)          | a likelihood              | up to some 7 nats      |
| "annealed"    | annealed chains (`annealed_bounds`)           | and a density, in ops     | large EIGs, policies   |
| "posterior"   | draws of a network (`posterior_bounds`)       | a density, a good network | the same, in less time |
| "grid"        | integration (`integration`, `exact_evidence`) | at most three parameters  | exact, up to the draws |
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree

from kerasbed.backend import errors
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer, several
from kerasbed.designs import Design
from kerasbed.eig.annealed_bounds import annealed_bracket
from kerasbed.eig.chain_space import ChainSpace
from kerasbed.eig.contrastive_bounds import contrastive_bracket
from kerasbed.eig.estimate import Bracket, EIGEstimate
from kerasbed.eig.integration import grid
from kerasbed.eig.likelihood_check import check_likelihood, require_likelihood
from kerasbed.eig.nested_bounds import BLOCK_ENTRIES, nested_bracket
from kerasbed.eig.posterior_bounds import posterior_bracket
from kerasbed.eig.rollouts import is_policy, roll_out
from kerasbed.priors.atlas import is_finite
from kerasbed.simulators.sequence import Sequence
from kerasbed.simulators.simulator import Simulator
from kerasbed.targets import Target

METHODS = ("annealed", "contrastive", "posterior", "grid")
NUM_OUTER = {"contrastive": 2048, "annealed": 1024, "posterior": 1024, "grid": 20_000}
NUM_INNER = 16_384  # of the prior, for one design
NUM_CONTRASTS = 2**17  # of the prior, for a policy, whose EIG is larger
MOST_COORDINATES = 64  # in which random walks find their way


@checked(
    num_outer=optional(several),
    num_inner=optional(several),
    seed=integer_seed,
    block=positive_integer,
    num_nuisance=positive_integer,
    num_chains=positive_integer,
    num_temperatures=optional(positive_integer),
    num_draws=several,
)
def bracket(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    num_outer: int | None = None,
    num_inner: int | None = None,
    seed: int = 0,
    *,
    method: str | None = None,
    block: int = BLOCK_ENTRIES,
    check: bool = True,
    target: str | list | Callable | Target | None = None,
    num_nuisance: int = 4096,
    num_chains: int = 64,
    num_temperatures: int | None = None,
    posterior: Any = None,
    num_draws: int = 4096,
) -> EIGEstimate:
    """Lower and upper bound of the EIG at one design, or of a whole policy.

    Args:
        simulator: an experiment with a `log_likelihood`; for a policy that of one measurement, or a `kerasbed.Sequence`
            of as many as the policy makes.
        design: values (*shape), a dict of those, a space at its current values, or a policy of `kerasbed.policies`.
        num_outer: M, at least 2; the standard errors fall like 1 / sqrt(M). Default 2,048 with prior draws, 1,024 else.
        num_inner: L, draws of the prior, at least 2; about 10 exp(EIG) brings the lower bound to 95% of the EIG, about
            500 exp(EIG) the upper bound within 1% where the prior has light tails. Default 16,384, or 131,072 for a
            policy. Given along with another method, for a policy: these bounds stand `beside` the bracket.
        seed: seed of all draws; equal seeds give equal parameters and noise, also to a policy.
        method: "contrastive" (PCE and NMC by draws of the prior; default for one design), "annealed" (chains; default
            for a policy where they can move, and the one for EIGs above 7 nats), "posterior" (draws of a network), or
            "grid" (exact but for the draws; default for a policy with one parameter or discrete ones).
        block: numbers held at once by prior draws at one design.
        check: first compare the likelihood with simulated outcomes (`check_likelihood`).
        target: a parameter's name or a list of names, where the EIG about these alone is wanted; the others must be
            independent of them in the prior, or depend on them in a hierarchical one. For one design and prior draws.
        num_nuisance: K, draws of the others for each outcome; for a target with few values, L for each value serve.
        num_chains: K, annealed chains for each experiment.
        num_temperatures: n of these; None: as many as the bounds of a pilot need to close, at most 4,000.
        posterior: trained network for "posterior", `model.posterior`, or an object with `sample_q(history, num, seed)
            -> {name: (M, num, d)}` and `log_q(parameters, history) -> (M, num)`.
        num_draws: N of these for each experiment.

    Returns:
        `kerasbed.eig.Bracket` with lower, lower_se, upper, upper_se in nats, the width, the ceiling log(L + 1), the
        effective number of draws and the cost; `EIGEstimate` by a grid.

    Raises:
        NotImplementedError: the simulator has no likelihood.
        ValueError: too few draws, an unknown method or one that the prior does not allow, a likelihood that does not
            match `outcome` or is NaN, or a target given which the other parameters cannot be drawn.

    Warns:
        SaturatedWarning: the lower bound comes near log(L + 1).
        PoorFitWarning: the posterior network is a poor proposal.
        UnreliableWarning: the bounds do not close, outcomes are impossible under every draw or far from all of them, or
            what `kerasbed.eig.reliability.checked` looks for.

    Example:
        >>> estimate = kb.eig.bracket(kb.problems.LinearGaussian(), np.array([0.5, 0.5]), 512, 1024)
        >>> estimate.lower - 4 * estimate.lower_se < 0.5 * np.log(8.25) < estimate.upper + 4 * estimate.upper_se
        True
    """
    require_likelihood(simulator)
    method = method_for(simulator, design) if method is None else method
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, but one of {METHODS} was expected.")
    outer = NUM_OUTER[method] if num_outer is None else num_outer
    if target is not None and (method != "contrastive" or is_policy(design)):
        raise ValueError("A target goes with method='contrastive' at one design; leave target= out, or pass both.")
    if method == "contrastive" and not is_policy(design):
        sizes = {"block": block, "check": check, "target": target, "num_nuisance": num_nuisance}
        return nested_bracket(simulator, design, outer, NUM_INNER if num_inner is None else num_inner, seed, **sizes)
    if check:
        check_likelihood(*_one_design(simulator, design), seed)
    if method == "grid":
        found: EIGEstimate = grid(simulator, design, outer, seed=seed)
    elif method == "annealed":
        found = annealed_bracket(simulator, design, outer, num_chains, num_temperatures, seed)
    else:
        rollouts = roll_out(simulator, design, outer, seed)
        if method == "contrastive":
            return contrastive_bracket(rollouts, NUM_CONTRASTS if num_inner is None else num_inner, seed)
        found = posterior_bracket(rollouts, posterior, num_draws, seed)
    return found if num_inner is None else _with_contrasts(found, simulator, design, outer, num_inner, seed)


def _one_design(simulator, design):
    """What the likelihood is compared with outcomes at: of a policy the first measurement, at a place in its space."""
    if not is_policy(design):
        return simulator, design
    single = simulator.single if isinstance(simulator, Sequence) else simulator
    return Sequence(single, 1), tree.map_structure(lambda leaf: leaf[0, :1], design.sample(1, 0))


def _with_contrasts(found, simulator, design, num_outer, num_inner, seed):
    """A bracket with the bounds by prior draws beside it, on the same experiments."""
    if not isinstance(found, Bracket):  # exact
        return found
    rollouts = roll_out(simulator, design, num_outer, seed)
    return dataclasses.replace(found, beside=contrastive_bracket(rollouts, num_inner, seed))


def method_for(simulator: Simulator, design: Any) -> str:
    """The method that brackets a design's EIG unless one is asked for."""
    if not is_policy(design):
        return "contrastive"
    prior = simulator.prior
    if is_finite(prior) or (prior.dim == 1 and prior.has_density):
        return "grid"
    return "annealed" if prior.dim <= MOST_COORDINATES and _can_anneal(prior) else "contrastive"


def _can_anneal(prior) -> bool:
    try:
        ChainSpace(prior)
    except (ValueError, errors.NoDensityError):
        return False
    return True
