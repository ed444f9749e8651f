r"""Two compartments: how much of a drug to give, and when to take six blood samples after it was swallowed.

Amounts in mg, a_1 in the blood and a_2 in the tissue, of a dose D that is absorbed at the rate k_a:

    a_1' = k_a D exp(-k_a t) - (CL + Q) a_1 / V_1 + Q a_2 / V_2,   a_1(0) = 0,
    a_2' = Q a_1 / V_1 - Q a_2 / V_2,                              a_2(0) = 0,
    y_i = c(t_i) (1 + 0.1 e_i) + 0.05 d_i,   c = a_1 / V_1,   e_i, d_i ~ N(0, 1),

with the clearance CL and the flow to the tissue Q in l/h, volumes in l, and times in hours. What is left in the gut is
known in closed form, and with it goes the fastest rate of the equations. A higher dose raises concentrations above the
second noise; it is paid for in mg, and an hour in the clinic costs as much as 4 mg.

References: Gibaldi and Perrier (1982, "Pharmacokinetics", chapter 2) for the model; Margossian, Zhang and Gillespie
(2022, "Flexible and efficient Bayesian pharmacometrics modeling using Stan and Torsten") for priors, that of k_a with
half its spread. Noise, doses and costs are ours.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops
from scipy import stats

from kerasbed import ode
from kerasbed.backend import Tensor
from kerasbed.designs.box import Box
from kerasbed.designs.composite import Product
from kerasbed.designs.times import Times
from kerasbed.priors.prior import Prior
from kerasbed.simulators.gaussian import GaussianSimulator

COUNT, FIRST, HOURS, MIN_GAP = 6, 0.25, 24.0, 0.25
LEAST_DOSE, MOST_DOSE = 20.0, 200.0  # mg
MG_PER_HOUR = 4.0
BUDGET = 120.0
# Steps are short where absorption is quick, and nowhere longer than half an hour.
MESH = (0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0)
STEPS = 6


@keras.saving.register_keras_serializable("kerasbed")
class TwoCompartment(GaussianSimulator):
    """Concentrations in the blood; the design is a `designs.Product` of six `times` and a `dose`.

    Args:
        proportional_scale: standard deviation of the noise in proportion to the concentration.
        additive_scale: standard deviation of the other one, in mg/l.

    Raises:
        ValueError: an additive scale that is not positive, or a negative proportional one.

    Example:
        >>> drug = kb.problems.TwoCompartment()
        >>> design = {"times": np.array([0.5, 1.0, 2.0, 4.0, 8.0, 24.0]), "dose": np.array([100.0])}
        >>> concentrations = drug.simulate(500, design, seed=0)["outcome"].mean(axis=0)
        >>> bool(concentrations[1] > 10 * concentrations[5] > 0)  # mg/l after one hour and after a day
        True
        >>> float(drug.cost({name: ops.convert_to_tensor(values[None]) for name, values in design.items()})[0])
        196.0
    """

    prior = Prior(
        clearance=stats.lognorm(0.25, scale=10.0),
        flow=stats.lognorm(0.5, scale=15.0),
        blood_volume=stats.lognorm(0.25, scale=35.0),
        tissue_volume=stats.lognorm(0.5, scale=105.0),
        absorption=stats.lognorm(0.5, scale=2.5),
    )
    noise_shape = (COUNT,)

    def __init__(self, proportional_scale: float = 0.1, additive_scale: float = 0.05):
        self.proportional_scale, self.additive_scale = float(proportional_scale), float(additive_scale)
        if not (self.additive_scale > 0 and self.proportional_scale >= 0):
            raise ValueError(
                f"TwoCompartment got proportional_scale={proportional_scale}, additive_scale={additive_scale}, but a "
                "positive additive scale and a proportional one of at least zero were expected."
            )

    @property
    def design(self) -> Product:
        """A fresh space of times, in hours, and doses, in mg."""
        times = Times(COUNT, FIRST, HOURS, min_gap=MIN_GAP)
        return Product(times=times, dose=Box((1,), LEAST_DOSE, MOST_DOSE))

    @staticmethod
    def cost(design: Mapping[str, Tensor]) -> Tensor:
        """The dose and the hours until the last sample, in mg, (batch,)."""
        return design["dose"][..., 0] + MG_PER_HOUR * ops.max(design["times"], axis=-1)

    def mean(self, parameters: Mapping[str, Tensor], design: Mapping[str, Tensor]) -> Tensor:
        """Concentration in mg/l, (..., 6)."""
        rates = {
            "out": parameters["clearance"] / parameters["blood_volume"],
            "there": parameters["flow"] / parameters["blood_volume"],
            "back": parameters["flow"] / parameters["tissue_volume"],
            "absorption": parameters["absorption"],
        }
        amounts = ode.solve(
            passed_on,
            {"blood": 0.0, "tissue": 0.0},
            design["times"],
            args=(rates, design["dose"]),
            steps_per_interval=STEPS,
            events=[(hour, 0.0) for hour in MESH],
        )
        return amounts["blood"][..., 0] / parameters["blood_volume"]

    def scale(self, parameters: Mapping[str, Tensor], design: Mapping[str, Tensor], mean: Tensor) -> Tensor:
        """Standard deviation in mg/l, (..., 6)."""
        return ops.sqrt(self.additive_scale**2 + ops.square(self.proportional_scale * mean))

    def get_config(self) -> dict[str, Any]:
        return {"proportional_scale": self.proportional_scale, "additive_scale": self.additive_scale}


def passed_on(t: Tensor, amounts: Mapping[str, Tensor], rates: Mapping[str, Tensor], dose: Tensor) -> dict[str, Tensor]:
    """What blood and tissue gain in an hour, in mg: dict of (..., 1)."""
    absorbed = rates["absorption"] * dose * ops.exp(-rates["absorption"] * t)
    exchanged = rates["there"] * amounts["blood"] - rates["back"] * amounts["tissue"]
    return {"blood": absorbed - rates["out"] * amounts["blood"] - exchanged, "tissue": exchanged}
