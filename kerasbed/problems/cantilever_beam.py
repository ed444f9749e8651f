"""A cantilever beam whose stiffness is to be learned from its deflection.

A beam of length L, clamped at x = 0, carries a load that grows linearly to q0 at the tip. Euler-Bernoulli theory gives
the deflection (Gere and Goodno, 2012, appendix on cantilever beams)

    w(x) = q0 x^2 (20 L^3 - 10 L^2 x + x^3) / (120 L E I),     w(L) = 11 q0 L^4 / (120 E I),

with I = H^3 / 12 for unit width. One modulus: E is the parameter. Two moduli: a composite of skin and core, whose
deflection depends on the area-weighted average of the two alone,

    E = (A_skin E1 + A_core E2) / (A_skin + A_core),    A_skin = 2 t,  A_core = H - 2 t,

so that one measurement ties E1 and E2 together and the posterior is correlated.
"""

from collections.abc import Mapping

import numpy as np
from scipy import stats

from kerasbed.backend import Tensor
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.priors.prior import Prior
from kerasbed.simulators.gaussian import GaussianSimulator


class CantileverBeam(GaussianSimulator):
    """Deflection of a cantilever beam at chosen positions, with Gaussian noise.

    The design is the positions of the measurements, (m,), between 0 and `length`; the outcome is the deflections
    there, (m,). `beam.tip` is the design that measures at the tip alone.

    Args:
        moduli: 1 (parameter "E") or 2 (parameters "E1" of the skin and "E2" of the core).
        noise_scale: standard deviation of the measured deflection, a length.
        length, height, skin_thickness: of the beam.
        load: q0, force per length at the tip.

    Raises:
        ValueError: moduli is neither 1 nor 2, or a size is not positive.

    Example:
        One modulus, measured at the tip, where the beam bends most.

        >>> beam = kb.problems.CantileverBeam(moduli=1)
        >>> beam.tip
        array([100.])
        >>> kb.eig.grid(beam, beam.tip, 500).lower > kb.eig.grid(beam, beam.tip / 2, 500).lower
        True
    """

    @checked(moduli=positive_integer)
    def __init__(
        self,
        moduli: int = 2,
        *,
        noise_scale: float = 0.4,
        length: float = 100.0,
        height: float = 30.0,
        skin_thickness: float = 5.0,
        load: float = 10.0,
    ):
        if moduli not in (1, 2):
            raise ValueError(f"moduli is {moduli!r}, but the beam has 1 (uniform) or 2 (skin and core).")
        sizes = {"noise_scale": noise_scale, "length": length, "height": height, "skin_thickness": skin_thickness}
        if bad := [name for name, size in sizes.items() if not size > 0]:
            raise ValueError(f"{bad[0]} is {sizes[bad[0]]}, but a positive number was expected.")
        if 2 * skin_thickness >= height:
            raise ValueError(f"Two skins of {skin_thickness} leave no core in a height of {height}; make them thinner.")
        self.moduli, self.noise_scale, self.length, self.load = moduli, noise_scale, length, load
        self.second_moment = height**3 / 12.0
        self.skin_share = 2.0 * skin_thickness / height
        if moduli == 1:
            self.prior = Prior(E=stats.norm(12_000.0, 2_000.0))
        else:
            self.prior = Prior(E1=stats.norm(12_000.0, 2_000.0), E2=stats.norm(10_000.0, 2_000.0))

    @property
    def tip(self) -> np.ndarray:
        """The design that measures at the tip alone, (1,)."""
        return np.array([self.length])

    def stiffness(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The effective modulus, {name: (..., 1)} -> (..., 1)."""
        if self.moduli == 1:
            return parameters["E"]
        return self.skin_share * parameters["E1"] + (1.0 - self.skin_share) * parameters["E2"]

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Deflection at the positions: (..., m)."""
        x, length = design / self.length, self.length
        shape = x * x * (20.0 - 10.0 * x + x * x * x) / 120.0
        return self.load * length**4 / self.second_moment * shape / self.stiffness(parameters)

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        return self.noise_scale
