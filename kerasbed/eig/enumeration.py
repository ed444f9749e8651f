r"""The EIG as an exact sum, where outcomes can be listed and parameters are discrete or on a grid.

With weights w_g of the joint values theta_g and groups t of them that share the target's value,

    I(t; y | xi) = sum_y sum_t P(t, y) log P(t, y) / (P(t) P(y)),     P(t, y) = sum_{g in t} w_g p(y | theta_g, xi):

for all settings xi together a matrix of probabilities (settings x outcomes, joint values) times one of weights (joint
values, values of the target), in blocks of bounded size. Whatever is not the target is nuisance and summed out. With
every parameter the target, sum_t P log P is the sum of w p log p over joint values.

Continuous parameters are integrated by Gauss-Legendre rules on the cells of `kerasbed.priors.atlas`, all of them halved
until the EIG at no setting moves; the last move is the error reported. Beside that there is no error: nothing is drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from keras import tree
from numpy.typing import ArrayLike

from kerasbed.backend import errors
from kerasbed.backend.estimate import Estimate
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.designs import Design
from kerasbed.eig import exact_posterior
from kerasbed.eig.applicability import check_grid_applies
from kerasbed.eig.enumeration_grid import groups, on_grid
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.exact_sums import ROUNDING, information
from kerasbed.eig.listing import listed_designs
from kerasbed.eig.rollouts import refuse_policy
from kerasbed.priors.atlas import charts, count_values, is_finite, listed
from kerasbed.priors.base import AbstractPrior
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator

MOST_TERMS = 2**35  # settings x outcomes x joint values
MOST_TERMS_OF_ONE = 2**30  # of one setting, above which draws are quicker
UNSETTLED = 1e-3  # nats of it that are warned about


@dataclass(frozen=True)
class Enumeration(Estimate):
    """Exact EIGs at all settings.

    Attributes:
        eig: (S,), in nats.
        error, eig_se: (S,), by which the grid over continuous parameters may be wrong; rounding alone for discrete
            ones.
        designs: the settings, (S, *shape) or a dict of those.
        num_outcomes, num_values: how many were summed over.

    Example:
        >>> found = kb.eig.enumerate(kb.problems.DeathProcess(), np.array([[0.544, 2.134], [5.0, 5.0]]))
        >>> print(found.estimate())
        EIG 0.9833 +- 0.0000 nats (exact sum over 66 outcomes x ... parameter values)
        >>> found.table()["eig"].round(2).tolist()  # the best first
        [0.98, 0.52]
    """

    eig: np.ndarray
    error: np.ndarray
    designs: Any
    num_outcomes: int
    num_values: int
    simulator: Any = field(repr=False, default=None)

    @property
    def eig_se(self) -> np.ndarray:
        """`error`, by the name that it has in other results."""
        return self.error

    @property
    def method(self) -> str:
        """How the EIGs were found."""
        return f"exact sum over {self.num_outcomes} outcomes x {self.num_values} parameter values"

    @property
    def settings(self) -> dict[str, int]:
        """Over how much was summed."""
        return {"num_outcomes": self.num_outcomes, "num_values": self.num_values}

    def __float__(self) -> float:
        if len(self.eig) == 1:
            return float(self.eig[0])
        raise TypeError(f"Enumeration has {len(self.eig)} settings, but one value was expected; take .estimate(index).")

    @property
    def best(self) -> np.ndarray | dict[str, np.ndarray]:
        """The setting of the largest EIG, (*shape) or a dict of those."""
        return self.design(int(np.argmax(self.eig)))

    def design(self, index: int) -> np.ndarray | dict[str, np.ndarray]:
        """One of the settings."""
        return tree.map_structure(lambda values: values[index], self.designs)

    def estimate(self, index: int | None = None) -> EIGEstimate:
        """The EIG at one setting, default the best."""
        index = int(np.argmax(self.eig)) if index is None else index
        value, error = float(self.eig[index]), float(self.error[index])
        return EIGEstimate(value, error, value, error, self.method, self.settings)

    def table(self) -> pd.DataFrame:
        """One row for each setting, the best first: its entries, "eig" and "error"."""
        leaves = self.designs if isinstance(self.designs, dict) else {"design": self.designs}
        columns = {}
        for name, values in leaves.items():
            flat = np.reshape(values, (len(values), -1))
            labels = [name] if flat.shape[1] == 1 else [f"{name} {i + 1}" for i in range(flat.shape[1])]
            columns |= dict(zip(labels, flat.T, strict=True))
        frame = pd.DataFrame(columns | {"eig": self.eig, "error": self.error})
        return frame.sort_values("eig", ascending=False, kind="stable")

    def posterior(
        self,
        outcome: ArrayLike | dict[str, ArrayLike],
        design: np.ndarray | dict[str, np.ndarray] | Design | None = None,
    ) -> AbstractPrior:
        """The exact posterior of all parameters after an outcome, as the prior of the next trial.

        Args:
            outcome: (*outcome_shape), or a dict of arrays where the simulator's outcome is one.
            design: the setting it was measured at, default the best.

        Returns:
            A `kerasbed.Prior`: a table of joint values and probabilities, or a density where parameters are continuous.
        """
        design = self.best if design is None else design
        outcome = outcome if isinstance(outcome, dict) else np.asarray(outcome, "float64")
        return exact_posterior.posterior(self.simulator, {"outcome": outcome, "design": design})


@checked(max_terms=positive_integer)
def enumerate(
    simulator: Simulator,
    designs: np.ndarray | dict[str, np.ndarray] | Design,
    target: str | list | Callable | None = None,
    *,
    max_terms: int = MOST_TERMS,
) -> Enumeration:
    """Exact EIG at all settings, where outcomes can be listed and parameters are discrete or few enough for a grid.

    Args:
        simulator: with `log_likelihood` and `outcome_space()`; its prior has discrete parameters, up to three
            continuous ones with a density, or both.
        designs: settings (S, *shape), a dict of those, or a discrete design space, which is listed.
        target: what to learn about: a parameter's name, a list of names, a function {name: (batch, d)} -> (batch, k)
            in `keras.ops` or `kb.targets.Discrete`; default all parameters. Everything else is nuisance. Beside
            continuous parameters a function needs finitely many values, `kb.targets.Discrete`.
        max_terms: settings x outcomes x joint values that are summed at most; 2^30 take some 10 seconds.

    Returns:
        `Enumeration` with `eig`, `best`, `table()` and `posterior(outcome, design)`, the prior of the next trial.

    Raises:
        ValueError: no likelihood or outcome space, outcomes whose probabilities do not sum to one, a prior without
            density, more than three continuous parameters, a target whose law a grid does not hold, designs of the
            wrong shape, or more terms than `max_terms`.
        TypeError: a design space that cannot be listed.

    Warns:
        UnreliableWarning: the grid over continuous parameters leaves an error above a thousandth of a nat.

    Example:
        >>> waiting = kb.designs.Choice((2,), options=[0.5, 2.0, 5.0])
        >>> found = kb.eig.enumerate(kb.problems.DeathProcess(), waiting)
        >>> found.best
        array([0.5, 2. ])
        >>> posterior = found.posterior(outcome=[8.0, 1.0])  # the prior of the next trial
        >>> bool(posterior.sample(100, seed=0)["rate"].mean() > 1.0)  # many cases early tell of a high rate
        True
    """
    refuse_policy(designs, "kb.eig.enumerate", "kb.eig.grid, which draws histories")
    outcomes = _checked_outcomes(simulator)
    designs = listed_designs(designs)
    if is_finite(simulator.prior):
        values, log_w = listed(simulator.prior)
        codes = groups(simulator.prior, target, values, None)
        eig = information(simulator, outcomes, designs, values, np.exp(log_w), codes, max_terms)
        return Enumeration(eig, ROUNDING * (1.0 + eig), designs, len(outcomes), len(log_w), simulator)
    eig, error, num = on_grid(simulator, outcomes, designs, target, max_terms)
    if np.max(error) > UNSETTLED:
        errors.warn(
            f"A grid of {num} points over the continuous parameters leaves the EIG uncertain by up to "
            f"{np.max(error):.2g} nats: the likelihood or the target changes faster than it resolves.",
            errors.UnreliableWarning,
        )
    return Enumeration(eig, error, designs, len(outcomes), num, simulator)


def exact_sum(
    simulator: Simulator, design: np.ndarray | dict[str, np.ndarray] | Design, max_terms: int = MOST_TERMS_OF_ONE
) -> EIGEstimate | None:
    """The exact EIG at one design; None where that takes too many terms, or a grid leaves it uncertain."""
    outcomes = _checked_outcomes(simulator)
    designs = experiments.lifted(design)
    if not is_finite(simulator.prior):
        num = sum(len(chart.first_cells()[0]) for chart in charts(simulator.prior))
        if num * len(outcomes) * 256.0 > max_terms:
            return None
        eig, error, num = on_grid(simulator, outcomes, designs, None, max_terms)
        return Enumeration(eig, error, designs, len(outcomes), num).estimate() if error[0] <= UNSETTLED else None
    if count_values(simulator.prior) * float(len(outcomes)) > max_terms:
        return None
    return enumerate(simulator, designs).estimate()


def _checked_outcomes(simulator):
    check_grid_applies(simulator, mixed=True)
    outcomes = simulator.possible_outcomes()
    if outcomes is None:
        raise ValueError(
            f"{type(simulator).__name__} does not list its outcomes, which an exact sum needs; define outcome_space(), "
            "(count, *outcome_shape), or use kb.eig.bracket."
        )
    return np.asarray(outcomes, "float64")
