r"""Draws of an amortised posterior that the likelihood rules out.

Where the support of the outcome depends on the parameters (x ~ U(0, u)), a network's density leaks to parameters under
which the data have probability zero. With A(y) the parameters under which y is possible, what is used in its place is

    q_A(theta | y) = q(theta | y) 1{theta in A(y)} / q(A(y) | y):

draws of q are rejected until they are possible, and log q(A(y) | y) is found from draws where a density is asked for.
Where more than 1% leaks, q is smooth over an edge that the posterior has, and so is wrong inside as well: it then
serves as a proposal, with weights w = p(y | theta) p(theta) / q(theta | y). Draws are resampled by w from a pool, and
log densities are log p(y | theta) p(theta) - log mean w, as long as enough draws carry the weights.
"""

from collections.abc import Callable

import numpy as np
from scipy import special

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.backend.blocks import in_blocks, rows_of
from kerasbed.networks.posterior import Posterior
from kerasbed.priors.base import Parameters
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator

ROUNDS = 30
# Of all draws; fewer impossible ones are replaced without a word.
TOLD = 0.01
NUM_PAIRS = 512
NUM_SHARE = 1024  # draws from which q(A(y) | y) is found
POOL = 4096  # weighted draws for a data set, at least
LEAST_EFFECTIVE = 200  # of them, for a corrected posterior


def is_possible(
    simulator: Simulator, outcome: np.ndarray, parameters: Parameters, design: np.ndarray | dict
) -> np.ndarray:
    """Whether outcomes are possible under parameters, in the shape of the leading axes; NaN counts as possible."""
    with backend.precision("float64"), backend.no_gradients():
        arguments = backend.to_tensor((outcome, parameters, design), "float64")
        return ~np.isneginf(backend.to_numpy(simulator.log_density(*arguments)))


def log_joint(
    simulator: Simulator, outcome: np.ndarray, parameters: Parameters, design: np.ndarray | dict
) -> np.ndarray:
    """log p(y | theta) p(theta), -inf where either is impossible, in the shape of the leading axes."""
    with backend.precision("float64"), backend.no_gradients():
        arguments = backend.to_tensor((outcome, parameters, design), "float64")
        log_p = backend.to_numpy(simulator.log_density(*arguments)) + simulator.prior.log_prob(parameters)
    return np.nan_to_num(log_p, nan=-np.inf, neginf=-np.inf)


def weighted_draws(
    simulator: Simulator,
    posterior: Posterior,
    encoded: np.ndarray,
    outcome: np.ndarray,
    design: np.ndarray | dict,
    num: int,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws of the posterior for one data set and their log weights: {name: (num, d)}, (num,).

    Args:
        encoded, outcome, design: of the data set, with a leading axis of one.
    """

    def weighted(base, encoded):
        with backend.no_gradients():
            draws, log_q = backend.to_numpy(posterior.sample_with_log_prob(*backend.cast((base, encoded))))
        return draws, log_joint(simulator, outcome, draws, design) - log_q

    base = rng.standard_normal((num, posterior.base_dim))
    draws, log_weights = in_blocks(weighted, base, np.repeat(encoded, num, axis=0))
    return draws, np.nan_to_num(log_weights, nan=-np.inf, neginf=-np.inf)


def is_enough(log_weights: np.ndarray) -> bool:
    """Whether enough draws carry the weights."""
    if np.all(np.isneginf(log_weights)):
        return False
    return 2.0 * special.logsumexp(log_weights) - special.logsumexp(2.0 * log_weights) >= np.log(LEAST_EFFECTIVE)


def support_varies(simulator: Simulator, design: np.ndarray | dict) -> bool:
    """Whether outcomes at one design (1, *shape) are impossible under other draws of the prior."""
    rng = np.random.default_rng(0)
    parameters, noise = experiments.draw(simulator, design, NUM_PAIRS, rng)
    outcome = experiments.measured(simulator, parameters, design, noise)
    others = {name: np.roll(values, 1, axis=0) for name, values in parameters.items()}
    finite = np.all(np.isfinite(outcome.reshape(NUM_PAIRS, -1)), axis=1)
    return bool(np.any(~is_possible(simulator, outcome, others, design) & finite))


def possible_draws(
    simulator: Simulator,
    draw: Callable[[int], dict[str, np.ndarray]],
    outcome: np.ndarray,
    design: np.ndarray | dict,
    num: int,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Draws under which the data are possible.

    Args:
        simulator: with a likelihood.
        draw: round -> {name: (datasets, num, d)}, draws of the posterior; each round its own.
        outcome: (datasets, *outcome_shape).
        design: one (1, *shape) or one for each data set, or dicts of those.
        num: draws for each data set.

    Returns:
        The draws, {name: (datasets, num, d)}, the share of impossible ones in the first round, (datasets,), and how
        many are still impossible after the last, (datasets,).
    """
    found = draw(0)
    possible = of_draws(simulator, outcome, found, design)
    share = 1.0 - possible.mean(axis=1)
    for index in range(1, ROUNDS):
        if possible.all() or not np.any(possible.any(axis=1) | (index < 4)):
            break
        fresh = draw(index)
        accepted = of_draws(simulator, outcome, fresh, design)
        for row in np.nonzero(~possible.all(axis=1))[0]:
            free, new = np.nonzero(~possible[row])[0], np.nonzero(accepted[row])[0]
            count = min(len(free), len(new))
            for name in found:
                found[name][row, free[:count]] = fresh[name][row, new[:count]]
            possible[row, free[:count]] = True
    return found, share, num - possible.sum(axis=1)


def of_draws(simulator: Simulator, outcome: np.ndarray, draws: Parameters, design: np.ndarray | dict) -> np.ndarray:
    """`is_possible` of draws for each data set, (datasets, num), in blocks of draws."""
    count, num = next(iter(draws.values())).shape[:2]
    flat = {name: values.reshape(-1, values.shape[-1]) for name, values in draws.items()}

    def possible(parameters, rows):
        return is_possible(simulator, outcome[rows], parameters, rows_of(design, rows))

    return in_blocks(possible, flat, np.repeat(np.arange(count), num)).reshape(count, num)


def warn_impossible(share: np.ndarray, left: np.ndarray, corrected: np.ndarray) -> None:
    """Say which share of the posterior was impossible, what was done, and where no possible draw was found."""
    if np.any(left > 0):
        errors.warn(
            f"For {np.sum(left > 0)} of {len(left)} data sets the amortised posterior gives too few parameters under "
            f"which the data are possible ({share.max():.1%} of its draws are impossible under the likelihood); up to "
            f"{int(left.max())} impossible draws of a data set are left. Check that the data are possible, or train "
            "longer.",
            errors.PoorFitWarning,
        )
    elif share.mean() > TOLD:
        leaks = np.sum(share > TOLD)
        done = f"were replaced: by importance weights for {int(corrected.sum())} of {leaks} such data sets, else by "
        errors.warn(
            f"{share.mean():.1%} of the amortised draws (up to {share.max():.1%} for a data set) are impossible under "
            f"the likelihood; they {done}rejection, which leaves the others as they are. The posterior's edge, which "
            "depends on the data, is not learned: train longer, or compare with kb.reference or kb.variational.",
            errors.PoorFitWarning,
        )
