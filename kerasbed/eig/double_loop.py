"""`DoubleLoop`: the nested Monte Carlo EIG of weighted sensors on fixed draws, with exact derivatives.

Observations y = f(theta) + W^(-1/2) Gamma^(1/2) epsilon: sensor k gets the share w_k of the measuring effort. Given
the draws, the estimate is a smooth deterministic function of w, fit for SciPy's optimisers. `weighted_noise` holds the
derivation and the formulas; this file checks the input, streams over blocks of outer draws and chooses the precision.
"""

import functools
from collections.abc import Sequence

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Tensor, errors
from kerasbed.backend.programs import SHARED
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.base_samples import BaseSamples
from kerasbed.designs import Design
from kerasbed.eig import gaussian_draws, reliability, weighted_noise
from kerasbed.eig.weighted_noise import COMPONENTS, Draws
from kerasbed.simulators.gaussian import GaussianSimulator

# Outer x inner pairs held at once by calls with NumPy arrays: 32 MB for each intermediate array in float64.
BLOCK_PAIRS = 2**22
# With fewer inner draws for each unit of exp(EIG) a nested estimate is 2 to 24% high, as measured for `kb.eig.bracket`.
INNER_DRAWS_PER_EXP_EIG = 10.0


class DoubleLoop:
    """The double-loop EIG estimate of sensor weights, in nats, an upper bound in expectation.

    Every method takes weights w of shape (K,). NumPy in gives NumPy float64 out, whatever Keras' floatx, computed in
    blocks of outer draws. A tensor in gives a tensor of its dtype out, differentiable and free to stand inside a
    compiled function; it holds an (M, N) array and checks nothing.

    Args:
        outer: model outputs at the outer draws, (M, K).
        inner: model outputs at the inner draws, (N, K).
        noise_variances: (K,) variances of independent noise at weight one, or a (K, K) covariance. With a covariance,
            Gamma^(1/2) is its lower Cholesky factor.
        base_samples: outer noise epsilon, (M, K). It is kept: the inner gradient needs it as its cross-term.
        outer_weights, inner_weights: weights of the draws when they are a quadrature rule, (M,) and (N,), summing to
            one; equal by default.
        total: what the weights should sum to; weights that miss it by more than 1% are warned about. None: anything.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, noise that is not positive, fewer than two
            inner draws.

    Source: Ryan (2003) for the estimator; the derivatives are derived in `kerasbed.eig.weighted_noise`. A Hessian
    diagonal that has been in use, -1/(2 w^2) - 3 r epsilon / (8 sqrt(gamma) w^(5/2)), is wrong; see there.

    Example:
        >>> loop = kb.eig.DoubleLoop.from_simulator(kb.problems.LinearGaussian(), num_outer=512, num_inner=512)
        >>> equal = np.array([0.5, 0.5])
        >>> abs(loop.value(equal) - 0.5 * np.log(8.25)) < 0.1
        True
        >>> loop.gradient(equal).round(1)  # equal in both weights: nothing is gained by a shift
        array([0.6, 0.6])
    """

    def __init__(
        self,
        outer: ArrayLike,
        inner: ArrayLike,
        noise_variances: ArrayLike,
        base_samples: ArrayLike,
        *,
        outer_weights: ArrayLike | None = None,
        inner_weights: ArrayLike | None = None,
        total: float | None = 1.0,
    ):
        self.draws = gaussian_draws.prepare(outer, inner, noise_variances, base_samples, outer_weights, inner_weights)
        self.total = total

    @classmethod
    @checked(num_outer=positive_integer, num_inner=positive_integer, seed=integer_seed)
    def from_simulator(
        cls,
        simulator: GaussianSimulator,
        num_outer: int | None = None,
        num_inner: int | None = None,
        *,
        seed: int | None = None,
        design: np.ndarray | dict[str, np.ndarray] | Design | None = None,
        base_samples: str | tuple[BaseSamples, BaseSamples] = "monte_carlo",
        total: float | None = 1.0,
    ) -> "DoubleLoop":
        """The double loop of a `GaussianSimulator` on seeded draws.

        Args:
            simulator: its mean gives f(theta), its scale and correlation give Gamma.
            num_outer, num_inner: M and N; a pair of rules has its own.
            seed: of the draws; None: 0, or those of a pair of rules.
            design: candidate settings, (*shape), at which mean and scale are evaluated; the weights then share the
                effort among them. Default: the simulator's own design is the weights, as in `problems.LinearGaussian`.
            base_samples: "monte_carlo"; "sobol"; "gauss_hermite", quadrature over the inner parameters (the largest
                tensor rule of at most num_inner points) with Sobol outer draws; or a pair of rules (outer, inner), of
                which the inner one is taken in a stream of its own.
            total: see the class.

        Raises:
            TypeError: the simulator is not a GaussianSimulator.
            ValueError: the noise depends on the parameters, without `design` the mean depends on the weights, or sizes
                or a seed are given beside a pair of rules.
        """
        draws = gaussian_draws.simulate(simulator, num_outer, num_inner, seed, design, base_samples)
        return cls(**draws, total=total)

    @property
    def num_sensors(self) -> int:
        return self.draws.outer.shape[1]

    def value(self, w: np.ndarray | Tensor) -> float | Tensor:
        """The estimate in nats; weights of zero are allowed."""
        if ops.is_tensor(w):
            return weighted_noise.value(self._tensors(w), w)
        found = float(self._summed("value", self._check(w)))
        self._warn_if_saturated(found)
        return found

    def standard_error(self, w: np.ndarray) -> float:
        """Standard error of the value from its outer and its inner draws; NumPy weights only.

        The inner draws are shared by all outer ones; what they add is found by a jackknife over blocks of them, see
        `kerasbed.eig.reliability`. Draws of a quadrature or of one Sobol scramble are not independent: take several
        seeds of the double loop then, and `kerasbed.eig.reliability.mean_and_error_of_few` of their values.

        Raises:
            ValueError: the draws have unequal weights, as those of a quadrature.
        """
        w, draws = self._check(w), self.draws
        if np.ptp(draws.inner_log_weights) > 1e-9 or np.ptp(draws.outer_weights) > 1e-9 / len(draws.outer):
            raise ValueError(
                "The draws of this double loop have unequal weights, so they are a quadrature and have no standard "
                "error; vary the order of the rule, or the seeds of its Sobol points."
            )
        terms, left_out, sizes = self._jackknife_terms(w)
        return reliability.jackknifed(terms, left_out, sizes).error

    def _jackknife_terms(self, w):
        """log ratios of all inner draws (M,), without each block of them (blocks, M), and the blocks' sizes."""
        draws, num = self.draws, len(self.draws.inner)
        count = min(reliability.BLOCKS, num)
        size, sums = -(-num // count), []
        starts = np.arange(0, num, size)
        for start in starts:
            chosen = (start + np.arange(size)) % num  # the last block is full, too: one program for all
            log_weights = np.where(start + np.arange(size) < num, 0.0, -np.inf)
            part = DoubleLoop.__new__(DoubleLoop)
            part.draws, part.total = draws._replace(inner=draws.inner[chosen], inner_log_weights=log_weights), None
            found = [part._compiled("log_ratios")(block, w)[:rows] for block, rows in part._blocks()]
            sums.append(-np.concatenate(found))  # log of a sum over the block's likelihood ratios
        sums, sizes = np.stack(sums), np.minimum(size, num - starts).astype("float64")
        left_out = np.log(num - sizes)[:, None] - reliability.without_each(sums)
        return np.log(num) - np.logaddexp.reduce(sums, axis=0), left_out, sizes

    def gradient(self, w: np.ndarray | Tensor, components: Sequence[str] = COMPONENTS) -> np.ndarray | Tensor:
        """d value / d w, (K,). With C3 left out it is the noise of a score function, of expectation zero."""
        components = _checked_components(components)
        if ops.is_tensor(w):
            return weighted_noise.gradient(self._tensors(w), w, components)
        return self._summed("gradient", self._check(w, positive=True), components=components)

    def hessian_vector_product(self, w: np.ndarray | Tensor, v: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """(d^2 value / d w^2) v for v of shape (K,): (K,)."""
        if ops.is_tensor(w):
            return weighted_noise.hessian_vector_product(self._tensors(w), w, ops.cast(v, w.dtype))
        return self._summed("hessian_vector_product", self._check(w, positive=True), self._vector("v", v))

    def log_likelihood_gradient(
        self, w: np.ndarray | Tensor, components: Sequence[str] = COMPONENTS, residuals: str = "outer"
    ) -> np.ndarray | Tensor:
        """Components of d log p(y | theta, w) / d w, summed over those asked for.

        C1: the weight in the square, C2: the log-determinant, C3: y moves with w. `residuals="outer"` gives (M, K) at
        y_m - f(theta_m); "inner" gives (M, N, K) at y_m - f(theta_n), where C3 keeps the noise of the outer draw.
        """
        options = {"components": _checked_components(components), "which": _checked_residuals(residuals)}
        return self._pairs("log_likelihood_gradient", w, **options)

    def log_evidence_jacobian(
        self, w: np.ndarray | Tensor, components: Sequence[str] = COMPONENTS
    ) -> np.ndarray | Tensor:
        """d log p(y_m | w) / d w_k of the inner average, (M, K)."""
        components = _checked_components(components)
        if ops.is_tensor(w):
            return weighted_noise.log_evidence_jacobian(self._tensors(w), w, components)
        w = self._check(w, positive=True)
        return np.concatenate(
            [
                self._compiled("log_evidence_jacobian", components=components)(block, w)[:rows]
                for block, rows in self._blocks()
            ]
        )

    def log_likelihood_hessian(self, w: np.ndarray | Tensor, residuals: str = "inner") -> np.ndarray | Tensor:
        """d^2 log p(y | theta, w) / d w^2 of every pair.

        The diagonal, (M, N, K) ("outer": (M, K)), for independent noise; the matrix, (M, N, K, K), for correlated.
        This is the corrected Hessian: r epsilon / (4 sqrt(gamma) w^(3/2)) - epsilon^2 / (4 w^2) - 1 / (2 w^2).
        """
        return self._pairs("log_likelihood_hessian", w, which=_checked_residuals(residuals))

    def effective_inner_draws(self, w: np.ndarray) -> float:
        """How many inner draws carry the evidence of an outer draw, averaged; below ten the estimate is biased high."""
        w = self._check(w)
        found = [self._compiled("effective_inner_draws")(block, w)[:rows] for block, rows in self._blocks()]
        return float(self.draws.outer_weights @ np.concatenate(found))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _pairs(self, name, w, **options):
        if ops.is_tensor(w):
            return getattr(weighted_noise, name)(self._tensors(w), w, **options)
        return self._compiled(name, **options)(self.draws, self._check(w, positive=True))

    def _compiled(self, name, **options):
        return _compiled(name, self.draws.precision.shape, **options)

    def _summed(self, name, *args, **options):
        function = self._compiled(name, **options)
        return sum(function(block, *args) for block, _ in self._blocks())

    def _blocks(self):
        """Equal blocks of outer draws, the last padded by draws of weight zero, with their numbers of real rows."""
        draws, num = self.draws, len(self.draws.outer)
        size = max(1, min(num, BLOCK_PAIRS // len(draws.inner)))
        for start in range(0, num, size):
            rows = min(size, num - start)
            of_outer = np.arange(start, start + size) % num
            weights = np.where(np.arange(size) < rows, draws.outer_weights[of_outer], 0.0)
            yield (
                draws._replace(
                    outer=draws.outer[of_outer],
                    noise=draws.noise[of_outer],
                    coloured=draws.coloured[of_outer],
                    pull=draws.pull[of_outer],
                    outer_weights=weights,
                ),
                rows,
            )

    def _tensors(self, w) -> Draws:
        return Draws(*[ops.convert_to_tensor(array, dtype=w.dtype) for array in self.draws])

    def _vector(self, name, values) -> np.ndarray:
        values = np.asarray(values, "float64")
        if values.shape != (self.num_sensors,):
            raise ValueError(
                f"{name} has shape {values.shape}, but this double loop has {self.num_sensors} sensors; "
                f"pass shape ({self.num_sensors},)."
            )
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{name} is {values}, but finite numbers are needed.")
        return values

    def _check(self, w, positive=False) -> np.ndarray:
        w = self._vector("w", w)
        if np.any(w < 0):
            raise ValueError(
                f"The weights are {w}, but they must not be negative; the smallest is {w.min():.3g}. "
                "Project them on the simplex, or optimise over kb.designs.Simplex."
            )
        if positive and np.any(w == 0):
            raise ValueError(
                f"The derivative of the sampled EIG is infinite at a weight of exactly zero, and sensors "
                f"{np.flatnonzero(w == 0).tolist()} have it; move inside the simplex or drop those sensors."
            )
        if self.total is not None and w.size > 1 and abs(w.sum() - self.total) > 0.01 * self.total:
            errors.warn(
                f"The weights sum to {w.sum():.4g}, not to {self.total:.4g}: the estimate is for that much more or "
                "less measuring effort. Divide them by their sum, or pass total=None if that is meant.",
                errors.SettingWarning,
            )
        return w

    def _warn_if_saturated(self, value):
        needed = INNER_DRAWS_PER_EXP_EIG * np.exp(min(value, 700.0))
        if len(self.draws.inner) < needed:
            errors.warn(
                f"The double-loop estimate is {value:.3f} nats from {len(self.draws.inner)} inner draws; it is biased "
                f"high, and about {needed:.0f} inner draws are needed to bring it within a quarter, "
                f"{reliability.INNER_FOR_ONE_PERCENT / INNER_DRAWS_PER_EXP_EIG * needed:.0f} within 1%. Raise "
                "num_inner.",
                errors.SaturatedWarning,
            )


@functools.lru_cache(maxsize=SHARED)
def _compiled(name, noise_shape, **options):
    """One compiled program for each formula, shared by all double loops with noise of this shape; it holds no draws.

    The shape is part of the key because TensorFlow, once it has seen two of them, forgets even their rank.
    """
    return backend.compile_function(functools.partial(getattr(weighted_noise, name), **options))


def _checked_components(components) -> tuple[str, ...]:
    components = (components,) if isinstance(components, str) else tuple(components)
    if not components or not set(components) <= set(COMPONENTS):
        raise ValueError(f"components are {components}, but a choice from {COMPONENTS} was expected.")
    return tuple(name for name in COMPONENTS if name in components)


def _checked_residuals(residuals: str) -> str:
    if residuals not in ("outer", "inner"):
        raise ValueError(f"residuals is {residuals!r}, but 'outer' or 'inner' was expected.")
    return residuals
