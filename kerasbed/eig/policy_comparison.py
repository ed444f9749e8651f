"""Policies, static and random designs side by side, on the same parameters and noise.

Each is bracketed by one method; a row's value is the mean over experiments of the middle between both terms of an
experiment, which the difference to the first row is of, too: paired, since equal parameters and noise make most of the
error of both. Where the bounds are apart the middle is an estimate and no bound, and `width` says by how much.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from keras import tree

from kerasbed.backend import numerics
from kerasbed.designs import Design
from kerasbed.eig.annealed_bounds import annealed_weights, enough_temperatures, terms
from kerasbed.eig.brackets import method_for
from kerasbed.eig.contrastive_bounds import RolloutContributions
from kerasbed.eig.exact_evidence import exact_terms
from kerasbed.eig.rollouts import is_policy, lifted_by, lifted_to, roll_out
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator

METHODS = ("annealed", "contrastive", "grid")


def compare_policies(
    simulator: Simulator,
    designs: Sequence,
    num_outer: int,
    num_inner: int,
    seed: int,
    *,
    method: str | None = None,
    num_chains: int = 64,
    num_temperatures: int | None = None,
) -> pd.DataFrame:
    """The table of `kerasbed.eig.compare`, with a column of names.

    Raises:
        ValueError: an unknown method.
        PolicyError: a policy of another length than a simulator that is a sequence already.
    """
    policies = [design for design in designs if is_policy(design)]
    simulators = [_of_whole(simulator, design) if policies else simulator for design in designs]
    if method is None and policies:
        method = method_for(lifted_to(simulator, policies[0]), policies[0])
    if method not in METHODS:
        raise ValueError(
            f"method is {method!r}, but one of {METHODS} was expected; a posterior network is trained for one policy, "
            "so use kb.eig.bracket(..., method='posterior') for each."
        )
    if method == "annealed" and num_temperatures is None:
        pairs = zip(simulators, designs, strict=True)
        num_temperatures = max(enough_temperatures(own, design, num_chains, seed)[0] for own, design in pairs)
    rows, first = [], None
    for own, design in zip(simulators, designs, strict=True):
        rollouts = roll_out(own, design, num_outer, seed)
        if method == "annealed":
            assert num_temperatures is not None
            lower, upper = terms(annealed_weights(rollouts, num_chains, num_temperatures, seed))
        elif method == "contrastive":
            lower, upper = RolloutContributions(rollouts, num_inner).at(np.zeros(()), seed)
        else:
            lower = upper = exact_terms(rollouts)[0]
        middle = 0.5 * (lower + upper)
        first = middle if first is None else first
        rows.append({"name": _name(design)} | _row(lower, upper, middle, first))
    return pd.DataFrame(rows)


def _of_whole(simulator, design) -> Simulator:
    """The simulator of as many measurements as a policy makes, or a static design (T, *shape) has."""
    if is_policy(design):
        return lifted_to(simulator, design)
    return lifted_by(simulator, tree.flatten(experiments.lifted(design))[0].shape[1])


def _row(lower, upper, middle, first) -> dict[str, float]:
    sides: dict[str, Any] = {"lower": lower, "upper": upper, "corrected": middle, "difference": middle - first}
    found = {}
    for name, values in sides.items():
        with np.errstate(invalid="ignore"):
            found[name], found[f"{name}_se"] = numerics.mean_and_error(values)
    return found | {"width": found["upper"] - found["lower"]}


def _name(design) -> str:
    if not isinstance(design, Design):
        return "static values"
    return design.name if is_policy(design) else type(design).__name__
