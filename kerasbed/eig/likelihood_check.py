r"""Does `log_likelihood` belong to `outcome`? A quick simulation that finds the common mistakes.

For two known laws p and q with draws y ~ p and y' ~ q, of whatever kind (continuous, discrete, mixed, of any support),

    E f(y) q(y) / (p(y) + q(y)) = E f(y') p(y') / (p(y') + q(y'))

since both are the integral of f p q / (p + q); the terms are bounded where f is, so that means of them have errors that
can be trusted (the identity of bridge sampling; Meng and Wong, 1996). It is asked for a few parameters theta:

1. p = p(y | theta) against a law q that imitates the simulated outcomes (`kerasbed.eig.imitation`), where there is one.
   It finds wrong constants, scales and laws of the noise.
2. p(y | theta) against p(y | theta'), theta' so near that the two overlap. It finds what the likelihood says wrongly
   about how outcomes change with parameters, for outcomes of every kind and any number of entries; what it cannot see,
   a factor that is the same for all parameters, changes no posterior and no EIG.

Where outcomes take few values, the frequency of each value must be its probability.
"""

import numpy as np
from keras import tree

from kerasbed.backend import errors
from kerasbed.backend.validation import checked, integer_seed
from kerasbed.designs import Design
from kerasbed.eig.bridge_identity import log_likelihood, simulate
from kerasbed.eig.imitation_check import against_imitation, check_all
from kerasbed.eig.leading_axes import check_leading_axes
from kerasbed.eig.neighbour_check import check_contrasts, neighbours
from kerasbed.eig.rollouts import refuse_policy
from kerasbed.eig.step_check import check_steps
from kerasbed.simulators import experiments, number_range
from kerasbed.simulators.simulator import Simulator

NUM_PARAMETERS = 3
# Share of simulated outcomes that may be impossible under their own parameters, by rounding.
IMPOSSIBLE = 0.001


@checked(seed=integer_seed)
def check_likelihood(simulator: Simulator, design: np.ndarray | dict[str, np.ndarray] | Design, seed: int = 0) -> None:
    """Check that `log_likelihood` broadcasts and is the density (or probability) of `outcome`.

    Args:
        simulator: the experiment.
        design: values of one design, (*shape) or a dict of those, or a space at its current values.
        seed: seed of the simulation.

    Raises:
        ValueError: no likelihood, leading axes that do not broadcast, a scale that is not positive, a likelihood that
        disagrees with the simulated outcomes, or numbers that float64 cannot tell apart.

    Warns:
        UnreliableWarning: steps of differential equations are too long at this design.

    Example:
        >>> class Counter(kb.Simulator):
        ...     prior, noise_shape = kb.Prior(level=stats.norm()), (1,)
        ...
        ...     def outcome(self, parameters, design, noise):
        ...         return design * parameters["level"] + noise
        ...
        ...     def log_likelihood(self, outcome, parameters, design):  # of noise that is twice as wide
        ...         z = (outcome - design * parameters["level"]) / 2
        ...         return ops.sum(-0.5 * z**2 - np.log(2 * np.sqrt(2 * np.pi)), axis=-1)
        >>> kb.eig.check_likelihood(Counter(), np.array([1.0]))
        Traceback (most recent call last):
        kerasbed.backend.errors.LikelihoodError: ...
    """
    refuse_policy(design, "kb.eig.check_likelihood", "the simulator and a design of one measurement")
    require_likelihood(simulator)
    values = experiments.lifted(design)
    rng = np.random.default_rng(seed)
    parameters = simulator.prior.sample(NUM_PARAMETERS, rng)
    outcomes = simulate(simulator, parameters, values, rng)
    if not np.all(np.isfinite(outcomes)):
        raise ValueError(
            f"{int(np.sum(~np.isfinite(outcomes)))} simulated outcome entries are not finite at this design."
        )
    number_range.refuse_rounded(simulator, outcomes)
    _check_broadcasting(simulator, outcomes[:, 0], parameters, values)
    fresh = simulate(simulator, parameters, values, rng)
    singles = [{name: block[i : i + 1] for name, block in parameters.items()} for i in range(NUM_PARAMETERS)]
    own = [log_likelihood(simulator, outcome, theta, values) for outcome, theta in zip(fresh, singles, strict=True)]
    _check_possible(simulator, own)
    found = [
        against_imitation(simulator, outcomes[i], fresh[i], own[i], theta, values, rng)
        for i, theta in enumerate(singles)
    ]
    check_all(simulator, [pair for pair in found if pair is not None])
    check_steps(simulator, design, seed)
    for partners in neighbours(simulator, singles, fresh, own, values):
        check_contrasts(simulator, singles, partners, fresh, own, values, rng)


def require_likelihood(simulator: Simulator) -> None:
    """Raise the simulator's own error when it has no likelihood."""
    if not simulator.has_likelihood:
        simulator.log_likelihood(None, {}, None)


def _check_broadcasting(simulator, outcome, parameters, design):
    num = NUM_PARAMETERS
    paired = log_likelihood(simulator, outcome, parameters, design)
    check_leading_axes(simulator, tree.map_structure(lambda leaf: leaf[0], design))
    spread = {name: block[None] for name, block in parameters.items()}
    lifted = tree.map_structure(lambda leaf: leaf[None], design)
    try:
        crossed = log_likelihood(simulator, outcome[:, None], spread, lifted)
    except Exception as error:
        raise errors.LikelihoodError(
            f"{type(simulator).__name__}.log_likelihood does not broadcast: outcomes with leading axes ({num}, 1) and "
            f"parameters with (1, {num}) raised {type(error).__name__}: {error}. Sum over axis=-1."
        ) from error
    if paired.shape != (num,) or crossed.shape != (num, num):
        raise errors.LikelihoodError(
            f"{type(simulator).__name__}.log_likelihood returned shape {paired.shape} for leading axes ({num},) and "
            f"{crossed.shape} for ({num}, 1) against (1, {num}), but exactly the broadcast leading axes were expected; "
            "sum over the axes of one outcome and no others."
        )
    if not np.allclose(np.diag(crossed), paired, rtol=1e-6, atol=1e-6, equal_nan=True):
        raise errors.LikelihoodError(
            f"{type(simulator).__name__}.log_likelihood gives other values when its arguments are broadcast; the "
            f"largest difference is {np.max(np.abs(np.diag(crossed) - paired)):.3g}. Sum over trailing axes only."
        )
    if np.any(np.isnan(paired)):
        raise errors.LikelihoodError(
            f"{type(simulator).__name__}.log_likelihood is NaN for {int(np.sum(np.isnan(paired)))} of {num} simulated "
            "outcomes; look for a scale that is zero or negative, or the log of a negative number."
        )


def _check_possible(simulator, own):
    """Outcomes must be possible under the parameters that they were simulated with."""
    values = np.concatenate(own)
    impossible = np.isneginf(values)
    if impossible.mean() > IMPOSSIBLE:
        name = f"{type(simulator).__name__}.log_likelihood"
        if impossible.all():
            raise errors.LikelihoodError(f"{name} is zero wherever outcomes were simulated.")
        raise errors.LikelihoodError(
            f"{name} does not match outcome: {impossible.sum()} of {values.size} simulated outcomes have likelihood "
            "zero under the parameters that they were simulated with. Check that both have the same support."
        )
