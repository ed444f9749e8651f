"""Warnings where networks are asked what they were not trained for."""

import numpy as np

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.eig.study import Study
from kerasbed.networks.posterior import FIT_AGAIN, Posterior


def warn_untrained(study: Study, caller: str) -> None:
    """Warn that the network that `caller` asks is as initialised."""
    if study.objective.posterior is not None and not study.posterior.is_trained:
        errors.warn(
            f"{caller} was called before training; the posterior network is as initialised. Call model.fit first.",
            errors.OutOfTrainingWarning,
        )


def warn_outside_region(study: Study, posterior: Posterior | None, design: np.ndarray | dict | None = None) -> None:
    """Warn if a posterior was not trained at designs (num, *shape); None: at the current one.

    The one chosen among designs that were learned at once may be far from most of what the network saw.
    """
    fitted = posterior is not study.objective.posterior
    if posterior is None or (design is None and not fitted and study.design.explores):
        return
    with backend.no_gradients():
        design = study.design() if design is None else backend.cast(design)
        posterior.warn_outside_region(design, FIT_AGAIN if fitted else None)
