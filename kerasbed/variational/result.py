"""What a variational fit gives back: the posterior in the user's units, its ELBO and its check."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kerasbed import base_samples
from kerasbed.backend import Tensor, numerics, streams
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.priors.base import Parameters
from kerasbed.priors.draws import Draws
from kerasbed.variational import diagnostics
from kerasbed.variational.families import Family
from kerasbed.variational.optimization import Run
from kerasbed.variational.problem import PosedProblem

_MOMENT_POINTS = 2**14


def fresh_points(family: Family, num: int, seed: int, purpose: str = "fresh points") -> np.ndarray:
    """Independent base samples of a family, (num, base_dim), from a stream apart from the training points'."""
    rng, shape = streams.of(seed, purpose), (num, family.base_dim)
    return rng.standard_normal(shape) if family.base == "normal" else numerics.open_unit(rng.random(shape))


class VariationalFit:
    """A fitted variational posterior; made by `kerasbed.variational.fitting`.

    Attributes:
        training_objective: -ELBO on the base samples it was fitted to, nats; optimistic. For a stochastic fit the
            average over its last steps. With several data sets, the average over them, here and below.
        negative_elbo, negative_elbo_se: -ELBO on fresh independent draws and its standard error, nats.
        log_evidence, log_evidence_se: importance-sampling estimate from the same draws; trust it where pareto_k < 0.7.
        pareto_k: shape of the largest importance weights; a float, or (datasets,) for a conditional family.
        efficiency: effective sample size of the importance weights over their number; likewise.
        message, converged: how the optimizer ended; evaluations, seconds: what it took, without the set-up before it
            and the fresh draws after it.
        history: table of iteration, negative_elbo (on the training points) and the family's parameters.
        phi: the family's free parameters, (P,).
        path: (iteration, objective, phi) of the recorded iterations, from which history is made.

    Example:
        >>> scale = kb.problems.Quadratic(degree=0, noise_scale=1.0, prior_scale=1.0)  # y = theta + noise
        >>> fit = kb.variational.fit(scale, np.array([0.0]), [1.0], num_samples=1000)
        >>> fit.sample(1000, seed=0)["coefficients"].mean().round(1)  # posterior N(1/2, 1/2)
        0.5
        >>> fit.refit([2.0]).mean["coefficients"].round(2)  # other data, without compiling again
        array([1.])
    """

    def __init__(self, problem: PosedProblem, run: Run, fresh: np.ndarray, fit_problem: Callable):
        self.problem, self.objective, self.data = problem, problem.objective, problem.data
        self._fit_problem = fit_problem  # what `refit` calls; it makes this object, so it comes from there
        self.family, self.coordinates = self.objective.family, self.objective.coordinates
        self.prior, self.phi = self.coordinates.prior, run.phi
        self.training_objective, self.converged, self.message = run.value, run.converged, run.message
        self.evaluations, self.seconds, self.path = run.evaluations, run.seconds, run.path
        log_weights = np.atleast_2d(self.objective.log_weights(self.phi, fresh, self.data))
        per_draw = log_weights.mean(axis=0)
        self.negative_elbo = float(-per_draw.mean())
        self.negative_elbo_se = float(per_draw.std(ddof=1) / np.sqrt(per_draw.size))
        evidence = np.array([diagnostics.log_evidence(values) for values in log_weights])
        self.log_evidence, self.log_evidence_se = (self._per_dataset(column) for column in evidence.T)
        self.efficiency = self._per_dataset(np.array([diagnostics.efficiency(values) for values in log_weights]))
        self.pareto_k = self._per_dataset(np.array([diagnostics.smoothed_weights(values)[1] for values in log_weights]))

    def _per_dataset(self, values):
        return values if self.family.is_conditional else float(values[0])

    @property
    def history(self) -> pd.DataFrame:
        """One row for each recorded iteration."""
        rows = [
            {"iteration": iteration, "negative_elbo": value, **self.family.summary(phi)}
            for iteration, value, phi in self.path
        ]
        return pd.DataFrame(rows).set_index("iteration")

    # -- draws and densities ----------------------------------------------------------------------------------------

    @checked(num_samples=positive_integer, seed=integer_seed)
    def log_weights(self, num_samples: int = 10_000, seed: int = 0) -> np.ndarray:
        """Log importance weights log p(y, theta) - log q(theta) at fresh draws, (num,) or (datasets, num)."""
        return self.objective.log_weights(self.phi, fresh_points(self.family, num_samples, seed), self.data)

    def _data(self, inputs):
        """The fitted data, with the inputs of other data sets in place of its own where some are given."""
        return self.data if inputs is None else self.data | {"inputs": self.problem.standardise(inputs)}

    def draws_of(self, base: np.ndarray, inputs: ArrayLike | None = None) -> dict[str, np.ndarray]:
        """{name: (datasets, S, d)} from base samples (S, base_dim)."""
        draws = self.objective.draws(self.phi, base, self._data(inputs))
        if not self.family.is_conditional:
            draws = {name: values[None] for name, values in draws.items()}
        return {name: draws[name] for name in self.prior.names}  # dicts leave a program of JAX's sorted by key

    @checked(num_samples=positive_integer, seed=integer_seed)
    def sample(
        self,
        num_samples: int = 1000,
        *,
        inputs: ArrayLike | None = None,
        corrected: bool = False,
        seed: int | None = None,
    ) -> dict:
        """Draws in the user's units, in BayesFlow's shape.

        Args:
            num_samples: draws for each data set.
            inputs: (datasets, k) of new data sets, for a conditional family.
            corrected: resample by the Pareto-smoothed importance weights, which removes what is left of the error of
                the fit where pareto_k is below 0.7; repeats draws where the weights are uneven.
            seed: integer, or None for fresh draws.

        Returns:
            {name: (datasets, num_samples, d)}.
        """
        seed = streams.draw_seed() if seed is None else seed
        if not corrected:
            return Draws.of(self.prior, self.draws_of(fresh_points(self.family, num_samples, seed), inputs))
        if inputs is not None:
            raise ValueError("A corrected sample needs the likelihood of the fitted data sets; leave out inputs=.")
        pool = max(10 * num_samples, 10_000)
        draws, log_weights = (
            self.draws_of(fresh_points(self.family, pool, seed)),
            np.atleast_2d(self.log_weights(pool, seed=seed)),
        )
        rng = streams.of(seed, "correction")
        chosen = []
        for values in log_weights:
            probability = np.exp(diagnostics.smoothed_weights(values)[0])
            chosen.append(rng.choice(pool, num_samples, p=probability / probability.sum()))
        picked = {
            name: np.stack([row[pick] for row, pick in zip(values, chosen, strict=True)])
            for name, values in draws.items()
        }
        return Draws.of(self.prior, picked)

    def log_prob(self, parameters: Parameters, inputs: ArrayLike | None = None) -> np.ndarray:
        """Log density in the user's units: {name: (S, d)} or {name: (datasets, S, d)} -> (S,) or (datasets, S)."""
        return self.objective.log_prob(self.phi, self.prior.check(parameters), self._data(inputs))

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """`log_prob` of a fit to one data set in `keras.ops`: dict of tensors (..., d) -> (...,)."""
        z, log_det = self.coordinates.to_z(parameters)
        return self.family.log_density(numerics.like(self.phi, z), z) + log_det

    def refit(self, outcome: ArrayLike | dict[str, ArrayLike] | None = None, **settings: Any) -> "VariationalFit":
        """The same problem again, with compiled functions used again: seconds of compiling are saved.

        Args:
            outcome: another outcome, for a fit to a simulator; default the same.
            **settings: of `kerasbed.variational.fitting`: base_samples, weights, optimizer, initial, max_iterations,
                tolerance, num_samples, seed. Other attributes of the simulator must be what they were.
        """
        return self._fit_problem(self.problem.with_outcome(outcome), **settings)

    # -- moments ----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _moments(self):
        """Mean (datasets, dim) and covariance (datasets, dim, dim), exact where theta is affine in a Gaussian."""
        coordinates = self.coordinates
        if coordinates.affine and (gaussian := self.objective.gaussian(self.phi, self.data)) is not None:
            mean, root = np.atleast_2d(gaussian[0]), gaussian[1].reshape(-1, *gaussian[1].shape[-2:])
            root = coordinates.scale[:, None] * root
            return coordinates.centre + coordinates.scale * mean, root @ np.swapaxes(root, -1, -2)
        rule = base_samples.Sobol(_MOMENT_POINTS, seed=0)
        points = rule.normal if self.family.base == "normal" else rule.uniform
        draws = np.concatenate(list(self.draws_of(points(self.family.base_dim)).values()), axis=-1)
        covariance = np.stack([np.atleast_2d(np.cov(row, rowvar=False)) for row in draws])
        return draws.mean(axis=1), covariance

    def _named(self, values):
        pieces = np.split(values, np.cumsum(list(self.prior.dims.values()))[:-1], axis=-1)
        pieces = pieces if self.family.is_conditional else [piece[0] for piece in pieces]
        return dict(zip(self.prior.names, pieces, strict=True))

    @property
    def mean(self) -> dict[str, np.ndarray]:
        """Name -> (d,), or (datasets, d) for a conditional family."""
        return self._named(self._moments[0])

    @property
    def standard_deviation(self) -> dict[str, np.ndarray]:
        """Name -> (d,), or (datasets, d) for a conditional family."""
        return self._named(np.sqrt(np.diagonal(self._moments[1], axis1=-2, axis2=-1)))

    @property
    def covariance(self) -> np.ndarray:
        """(dim, dim) over all coordinates in the prior's order, or (datasets, dim, dim)."""
        return self._moments[1] if self.family.is_conditional else self._moments[1][0]

    @checked(num_samples=positive_integer, seed=integer_seed)
    def to_arviz(self, num_samples: int = 1000, seed: int = 0, *, dataset: int = 0) -> Any:
        """Draws for one data set as an `arviz.InferenceData` with one chain."""
        draws = self.sample(num_samples, seed=seed)
        return diagnostics.arviz().from_dict(posterior={name: values[dataset][None] for name, values in draws.items()})

    def __repr__(self):
        return (
            f"VariationalFit({type(self.family).__name__}, negative_elbo={self.negative_elbo:.4f} "
            f"+- {self.negative_elbo_se:.4f}, training_objective={self.training_objective:.4f}, "
            f"pareto_k={np.max(self.pareto_k):.2f}, converged={self.converged})"
        )
