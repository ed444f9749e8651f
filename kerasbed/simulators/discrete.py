r"""Outcomes that are yes or no, counts or categories: say how likely they are, and all else follows.

With F the distribution function and U a uniform base sample, the outcome is a quantile, the number of values k with
F(k) < U (of a yes or no, whether U is below its probability). It has no gradient; designs are learned by the
likelihood, whose logarithm is

    Bernoulli      y log p + (1 - y) log(1 - p)
    binomial       log C(n, y) + y log p + (n - y) log(1 - p)
    Poisson        y log m - m - log y!
    categorical    log p_y

with 0 log 0 = 0: finite wherever the outcome is possible, also at a probability of 0 or 1, and -inf where it is not.

Poisson quantiles are counted up to a mean of 100; above that they are the integer part of the expansion

    m + sqrt(m) w + (2 + w^2)/6 - (2 w + w^3)/(72 sqrt(m)) - (16 - 7 w^2 - 3 w^4)/(810 m),   w = Phi^-1(U),

of the continuous quantile, off by less than 1e-4 there and so in a share of draws that no figure can tell.

References: Giles (2016) for the expansion.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops, tree
from scipy import stats

from kerasbed.backend import Tensor, numerics, special
from kerasbed.backend.errors import MissingMethodError, OutcomeError
from kerasbed.simulators import outcome_dicts
from kerasbed.simulators.simulator import Simulator, leading_axes

MOST_LISTED = 4096  # possible outcomes that are listed
COUNTED_MEAN, COUNTED = 100.0, 256  # Poisson: means whose quantiles are counted, and up to which number


class DiscreteSimulator(Simulator):
    """What they share: uniform base samples, one for each entry of the outcome, and sums over entries.

    A concrete simulator defines `_quantile`, `_log_probability` of each entry, and `_values`. What its user writes may
    be a dict {name: (batch, *shape)}, and then outcomes are as well: their entries, in the order of their names, are
    those of the noise, so that noise_shape is (K,) for K numbers in all. `outcome_space` and `trials_at` are arrays of
    as many.
    """

    noise = stats.uniform()
    differentiable = False

    def outcome(self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor) -> Tensor:
        law = self._law(parameters, design)
        if self.layouts:
            size = law.shape[-1 - self._law_axes]
            outcome_dicts.check_noise(type(self).__name__, noise, self.layouts.at(size))
        if len(law.shape) - self._law_axes != len(noise.shape):
            axes = "the batch axis and the axes of the outcome" + self._law_axes * ", and behind them one of categories"
            raise OutcomeError(
                f"{type(self).__name__}.{self._method} returned shape {tuple(law.shape)} for noise of shape "
                f"{tuple(noise.shape)}, but {axes} were expected; add missing ones, or set noise_shape to the shape "
                "of one outcome."
            )
        return self.layouts.split(ops.stop_gradient(self._quantile(noise, law, self._size(design))))

    def log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        law, size = self._law(parameters, design), self._size(design)
        outcome = self.layouts.join(outcome)
        found = self._log_probability(outcome, law, size)
        return ops.sum(found, axis=tuple(range(-(len(outcome.shape) - leading_axes(parameters)), 0)))

    def outcome_space(self) -> np.ndarray | None:
        """All possible outcomes, (count, *noise_shape), where `noise_shape` is set and they are at most 4,096."""
        values, shape = self._values(), self.noise_shape
        if values is None or shape is None or len(values) ** (size := int(np.prod(shape))) > MOST_LISTED:
            return None
        return np.array(list(itertools.product(values, repeat=size)), "float64").reshape(-1, *shape)

    _method, _law_axes = "probability", 0

    def _law(self, parameters, design):
        law = getattr(self, self._method)(parameters, design)
        if not isinstance(law, Mapping):
            return law
        what = f"{type(self).__name__}.{self._method}"
        law, layout = outcome_dicts.joined_law(law, what, parameters, behind=self._law_axes)
        self.remember(layout)
        return law

    def _size(self, design) -> Any:
        """What the law needs to know of the design besides: the number of trials."""
        return None

    def _quantile(self, uniform, law, size):
        raise NotImplementedError

    def _log_probability(self, outcome, law, size):
        raise NotImplementedError

    def _values(self) -> np.ndarray | None:
        """The values of one entry; None where they are not finitely many, or unknown."""
        return None

    def _missing(self, method) -> MissingMethodError:
        return MissingMethodError(f"{type(self).__name__} must define {method}(parameters, design).")


class BernoulliSimulator(DiscreteSimulator):
    """A yes (1) or no (0) in each entry of the outcome: write `probability`, get the rest.

    Methods to write:
        probability(parameters, design): of a yes, between 0 and 1, (batch, *outcome_shape), leading axes broadcast;
            or a dict {name: (batch, *shape)} of those, beside noise_shape=(K,) for K answers in all.

    Attributes to set on the class or instance:
        noise_shape: shape of one outcome; default the design's shape. Set it, so that outcomes are summed over exactly.

    Example:
        A dose-response experiment: at which dose half of the animals respond.

        >>> class Response(kb.BernoulliSimulator):
        ...     prior, noise_shape = kb.Prior(log_dose=stats.norm()), (1,)
        ...
        ...     def probability(self, parameters, design):
        ...         return ops.sigmoid(4.0 * (design - parameters["log_dose"]))
        >>> found = kb.eig.enumerate(Response(), np.array([[0.0], [2.0]]))
        >>> found.eig.round(2)  # the dose in the middle says most
        array([0.4 , 0.09])
    """

    def probability(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        raise self._missing("probability")

    def _quantile(self, uniform, law, size):
        return ops.cast(uniform < law, uniform.dtype)

    def _log_probability(self, outcome, law, size):
        is_yes, is_no = ops.equal(outcome, 1.0), ops.equal(outcome, 0.0)
        return _possible(ops.logical_or(is_yes, is_no), numerics.log_of_probability(ops.where(is_yes, law, 1.0 - law)))

    def _values(self):
        return np.arange(2.0)


class BinomialSimulator(DiscreteSimulator):
    """How many of several trials succeed, in each entry of the outcome: write `probability` and `trials`.

    Methods to write:
        probability(parameters, design): of a success, between 0 and 1, (batch, *outcome_shape), leading axes broadcast.
        log_odds(parameters, design): log p / (1 - p) in its place, where p comes so close to 1 that 1 - p loses digits.
        trials_at(design): optional; the number of trials where the design decides it, (batch, *outcome_shape).

    Attributes to set on the class or instance:
        trials: how many there are, or the most that `trials_at` gives; a positive integer.
        noise_shape: shape of one outcome; default the design's shape. Set it, so that outcomes are summed over exactly.

    Example:
        >>> class Seeds(kb.BinomialSimulator):
        ...     prior, trials, noise_shape = kb.Prior(frailty=stats.norm()), 20, (1,)
        ...
        ...     def probability(self, parameters, design):
        ...         return ops.sigmoid(parameters["frailty"] - design)
        >>> germinated = Seeds().simulate(4000, np.array([1.0]), seed=0)["outcome"]
        >>> germinated.max(), len(Seeds().outcome_space())
        (20.0, 21)
    """

    trials: int

    def probability(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        raise self._missing("probability")

    def log_odds(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """log p / (1 - p), (batch, *outcome_shape); from `probability` where it is not written."""
        law = self.probability(parameters, design)
        return tree.map_structure(lambda p: numerics.log_of_probability(p) - numerics.log_of_probability(1.0 - p), law)

    def trials_at(self, design: Tensor) -> Tensor | int:
        """Trials at designs (..., *shape), as a number for all or (..., *outcome_shape)."""
        return self._most()

    @property
    def _has_log_odds(self) -> bool:
        return type(self).log_odds is not BinomialSimulator.log_odds

    @property
    def _method(self):
        return "log_odds" if self._has_log_odds else "probability"

    def _most(self) -> int:
        trials = getattr(self, "trials", None)
        if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or trials < 1:
            raise OutcomeError(f"{type(self).__name__}.trials is {trials!r}, but a positive integer was expected.")
        return int(trials)

    def _size(self, design):
        trials = self.trials_at(design)
        if isinstance(trials, Mapping):
            raise OutcomeError(
                f"{type(self).__name__}.trials_at returned a dict with {list(trials)}, but a number or one array was "
                "expected, with the entries of an outcome in the order of their names."
            )
        return trials

    def _logs(self, law):
        """log p and log (1 - p)."""
        if self._has_log_odds:
            return special.log_sigmoid(law), special.log_sigmoid(-law)
        return numerics.log_of_probability(law), numerics.log_of_probability(1.0 - law)

    def _quantile(self, uniform, law, size):
        counts = numerics.like(np.arange(self._most()), uniform)
        size = size if isinstance(size, int) else ops.cast(size, uniform.dtype)[..., None]
        below = ops.cumsum(ops.exp(self._log_probability(counts, law[..., None], size)), axis=-1)
        is_passed = ops.logical_and(uniform[..., None] > below, counts < size)  # at the last count the function is 1
        return ops.sum(ops.cast(is_passed, uniform.dtype), axis=-1)

    def _log_probability(self, outcome, law, size):
        size = float(size) if isinstance(size, int) else ops.cast(size, outcome.dtype)
        possible = ops.logical_and(_is_count(outcome), outcome <= size)
        yes = ops.where(possible, outcome, ops.zeros_like(outcome))
        no = ops.where(possible, size - outcome, size * ops.ones_like(outcome))
        choose = special.log_factorial(yes) + special.log_factorial(no)
        log_yes, log_no = self._logs(law)
        found = numerics.times(yes, log_yes) + numerics.times(no, log_no)
        return _possible(possible, found - choose + special.log_factorial(yes + no))

    def _values(self):
        return np.arange(self._most() + 1.0)


class PoissonSimulator(DiscreteSimulator):
    """A count in each entry of the outcome: write its mean, `rate`.

    Methods to write:
        rate(parameters, design): mean number of events, at least 0, (batch, *outcome_shape), leading axes broadcast.

    Attributes to set on the class or instance:
        noise_shape: shape of one outcome; default the design's shape.

    Example:
        Decays of a sample, counted for as long as the design says.

        >>> class Decays(kb.PoissonSimulator):
        ...     prior = kb.Prior(activity=stats.gamma(4.0))
        ...
        ...     def rate(self, parameters, design):
        ...         return parameters["activity"] * design
        >>> counts = Decays().simulate(4000, np.array([2.0]), seed=0)["outcome"]
        >>> counts.mean().round()
        8.0
    """

    _method = "rate"

    def rate(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        raise self._missing("rate")

    def _quantile(self, uniform, law, size):
        law = law + ops.zeros_like(uniform)
        small = ops.minimum(law, COUNTED_MEAN)
        counts = numerics.like(np.arange(COUNTED), uniform)
        below = ops.cumsum(ops.exp(self._log_probability(counts, small[..., None], size)), axis=-1)
        counted = ops.sum(ops.cast(uniform[..., None] > below, uniform.dtype), axis=-1)
        return ops.where(law > COUNTED_MEAN, _expanded(uniform, ops.maximum(law, COUNTED_MEAN)), counted)

    def _log_probability(self, outcome, law, size):
        possible = _is_count(outcome)
        count = ops.where(possible, outcome, ops.zeros_like(outcome))
        return _possible(possible, numerics.times_log(count, law) - law - special.log_factorial(count))


class CategoricalSimulator(DiscreteSimulator):
    """One of several categories, numbered from 0, in each entry of the outcome: write `probability`.

    Methods to write:
        probability(parameters, design): of each category, (batch, *outcome_shape, categories), leading axes broadcast;
            the last axis sums to one, as that of `ops.softmax`.

    Attributes to set on the class or instance:
        categories: how many there are. Set it and `noise_shape`, so that outcomes are summed over exactly.
        noise_shape: shape of one outcome; default the design's shape.

    Example:
        Which of two objects is chosen, or neither, at a price that is the design.

        >>> class Purchase(kb.CategoricalSimulator):
        ...     prior, noise_shape, categories = kb.Prior(worth=(stats.norm(), 2)), (1,), 3
        ...
        ...     def probability(self, parameters, design):
        ...         gain = parameters["worth"] - design
        ...         return ops.softmax(ops.concatenate([ops.zeros_like(gain[..., :1]), gain], axis=-1))[..., None, :]
        >>> bought = Purchase().simulate(4000, np.array([0.0]), seed=0)["outcome"]
        >>> np.unique(bought), len(Purchase().outcome_space())
        (array([0., 1., 2.]), 3)
    """

    categories: int | None = None
    _law_axes = 1

    def probability(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        raise self._missing("probability")

    def _quantile(self, uniform, law, size):
        below = ops.cumsum(law[..., :-1], axis=-1)
        return ops.sum(ops.cast(uniform[..., None] > below, uniform.dtype), axis=-1)

    def _log_probability(self, outcome, law, size):
        number = law.shape[-1]
        chosen = ops.equal(outcome[..., None], numerics.like(np.arange(number), outcome))
        found = numerics.log_of_probability(ops.sum(ops.where(chosen, law, ops.zeros_like(law)), axis=-1))
        return _possible(ops.any(chosen, axis=-1), found)

    def _values(self):
        return None if self.categories is None else np.arange(float(self.categories))


def _possible(possible, log_probability):
    return ops.where(possible, log_probability, numerics.like(-np.inf, log_probability))


def _is_count(outcome):
    return ops.logical_and(outcome >= 0.0, ops.equal(outcome, ops.round(outcome)))


def _expanded(uniform, mean):
    """Quantiles of Poisson(mean) for large means; see above."""
    w, root = special.normal_quantile(uniform), ops.sqrt(mean)
    square = ops.square(w)
    found = mean + root * w + (2.0 + square) / 6.0 - w * (2.0 + square) / (72.0 * root)
    return ops.floor(found - (16.0 - 7.0 * square - 3.0 * ops.square(square)) / (810.0 * mean))
