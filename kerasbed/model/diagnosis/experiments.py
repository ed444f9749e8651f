r"""Checks by fresh experiments with a known likelihood: one small program for all of them, and NumPy.

For M draws theta_m, y_m at a design and L draws theta'_l of the prior, the program gives log p(y_m | theta_m) and the
matrix log p(y_m | theta'_l), in float64. From them come the prior contrastive bound (Foster et al., 2020) with any
number of contrasts, block by block; with theta' = theta the in-batch bound, whose diagonal must repeat the first terms,
else the simulator's product for pairs loses digits here and pairs are evaluated one by one.
"""

from collections.abc import Sequence

import numpy as np

from kerasbed import backend
from kerasbed.backend import number_range, numerics, streams
from kerasbed.backend.programs import compiled
from kerasbed.eig import reliability, step_check
from kerasbed.eig.study import Study
from kerasbed.model.diagnosis.findings import ALARM, ALARMING, GOOD, OPEN, Finding
from kerasbed.simulators import experiments, pairs

OUTER = 256  # experiments of a block, and parameters they are contrasted with
BLOCKS = 8  # of contrasts where a bound is compared with the learned one
REPEATS = 8  # of the noise at fixed parameters
SAME = 1e-3  # nats by which two forms of a likelihood may differ
SHARE = 0.05  # of the bound, that a learned one may lack
LEAST_EFFECTIVE = 3.0  # draws of the prior that count for an outcome
EDGE = 0.01  # of a space's width
CHECKS = ("gap", "inner weights", "outer terms")  # of `gap`


class Pairs:
    """Likelihoods of experiments at designs, for common draws of a study.

    Args:
        study: with a likelihood of all parameters.
        seed: of the draws.
    """

    ceiling = float(np.log(OUTER))  # of `terms`

    def __init__(self, study: Study, seed: int | Sequence[int]):
        self.study, self.seed = study, seed
        self.shape = experiments.lifted(study.design)
        self._use(study.simulator)

    def _use(self, simulator):
        self.simulator, self.evaluate = simulator, compiled(_pairs, simulator)

    def draw(self, purpose: str, index: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Parameters and noise of `OUTER` experiments."""
        return experiments.draw(self.simulator, self.shape, OUTER, streams.of(self.seed, f"diagnosis {purpose}", index))

    def in_batch(self, design: np.ndarray | dict, draws: tuple) -> np.ndarray:
        """Terms of the contrastive bound with the other draws as contrasts, (OUTER,), at a design (1, *shape)."""
        own, log_p, _ = self.evaluate(draws[0], design, draws[1], draws[0])
        with np.errstate(invalid="ignore"):
            differs = np.abs(np.diagonal(log_p) - own) > SAME * np.maximum(1.0, np.abs(own))
        differs |= np.isnan(np.diagonal(log_p)) & np.isfinite(own)  # a product spreads one that is NaN over all
        log_p = impossible_where_nan(log_p)
        if np.any(differs) and self.simulator is self.study.simulator and self.simulator.has_pairwise_product:
            self._use(pairs.with_direct_pairs(self.simulator))
            return self.in_batch(design, draws)
        return own - log_sum(log_p) + np.log(OUTER)

    def terms(self, designs: list, purpose: str, index: int = 0) -> np.ndarray:
        """Terms of the in-batch bound at designs (1, *shape) each, on common draws: (count, OUTER)."""
        draws = self.draw(purpose, index)
        return np.stack([self.in_batch(design, draws) for design in designs])

    def contrasted(self, design: np.ndarray | dict, draws: tuple, blocks: int) -> tuple[np.ndarray, ...]:
        """log p (OUTER,), log p of the pairs (OUTER, blocks OUTER), and outcomes (OUTER, *outcome_shape)."""
        self.in_batch(design, draws)  # which finds out by what form pairs are exact here
        found = [self.evaluate(draws[0], design, draws[1], self.draw("contrasts", k)[0]) for k in range(blocks)]
        log_p = np.concatenate([log_p for _, log_p, _ in found], axis=1)
        return found[0][0], impossible_where_nan(log_p), found[0][2]


def impossible_where_nan(log_p: np.ndarray) -> np.ndarray:
    """Parameters whose experiment fails could not have made an outcome; a failed outcome has no terms at all."""
    return np.where(np.isnan(log_p) & ~np.all(np.isnan(log_p), axis=1, keepdims=True), -np.inf, log_p)


def log_sum(log_p: np.ndarray) -> np.ndarray:
    """log sum exp over the last axis; SciPy's takes ten times as long on arrays of this size."""
    largest = log_p.max(axis=-1, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(log_p - largest).sum(axis=-1)) + largest[..., 0]


def _pairs(simulator, parameters, design, noise, others):
    outcome = simulator.measure(parameters, design, noise)
    own = simulator.log_density(outcome, parameters, design)
    return own, simulator.pairwise_log_density(outcome, others, design), outcome


def gap(study: Study, likelihoods: Pairs, learned: tuple[float, float]) -> list[Finding]:
    """The bound that was learned against the contrastive one, at the learned design, and how far that can be believed.

    Args:
        learned: the bound at the end of training and its error.
    """
    own, log_p, _ = likelihoods.contrasted(likelihoods.shape, likelihoods.draw("experiments"), BLOCKS)
    counts = log_p.shape[1]
    with np.errstate(invalid="ignore"):
        terms = own - np.logaddexp(own, log_sum(log_p)) + np.log(counts + 1.0)
    finite = np.isfinite(terms)
    if finite.sum() < OUTER // 2:
        told = f"{OUTER - finite.sum()} of {OUTER} fresh experiments have no finite likelihood."
        return [Finding(check, OPEN, told, "See model.explain_nonfinite().") for check in CHECKS]
    own, log_p, terms = own[finite], log_p[finite], terms[finite]
    value, error = numerics.mean_and_error(terms)
    weights = _inner_weights(log_p, own)
    tail = reliability.dominating_shape(terms)
    return [_gap(study, value, error, learned, np.log(counts + 1.0)), weights, _outer_terms(tail, value, error)]


def _gap(study, value, error, learned, ceiling) -> Finding:
    lacking, total = value - learned[0], float(np.hypot(error, np.nan_to_num(learned[1])))
    limit = max(SHARE * abs(value), SHARE)
    told = (
        f"The bound that was learned is {learned[0]:.3f}, the prior contrastive bound of fresh experiments "
        f"{value:.3f} +- {error:.3f}."
    )
    if not np.isfinite(lacking):
        return Finding("gap", OPEN, told, "A bound is not finite: see model.explain_nonfinite().")
    if lacking > ALARMING * total and lacking > limit:
        return Finding("gap", ALARM, told, _closing(study), lacking, total, limit)
    if value > ceiling - reliability.HEADROOM:
        told += f" The latter is near its ceiling {ceiling:.2f} and would not show that the former lacks something."
        return Finding(
            "gap", OPEN, told, "Compare with kb.eig.importance or model.estimate_eig().", lacking, total, limit
        )
    return Finding("gap", GOOD, told, "", lacking, total, limit)


def _closing(study) -> str:
    if study.objective.posterior is not None:
        return (
            "The network is not the posterior, whose design may differ: train longer, or pass another network, such as "
            "kb.objectives.BarberAgakov(network) with more layers or modes; or learn on kb.objectives.PriorContrastive."
        )
    return "The objective cannot show this EIG: raise batch_size or num_contrastive, or use kb.objectives.BarberAgakov."


def _inner_weights(log_p, own) -> Finding:
    """How many contrasts count for an outcome."""
    some = np.concatenate([log_p[:64], own[:64, None]], axis=1)
    with np.errstate(invalid="ignore"):
        effective = np.exp(2.0 * log_sum(some) - log_sum(2.0 * some))
        weights = np.exp(some - some.max(axis=1, keepdims=True))
    heavy = [reliability.pareto_shape(row) > reliability.PARETO_LIMIT for row in weights]
    median = float(np.nanmedian(effective))
    told = (
        f"Of {some.shape[1]} draws of the prior {median:.1f} count for a typical outcome; the tail of the weights is "
        f"heavy (Pareto k above {reliability.PARETO_LIMIT}) for {np.mean(heavy):.0%} of the outcomes."
    )
    if median >= LEAST_EFFECTIVE:
        return Finding("inner weights", GOOD, told, "", median, np.nan, LEAST_EFFECTIVE)
    remedy = "Bounds by draws of the prior are loose here: estimate with a posterior network, model.estimate_eig()."
    return Finding("inner weights", OPEN, told, remedy, median, np.nan, LEAST_EFFECTIVE)


def _outer_terms(shape, value, error) -> Finding:
    told = f"The terms behind {value:.3f} +- {error:.3f} have a tail with Pareto k = {shape:.2f}."
    if shape == -np.inf:
        told = f"The terms behind {value:.3f} +- {error:.3f} have no tail that carries them."
    if shape <= reliability.PARETO_LIMIT:
        return Finding("outer terms", GOOD, told, "", shape, np.nan, reliability.PARETO_LIMIT)
    remedy = "A mean and its error mean little then: take a prior with lighter tails, or more draws in every step."
    return Finding("outer terms", ALARM, told, remedy, shape, np.nan, reliability.PARETO_LIMIT)


def digits(study: Study, likelihoods: Pairs) -> Finding:
    """Whether the simulations of training held the outcome at the learned design beside its noise."""
    parameters, noise = likelihoods.draw("digits")
    repeated = {name: np.repeat(values[: OUTER // REPEATS], REPEATS, axis=0) for name, values in parameters.items()}
    exact = likelihoods.evaluate(repeated, likelihoods.shape, noise, repeated)[2].reshape(OUTER, -1)
    simulated = compiled("measure", study.simulator, dtype=backend.simulation_dtype())(
        repeated, likelihoods.shape, noise
    )
    simulated = np.asarray(simulated, "float64").reshape(OUTER, -1)
    return _judged(exact, simulated)


def _judged(exact, simulated) -> Finding:
    spread = np.sqrt(exact.reshape(-1, REPEATS, exact.shape[-1]).var(axis=1).mean(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        rounding = np.where(spread > 0, np.quantile(np.abs(simulated - exact), 0.99, axis=0) / spread, 0.0)
    worst = float(np.nanmax(rounding, initial=0.0))
    told = f"Rounding changes the outcome at the learned design by {worst:.1g} of its noise."
    if worst <= number_range.TOLERANCE:
        return Finding("number range", GOOD, told, "", worst, np.nan, number_range.TOLERANCE)
    remedy = (
        "Make the model anew, which finds the range of the simulator as it is now; or subtract a constant in outcome()."
    )
    return Finding("number range", ALARM, told, remedy, worst, np.nan, number_range.TOLERANCE)


def equations(study: Study) -> list[Finding]:
    """Whether the steps of differential equations are short enough at the learned design; nothing without them."""
    simulator = study.simulator
    share = step_check.share_changed(simulator, study.design, study.seed)
    if share is None:
        return []
    limit = step_check.MOST
    verdict, remedy = (ALARM, step_check.REMEDY) if share > limit else (GOOD, "")
    return [Finding("equations", verdict, step_check.told(share), remedy, share, np.nan, limit)]


def edges(study: Study) -> tuple[Finding, np.ndarray]:
    """Which entries of the design are at an edge of the space; that may well be right. And its coordinates there."""
    space = study.design
    inside, drawn = space.numpy(), space.sample(512, seed=0)
    names, at_edge = [], []
    parts = inside.items() if isinstance(inside, dict) else [("", inside)]
    for name, values in parts:
        of_part = drawn[name] if isinstance(drawn, dict) else drawn
        low, high = of_part.min(axis=0), of_part.max(axis=0)
        margin = EDGE * (high - low)
        here = (values <= low + margin) | (values >= high - margin)
        at_edge.append(here.ravel())
        names += [f"{name}{list(map(int, index)) if np.ndim(values) else ''}" for index in np.argwhere(here)]
    flags = np.concatenate(at_edge)
    shape = space.unconstrained_shape
    of_coordinates = flags.reshape(shape) if flags.size == np.prod(shape) else np.array(flags.any())
    if not names or space.is_discrete:
        return Finding("edge", GOOD, "No entry of the design is at an edge of the space."), of_coordinates
    told = (
        f"Entries {', '.join(names[:8])}{' ...' if len(names) > 8 else ''} of the design are at an edge of the space."
    )
    return Finding("edge", GOOD, told, "Is more possible there? Then widen the space.", len(names)), of_coordinates
