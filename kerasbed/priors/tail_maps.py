"""Maps of single coordinates after which tails are near those of a normal law, so that few components describe them.

With t = (u - m) / s, m the median and s the interquartile range over 1.349 (sd of a normal law),

    identity                  v = t
    root    (exponential)     v = t / (1 + (t / c)^2)^(1/4),   dv/dt = (1 + (t / c)^2 / 2) (1 + (t / c)^2)^(-5/4)
    arsinh  (powers)          v = arsinh(t),                   dv/dt = (1 + t^2)^(-1/2)
    soft    (one edge)        v = root((g - g_0) / (g'_0 s)),  g = log(exp(r) - 1),  r = exp(s t),  g_0 = g(t = 0)

A density that is finite or a power of the distance at the edge of its support has exponential tails in the logarithm
or logit u, exp(-a |u|); where v grows like the root of |u| they are normal ones. On the other side of a parameter with
one edge alone the logarithm is no coordinate for light tails: the mean of exp(u) under a broad component is dominated
by draws that nobody has seen. There g goes over from u to r, the parameter itself relative to its median (dg/du =
r / (1 - exp(-r))). All maps increase. For each coordinate the one is taken with which a small mixture describes it best
(Schwarz, 1978); arsinh for whole lines alone, since powers of a logarithm have no moments.
"""

from dataclasses import dataclass, replace

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, numerics
from kerasbed.priors.mixture_fit import fit_mixture, schwarz

IDENTITY, ROOT, ARSINH = "identity", "root", "arsinh"
SOFT, MIRRORED_SOFT = "soft", "mirrored soft"  # for a lower edge and for an upper one
BEND = 2.0  # c: below it the root map is near the identity
MOST_DRAWS = 2000  # by which a map is chosen
LEAST_DRAWS = 50
MOST_COMPONENTS = 4
ADVANTAGE = 0.004  # in nats, by which a map must be better than the identity
MIDDLE, MIDDLE_SLOPE = float(np.log(np.expm1(1.0))), float(-1.0 / np.expm1(-1.0))  # g and dg/du where r = 1
# Below the first, log(1 - exp(-r)) is log(r) - r / 2 in float32 too; above the second, r is continued by its tangent.
NEAR, LARGE = -6.0, 40.0


def _soft(x, module):
    """g and log dg/dx with r = exp(x), in NumPy or `keras.ops`."""
    bounded = module.minimum(x, LARGE)
    r = module.exp(bounded)
    far = module.maximum(bounded, NEAR)
    log_share = module.where(x < NEAR, x - 0.5 * r + r * r / 24.0, module.log(-module.expm1(-module.exp(far))))
    return r + log_share + module.maximum(x - LARGE, 0.0) * float(np.exp(LARGE)), bounded - log_share


def _inverse_soft(g, module):
    """x from g."""
    largest = float(np.exp(LARGE))
    bounded = module.minimum(g, largest)
    far = module.maximum(bounded, 2.0 * NEAR)
    near = bounded - 0.5 * module.exp(module.minimum(bounded, 2.0 * NEAR))
    softplus = module.maximum(far, 0.0) + module.log1p(module.exp(-module.abs(far)))
    return module.where(g < 2.0 * NEAR, near, module.log(softplus)) + module.maximum(g - largest, 0.0) / largest


def _forward(kind, scale, t, module):
    """v and log dv/dt, in NumPy or `keras.ops`."""
    if kind == SOFT:
        g, log_slope = _soft(scale * t, module)
        v, log_bend = _forward(ROOT, scale, (g - MIDDLE) / (MIDDLE_SLOPE * scale), module)
        return v, log_bend + log_slope - float(np.log(MIDDLE_SLOPE))
    if kind == MIRRORED_SOFT:
        v, log_slope = _forward(SOFT, scale, -t, module)
        return -v, log_slope
    if kind == ROOT:
        grown = module.square(t / BEND)
        root = module.log1p(grown)
        return t * module.exp(-0.25 * root), module.log1p(0.5 * grown) - 1.25 * root
    if kind == ARSINH:
        return module.arcsinh(t), -0.5 * module.log1p(module.square(t))
    return t, module.zeros_like(t)


def _inverse(kind, scale, v, module=np):
    """t, in NumPy or `keras.ops`: with a = v / c and b = t / c, a^4 (1 + b^2) = b^4 is a quadratic equation in b^2."""
    if kind == SOFT:
        return _inverse_soft(MIDDLE + MIDDLE_SLOPE * scale * _inverse(ROOT, scale, v, module), module) / scale
    if kind == MIRRORED_SOFT:
        return -_inverse(SOFT, scale, -v, module)
    if kind == ROOT:
        square = module.square(v / BEND)
        return v * module.sqrt(0.5 * (square + module.sqrt(module.square(square) + 4.0)))
    return module.sinh(v) if kind == ARSINH else v


@dataclass(frozen=True)
class TailMaps:
    """A map for each of D coordinates.

    Attributes:
        centre, scale: m and s, (D,).
        kinds: names of the maps.
    """

    centre: np.ndarray
    scale: np.ndarray
    kinds: tuple

    @property
    def are_linear(self) -> bool:
        return all(kind == IDENTITY for kind in self.kinds)

    def _each(self):
        return [(kind, float(scale)) for kind, scale in zip(self.kinds, self.scale, strict=True)]

    def linear(self) -> "TailMaps":
        """The same centres and scales without bends."""
        return replace(self, kinds=(IDENTITY,) * len(self.kinds))

    def bent(self, edges: np.ndarray) -> "TailMaps":
        """The same centres and scales with a bend in every coordinate."""
        return replace(self, kinds=tuple(_bends(*pair)[-1] for pair in edges))

    def forward(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v (N, D) and the log-determinant (N,), in NumPy."""
        t = (u - self.centre) / self.scale
        v, slopes = zip(*[_forward(*each, t[:, i], np) for i, each in enumerate(self._each())], strict=True)
        return np.stack(v, axis=-1), sum(slopes) - np.log(self.scale).sum()

    def inverse(self, v: np.ndarray) -> np.ndarray:
        """u from v, (N, D), in NumPy."""
        t = np.stack([_inverse(*each, v[:, i]) for i, each in enumerate(self._each())], axis=-1)
        return self.centre + self.scale * t

    def forward_of_tensor(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` in `keras.ops`: (..., D) -> (..., D), (...,)."""
        t = (u - numerics.like(self.centre, u)) / numerics.like(self.scale, u)
        v, slopes = zip(*[_forward(*each, t[..., i], ops) for i, each in enumerate(self._each())], strict=True)
        return ops.stack(v, axis=-1), sum(slopes[1:], slopes[0]) - float(np.log(self.scale).sum())

    def inverse_of_tensor(self, v: Tensor) -> Tensor:
        """`inverse` in `keras.ops`: (..., D) -> (..., D)."""
        t = ops.stack([_inverse(*each, v[..., i], ops) for i, each in enumerate(self._each())], axis=-1)
        return numerics.like(self.centre, v) + numerics.like(self.scale, v) * t


def linear_maps(u: np.ndarray) -> TailMaps:
    """Median and interquartile range, and no bends: (N, D)."""
    low, centre, high = np.quantile(u, [0.25, 0.5, 0.75], axis=0)
    # Where more than half of the draws are equal, what is left is the standard deviation.
    scale = np.where(high > low, (high - low) / 1.349, numerics.safe_scale(u.std(axis=0)))
    return TailMaps(centre, scale, (IDENTITY,) * u.shape[1])


def _bends(low, high):
    """Kinds beside the identity for a parameter with or without a lower and an upper edge, the safest last."""
    if low and high:
        return (ROOT,)
    if low or high:
        return ROOT, SOFT if low else MIRRORED_SOFT
    return (ARSINH,)


def choose_maps(u: np.ndarray, edges: np.ndarray, rng: np.random.Generator) -> TailMaps:
    """The map for each coordinate with which a small mixture describes it best.

    Args:
        u: draws (N, D).
        edges: whether the parameter of each coordinate has a lower and an upper edge, (D, 2).
        rng: `np.random.Generator`.
    """
    maps = linear_maps(u)
    rows = rng.choice(len(u), min(len(u), MOST_DRAWS), replace=False)
    t = (u[rows] - maps.centre) / maps.scale
    columns = zip(t.T, maps.scale, edges, strict=True)
    kinds = [_best_kind(column, float(scale), pair, rng) for column, scale, pair in columns]
    return replace(maps, kinds=tuple(kinds))


def _best_kind(t, scale, edges, rng):
    distinct, counts = np.unique(t, return_counts=True)
    if len(distinct) < LEAST_DRAWS:
        return IDENTITY
    counts, values = counts.astype("float64"), {}
    for kind in (IDENTITY, *_bends(*edges)):
        v, slope = _forward(kind, scale, distinct, np)
        mixture = fit_mixture(v[:, None] / v.std(), counts, rng, MOST_COMPONENTS)
        values[kind] = schwarz(mixture, v[:, None] / v.std(), counts) - np.log(v.std()) + counts @ slope / counts.sum()
    values[IDENTITY] += ADVANTAGE
    return max(values, key=lambda kind: values[kind])
