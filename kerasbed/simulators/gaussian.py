"""Gaussian noise around a mean that the user writes: outcome, likelihood and likelihoods of all pairs follow."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.errors import MissingMethodError, OutcomeError
from kerasbed.simulators import outcome_dicts
from kerasbed.simulators.simulator import Simulator, leading_axes


class GaussianSimulator(Simulator):
    """Gaussian noise around a mean: write `mean` and `scale`, get `outcome` and `log_likelihood`.

        y = mean + scale * C^(1/2) epsilon,   epsilon ~ N(0, I),   C = `correlation`, C^(1/2) its Cholesky factor

    Methods to write:
        mean(parameters, design): (batch, *outcome_shape), leading axes broadcast; or a dict of those, for outcomes that
            are dicts. Their entries, in the order of their names, are then those of the noise and of `correlation`: set
            noise_shape=(K,) for K numbers in all.
        scale(parameters, design): standard deviation; a number, (*outcome_shape) or like `mean`. With a third argument
            named `mean` it is given what `mean` returned, which is then computed once: `0.1 * mean` for an error in
            proportion. Of a dict a number, or a dict with the same names.

    Attributes to set on the class or instance:
        correlation: None for independent noise, or a (K, K) correlation matrix for outcomes of shape (K,).

    Example:
        >>> class Line(kb.GaussianSimulator):
        ...     prior = kb.Prior(intercept=stats.norm(), slope=stats.norm())
        ...
        ...     def mean(self, parameters, design):
        ...         return parameters["intercept"] + parameters["slope"] * design
        ...
        ...     def scale(self, parameters, design):
        ...         return 0.5
        >>> kb.eig.laplace(Line(), np.array([-1.0, 1.0])).value, np.log(9.0)  # exact for a normal experiment
        (2.1972, 2.1972)
    """

    described = "an instance of a kb.GaussianSimulator subclass"
    correlation: np.ndarray | None = None

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        raise MissingMethodError(f"{type(self).__name__} must define mean(parameters, design).")

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        raise MissingMethodError(f"{type(self).__name__} must define scale(parameters, design).")

    def mean_and_scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with a mean that is computed once also where the scale depends on it."""
        mean = self.mean(parameters, design)
        takes_mean = "mean" in inspect.signature(self.scale).parameters
        scale: Any = self.scale
        scale = scale(parameters, design, mean=mean) if takes_mean else scale(parameters, design)
        return self._joined(mean, scale, parameters) if isinstance(mean, Mapping) else (mean, scale)

    def _joined(self, means, scales, parameters):
        """Both of outcomes that are dicts; a scale that no draw changes stays one for all."""
        mean, layout = outcome_dicts.joined_law(means, f"{type(self).__name__}.mean", parameters)
        self.remember(layout)
        if isinstance(scales, Mapping):
            return mean, outcome_dicts.joined_scales(scales, layout, f"{type(self).__name__}.scale", mean)
        if np.ndim(scales) > 0:
            raise OutcomeError(
                f"{type(self).__name__}.scale returned an array of shape {tuple(scales.shape)}, but mean a dict; a "
                f"number or a dict with {list(layout.shapes)} was expected."
            )
        return mean, scales

    def outcome(self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor) -> Tensor:
        mean, scale = self.mean_and_scale(parameters, design)
        if self.layouts:
            outcome_dicts.check_noise(type(self).__name__, noise, self.layouts.at(mean.shape[-1]))
        if len(mean.shape) != len(noise.shape):
            raise ValueError(
                f"{type(self).__name__}.mean returned shape {tuple(mean.shape)} for noise of shape "
                f"{tuple(noise.shape)}, but both need the batch axis and the axes of the outcome; add the missing one, "
                "e.g. mean[:, None]."
            )
        if self.correlation is not None:
            factor = ops.convert_to_tensor(self._factor()[0], dtype=noise.dtype)
            noise = ops.matmul(noise, ops.transpose(factor))
        return self.layouts.split(mean + scale * noise)

    def log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        mean, scale = self.mean_and_scale(parameters, design)
        outcome = self.layouts.join(outcome)
        scale = ops.convert_to_tensor(scale, dtype=outcome.dtype)
        residual = (outcome - mean) / scale
        log_scale = ops.log(scale) + 0.5 * numerics.LOG_2PI
        if self.correlation is not None:
            _, whitener, log_det = self._factor()
            residual = ops.matmul(residual, ops.transpose(ops.convert_to_tensor(whitener, dtype=residual.dtype)))
            log_scale = log_scale + log_det / len(whitener)
        event = tuple(range(-(len(outcome.shape) - leading_axes(parameters)), 0))
        return ops.sum(-0.5 * ops.square(residual) - log_scale, axis=event)

    def pairwise_log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """See `Simulator`. The square is expanded into one matrix product, centred at the mean prediction c:

            -w (y - m)^2 / 2 = [y - c, (y - c)^2] . [w (m - c), -w / 2] - w (m - c)^2 / 2,   w = 1 / scale^2,

        summed over entries. One product and not two: XLA on CPU (jax 0.10.2) merges two products whose second factor
        is a broadcast constant into a wrong one. A scale shared by all draws is divided out first, and correlation
        with it; correlated noise whose scale depends on the parameters takes the (M, N, K) array.
        """
        mean, scale = self.mean_and_scale(parameters, design)
        outcome = self.layouts.join(outcome)
        size = int(np.prod(mean.shape[1:]))
        scale = ops.convert_to_tensor(scale, dtype=mean.dtype)
        shared = len(scale.shape) < len(mean.shape) or scale.shape[0] == 1
        if self.correlation is not None and not shared:
            return super().pairwise_log_likelihood(outcome, parameters, design)
        shape = (1, *mean.shape[1:]) if shared else ops.shape(mean)
        scale = ops.reshape(ops.broadcast_to(scale, shape), (-1, size))
        mean, outcome = ops.reshape(mean, (-1, size)), ops.reshape(outcome, (-1, size))
        centre = ops.mean(mean, axis=0, keepdims=True)
        mean, outcome = mean - centre, outcome - centre
        constant = ops.sum(ops.log(scale) + 0.5 * numerics.LOG_2PI, axis=-1)
        if shared:
            return self._shared_scale(outcome / scale, mean / scale) - constant
        precision = 1.0 / ops.square(scale)
        left = ops.concatenate([outcome, ops.square(outcome)], axis=-1)
        right = ops.concatenate([precision * mean, -0.5 * precision], axis=-1)
        of_draw = 0.5 * ops.sum(precision * ops.square(mean), axis=-1) + constant
        return ops.matmul(left, ops.transpose(right)) - of_draw

    def _shared_scale(self, outcome, mean):
        """-|C^(-1/2) (y_m - f_n)|^2 / 2 minus the log-determinant of C^(1/2): (M, K), (N, K) -> (M, N)."""
        log_det = 0.0
        if self.correlation is not None:
            _, whitener, log_det = self._factor()
            whitener = ops.transpose(ops.convert_to_tensor(whitener, dtype=mean.dtype))
            outcome, mean = ops.matmul(outcome, whitener), ops.matmul(mean, whitener)
        of_mean = 0.5 * ops.sum(ops.square(mean), axis=-1) + log_det
        of_outcome = 0.5 * ops.sum(ops.square(outcome), axis=-1, keepdims=True)
        return ops.matmul(outcome, ops.transpose(mean)) - of_mean - of_outcome

    def _factor(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Cholesky factor of the correlation, its inverse and its log-determinant."""
        correlation = np.asarray(self.correlation, "float64")
        symmetric = correlation.ndim == 2 and np.allclose(correlation, correlation.T)
        if not symmetric or np.linalg.eigvalsh(correlation)[0] <= 0:
            raise ValueError(
                f"{type(self).__name__}.correlation has shape {correlation.shape}, but a symmetric positive definite "
                "(K, K) matrix for outcomes of shape (K,) was expected."
            )
        factor = np.linalg.cholesky(correlation)
        return factor, np.linalg.inv(factor), float(np.sum(np.log(np.diag(factor))))
