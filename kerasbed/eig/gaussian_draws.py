"""The fixed draws of a double loop: checked arrays, or draws from a `GaussianSimulator`."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import special

from kerasbed import backend
from kerasbed.backend import streams
from kerasbed.base_samples import BaseSamples, GaussHermite, Sobol
from kerasbed.designs import Design
from kerasbed.eig.weighted_noise import Draws
from kerasbed.simulators.gaussian import GaussianSimulator
from kerasbed.simulators.simulator import design_values

# Two evaluations of one float64 formula may differ by this, relatively, and count as equal.
SAME = 1e-9


def prepare(
    outer: ArrayLike,
    inner: ArrayLike,
    noise_variances: ArrayLike,
    noise: ArrayLike,
    outer_weights: ArrayLike | None = None,
    inner_weights: ArrayLike | None = None,
) -> Draws:
    """Check the arrays of a double loop and derive the constants its formulas need; see `DoubleLoop`."""
    outer, inner, noise = matrix("outer", outer), matrix("inner", inner), matrix("base_samples", noise)
    if inner.shape[1] != outer.shape[1] or noise.shape != outer.shape:
        raise ValueError(
            f"outer has shape {outer.shape}, inner {inner.shape}, base_samples {noise.shape}; (M, K), (N, K) and (M, "
            "K) were expected: draws first, sensors last."
        )
    if len(inner) < 2:
        raise ValueError("The double loop has 1 inner draw, but the evidence is an average over at least 2; add draws.")
    variances = covariance("noise_variances", noise_variances, outer.shape[1])
    if variances.ndim == 1:
        root = np.sqrt(variances)
        coloured, pull, whitener, precision = noise * root, noise / root, 1.0 / root, 1.0 / variances
    else:
        factor = np.linalg.cholesky(variances)
        whitener = np.linalg.inv(factor)
        coloured, pull, precision = noise @ factor.T, noise @ whitener, whitener.T @ whitener
    inner_weights = _weights("inner_weights", inner_weights, len(inner))
    centre = inner_weights @ inner
    return Draws(
        outer=outer - centre,
        inner=inner - centre,
        noise=noise,
        coloured=coloured,
        pull=pull,
        whitener=whitener,
        precision=precision,
        outer_weights=_weights("outer_weights", outer_weights, len(outer)),
        inner_log_weights=np.log(inner_weights),
    )


def simulate(
    simulator: GaussianSimulator,
    num_outer: int | None,
    num_inner: int | None,
    seed: int | None,
    design: np.ndarray | dict[str, np.ndarray] | Design | None,
    base_samples: str | tuple[BaseSamples, BaseSamples],
) -> dict:
    """Arguments of `DoubleLoop` from seeded draws of a simulator; see `DoubleLoop.from_simulator`."""
    if not isinstance(simulator, GaussianSimulator):
        raise TypeError(
            f"{type(simulator).__name__} is no GaussianSimulator, and the double loop needs a mean and Gaussian noise. "
            "Use kb.eig.bracket for other likelihoods."
        )
    _refuse_sizes_beside_rules(base_samples, num_outer=num_outer, num_inner=num_inner, seed=seed)
    seed = 0 if seed is None else seed
    rules = _rules(base_samples, num_outer, num_inner, seed, simulator.prior.dim)
    of_outer, of_inner, of_noise = streams.children(seed, 3)
    settings = _settings(simulator, design)
    num_sensors = int(np.prod(simulator.resolve_noise_shape(settings.shape)))
    if rules is None:
        sizes: tuple[Any, Any] = num_outer, num_inner  # both are given where there are no rules
        outer, inner = simulator.prior.sample(sizes[0], of_outer), simulator.prior.sample(sizes[1], of_inner)
        noise = of_noise.standard_normal((sizes[0], num_sensors))
        weights = {}
    else:
        dim = simulator.prior.dim
        joint = rules[0].normal(dim + num_sensors)
        outer = simulator.prior.transform(special.ndtr(joint[:, :dim]))
        noise, inner = joint[:, dim:], simulator.prior.transform(special.ndtr(rules[1].normal(dim)))
        weights = {"outer_weights": rules[0].weights(dim + num_sensors), "inner_weights": rules[1].weights(dim)}
    return {
        "outer": _mean(simulator, outer, settings, design is None),
        "inner": _mean(simulator, inner, settings, design is None),
        "noise_variances": _variances(simulator, outer, settings),
        "base_samples": noise,
        **weights,
    }


def _settings(simulator, design) -> Any:
    if design is not None:
        return design_values(design)
    if simulator.noise_shape is None:
        raise ValueError(
            f"{type(simulator).__name__} gives no noise_shape, so its number of sensors is unknown; set noise_shape, "
            "or pass design= with the candidate settings."
        )
    return np.ones(simulator.noise_shape)


def _refuse_sizes_beside_rules(base_samples, **given):
    given = [f"{name}={value}" for name, value in given.items() if value is not None]
    if isinstance(base_samples, tuple) and given:
        raise ValueError(
            f"{', '.join(given)} was given beside a pair of rules, which have sizes and seeds of their own. Leave it "
            "out, and set the rules': base_samples=(Sobol(num_outer, seed), Sobol(num_inner, seed))."
        )


def _rules(base_samples, num_outer, num_inner, seed, dim) -> tuple[BaseSamples, BaseSamples] | None:
    if isinstance(base_samples, tuple) and all(isinstance(rule, BaseSamples) for rule in base_samples):
        outer, inner = base_samples
        return outer, inner.in_stream(1)  # apart, even where both have the default seed
    if num_outer is None or num_inner is None:
        raise ValueError(f"num_outer is {num_outer} and num_inner is {num_inner}; give both, or a pair of rules.")
    if base_samples == "monte_carlo":
        return None
    outer_seed, inner_seed = streams.integers(seed, 2)
    if base_samples == "sobol":
        return Sobol(num_outer, outer_seed), Sobol(num_inner, inner_seed)
    if base_samples == "gauss_hermite":
        order = int(np.floor(num_inner ** (1.0 / dim) * (1.0 + SAME)))
        return Sobol(num_outer, outer_seed), GaussHermite(order)
    raise ValueError(
        f"base_samples is {base_samples!r}, but 'monte_carlo', 'sobol', 'gauss_hermite' or two rules was expected."
    )


def _evaluate(function, parameters, settings) -> np.ndarray:
    with backend.precision("float64"), backend.no_gradients():
        parameters, settings = backend.to_tensor((parameters, settings[None]), "float64")
        return backend.to_numpy(ops.convert_to_tensor(function(parameters, settings), dtype="float64"))


def _mean(simulator, parameters, settings, is_weights) -> np.ndarray:
    mean = _evaluate(simulator.mean, parameters, settings)
    if is_weights and not np.allclose(
        _evaluate(simulator.mean, parameters, 0.5 * settings), mean, rtol=SAME, atol=SAME
    ):
        raise ValueError(
            f"The mean of {type(simulator).__name__} depends on its design, so its design is not a set of precision "
            "weights. Pass design= with the candidate settings that the weights choose among."
        )
    return mean.reshape(len(mean), -1)


def _variances(simulator, parameters, settings) -> np.ndarray:
    scale = _evaluate(simulator.scale, parameters, settings)
    shape = simulator.resolve_noise_shape(settings.shape)
    scale = np.broadcast_to(scale, np.broadcast_shapes(scale.shape, (1, *shape))).reshape(-1, int(np.prod(shape)))
    if not np.allclose(scale, scale[:1], rtol=SAME, atol=0.0):
        raise ValueError(
            f"The scale of {type(simulator).__name__} depends on the parameters, but the double loop has one noise "
            "covariance for all draws. Use kb.eig.bracket, which allows it."
        )
    if simulator.correlation is None:
        return scale[0] ** 2
    return scale[0][:, None] * np.asarray(simulator.correlation, "float64") * scale[0]


def matrix(name: str, values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, "float64")
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{name} has shape {values.shape}, but (draws, sensors) was expected, at least one of each.")
    if not np.all(np.isfinite(values)):
        raise ValueError(
            f"{name} has {int(np.sum(~np.isfinite(values)))} entries that are not finite; check the model."
        )
    return values


def covariance(name: str, variances: ArrayLike, size: int) -> np.ndarray:
    """Variances (size,), from a number or (size,), or a checked covariance (size, size)."""
    variances = np.asarray(variances, "float64")
    if variances.ndim == 0:
        variances = np.full(size, variances)
    if variances.shape not in ((size,), (size, size)):
        raise ValueError(f"{name} has shape {variances.shape}, but ({size},) or ({size}, {size}) was expected.")
    if variances.ndim == 1 and not np.all(variances > 0):
        raise ValueError(f"{name} must be positive, but the smallest is {variances.min():.3g}; check the units.")
    if variances.ndim == 2:
        if not np.allclose(variances, variances.T, rtol=SAME, atol=0.0):
            raise ValueError(f"{name} is not symmetric; pass (covariance + covariance.T) / 2 if that is meant.")
        if not (smallest := np.linalg.eigvalsh(variances)[0]) > 0:
            raise ValueError(f"{name} must be positive definite, but its least eigenvalue is {smallest:.3g}.")
    return variances


def _weights(name, weights, num) -> np.ndarray:
    if weights is None:
        return np.full(num, 1.0 / num)
    weights = np.asarray(weights, "float64")
    if weights.shape != (num,) or not np.all(weights > 0) or abs(weights.sum() - 1.0) > 1e-6:
        raise ValueError(f"{name} must be ({num},) positive numbers that sum to one; their sum is {weights.sum():.6g}.")
    return weights / weights.sum()
