r"""Psychometric function: which stimulus to show next, to learn how an observer's answers depend on it.

    y ~ Bernoulli(p),   p = g + (1 - g - l) F(s (x - m)),   F(z) = 1 / (1 + exp(-z)),

with the threshold m, the slope s, the guess rate g (answers "yes" without a stimulus) and the lapse rate l (misses
whatever the stimulus). Stimuli x are in units of the prior's spread of the threshold, such as steps of 6 dB:

    m ~ N(0, 1),   log s ~ N(log 3, 0.5^2),   g ~ Beta(1, 10),   l ~ Beta(1, 10).

References: Wichmann and Hill (2001) for the function; Kontsevich and Tyler (1999) for choosing stimuli by the expected
entropy of threshold and slope; Prins (2013) for guess and lapse rates as parameters beside them; Schuett et al. (2016)
for the law Beta(1, 10) of both rates. The laws of threshold and slope are a choice of this package.
"""

from collections.abc import Mapping

import keras
from keras import ops
from scipy import stats

from kerasbed.backend import Tensor
from kerasbed.designs.box import Box
from kerasbed.priors.prior import Prior
from kerasbed.simulators.discrete import BernoulliSimulator

TRIALS = 40


@keras.saving.register_keras_serializable("kerasbed")
class PsychometricFunction(BernoulliSimulator):
    """Yes (1) or no (0) to one stimulus, (batch, 1); the design is its intensity, `designs.Box((1,), -4.0, 4.0)`.

    To learn threshold and slope alone, pass `target=["threshold", "slope"]` to `kb.DesignModel`.

    Example:
        >>> observer, far = kb.problems.PsychometricFunction(), np.array([4.0])
        >>> answers = observer.simulate(4000, far, seed=0)["outcome"]
        >>> answers.mean().round(1)  # 1 - E[l] = 10 / 11 far above the threshold
        0.9
    """

    prior = Prior(
        threshold=stats.norm(), slope=stats.lognorm(0.5, scale=3.0), guess=stats.beta(1, 10), lapse=stats.beta(1, 10)
    )
    noise_shape = (1,)

    @property
    def design(self) -> Box:
        """A fresh space of one stimulus."""
        return Box((1,), -4.0, 4.0)

    def probability(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Of a yes, (..., 1)."""
        detected = ops.sigmoid(parameters["slope"] * (design - parameters["threshold"]))
        return parameters["guess"] + (1.0 - parameters["guess"] - parameters["lapse"]) * detected
