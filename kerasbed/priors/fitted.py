"""Densities fitted to draws, as priors: what they share, and the mixture or kernels that held-out draws prefer.

A density estimated from draws is not the density of those draws: entropies and EIGs that mix the two are biased. So a
fitted prior samples from what it evaluates, and says where that is not what it was fitted to.
"""

from collections.abc import Mapping

import numpy as np

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, errors
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.priors import draw_checks
from kerasbed.priors.base import Parameters
from kerasbed.priors.fitted_density import HeldOut, fit_density
from kerasbed.priors.joint import JointPrior

VISIBLE = 0.1  # distance of two laws, beyond what chance explains, above which a fit is warned about
LOST = 0.25  # nats of held-out log density below the fit's own, likewise
BEYOND = 10.0  # draws expected beyond the ends of the draws: by chance there is none with probability exp(-10)
ACROSS = 3.0  # draws expected beyond zero, where all are on one side of it: a likely edge
PROBES = 20_000


class PosteriorPrior(JointPrior):
    """What posteriors as priors share: names and shapes, and densities through `log_density` in `keras.ops`."""

    def __init__(self, dims: Mapping[str, int], supports: Mapping[str, tuple[np.ndarray, np.ndarray]]):
        super().__init__(dims)
        self._supports = dict(supports)
        self._log_prob = backend.compile_function(self.log_density)
        self._parameters = backend.compile_light(self.from_unconstrained)

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return dict(self._supports)

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        return self._log_prob(self.check(parameters))


class FittedPrior(PosteriorPrior):
    """What densities fitted to draws share: checks of the draws, and their unconstrained coordinates.

    Args:
        draws: {name: (num, d)}.
        limits: name -> (low, high), each (d,); see `draw_checks.limits`.

    Attributes:
        held_out: `kerasbed.priors.fitted_density.HeldOut`, how the density does on draws it was not fitted to; None
            for fewer than 50 distinct draws.

    Raises:
        ValueError: unequal numbers of draws, too few, outside the supports or many on their edge, or without a density.
    """

    held_out: HeldOut | None = None

    def __init__(self, draws: Parameters, limits: Mapping[str, tuple[np.ndarray, np.ndarray]]):
        super().__init__({name: values.shape[1] for name, values in draws.items()}, limits)
        draws = {name: draw_checks.inside(name, values, *limits[name]) for name, values in draws.items()}
        draw_checks.check_counts(draws, self.dim)
        self.num_draws = len(next(iter(draws.values())))
        self._jacobian = backend.compile_light(self.to_unconstrained)
        coordinates = self.coordinates(draws)
        draw_checks.check_spread([name for name, dim in self.dims.items() for _ in range(dim)], coordinates)
        # Repeats, as of a Markov chain that stands still, are weights: apart they would look like infinite density.
        self._distinct, counts = np.unique(coordinates, axis=0, return_counts=True)
        self._counts = counts.astype("float64")
        self._edges = np.concatenate([np.isfinite(np.stack(pair, axis=-1)) for pair in limits.values()])

    def _in_support(self, u) -> dict[str, np.ndarray]:
        """Parameters from unconstrained coordinates, (num, dim), strictly inside their supports."""
        found = self.check(self._parameters(u))
        return {
            name: np.clip(found[name], np.nextafter(low, high), np.nextafter(high, low))
            for name, (low, high) in self.supports().items()
        }

    def _end_of_fit(self, draws, warned=False):
        """Warn once where the density is not that of the draws; what served the fit alone is let go."""
        if not (warned or self._warn_visible()):
            self._warn_beyond(draws)
        del self._distinct, self._counts

    def _warn_visible(self) -> bool:
        held = self.held_out
        if held is None:
            return False
        far = held.distance > held.noise + VISIBLE
        far = far or held.expected - held.log_density > LOST + 4.0 * held.standard_error
        if far:
            errors.warn(
                f"The density fitted to {self.num_draws} draws of {list(self.dims)} is not theirs: draws held out from "
                f"the fit have log density {held.log_density:.3f} +- {held.standard_error:.3f} on average where "
                f"{held.expected:.3f} was expected, and the laws of the log density are {held.distance:.2f} apart "
                f"({held.noise:.2f} by chance). Entropies and EIGs with it are off by as much. Pass more or longer "
                "chains of draws, their supports=, or Prior.from_samples(..., flow=True).",
                errors.PoorFitWarning,
            )
        return far

    def _warn_beyond(self, draws):
        """Where draws pile up at an edge that nobody named, the density leaks over it."""
        own = self.sample(PROBES, 0)
        effective = self._counts.sum() ** 2 / (self._counts @ self._counts)
        for name, (low, high) in self.supports().items():
            least, most = draws[name].min(axis=0), draws[name].max(axis=0)
            for side, edge, ends, sign in (("below", low, least, 1.0), ("above", high, most, -1.0)):
                share = np.where(np.isfinite(edge), 0.0, np.mean(sign * own[name] < sign * ends, axis=0))
                across = np.where(
                    np.isfinite(edge) | (sign * ends <= 0.0), 0.0, np.mean(sign * own[name] < 0.0, axis=0)
                )
                worst = int(np.argmax(np.maximum(share, across)))
                if effective * share[worst] > BEYOND or effective * across[worst] > ACROSS:
                    errors.warn(
                        f"The density fitted to {self.num_draws} draws puts {share[worst]:.2%} of {name!r} {side} "
                        f"{ends[worst]:.4g}, where none of the draws lies. If they pile up at an edge, say where it "
                        f"is, supports={{{name!r}: (low, high)}}, or pass like=, the prior of the model that made the "
                        "draws.",
                        errors.PoorFitWarning,
                    )


class DensityPrior(FittedPrior):
    """A mixture of normal laws or kernels as a prior; made by `Prior.from_posterior` and `Prior.from_samples`.

    Args:
        draws, limits: see `FittedPrior`.
        max_centres: kernels; more draws are thinned at random.
        seed: of the thinning, of what is held out, and of the search for components.
        bandwidth: width of all kernels in units of the draws' spread, in (0, 1); None lets held-out draws decide.

    Raises:
        ValueError: as `FittedPrior`, or a bandwidth outside (0, 1).
    """

    def __init__(
        self,
        draws: Parameters,
        limits: Mapping[str, tuple[np.ndarray, np.ndarray]],
        max_centres: int,
        seed: int,
        bandwidth: float | None = None,
    ):
        if bandwidth is not None and not 0.0 < bandwidth < 1.0:
            raise ValueError(
                f"bandwidth is {bandwidth!r}, but a kernel's width relative to the draws' spread, between 0 and 1, was "
                "expected."
            )
        super().__init__(draws, limits)
        self.density, self.held_out = fit_density(
            self._distinct, self._counts, self._edges, max_centres, np.random.default_rng(seed), bandwidth
        )
        self._end_of_fit(draws)

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        return self._in_support(self.density.sample(num_samples, np.random.default_rng(seed)))

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        return self._in_support(self.density.transform(np.asarray(uniform)))

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        parameters = self.check(parameters)
        u, log_det = self._jacobian(parameters)
        found = self.density.log_prob(u.reshape(-1, self.dim)).reshape(log_det.shape) + log_det
        return np.where(self.contains(parameters), found, -np.inf)

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        u, log_det = self.to_unconstrained(parameters)
        return self.density.log_density(u) + log_det
