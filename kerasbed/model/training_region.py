"""Warnings where networks are asked what they were not trained for."""

import numpy as np

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.eig.study import Study
from kerasbed.networks.posterior import Posterior
from kerasbed.networks.region import FIT_AGAIN

# Adam moves a weight by about its rate a step, at most: in fewer steps at 2e-3 none has moved by its own initial size,
# sqrt(2 / 64) = 0.18 in a layer of 64 units.
LEAST_STEPS = 100


def warn_untrained(posterior: Posterior | None, caller: str) -> None:
    """Warn that the network that `caller` asks is as initialised, or has hardly been trained."""
    if posterior is None:
        return
    if not posterior.is_trained:
        errors.warn(
            f"{caller} was called before training, or after one in which no step could be taken; the posterior network "
            "is as initialised. Call model.fit first, and mend what its warnings name.",
            errors.OutOfTrainingWarning,
        )
    elif (steps := round(posterior.trained_steps)) < LEAST_STEPS:
        errors.warn(
            f"{caller} asks a posterior network that was trained for {steps} steps, which is too short to learn one: "
            f"train for {LEAST_STEPS} at the very least, and for some thousand where it matters.",
            errors.UndertrainedWarning,
        )


def warn_outside_region(study: Study, posterior: Posterior | None, design: np.ndarray | dict | None = None) -> None:
    """Warn if a posterior was not trained at designs (num, *shape); None: at the current one.

    The one chosen among designs that were learned at once may be far from most of what the network saw.
    """
    fitted = posterior is not study.objective.posterior
    if posterior is None or posterior.layout is not None or (design is None and not fitted and study.design.explores):
        return
    with backend.no_gradients():
        design = study.design() if design is None else backend.cast(design)
        posterior.warn_outside_region(design, FIT_AGAIN if fitted else None)
