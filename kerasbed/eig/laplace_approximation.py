"""Bayesian D-optimality: the EIG under a Gaussian approximation of every posterior; cheap, and a starting point.

In unconstrained coordinates u of the parameters, with prior covariance S and Fisher information F of one experiment,

    EIG ~ 1/2 E_theta log det(I + S^(1/2)' F(theta, xi) S^(1/2))       (Chaloner and Verdinelli, 1995, section 4.3)

which is exact for linear-Gaussian experiments and neither a lower nor an upper bound elsewhere. For Gaussian noise of
scale s(theta) and correlation C, entries k, and J = d mean / d u,

    F = (J / s)' C^-1 (J / s) + information in the scale;  2 sum_k d log s_k d log s_k'  for independent noise,

where for correlated noise the scale must not depend on the parameters. Other likelihoods give F as the average outer
product of scores, F = E_y [d log p d log p'], over n simulated outcomes; its error biases the logarithm by order 1 / n,
which twice the value from all outcomes less the mean of those from either half does not have (Quenouille, 1956).
Derivatives in u are central differences in
float64, with steps in units of the prior's spread, so that one formula in `keras.ops` serves all backends and stays
differentiable in the design.

S is exact for products of scipy.stats laws (`kerasbed.eig.covariance`). From n draws x_i, centred, its error adds

    sd_i(x_i' G x_i) / (2 sqrt(n)),    G = E_theta (I + F S)^-1 F

to the standard error, by the derivative of log det in S (the delta method).

Where an experiment determines u, the EIG tends to H(u) + E log det(F / (2 pi e)) / 2, and the approximation to the same
with the entropy of N(0, S) for H(u): it is too large by the prior's negentropy, which is warned about.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import Tensor, errors, numerics
from kerasbed.backend.estimate import PointEstimate
from kerasbed.backend.programs import compiled, value_and_gradient
from kerasbed.backend.validation import checked, integer_seed, several
from kerasbed.designs import Design, Space
from kerasbed.eig import reliability
from kerasbed.eig.covariance import DRAWS, prior_covariance
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.likelihood_check import require_likelihood
from kerasbed.eig.rollouts import refuse_policy
from kerasbed.simulators import experiments, number_range
from kerasbed.simulators.gaussian import GaussianSimulator
from kerasbed.simulators.simulator import Simulator, design_shape

NOT_NORMAL = 0.5  # nats of negentropy above which a prior is no longer taken for normal without a word
STANDARD_ERRORS = 4.0  # of a sampled negentropy: a false alarm in 30,000
DRAWN = ("coordinates", "root", "spread", "offsets")  # of a criterion: arrays that its draws decide
MOST_STEP = 0.1  # of a central difference, in units of the prior's spread: truncation below 1%


class LaplaceEstimate(PointEstimate):
    """An approximate EIG in nats, no bound, and the standard error of all that was drawn for it.

    Example:
        >>> found = kb.eig.laplace(simulator, np.array([0.5, 0.5]))
        >>> float(found), found.value_se < 1e-6  # exact for a linear experiment with Gaussian noise
        (1.0551, True)
    """


@checked(num_samples=several, seed=integer_seed, num_outcomes=several)
def laplace(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    num_samples: int = 512,
    seed: int = 0,
    *,
    num_outcomes: int = 64,
) -> LaplaceEstimate:
    """The Laplace approximation of the EIG at one design.

    Args:
        simulator: an experiment with a `log_likelihood`.
        design: values (*shape), a dict of those, or a space at its current values.
        num_samples: draws of the prior.
        seed: their seed.
        num_outcomes: outcomes for each draw, where the noise is not Gaussian.

    Raises:
        NotImplementedError: the simulator has no likelihood.
        ValueError: the prior has no covariance that is positive definite.

    Warns:
        UnreliableWarning: the approximation is not finite, its terms have so heavy a tail that the error means little,
            or the prior is far from normal.

    Example:
        >>> told = kb.eig.laplace(kb.problems.LinearGaussian(), np.array([0.5, 0.5]))
        >>> told.value, 0.5 * np.log(8.25)  # exact where all is normal
        (1.0551, 1.0551)
    """
    refuse_policy(design, "kb.eig.laplace", "kb.eig.bracket(simulator, policy)")
    criterion = FisherCriterion(simulator, num_samples, seed=seed, num_outcomes=num_outcomes)
    number_range.refuse_rounded_at(simulator, experiments.lifted(design))
    terms = criterion.terms(design)
    value, error = numerics.mean_and_error(terms)
    error = float(np.hypot(error, criterion.slope_error(design, value)))
    method = f"Laplace, {num_samples} draws"
    if criterion.covariance.draws is not None:
        error = float(np.hypot(error, criterion.covariance_error(design)))
        method += f", prior covariance from {len(criterion.covariance.draws)} draws"
    reliability.checked(EIGEstimate(lower=value, lower_se=error), terms, cure="Raise num_samples.")
    _warn_not_normal(value, *criterion.negentropy())
    settings = {"num_samples": num_samples, "num_outcomes": num_outcomes, "seed": seed}
    return LaplaceEstimate(value, error, method, settings)


class FisherCriterion:
    """The Laplace approximation as a function of the design on fixed draws, for `kb.search.minimize`.

    `value(design)` takes a tensor (*shape) and gives a tensor, differentiable for Gaussian noise; NumPy gives a float.
    See `laplace` for the arguments.

    Example:
        Found in closed form at equal shares, where the approximation is exact.

        >>> criterion = kb.eig.FisherCriterion(kb.problems.LinearGaussian(), num_samples=8)
        >>> shares = kb.designs.Simplex(2)
        >>> found = kb.search.minimize(lambda design: -criterion.value(design), shares, starts=1)
        >>> found.design.round(3), round(-found.value, 4)
        (array([0.5, 0.5]), 1.0551)
    """

    @checked(num_samples=several, seed=integer_seed, num_outcomes=several)
    def __init__(self, simulator: Simulator, num_samples: int = 512, seed: int = 0, *, num_outcomes: int = 64):
        require_likelihood(simulator)
        simulator.prior.require_continuous("Laplace's approximation")
        self.simulator: Any = simulator  # a GaussianSimulator where there is no `_noise`
        self.num_outcomes, self.seed = num_outcomes, seed
        parameters = simulator.prior.sample(num_samples, np.random.default_rng(seed))
        with backend.precision("float64"), backend.no_gradients():
            coordinates, log_det = simulator.prior.to_unconstrained(backend.to_tensor(parameters, "float64"))
            self.coordinates, self.log_det = backend.to_numpy(coordinates), backend.to_numpy(log_det)
        self.parameters = parameters
        self.covariance = prior_covariance(simulator.prior, seed, max(len(self.coordinates), DRAWS))
        self.root = _root(self.covariance.matrix)
        self.spread = np.sqrt(np.diag(self.covariance.matrix))
        self.offsets = np.abs(self.coordinates).max(axis=0) / self.spread
        self._terms = self._compiled("_terms_of")

    def _compiled(self, method):
        """A method of (design, *noise) by a program that the simulator keeps, for any draws of as many."""
        evaluate = compiled(_on_draws, self.simulator, method=method, num_outcomes=self.num_outcomes)
        return functools.partial(evaluate, {name: getattr(self, name) for name in DRAWN})

    @property
    def dim(self) -> int:
        return self.coordinates.shape[1]

    def value(self, design: np.ndarray | Tensor | dict[str, Any] | Design) -> float | Tensor:
        """Mean over the prior, in nats."""
        if ops.is_tensor(tree.flatten(design)[0]):
            values = tree.map_structure(lambda leaf: leaf[None], design)
            return ops.mean(self._terms_of(values, *self._noise(values)))
        return float(np.mean(self.terms(design)))

    def terms(self, design: np.ndarray | dict[str, np.ndarray] | Design) -> np.ndarray:
        """One term for each draw of the prior, (num_samples,)."""
        values = experiments.lifted(design)
        return self._terms(values, *self._noise(values))

    def negative_over(self, space: Space) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Coordinates (1, *unconstrained_shape) of a space -> minus the value there and its gradient, NumPy.

        For Gaussian noise, whose terms have a gradient in the design.
        """
        options = {"make": value_and_gradient, "method": "_terms_of", "num_outcomes": self.num_outcomes}
        evaluate = compiled(_negative_on_draws, self.simulator, space, dtype=keras.config.floatx(), **options)
        given = {name: getattr(self, name) for name in DRAWN}
        return lambda u: evaluate(u, given)

    def covariance_error(self, design: np.ndarray | dict[str, np.ndarray] | Design) -> float:
        """What the draws behind the prior's covariance add to the standard error, by the delta method."""
        values = experiments.lifted(design)
        information = self._compiled("_information_of")(values, *self._noise(values))
        inverse = np.linalg.inv(np.eye(self.dim) + information @ self.covariance.matrix)
        sensitivity = np.mean(inverse @ information, axis=0)
        draws: Any = self.covariance.draws
        influence = np.einsum("ni,ij,nj->n", draws, 0.5 * (sensitivity + sensitivity.T), draws)
        return 0.5 * numerics.mean_and_error(influence)[1]

    def negentropy(self) -> tuple[float, float]:
        """Nats by which the prior's entropy in u is below that of a normal law of its covariance, and their error."""
        prior = self.simulator.prior
        if not prior.has_density:
            return 0.0, 0.0
        mean, error = numerics.mean_and_error(prior.log_prob(self.parameters) - self.log_det)
        normal = 0.5 * self.dim * (numerics.LOG_2PI + 1.0) + np.sum(np.log(np.diag(self.root)))
        return float(normal + mean), float(error)

    def slope_error(self, design: np.ndarray | dict[str, np.ndarray] | Design, value: float) -> float:
        """What rounding and truncation of the slopes add to an EIG of `value` nats."""
        values = experiments.lifted(design)
        h = float(self._compiled("_largest_step")(values, *self._noise(values)))
        # R eps / h = h^2 where h balances them; log(1 + A^2) / 2 changes by A^2 / (1 + A^2) of a relative error of A.
        return float(2.0 * self.dim * h**2 * -np.expm1(-2.0 * max(value, 0.0)))

    def _largest_step(self, design, *noise):
        u = ops.convert_to_tensor(self.coordinates, dtype=tree.flatten(design)[0].dtype)
        offset = self._offset(u, design, *noise)
        return ops.max(ops.stack([self._step(u, offset, self.offsets[i]) for i in range(self.dim)]))

    def _step(self, u, offset, own):
        """Step of a slope in units of the prior's spread, given how far off zero the function and its argument are."""
        eps = float(np.finfo(ops.dtype(u)).eps)
        ratio = ops.clip(ops.maximum(offset, ops.convert_to_tensor(own, dtype=u.dtype)), 1.0, MOST_STEP**3 / eps)
        return ops.power(eps * ratio, 1.0 / 3.0)

    def _offset(self, u, design, *noise):
        """R: how many times larger outcomes are than they vary with the parameters."""
        parameters = self.simulator.prior.from_unconstrained(u)
        if noise:
            few = {name: ops.repeat(values, self.num_outcomes, axis=0) for name, values in parameters.items()}
            outcome = self.simulator.measure(few, design, ops.convert_to_tensor(noise[0], dtype=u.dtype))
            unit = 1.0
        else:
            outcome, scale = self.simulator.mean_and_scale(parameters, design)
            scale = ops.convert_to_tensor(scale, dtype=u.dtype)
            unit = ops.mean(ops.broadcast_to(scale, outcome.shape), axis=0)
        largest, spread = ops.max(ops.abs(outcome), axis=0) / unit, ops.std(outcome, axis=0) / unit
        varies = spread > 0.0
        if noise:  # entry by entry: the noise says which of them tell nothing
            ratio = ops.max(ops.where(varies, largest / ops.where(varies, spread, 1.0), 0.0))
        else:  # an entry that hardly varies does not matter beside one that does
            total = ops.sqrt(ops.sum(ops.square(spread)))
            ratio = ops.max(largest) / ops.where(total > 0.0, total, 1.0)
        return ops.stop_gradient(ratio)

    def _noise(self, design) -> tuple[np.ndarray, ...]:
        if isinstance(self.simulator, GaussianSimulator):
            return ()
        law = self.simulator.resolve_noise(design_shape(design))
        return (law.draw(len(self.coordinates) * self.num_outcomes, np.random.default_rng(self.seed)),)

    def _information_of(self, design, *noise):
        """Fisher information at every draw of the prior, (draws, dim, dim)."""
        if noise:
            return _mean_product(self._scores(design, *noise))
        return self._gaussian_information(
            ops.convert_to_tensor(self.coordinates, dtype=tree.flatten(design)[0].dtype), design
        )

    def _terms_of(self, design, *noise):
        if not noise:
            return self._half_log_det(self._information_of(design))
        scores = self._scores(design, *noise)
        first, second = scores[:, : self.num_outcomes // 2], scores[:, self.num_outcomes // 2 :]
        halves = 0.5 * sum(self._half_log_det(_mean_product(half)) for half in (first, second))
        return 2.0 * self._half_log_det(_mean_product(scores)) - halves

    def _half_log_det(self, information):
        """log det(I + S^(1/2)' F S^(1/2)) / 2 for information (draws, dim, dim)."""
        dtype = information.dtype
        root = ops.convert_to_tensor(self.root, dtype=dtype)
        scaled = ops.matmul(ops.transpose(root), ops.matmul(information, root))
        factor = ops.linalg.cholesky(ops.eye(self.dim, dtype=dtype) + scaled)
        return ops.sum(ops.log(ops.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)

    def _slopes(self, function, u, offset):
        """Central differences of a (draws, ...) function in every coordinate: a list of `dim` arrays (draws, size)."""
        found = []
        for i, axis in enumerate(np.eye(self.dim)):
            direction = ops.convert_to_tensor(self.spread, dtype=u.dtype) * ops.convert_to_tensor(axis, dtype=u.dtype)
            step = self._step(u, offset, self.offsets[i])
            after, before = u + step * direction, u - step * direction
            width = (after - before)[:, i : i + 1]  # and not two steps: beside an offset both ends are rounded
            found.append(ops.reshape(function(after) - function(before), (u.shape[0], -1)) / width)
        return found

    def _gaussian_information(self, u, design):
        simulator = self.simulator

        def mean_and_log_scale(u):
            """Side by side, (draws, 2 size), since the scale may depend on the mean."""
            mean, scale = simulator.mean_and_scale(simulator.prior.from_unconstrained(u), design)
            log_scale = ops.broadcast_to(ops.log(ops.convert_to_tensor(scale, dtype=u.dtype)), mean.shape)
            return ops.reshape(ops.stack([mean, log_scale], axis=1), (u.shape[0], -1))

        values, offset = mean_and_log_scale(u), self._offset(u, design)
        size = values.shape[1] // 2
        both = ops.stack(self._slopes(mean_and_log_scale, u, offset), axis=-1)
        slopes, of_scale = both[:, :size] / ops.exp(values[:, size:])[..., None], both[:, size:]
        if simulator.correlation is not None:
            whitener = np.linalg.inv(np.linalg.cholesky(np.asarray(simulator.correlation, "float64")))
            slopes = ops.matmul(ops.convert_to_tensor(whitener, dtype=u.dtype), slopes)
            return ops.matmul(ops.swapaxes(slopes, 1, 2), slopes)
        products = ops.matmul(ops.swapaxes(slopes, 1, 2), slopes)
        return products + 2.0 * ops.matmul(ops.swapaxes(of_scale, 1, 2), of_scale)

    def _scores(self, design, noise):
        """d log p / d u of every simulated outcome, (draws, num_outcomes, dim)."""
        dtype, simulator = tree.flatten(design)[0].dtype, self.simulator
        u, noise = (ops.convert_to_tensor(part, dtype=dtype) for part in (self.coordinates, noise))
        repeated = ops.repeat(u, self.num_outcomes, axis=0)
        outcome = ops.stop_gradient(simulator.measure(simulator.prior.from_unconstrained(repeated), design, noise))

        def log_p(u):
            return simulator.log_density(outcome, simulator.prior.from_unconstrained(u), design)

        slopes = self._slopes(log_p, repeated, self._offset(u, design, noise))
        return ops.reshape(ops.concatenate(slopes, axis=-1), (u.shape[0], self.num_outcomes, self.dim))


def _on_draws(simulator, draws, design, *noise, method, num_outcomes):
    """A method of a criterion with given draws."""
    criterion = FisherCriterion.__new__(FisherCriterion)
    vars(criterion).update(draws, simulator=simulator, num_outcomes=num_outcomes)
    return getattr(criterion, method)(design, *noise)


def _negative_on_draws(simulator, space, u, draws, *, method, num_outcomes):
    """Minus the mean of a method over given draws, at one design's coordinates."""
    return -ops.mean(_on_draws(simulator, draws, space.constrain(u), method=method, num_outcomes=num_outcomes))


def _mean_product(scores):
    """Mean outer product of scores, (draws, outcomes, dim) -> (draws, dim, dim)."""
    return ops.matmul(ops.swapaxes(scores, 1, 2), scores) / scores.shape[1]


def _warn_not_normal(value, negentropy, error):
    """Warn where a normal prior in place of the true one decides the value."""
    if negentropy > NOT_NORMAL + STANDARD_ERRORS * error and value > negentropy:
        errors.warn(
            f"The prior is far from normal in unconstrained coordinates: its entropy is {negentropy:.2f} nats below "
            f"that of a normal law of its covariance. By up to as much Laplace's {value:.3f} is too large where the "
            "experiment tells modes or tails apart, which the standard error does not hold; use kb.eig.bracket.",
            errors.UnreliableWarning,
        )


def _root(covariance):
    """Cholesky factor of the prior's covariance.

    Raises:
        ValueError: it has none.
    """
    if not np.all(np.isfinite(covariance)) or np.linalg.eigvalsh(covariance)[0] <= 0.0:
        raise ValueError(
            f"The prior's covariance, with variances {np.diag(covariance)} in unconstrained coordinates, is not "
            "positive definite in float64, which a Gaussian approximation needs. Choose another unit for parameters "
            "that are tiny or huge, and leave out one that others determine."
        )
    return np.linalg.cholesky(covariance)
