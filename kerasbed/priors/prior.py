"""Priors in the language of scipy.stats: named marginals, and the ways to all other kinds of priors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bayesflow as bf
import numpy as np
from numpy.typing import ArrayLike

from kerasbed.backend.finite import truncated
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.priors import from_draws
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.priors.marginals import as_block
from kerasbed.priors.product import ProductPrior
from kerasbed.priors.sampled import HierarchicalPrior, SampledPrior
from kerasbed.priors.table import TablePrior


class _EveryPrior(type):
    """Makes `isinstance(p, kb.Prior)` true for priors of every kind, those made by its static methods included."""

    def __instancecheck__(cls, instance) -> bool:
        return isinstance(instance, AbstractPrior)

    def __subclasscheck__(cls, subclass) -> bool:
        return issubclass(subclass, AbstractPrior)


class Prior(ProductPrior, metaclass=_EveryPrior):
    """A prior over named parameters.

    Args:
        marginals: name -> marginal, for names that are no Python words; the others by keyword.
        **named: name = frozen scipy.stats law, `(frozen, d)` for d independent ones, or `multivariate_normal`. Discrete
            laws of finite support (bernoulli, binom, randint, rv_discrete) make discrete parameters. SciPy's new
            classes, such as `stats.Normal(mu=0, sigma=1)`, are taken where they have an older counterpart.

    Raises:
        TypeError: a marginal is not a frozen scipy.stats law.
        ValueError: no marginal, a name that comes twice, a dimension that does not fit, or a discrete law with
            infinitely many values.

    Example:
        >>> prior = kb.Prior(rate=stats.lognorm(s=0.5), position=(stats.norm(), 3))
        >>> prior.sample(5, seed=0)["position"].shape
        (5, 3)
        >>> prior.log_prob({"rate": [[1.0]], "position": [[0.0, 0.0, 0.0]]}), -2 * np.log(2 * np.pi) - np.log(0.5)
        (array([-2.983]), -2.983)
    """

    def __init__(self, marginals: Mapping[str, Any] | None = None, /, **named: Any):
        given = {} if marginals is None else marginals
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise TypeError(
                f"Prior got {marginals!r}, but marginals by name were expected, e.g. Prior(rate=stats.lognorm(0.5)) or "
                'Prior({"rate": stats.lognorm(0.5)}).'
            )
        if twice := set(given) & set(named):
            raise ValueError(f"Prior got {sorted(twice)} twice; give each parameter once.")
        given = {**given, **named}
        if not given:
            raise ValueError("Prior got no parameters; pass at least one, e.g. Prior(rate=stats.lognorm(0.5)).")
        super().__init__({name: as_block(name, marginal) for name, marginal in given.items()})

    @staticmethod
    def from_sampler(
        sampler: Callable[[int, np.random.Generator], Parameters],
        log_prob: Callable[[Parameters], np.ndarray] | None = None,
        *,
        supports: Mapping[str, tuple[float, float]] | None = None,
        log_density: Callable | None = None,
        discrete: Mapping[str, Sequence[float]] | None = None,
    ) -> AbstractPrior:
        """A prior given by a sampler, with or without a density.

        Args:
            sampler: `(num, rng) -> {name: (num, d) array}`.
            log_prob: `{name: (num, d)} -> (num,)`; without it EIGs are known up to the prior's entropy only.
            supports: name -> (low, high) where a parameter is not on the whole real line.
            log_density: `log_prob` once more in `keras.ops`, dict of tensors (..., d) -> (...,), where gradients of
                the density are needed (variational fits).
            discrete: name -> possible values of each coordinate, for discrete parameters.

        Example:
            >>> prior = kb.Prior.from_sampler(
            ...     lambda num, rng: {"theta": rng.uniform(size=(num, 2)).cumsum(axis=-1)},
            ...     log_prob=lambda draws: np.zeros(len(draws["theta"])),
            ...     supports={"theta": (0.0, 2.0)},
            ... )
            >>> prior.sample(1000, seed=0)["theta"].mean(axis=0).round(1)
            array([0.5, 1. ])
        """
        return SampledPrior(sampler, log_prob, supports or {}, log_density, discrete or {})

    @staticmethod
    def hierarchical(**laws: Any) -> AbstractPrior:
        """A prior whose laws depend on the parameters before them; it has draws, a density and inverse CDFs.

        Args:
            **laws: name = a marginal as for `Prior`, or a function of earlier parameters that returns a frozen
                univariate law, or `(function, d)` for d coordinates. The function's arguments are the names of the
                earlier parameters, arrays (..., d) each.

        Raises:
            TypeError, ValueError: a law is of the wrong kind, or depends on a parameter that does not come before it.

        Example:
            >>> prior = kb.Prior.hierarchical(
            ...     mean=stats.norm(),
            ...     effects=(lambda mean: stats.norm(mean, 0.1), 5),
            ... )
            >>> draws = prior.sample(1000, seed=0)
            >>> (draws["effects"] - draws["mean"]).std().round(2)
            0.10
        """
        return HierarchicalPrior(laws)

    @staticmethod
    def truncated(law: Any, tail: float = 1e-6) -> Any:
        """A discrete law without its infinite tails, as a marginal: a frozen SciPy law, no prior by itself.

        See `kerasbed.backend.finite.truncated` for the arguments.

        Example:
            >>> prior = kb.Prior(cases=kb.Prior.truncated(stats.poisson(3.0)))
            >>> prior.log_prob({"cases": [[0.0]]})  # log exp(-3)
            array([-3.0])
        """
        return truncated(law, tail)

    @staticmethod
    def from_table(values: Mapping, probabilities: ArrayLike) -> AbstractPrior:
        """A prior of discrete parameters that depend on each other: their joint values and probabilities.

        Args:
            values: {name: (count, d)} or {name: (count,)}, one row for each joint value.
            probabilities: (count,), not negative; scaled to sum to one.

        Raises:
            ValueError: lengths that differ, values that are not finite, or probabilities that are negative or all zero.

        Example:
            >>> prior = kb.Prior.from_table({"kind": [0, 0, 1], "dose": [1.0, 2.0, 2.0]}, [0.5, 0.25, 0.25])
            >>> np.exp(prior.log_prob({"kind": [[0], [1]], "dose": [[1.0], [1.0]]}))  # kind 1 goes with dose 2 only
            array([0.5, 0. ])
        """
        return TablePrior(values, probabilities)

    @staticmethod
    @checked(max_centres=positive_integer, seed=integer_seed)
    def from_samples(
        samples: Parameters,
        *,
        supports: Mapping[str, tuple[float, float]] | None = None,
        bandwidth: float | None = None,
        flow: bool | bf.networks.InferenceNetwork | None = None,
        max_centres: int = 1000,
        seed: int = 0,
        like: AbstractPrior | None = None,
        discrete: Mapping[str, Sequence[float]] | None = None,
    ) -> AbstractPrior:
        """Draws of any origin as a prior: a density is fitted to them, and draws are taken from that density.

        A mixture of normal laws in unconstrained coordinates, or kernels with a bandwidth of their own for each draw:
        the one under which held-out draws have the higher density. Repeated draws count by their number.

        Args:
            samples: {name: (num, d)} or {name: (num,)}; or a table with a column for each parameter.
            supports: name -> (low, high) for a parameter that is not on the whole real line.
            bandwidth: kernels of this one width, in units of the draws' spread, in place of that choice.
            flow: fit a normalizing flow instead: True, or a `bayesflow.networks.CouplingFlow`, for two or more
                coordinates.
            max_centres, seed: kernels; the seed by which more draws are thinned, and of the fit.
            like: a prior of the same names, such as that of the model which made the draws; its supports and discrete
                values are those of the draws.
            discrete: name -> possible values of each coordinate; their joint values get the frequencies drawn,
                unsmoothed, so that a value never drawn has probability zero.

        Raises:
            ValueError: draws that are not finite, outside their support, many on its edge, too few, or without a
                density.

        Warns:
            PoorFitWarning: held-out draws show that the density is not theirs, or it leaks over an edge that was not
                named.

        Example:
            >>> draws = {"theta": np.random.default_rng(0).normal(2.0, 1.0, size=(1000, 1))}
            >>> prior = kb.Prior.from_samples(draws)
            >>> prior.log_prob({"theta": [[2.0]]}), stats.norm.logpdf(0.0)
            (array([-0.9]), -0.9)
        """
        return from_draws.from_samples(samples, supports, bandwidth, flow, max_centres, seed, like, discrete)

    @staticmethod
    @checked(max_centres=positive_integer, seed=integer_seed)
    def from_posterior(
        posterior: Any,
        *,
        supports: Mapping[str, tuple[float, float]] | None = None,
        dataset: int = 0,
        max_centres: int = 1000,
        seed: int = 0,
        like: AbstractPrior | None = None,
        discrete: Mapping[str, Sequence[float]] | None = None,
    ) -> AbstractPrior:
        """A posterior as the prior of the next design; draws and density come from the same fitted object.

        Args:
            posterior: a `kerasbed.variational` fit, which is used as it is; or draws {name: (num, d)} or
                {name: (datasets, num, d)}, such as `DesignModel.sample` returns, to which a density is fitted as by
                `from_samples`. Draws of a model, of `kerasbed.reference` and of a variational fit know their supports.
            supports: name -> (low, high) for other draws of a parameter that is not on the whole real line.
            dataset: which data set of draws with a data-set axis.
            max_centres, seed, like, discrete: as for `from_samples`.

        Raises:
            ValueError: draws that are not finite, outside their support, many on its edge, too few, or without a
                density.

        Warns:
            PoorFitWarning: as `from_samples`.

        Example:
            >>> process, found = kb.problems.DeathProcess(), {"outcome": [[8.0, 1.0]], "design": np.array([0.5, 2.0])}
            >>> process.prior = kb.Prior.from_posterior(kb.reference.sample(process, 1000, found, seed=0))
            >>> bool(process.prior.sample(100, seed=0)["rate"].min() > 0.0)  # draws know their support
            True
        """
        return from_draws.from_posterior(posterior, supports, dataset, max_centres, seed, like, discrete)
