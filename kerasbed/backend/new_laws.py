"""SciPy's new distribution classes, such as `scipy.stats.Normal(mu=0, sigma=1)`, as frozen laws of the older kind.

They have no draws by `rvs`, no shape parameters in common with the older laws, and no names by which a density in
`keras.ops` could be found. What has an older counterpart is replaced by it, which is compared before it is trusted.
Quantiles and densities of normal laws, which are those of most noise, are taken without what SciPy spends on its
arguments.
"""

from typing import Any

import numpy as np
from scipy import special, stats

# Names that `scipy.stats.make_distribution` gives to laws, where they are not those laws' own in capitals.
NAMES = {
    "ChiSquared": "chi2",
    "Exponential": "expon",
    "GeneralizedNormal": "gennorm",
    "Gumbel": "gumbel_r",
    "InverseGammma": "invgamma",  # as SciPy 1.17 writes it
    "InverseGamma": "invgamma",
    "InverseGaussian": "invgauss",
    "InverseWeibull": "invweibull",
    "LogNormal": "lognorm",
    "ReflectedGumbel": "gumbel_l",
    "ReflectedWeibull": "weibull_max",
    "SkewNormal": "skewnorm",
    "StudentT": "t",
    "Triangular": "triang",
    "TruncatedNormal": "truncnorm",
    "Weibull": "weibull_min",
}
LOG_ROOT_OF_2_PI = np.log(np.sqrt(2.0 * np.pi))
LEVELS = np.array([0.05, 0.3, 0.5, 0.8, 0.99])


def as_frozen(law: Any) -> Any:
    """A law of the new kind as a frozen one; anything else as it is.

    Raises:
        TypeError: it has no counterpart among the older laws.
    """
    if not (hasattr(law, "icdf") and hasattr(law, "sample")):
        return law
    kinds = [kind.__name__ for kind in type(law).__mro__]
    found = next((CONVERSIONS[kind](law) for kind in kinds if kind in CONVERSIONS), None)
    if found is not None and _agree(found, law):
        return found
    raise TypeError(
        f"{law!r} is one of SciPy's new distributions without a counterpart among the older ones; give a frozen law, "
        "such as stats.lognorm(0.5), or pass a sampler: Prior.from_sampler(...)."
    )


def _agree(frozen, law) -> bool:
    levels = LEVELS.reshape(-1, *(1,) * np.ndim(frozen.ppf(0.5)))
    return bool(np.allclose(law.cdf(frozen.ppf(levels)), frozen.cdf(frozen.ppf(levels)), rtol=1e-8, atol=1e-10))


def _uniform(law):
    low, high = law.support()
    return stats.uniform(low, high - low)


def _shifted(law):
    """loc + scale X."""
    base: Any = as_frozen(law._dist)
    shapes, loc, scale = base.dist._parse_args(*base.args, **base.kwds)
    if np.all(law.scale > 0):
        return base.dist(*shapes, loc=law.loc + law.scale * loc, scale=law.scale * scale)
    is_symmetric = base.dist.name in ("norm", "logistic", "laplace", "cauchy", "t")
    return base.dist(*shapes, loc=law.loc + law.scale * loc, scale=-law.scale * scale) if is_symmetric else None


def _of_normal(make):
    """A conversion of what is made of a normal law, from its mean and standard deviation; of others there is none."""

    def convert(law):
        base: Any = as_frozen(law._dist)
        return make(law, base.mean(), base.std()) if base.dist.name == "norm" else None

    return convert


def _exponential_of_normal(law, mean, deviation):
    return stats.lognorm(deviation, scale=np.exp(mean)) if law._g is np.exp else None


def _truncated_normal(law, mean, deviation):
    return stats.truncnorm((law.lb - mean) / deviation, (law.ub - mean) / deviation, mean, deviation)


def _folded_normal(law, mean, deviation):
    return stats.halfnorm(scale=deviation) if np.all(mean == 0) else None


def _by_name(law):
    """What `scipy.stats.make_distribution` made of an older law."""
    name = repr(law).partition("(")[0]
    dist: Any = getattr(stats, NAMES.get(name, name.lower()), None)
    if not isinstance(dist, stats.rv_continuous | stats.rv_discrete):
        return None
    return dist(*(getattr(law, shape) for shape in (dist.shapes or "").replace(",", " ").split()))


CONVERSIONS = {
    "Normal": lambda law: stats.norm(law.mean(), law.standard_deviation()),
    "Uniform": _uniform,
    "Logistic": lambda law: stats.logistic(),
    "Binomial": lambda law: stats.binom(np.asarray(law.n).astype(int), law.p),
    "ShiftedScaledDistribution": _shifted,
    "MonotonicTransformedDistribution": _of_normal(_exponential_of_normal),
    "TruncatedDistribution": _of_normal(_truncated_normal),
    "FoldedDistribution": _of_normal(_folded_normal),
    "CustomDistribution": _by_name,
}


def quantiles(law: Any, u: np.ndarray) -> np.ndarray:
    """`law.ppf(u)` of a frozen law; of a normal one bit for bit the same in a third of the time.

    SciPy looks at every entry of its arguments, which costs more than the quantiles of the noise of most experiments.
    """
    if not _is_normal(law):
        return law.ppf(u)
    loc, scale = _loc_and_scale(law)
    found = special.ndtri(u)
    if np.ndim(loc) == np.ndim(scale) == 0:  # in its place: as much memory again takes longer than the product
        found *= scale
        found += loc
        return found
    return found * scale + loc


def log_densities(law: Any, x: np.ndarray) -> np.ndarray:
    """`law.logpdf(x)` of a frozen law; of a normal one bit for bit the same in a third of the time."""
    if not _is_normal(law):
        return law.logpdf(x)
    loc, scale = _loc_and_scale(law)
    return -(((x - loc) / scale) ** 2) / 2.0 - LOG_ROOT_OF_2_PI - np.log(scale)


def _is_normal(law):
    return type(getattr(law, "dist", None)) is type(stats.norm)


def _loc_and_scale(law):
    given = dict(zip(("loc", "scale"), law.args, strict=False)) | law.kwds
    return given.get("loc", 0.0), given.get("scale", 1.0)
