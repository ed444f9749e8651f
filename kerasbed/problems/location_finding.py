r"""Location finding: where to measure the summed signal of hidden sources, to find out where they are.

    theta_k ~ N(0, I), k = 1..K,   y_i = log(b + sum_k alpha / (m + |theta_k - xi_i|^2)) + sigma epsilon_i,

with K = 2 sources in the plane, background b = 0.1, m = 1e-4, alpha = 1 and sigma = 0.5. The signal falls with the
square of the distance, as that of an acoustic or radioactive source.

References: Sheng and Hu (2005) for acoustic energy attenuation; Foster et al. (2021, "Deep adaptive design") for this
experiment with 30 measurements, in nats, lower (sPCE) and upper (sNMC) bound with 5e5 contrastive draws:

    random designs                8.303 / 8.322
    one static design             8.838 +- 0.039 / 8.914
    adaptive, not amortised       8.776 / 9.064
    a learned policy             10.926 +- 0.036 / 12.382 +- 0.095

One measurement at a place xi, shape (dim,), is an experiment of its own; policies make several of them, one after the
other, each at a place that depends on the readings before it.

The EIG has many local optima in the design, also apart from the permutation of measurements and the rotation of the
plane: learn it from several `starts`.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops
from scipy import stats

from kerasbed.backend import Tensor
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.designs.box import Free
from kerasbed.priors.prior import Prior
from kerasbed.simulators.gaussian import GaussianSimulator
from kerasbed.simulators.simulator import leading_axes

MEASUREMENTS = 30
PUBLISHED_STATIC = (8.838, 0.039)  # lower bound and its standard error


@keras.saving.register_keras_serializable("kerasbed")
class LocationFinding(GaussianSimulator):
    """Log intensities at chosen places: the design is one place, (dim,), or (measurements, dim) for several at once.

    Policies and `kb.Sequence` lift the measurement at one place; `designs.Free((30, 2))` is a design of 30 places.

    Args:
        sources: number of hidden sources; the parameter "sources" is their coordinates one after another,
            (batch, sources * dim).
        dim: of the space they lie in.
        background: b, intensity far from every source.
        saturation: m, which limits the intensity at a source to strength / m.
        strength: alpha.
        noise_scale: sigma, of the logarithm of the intensity.

    Raises:
        ValueError: numbers that are not positive.

    Example:
        >>> hunt = kb.problems.LocationFinding(sources=1)
        >>> source, places = {"sources": ops.ones((1, 2))}, ops.convert_to_tensor([[[1.0, 1.0], [1.0, 4.0]]])
        >>> np.array(hunt.mean(source, places))[0].round(2)  # log(0.1 + 1 / (0.0001 + distance^2)), near and far
        array([ 9.21, -1.56], dtype=float32)
    """

    @checked(sources=positive_integer, dim=positive_integer)
    def __init__(
        self,
        sources: int = 2,
        dim: int = 2,
        *,
        background: float = 0.1,
        saturation: float = 1e-4,
        strength: float = 1.0,
        noise_scale: float = 0.5,
    ):
        self.sources, self.dim = sources, dim
        self.background, self.saturation = float(background), float(saturation)
        self.strength, self.noise_scale = float(strength), float(noise_scale)
        for name in ("background", "saturation", "strength", "noise_scale"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)!r}, but a positive finite number was expected.")
        self.prior = Prior(sources=(stats.norm(), self.sources * self.dim))

    def resolve_noise_shape(self, design_shape: tuple[int, ...] | dict) -> tuple[int, ...]:
        """One reading at each place.

        Raises:
            ValueError: the design is neither (dim,) nor (measurements, dim).
        """
        if isinstance(design_shape, dict) or len(design_shape) not in (1, 2) or design_shape[-1] != self.dim:
            raise ValueError(
                f"LocationFinding got designs of shape {design_shape}, but ({self.dim},) for one place or "
                f"(measurements, {self.dim}) for several was expected, e.g. kb.designs.Free(({self.dim},)) or "
                f"kb.designs.Free(({MEASUREMENTS}, {self.dim}))."
            )
        return (1,) if len(design_shape) == 1 else tuple(design_shape[:1])

    @property
    def design(self) -> Free:
        """A fresh space of 30 places, which pilot runs and starts draw from the law of the sources."""
        return Free((MEASUREMENTS, self.dim))

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Log intensity, (..., measurements) at places (..., measurements, dim), or (..., 1) at one, (..., dim)."""
        if len(design.shape) == leading_axes(parameters) + 1:
            return self._at_one_place(parameters["sources"], design)
        intensity = self.background
        for k in range(self.sources):
            place = parameters["sources"][..., None, k * self.dim : (k + 1) * self.dim]
            # The squared difference itself: expanded, its rounding would be of the size of m near a source.
            squared = ops.sum(ops.square(place - design), axis=-1)
            intensity = intensity + self.strength / (self.saturation + squared)
        return ops.log(intensity)

    def _at_one_place(self, sources, place):
        """Log intensity, (..., 1): coordinate by coordinate, without short inner axes, a division for two sources.

        On a processor this form is several times quicker for many pairs of places and parameters.
        """
        distances = []
        for k in range(self.sources):
            squared = self.saturation
            for i in range(self.dim):
                squared = squared + ops.square(sources[..., k * self.dim + i] - place[..., i])
            distances.append(squared)
        intensity = self.background
        for one, other in zip(distances[::2], distances[1::2], strict=False):
            intensity = intensity + self.strength * (one + other) / (one * other)
        if self.sources % 2:
            intensity = intensity + self.strength / distances[-1]
        return ops.log(intensity)[..., None]

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Noise of a log intensity."""
        return self.noise_scale

    def get_config(self) -> dict[str, Any]:
        names = ("sources", "dim", "background", "saturation", "strength", "noise_scale")
        return {name: getattr(self, name) for name in names}
