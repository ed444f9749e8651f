"""Whether an experiment can be integrated over its parameters."""

from kerasbed.backend import errors
from kerasbed.priors.atlas import continuous_coordinates, is_finite
from kerasbed.simulators.simulator import Simulator

MAX_PARAMETERS = 3


def grid_applies(simulator: Simulator) -> bool:
    """Whether the simulator has a likelihood, a density of continuous parameters, and few enough of them for a grid."""
    prior = simulator.prior
    return simulator.has_likelihood and prior.has_density and not prior.discrete and prior.dim <= MAX_PARAMETERS


def check_grid_applies(simulator: Simulator, mixed: bool = False) -> None:
    """Raise ValueError where no integral over the parameters is possible; `mixed` allows discrete beside continuous."""
    if not simulator.has_likelihood:
        raise ValueError(
            f"{type(simulator).__name__} has no log_likelihood, which a grid needs; define it, or use "
            "model.estimate_eig, which gives a bound without one."
        )
    prior = simulator.prior
    if not mixed and not is_finite(prior):
        prior.require_continuous("A grid")
    if not prior.has_density:
        raise errors.NoDensityError(
            "The prior has no density, which a grid needs; pass log_prob= to Prior.from_sampler."
        )
    if (num := continuous_coordinates(prior)) > MAX_PARAMETERS:
        raise ValueError(
            f"The prior has {num} coordinates, but a grid holds up to {MAX_PARAMETERS}; use kb.eig.bracket for bounds "
            "from both sides."
        )
