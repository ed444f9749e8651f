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

from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree
from scipy import special, stats

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.backend.validation import checked, integer_seed
from kerasbed.designs import Design
from kerasbed.eig.imitation import Imitation
from kerasbed.simulators import experiments, number_range
from kerasbed.simulators.simulator import Simulator, design_shape

NUM_PARAMETERS = 3
NUM_OUTCOMES = 1024
# With some hundred comparisons a check, 6 standard errors raise a false alarm less than once in a million checks.
ALARM = 6.0
ALARM_TAIL = 1e-9  # six standard errors of a normal law, on one side
# What is off by less than this has no visible effect on an EIG, however many standard errors it is.
NEGLIGIBLE = 0.05
# The same for a share of the outcomes.
VISIBLE = 0.02
# Importance weights carried by fewer draws than this say nothing.
LEAST_EFFECTIVE = 100
# Moments by importance weights raise an alarm by themselves where this share of the draws carries the weights.
EVEN = 0.5
# Weights p / q above this mean that q misses a part of p, such as a density that grows without end at an edge.
LARGE_WEIGHT = 4.0
# Share of simulated outcomes that may be impossible under their own parameters, by rounding.
IMPOSSIBLE = 0.001
# Two parameters are compared where their laws overlap at least so much (1/2 for equal ones).
OVERLAP = 0.15
MOST_HALVINGS = 12
MOST_FEATURES = 64
DISAGREE = (
    "simulated outcomes and the density that it claims for them disagree, by more than six standard errors. Is its "
    "scale far from that of the noise? Check the normalisation, and that the noise has the law it assumes."
)


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
    require_likelihood(simulator)
    values = experiments.lifted(design)
    rng = np.random.default_rng(seed)
    parameters = simulator.prior.sample(NUM_PARAMETERS, rng)
    outcomes = _simulate(simulator, parameters, values, rng)
    if not np.all(np.isfinite(outcomes)):
        raise ValueError(
            f"{int(np.sum(~np.isfinite(outcomes)))} simulated outcome entries are not finite at this design."
        )
    number_range.refuse_rounded(simulator, outcomes)
    _check_broadcasting(simulator, outcomes[:, 0], parameters, values)
    fresh = _simulate(simulator, parameters, values, rng)
    singles = [{name: block[i : i + 1] for name, block in parameters.items()} for i in range(NUM_PARAMETERS)]
    own = [_log_likelihood(simulator, outcome, theta, values) for outcome, theta in zip(fresh, singles, strict=True)]
    _check_possible(simulator, own)
    found = [
        _against_imitation(simulator, outcomes[i], fresh[i], own[i], theta, values, rng)
        for i, theta in enumerate(singles)
    ]
    _check_all(simulator, [pair for pair in found if pair is not None])
    for partners in _neighbours(simulator, singles, fresh, own, values):
        _check_contrasts(simulator, singles, partners, fresh, own, values, rng)


def require_likelihood(simulator: Simulator) -> None:
    """Raise the simulator's own error when it has no likelihood."""
    if not simulator.has_likelihood:
        simulator.log_likelihood(None, {}, None)


def _simulate(simulator, parameters, design, rng):
    """Outcomes at each of a few parameters, (parameters, NUM_OUTCOMES, *outcome_shape)."""
    num = len(next(iter(parameters.values())))
    noise = simulator.resolve_noise(design_shape(design)).draw(num * NUM_OUTCOMES, rng)
    repeated = {name: np.repeat(block, NUM_OUTCOMES, axis=0) for name, block in parameters.items()}
    outcomes = experiments.measured(simulator, repeated, design, noise, "float64")
    return outcomes.reshape(num, NUM_OUTCOMES, *outcomes.shape[1:]).astype("float64")


def _log_likelihood(simulator, outcome, parameters, design) -> np.ndarray:
    with backend.precision("float64"), backend.no_gradients():
        arguments = backend.to_tensor((outcome, parameters, design), "float64")
        return backend.to_numpy(simulator.log_likelihood(*arguments))


def _check_broadcasting(simulator, outcome, parameters, design):
    num = NUM_PARAMETERS
    paired = _log_likelihood(simulator, outcome, parameters, design)
    spread = {name: block[None] for name, block in parameters.items()}
    lifted = tree.map_structure(lambda leaf: leaf[None], design)
    try:
        crossed = _log_likelihood(simulator, outcome[:, None], spread, lifted)
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


# -- against a law that imitates the outcomes -------------------------------------------------------------------------


class Pair(NamedTuple):
    """Outcomes of p, and of another law q, with what both laws say about them; (num,) each but for `scores`."""

    log_p: np.ndarray
    log_q: np.ndarray
    log_p_of_q: np.ndarray
    log_q_of_q: np.ndarray
    scores: np.ndarray  # (num, entries): where in their range the entries are, roughly standard normal
    scores_of_q: np.ndarray
    inside: np.ndarray  # whether outcomes are in the region that is asked about
    inside_of_q: np.ndarray
    labels: np.ndarray  # patterns of atoms
    labels_of_q: np.ndarray
    described: tuple = ()  # patterns in words

    def log_weights(self) -> np.ndarray:
        """log p / q of the outcomes of q, the weights of importance sampling."""
        log_p = np.where(self.inside_of_q, np.nan_to_num(self.log_p_of_q, nan=-np.inf), -np.inf)
        return np.minimum(log_p - self.log_q_of_q, 700.0)


def _against_imitation(simulator, outcomes, fresh, own, theta, design, rng) -> Pair | None:
    """p(y | theta) and the law fitted to `outcomes`, at `fresh` ones; None where they cannot be compared."""
    shape, flat, fresh = outcomes.shape[1:], outcomes.reshape(len(outcomes), -1), fresh.reshape(len(fresh), -1)
    law = Imitation(flat)
    if law.is_told:
        _check_probabilities(simulator, law, flat, fresh, own)
    if not law.is_comparable or not len(law.kept):
        return None
    draws = law.sample(NUM_OUTCOMES, rng)
    log_p = _log_likelihood(simulator, draws.reshape(len(draws), *shape), theta, design)
    (log_q, z, inside), (log_q_of_q, z_of_q, inside_of_q) = law.evaluate(fresh), law.evaluate(draws)
    words = tuple(_described(law.patterns[index], law.atoms) for index in law.kept[:MOST_FEATURES])
    labels = law.places(fresh), law.places(draws)
    return Pair(own, log_q, log_p, log_q_of_q, z, z_of_q, inside, inside_of_q, *labels, words)


def _check_all(simulator, pairs):
    """Each pair by itself, then all together, which finds what is a little wrong for all parameters."""
    if len(pairs) > 1:
        arrays: list[Any] = [np.concatenate(parts) for parts in list(zip(*pairs, strict=True))[:-1]]
        joined = Pair(*arrays)
        pairs = [*pairs, joined]
    for pair in pairs:
        features = _law_features(pair.scores, pair.log_p, pair.log_q)
        features_of_q = _law_features(pair.scores_of_q, pair.log_p_of_q, pair.log_q_of_q)
        log_densities = pair.log_p, pair.log_q, pair.log_p_of_q, pair.log_q_of_q
        disagree = differs(*log_densities, features, features_of_q, pair.inside, pair.inside_of_q) is not None
        weights = np.exp(pair.log_weights())
        effective = weights.sum() ** 2 / max(np.sum(weights**2), np.finfo(float).tiny)
        if not disagree and effective < EVEN * len(weights):
            continue
        moment = _moment_that_is_off(pair, weights) if effective >= LEAST_EFFECTIVE else ""
        if disagree or moment:
            name = f"{type(simulator).__name__}.log_likelihood"
            raise errors.LikelihoodError(f"{name} does not match outcome: {moment or DISAGREE}")


def differs(
    log_p: np.ndarray,
    log_q: np.ndarray,
    log_p_of_q: np.ndarray,
    log_q_of_q: np.ndarray,
    features: np.ndarray,
    features_of_q: np.ndarray,
    inside: float | np.ndarray = 1.0,
    inside_of_q: float | np.ndarray = 1.0,
) -> tuple[float, float] | None:
    """By how much the two sides of the identity differ, and its standard error, for the worst feature that alarms.

    Terms of a rare kind may be missing among the draws of one side, and with them their variance: what one side has
    more than the other is counted as such terms, of size one.
    """
    with np.errstate(invalid="ignore"):
        left = np.nan_to_num(special.expit(log_q - log_p)) * inside
        right = np.nan_to_num(special.expit(log_p_of_q - log_q_of_q)) * inside_of_q
    left, right = left[:, None] * features, right[:, None] * features_of_q
    above = np.maximum(left, 0.0).mean(axis=0) - np.maximum(right, 0.0).mean(axis=0)
    below = np.minimum(left, 0.0).mean(axis=0) - np.minimum(right, 0.0).mean(axis=0)
    variance = left.var(axis=0, ddof=1) / len(left) + right.var(axis=0, ddof=1) / len(right)
    missing = (np.abs(above) + np.abs(below)) / min(len(left), len(right))
    off, error = np.abs(above + below), np.sqrt(variance + missing) + np.finfo(float).tiny
    worst = int(np.argmax(off / error))
    return (off[worst], error[worst]) if off[worst] > max(ALARM * error[worst], VISIBLE) else None


def _law_features(scores, log_p, log_q):
    """Bounded functions of outcomes: 1, the log ratio of the laws, location and spread of entries, (num, features)."""
    z = scores[:, :MOST_FEATURES]
    return np.column_stack([np.ones(len(z)), _bounded_ratio(log_p, log_q), np.tanh(z), np.tanh(z**2 / 2.0)])


def _bounded_ratio(log_p, log_q):
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.tanh(log_p - log_q))


def _check_probabilities(simulator, law, outcomes, fresh, own):
    """The frequency of each value without a continuous entry must be its probability."""
    discrete = np.array([place for place, index in enumerate(law.kept) if not np.any(law.patterns[index] < 0)], int)
    if not len(discrete):
        return
    places, places_of_fresh = law.places(outcomes), law.places(fresh)
    counts = np.bincount(places[places >= 0], minlength=len(law.kept))
    counts += np.bincount(places_of_fresh[places_of_fresh >= 0], minlength=len(law.kept))
    seen = np.isin(places_of_fresh, discrete)
    _, first = np.unique(places_of_fresh[seen], return_index=True)
    rows = np.nonzero(seen)[0][first]
    if not len(rows):
        return
    num, count = len(outcomes) + len(fresh), counts[places_of_fresh[rows]]
    claimed = np.exp(np.minimum(own[rows], 700.0))
    chance = np.minimum(claimed, 1.0)
    tails = np.minimum(stats.binom.cdf(count, num, chance), stats.binom.sf(count - 1, num, chance))
    off = np.abs(claimed - count / num) > NEGLIGIBLE * np.maximum(claimed, count / num)
    worst = int(np.argmin(np.where(off, tails, 1.0) - (claimed > 1.0 + NEGLIGIBLE)))
    if off[worst] and (tails[worst] < ALARM_TAIL or claimed[worst] > 1.0 + NEGLIGIBLE):
        raise errors.LikelihoodError(
            f"{type(simulator).__name__}.log_likelihood does not match outcome: a value seen with frequency "
            f"{count[worst] / num:.4f} in {num} simulations has probability {claimed[worst]:.4g}. Check constants such "
            "as binomial coefficients, and that both use the same law."
        )


def _moment_that_is_off(pair, weights) -> str:
    """What disagrees by importance weights p / q, in words: the integral, a mean or a variance; "" where nothing."""
    if not np.any(pair.inside):
        return ""  # no two outcomes are of the same kind: nothing to weigh
    inside = pair.inside / pair.inside.mean()  # given the range that was seen
    weights = weights / pair.inside.mean()
    has_tail = weights.max() > LARGE_WEIGHT
    found, expected, names = [weights], [inside], ["integral"]
    for place, words in enumerate(pair.described if len(pair.described) > 1 else ()):
        found.append(weights * (pair.labels_of_q == place))
        expected.append(inside * (pair.labels == place))
        names.append(f"probability of {words}")
    for power, word in ((1, "mean"), (2, "variance")):
        found += list((weights[:, None] * pair.scores_of_q**power).T)
        expected += list((inside[:, None] * pair.scores**power).T)
        names += [f"{word} of entry {i}" for i in range(pair.scores.shape[1])]
    for name, a, b in zip(names, found, expected, strict=True):
        # Where weights have a tail, a few large ones may be missing, and their variance with them: as in `differs`.
        lacking = np.abs(a).max() * max(np.abs(b).mean() - np.abs(a).mean(), 0.0) if has_tail else 0.0
        error = np.sqrt((a.var(ddof=1) + b.var(ddof=1) + lacking) / len(a))
        if abs(a.mean() - b.mean()) > max(ALARM * error, NEGLIGIBLE):
            return (
                f"its {name} is {a.mean():.4f}, but {b.mean():.4f} was simulated (in standard deviations of the "
                f"outcome, as normal scores; error {error:.2g}). Check the normalisation, the scale, and that the "
                "noise has the law that the likelihood assumes."
            )
    return ""


def _described(pattern, atoms):
    """A pattern of atoms in words."""
    fixed = [f"entry {i} at {atoms[i][code]:.4g}" for i, code in enumerate(pattern) if code >= 0]
    return "outcomes with " + (", ".join(fixed[:4]) + (", ..." if len(fixed) > 4 else "") or "no repeated value")


# -- against the likelihood of other parameters -----------------------------------------------------------------------


def _neighbours(simulator, singles, outcomes, own, design):
    """Lists of a partner for each parameter: on the way to another draw of the prior, and where some are discrete, it.

    The way is halved, in unconstrained coordinates, until the likelihood says that outcomes overlap.
    """
    prior = simulator.prior
    others = singles[1:] + singles[:1]
    near = []
    if len(prior.discrete) < len(prior.names):
        for theta, other, outcome, log_p in zip(singles, others, outcomes, own, strict=True):
            for halvings in range(MOST_HALVINGS):
                partner = _between(prior, theta, other, 0.5**halvings)
                log_q = _log_likelihood(simulator, outcome, partner, design)
                with np.errstate(invalid="ignore"):
                    overlap = np.mean(np.nan_to_num(special.expit(log_q - log_p)))
                if overlap >= OVERLAP:
                    break
            near.append(partner)
    return ([near] if near else []) + ([others] if prior.discrete else [])


def _between(prior, theta, other, fraction):
    """A parameter part of the way from theta to another; discrete parameters stay."""
    with backend.precision("float64"), backend.no_gradients():
        tensors = [backend.to_tensor(given, "float64") for given in (theta, other)]
        start, end = (ops.convert_to_numpy(prior.to_unconstrained(given)[0]) for given in tensors)
        moved = prior.from_unconstrained(backend.to_tensor(start + fraction * (end - start), "float64"))
        moved = backend.to_numpy(moved)
    return {name: theta[name] if name in prior.discrete else moved[name] for name in prior.names}


def _check_contrasts(simulator, singles, partners, outcomes, own, design, rng):
    """Compare p(y | theta) with p(y | theta') for each pair."""
    stacked = {name: np.concatenate([partner[name] for partner in partners]) for name in partners[0]}
    simulated = _simulate(simulator, stacked, design, rng)
    for theta, partner, left, right, log_p in zip(singles, partners, outcomes, simulated, own, strict=True):
        if not np.all(np.isfinite(right)):
            continue  # between two draws of a prior there may be parameters that it never draws
        log_q, log_q_of_q = (_log_likelihood(simulator, y, partner, design) for y in (left, right))
        log_p_of_q = _log_likelihood(simulator, right, theta, design)
        features = _contrast_features(left, right, (log_p, log_q), (log_p_of_q, log_q_of_q))
        found = differs(log_p, log_q, log_p_of_q, log_q_of_q, *features)
        if found is not None:
            raise errors.LikelihoodError(
                f"{type(simulator).__name__}.log_likelihood does not match outcome: between the parameters "
                f"{_told(theta)} and {_told(partner)} simulated outcomes change in another way than it says "
                f"(by a share of {found[0]:.3f} +- {found[1]:.2g}). Check that both use the same parameters, scale and "
                "law of the noise, and that it is -inf, and not NaN, where an outcome is impossible."
            )


def _contrast_features(left, right, of_left, of_right):
    """As `_law_features`, with entries relative to their middle and spread, for both sets of outcomes."""
    left, right = (y.reshape(len(y), -1) for y in (left, right))
    if left.shape[1] > MOST_FEATURES:
        chosen = np.random.default_rng(0).choice(left.shape[1], MOST_FEATURES, replace=False)
        left, right = left[:, chosen], right[:, chosen]
    both = np.concatenate([left, right])
    middle = np.median(both, axis=0)
    spread = np.median(np.abs(both - middle), axis=0)
    spread = np.where(spread > 0, spread, np.where(both.std(axis=0) > 0, both.std(axis=0), 1.0))
    for y, (log_p, log_q) in ((left, of_left), (right, of_right)):
        z = np.clip((y - middle) / spread, -1e6, 1e6)
        squares = z**2 / (1.0 + z**2)
        yield np.column_stack([np.ones(len(y)), _bounded_ratio(log_p, log_q), np.tanh(z), squares])


def _told(theta) -> str:
    """A parameter in words."""
    parts = [f"{name} = {', '.join(f'{value:.4g}' for value in block.ravel()[:4])}" for name, block in theta.items()]
    return "{" + "; ".join(parts[:4]) + (", ..." if len(parts) > 4 else "") + "}"
