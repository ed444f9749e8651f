"""What the library calls of a simulator, with outcomes that are one array, whatever `outcome` returns.

    a user writes     outcome    log_likelihood   pairwise_log_likelihood   outcome_space
    the library calls measure    log_density      pairwise_log_density      possible_outcomes

Where outcomes are one array, the second row is the first.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasbed.backend import Tensor
from kerasbed.backend.errors import OutcomeError
from kerasbed.simulators import outcome_dicts
from kerasbed.simulators.outcome_layout import ONE_ARRAY, OneArray, OutcomeLayout, OutcomeLayouts


class AsArrays:
    """Outcomes as arrays: what every `kerasbed.Simulator` has beside the methods that its user writes."""

    @property
    def layouts(self) -> OutcomeLayouts | OneArray:
        """How outcomes that are dicts lie in one array; false where they are arrays, or nothing was measured yet."""
        return vars(self).get("_layouts", ONE_ARRAY)

    def remember(self, layout: OutcomeLayout) -> None:
        """Take in how an outcome that is a dict lies in one array."""
        if "_layouts" not in vars(self):
            self._layouts = OutcomeLayouts(type(self).__name__)
        self._layouts.remember(layout)

    def as_array(self, returned: Any, noise: Tensor) -> Tensor:
        """What `outcome` returned for noise (batch, *noise_shape) as one array; of a dict the layout is remembered.

        Raises:
            OutcomeError: a dict holds something else than arrays (batch, ...), or has other names than before; or it
                is an array where there were dicts before.
        """
        name = type(self).__name__
        if isinstance(returned, Mapping):
            found, layout = outcome_dicts.joined(returned, name, noise)
            self.remember(layout)
            return found
        if "_layouts" in vars(self):
            raise OutcomeError(
                f"{name}.outcome returned an array of shape {tuple(returned.shape)}, but a dict {self._layouts.at()} "
                "before; the same was expected of every call."
            )
        return returned

    def told(self, outcome: Tensor) -> Any:
        """One array (..., numbers of an outcome) as `log_likelihood` reads it: as it is, or as a dict."""
        return self.layouts.split(outcome)

    def log_density(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor, *state: Tensor) -> Any:
        """`log_likelihood` of an outcome that is one array; with a state, what it returns of that as well."""
        written: Any = self
        return written.log_likelihood(self.told(outcome), parameters, design, *state)

    def pairwise_log_density(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """`pairwise_log_likelihood` of outcomes that are one array."""
        written: Any = self
        return written.pairwise_log_likelihood(self.told(outcome), parameters, design)

    def possible_outcomes(self) -> np.ndarray | None:
        """`outcome_space` as one array, (count, *outcome_shape)."""
        written: Any = self
        space = written.outcome_space()
        if not isinstance(space, Mapping):
            return space
        outcome_dicts.check_arrays(space, f"{type(self).__name__}.outcome_space")
        return OutcomeLayout.of(space, axes=1).read(space)
