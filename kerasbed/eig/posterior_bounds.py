r"""Bounds of the EIG from a posterior network q(theta | h), for one static design or over the histories of a policy.

Draws theta_l, l = 1..N, come from the mixture of the network and, for safety, of the prior,

    m(theta) = (1 - d) q(theta | h) + d p(theta),   d = 0.05,      w(theta) = p(theta) p(h | theta) / m(theta),

whose weights are bounded by p(h | theta) / d wherever the network has no mass (a defensive mixture; Hesterberg, 1995).
The parameters that made a history are a draw of its posterior, and so

    upper   log p(h | theta) - log 1/N sum_l w(theta_l)
    lower   log p(h | theta) - log 1/(N + 1) [w(theta) + sum_l w(theta_l)]

are bounds in expectation for any network, exact where it is the posterior (`kerasbed.eig.importance_bounds` for one
design without the prior's part). A one-dimensional theta is drawn together with the auxiliary coordinate of its flow,
whose density multiplies the prior's.

The effective number of draws (Kong, 1992) and the shape k of the tail of the weights (Vehtari et al., 2024) say how
good the network is; with k above 0.7 in most histories a mean over draws means little.
"""

import time
from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend import errors, numerics, streams
from kerasbed.backend.finite import nearest
from kerasbed.backend.programs import compiled
from kerasbed.eig import reliability
from kerasbed.eig.annealed_bounds import effective_number, joined_bounds, terms
from kerasbed.eig.annealing import Weights
from kerasbed.eig.estimate import Bracket
from kerasbed.eig.rollouts import Rollouts
from kerasbed.networks.posterior import Posterior
from kerasbed.priors.base import AbstractPrior

DEFENSIVE = 0.05  # share of the draws that are the prior's
PAIRS = 2**18  # of a history and a draw, evaluated at once
FEW = 20.0  # effective draws, at the median, below which a network is told to be a poor proposal


class NetworkProposal:
    """A trained posterior network as a proposal: draws with the log density of each.

    Args:
        posterior: `kerasbed.networks.posterior.Posterior` of all parameters.

    Raises:
        TypeError: it is none, or its base distribution is not N(0, I).
        ValueError: it is about a target, or was not trained.
        NoDensityError: it gives draws alone.
    """

    def __init__(self, posterior: Posterior):
        if not isinstance(posterior, Posterior) or not posterior.built or not posterior.head.has_normal_base:
            raise TypeError(
                f"posterior is {posterior!r}, but a trained posterior network with base samples N(0, I) was expected: "
                "model.posterior of a kb.DesignModel, or an object with sample_q and log_q."
            )
        posterior.require_density("method='posterior'")
        if posterior.target is not None or not posterior.is_trained:
            what = "is not trained" if posterior.target is None else "is about a target, not about all parameters"
            raise ValueError(
                f"The posterior network {what}; bounds need one of all parameters at the designs in question. Train "
                "it with model.fit_posterior(), or use method='annealed'."
            )
        self.posterior, self.dtype = posterior, posterior.compute_dtype
        variables = tuple(posterior.variables)
        self._drawn = compiled(_drawn, posterior, dtype=self.dtype, variables=variables)
        self._density = compiled(_density, posterior, dtype=self.dtype, variables=variables)

    def draw(self, rollouts: Rollouts, num: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """`num` draws for each history, {name: (M, num, d)}, and their log densities (M, num)."""
        base = rng.standard_normal((len(rollouts), num, self.posterior.base_dim))
        return self._drawn(base, rollouts.outcome, rollouts.design)

    def log_density(
        self, parameters: dict[str, np.ndarray], rollouts: Rollouts, rng: np.random.Generator
    ) -> np.ndarray:
        """log q of other parameters, {name: (M, n, d)} -> (M, n)."""
        shape = next(iter(parameters.values())).shape[:2]
        auxiliary = rng.standard_normal((*shape, self.posterior.auxiliary_dim))
        return self._density(parameters, auxiliary, rollouts.outcome, rollouts.design)


def _conditions(posterior, outcome, design, num):
    return ops.repeat(posterior.conditions(outcome, design), num, axis=0)


def _drawn(posterior, base, outcome, design):
    num = base.shape[1]
    flat = ops.reshape(base, (-1, base.shape[-1]))
    drawn, log_q = posterior.sample_with_log_prob(flat, _conditions(posterior, outcome, design, num))
    return {name: ops.reshape(v, (-1, num, v.shape[-1])) for name, v in drawn.items()}, ops.reshape(log_q, (-1, num))


def _density(posterior, parameters, auxiliary, outcome, design):
    num = auxiliary.shape[1]
    flat = {name: ops.reshape(v, (-1, v.shape[-1])) for name, v in parameters.items()}
    extra = ops.reshape(auxiliary, (-1, auxiliary.shape[-1])) if posterior.auxiliary_dim else None
    log_q = posterior.log_prob(flat, _conditions(posterior, outcome, design, num), extra)
    return ops.reshape(log_q, (-1, num))


class FunctionProposal:
    """A proposal of the user's own.

    Args:
        given: object with `sample_q(history, num, seed) -> {name: (M, num, d)}` and `log_q(parameters, history) ->
            (M, num)`, of NumPy arrays; a history is {"design": (M, T, *shape), "outcome": (M, T, *outcome_shape)}, the
            outcome a dict of arrays where the simulator's is.

    Raises:
        TypeError: it lacks one of both.
        ArgumentError: what they give has other shapes.
    """

    def __init__(self, given: Any):
        if not all(callable(getattr(given, name, None)) for name in ("sample_q", "log_q")):
            raise TypeError(
                f"posterior is {given!r}, but a trained posterior network was expected, model.posterior, or an object "
                "with sample_q(history, num, seed) and log_q(parameters, history)."
            )
        self.given = given

    def draw(self, rollouts: Rollouts, num: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `NetworkProposal.draw`."""
        drawn = self.given.sample_q(_told(rollouts), num, int(rng.integers(2**31)))
        expected = {name: (len(rollouts), num, v.shape[-1]) for name, v in rollouts.parameters.items()}
        found = {name: np.shape(v) for name, v in drawn.items()} if isinstance(drawn, dict) else np.shape(drawn)
        self._expect("sample_q", found, expected)
        return drawn, self.log_density(drawn, rollouts, rng)

    def log_density(
        self, parameters: dict[str, np.ndarray], rollouts: Rollouts, rng: np.random.Generator
    ) -> np.ndarray:
        """See `NetworkProposal.log_density`."""
        log_q = np.asarray(self.given.log_q(parameters, _told(rollouts)))
        self._expect("log_q", log_q.shape, next(iter(parameters.values())).shape[:2])
        return log_q

    def _expect(self, name, found, expected):
        if found != expected:
            raise errors.ArgumentError(
                f"posterior is {self.given!r}, whose {name} gives shapes {found}, but {expected} were expected: "
                "histories first, then draws."
            )


def _told(rollouts):
    """Histories as users read them."""
    return {"design": rollouts.design, "outcome": rollouts.simulator.layouts.split(rollouts.outcome)}


def posterior_weights(rollouts: Rollouts, posterior: Any, num_draws: int, seed: streams.Entropy) -> Weights:
    """Log weights of `num_draws` draws of the mixture for each history, and of the parameters that made it.

    Raises:
        NoDensityError: the prior has no density.
        TypeError, ValueError: `posterior` is no proposal.
    """
    if not rollouts.simulator.prior.has_density:
        raise errors.NoDensityError(
            "The prior has no density, which importance weights need; pass log_prob= to Prior.from_sampler, or use "
            "method='contrastive'."
        )
    proposal = NetworkProposal(posterior) if isinstance(posterior, Posterior) else FunctionProposal(posterior)
    num, rows = len(rollouts), max(1, min(len(rollouts), PAIRS // num_draws))
    found = []
    for block, first in enumerate(range(0, num, rows)):
        some = rollouts.rows(np.arange(first, first + rows) % num)
        found.append(_block(some, proposal, num_draws, streams.of(seed, "posterior draws", block)))
    forward, own = (np.concatenate(part)[:num] for part in zip(*found, strict=True))
    return Weights(forward, own, rollouts.own)


def _block(rollouts, proposal, num, rng):
    """Log weights of the draws of a block of histories, and of their own parameters.

    Of independent draws of the mixture a binomial number is the prior's; as many of each kind are made as may be
    needed, and those beyond have weight zero.
    """
    rows, prior = len(rollouts), rollouts.simulator.prior
    most = int(DEFENSIVE * num + 6.0 * np.sqrt(DEFENSIVE * num)) + 1
    of_prior = np.minimum(rng.binomial(num, DEFENSIVE, size=(rows, 1)), most)
    drawn, log_q = proposal.draw(rollouts, num, rng)
    fresh = {name: v.reshape(rows, most, -1) for name, v in prior.check(prior.sample(rows * most, rng)).items()}
    others = {name: np.concatenate([fresh[name], rollouts.parameters[name][:, None]], axis=1) for name in prior.names}
    log_q_of = proposal.log_density(others, rollouts, rng)
    parameters = {name: np.concatenate([drawn[name], others[name]], axis=1) for name in prior.names}
    log_w = _log_weights(rollouts, parameters, np.concatenate([log_q, log_q_of], axis=1).astype("float64"))
    counts = np.concatenate(
        [np.arange(num)[None] < num - of_prior, np.arange(most)[None] < of_prior, np.ones((rows, 1), bool)], axis=1
    )
    log_w = np.where(counts, log_w, -np.inf)
    return _packed(log_w[:, :-1], num), log_w[:, -1]


def _packed(log_w, num):
    """The `num` draws that count, in front; all others have weight zero as well."""
    return -np.sort(-log_w, axis=1)[:, :num]


def _log_weights(rollouts, parameters, log_q):
    prior = rollouts.simulator.prior
    possible = np.all([np.isfinite(values).all(axis=-1) for values in parameters.values()], axis=0)
    parameters = _inside(prior, {name: np.where(possible[..., None], v, 0.5) for name, v in parameters.items()})
    log_prior = prior.log_prob(parameters)
    log_p = rollouts.log_likelihood(parameters, rollouts.dtype)
    log_q = np.where(np.isnan(log_q), -np.inf, log_q)
    mixture = np.logaddexp(np.log1p(-DEFENSIVE) + log_q, np.log(DEFENSIVE) + log_prior)
    with np.errstate(invalid="ignore"):
        log_w = log_p + log_prior - mixture
    return np.where(possible & np.isfinite(log_prior) & ~np.isnan(log_w), log_w, -np.inf)


def _inside(prior: AbstractPrior, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws in float32 that rounding put on an edge of the support, or beside a discrete value, where they belong."""
    found = {}
    for name, (low, high) in prior.supports().items():
        values = np.asarray(parameters[name], "float64")
        if name in prior.discrete:
            listed = [np.asarray(of) for of in prior.discrete[name]]
            columns = [of[nearest(values[..., i], of)] for i, of in enumerate(listed)]
        else:
            edges = [numerics.open_interval(a, b) for a, b in zip(low, high, strict=True)]
            columns = [np.clip(values[..., i], *edge) for i, edge in enumerate(edges)]
        found[name] = np.stack(columns, axis=-1)
    return {name: found[name] for name in prior.names}


def posterior_bracket(rollouts: Rollouts, posterior: Any, num_draws: int, seed: int) -> Bracket:
    """Both bounds of given experiments; see `kerasbed.eig.bracket`.

    Warns:
        PoorFitWarning: few draws count, or the tail of their weights is too heavy for a mean.
        UnreliableWarning: what `kerasbed.eig.reliability.checked` looks for.
    """
    begin = time.process_time()
    weights = posterior_weights(rollouts, posterior, num_draws, seed)
    lower, upper = terms(weights)
    effective = float(np.median(effective_number(weights.forward)))
    shape = float(np.median([reliability.pareto_shape_above(np.exp(w - w.max())) for w in weights.forward]))
    found = Bracket(
        **joined_bounds(lower, upper),
        method=f"importance samples of the posterior network, {len(rollouts)} experiments x {num_draws} draws",
        settings={"num_outer": len(rollouts), "num_draws": num_draws, "seed": seed},
        effective=effective,
        pareto_k=shape,
        likelihoods=len(rollouts) * (num_draws + 1),
        seconds=time.process_time() - begin,
    )
    cure = "Train the posterior longer (model.fit_posterior()), raise num_draws, or use method='annealed'."
    if effective < FEW or shape > reliability.PARETO_LIMIT:
        errors.warn(
            f"Of {num_draws} draws of the posterior network {effective:.1f} count at the median, and the tail of their "
            f"weights has k = {shape:.2f}: it is far from the posterior and the bounds are {found.width:.2f} nats "
            f"apart. {cure}",
            errors.PoorFitWarning,
        )
        return found
    return reliability.checked(found, lower, upper, cure)
