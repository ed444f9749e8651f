"""The batch contract: what a batch of simulated experiments holds, under which keys.

A batch is a plain dict of arrays or tensors with the batch axis first, so that Keras takes it as it is:

    parameters  {name: (batch, d)}     draws of the prior
    noise       (batch, *noise_shape)  base samples of the outcome
    design      (batch, *shape)        optional: a design for each draw, in place of the one that is learned
    log_prior   (batch,)               log density of all parameters in the user's units, where the prior has one
    log_target  (batch,)               of the target in its place, where the model has a target with a density
    extra       {name: (batch, ...)}   base samples that the objective and the design ask for, under names of theirs:
                                       `auxiliary`, `proposal`, `own_auxiliary`, `contrastive`, `nuisance`, and of the
                                       design which start a draw belongs to and the noise of its choices; of a
                                       policy `horizon`, how many measurements of each draw count

Neither outcomes nor anything else that depends on the design is part of it: these are functions of the batch, and so
the design gets its gradient.

A row is what an objective gives a contribution for. Usually a row is a draw. Where the expectation over the outcome is
summed exactly (`kerasbed.objectives.gradients`), a draw has one row for every possible outcome; `in_rows` makes such a
batch, which holds besides its rows

    pool        the batch as it was drawn, whose parameters and extra draws serve as contrast
    outcomes    (S, *outcome_shape), the possible outcomes, repeated in this order for every draw

so that what depends on the outcome alone is computed S times and not once for every row. Objectives ask by the
functions below, which give the same for both kinds of batch.

Where draws fail, a training step gets a batch in which others stand in for them (`kerasbed.objectives.failures`):

    counts      (batch,) bools: draws that are what they were drawn as, and so count
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from keras import ops, tree

Tensor = Any

PARAMETERS, NOISE, DESIGN, LOG_PRIOR, LOG_TARGET, EXTRA = KEYS = (
    "parameters",
    "noise",
    "design",
    "log_prior",
    "log_target",
    "extra",
)
REQUIRED = (PARAMETERS, NOISE)
POOL, OUTCOMES, COUNTS = "pool", "outcomes", "counts"
HORIZON = "horizon"  # the extra draw of experiments that end early


def num_draws(draws: Mapping[str, Any]) -> Any:
    """Draws of a batch: a number, or a tensor where the batch is traced for any number."""
    return ops.shape(whole(draws)[NOISE])[0]


def at_design(draws: Mapping[str, Any], design: Any) -> dict[str, Any]:
    """A batch whose draws are all measured at a design, (1 or batch, *shape)."""
    return {**draws, DESIGN: design}


def extra(draws: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """Extra draws of that name, one for each row; `default` where the batch has none."""
    return extras(draws).get(name, default)


def extras(draws: Mapping[str, Any]) -> Mapping[str, Any]:
    """All extra draws by their names; none where the batch has none."""
    return draws.get(EXTRA, {})


def without_extra(draws: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A batch without some of its extra draws."""
    return {**draws, EXTRA: {name: values for name, values in extras(draws).items() if name not in names}}


def drawn_extra(providers: Collection[Any], num: int, rng: np.random.Generator) -> dict[str, Any]:
    """What objectives and designs ask for: {name: (num, ...)} of each one's `extra_draws`, in their order."""
    found = {}
    for provider in providers:
        found |= provider.extra_draws(num, rng)
    return found


# -- rows of an exact sum ---


def in_rows(draws: Mapping[str, Any], outcomes: Tensor) -> dict[str, Any]:
    """A batch with one row for every draw and possible outcome, (S, *outcome_shape)."""
    rows = tree.map_structure(lambda leaf: ops.repeat(leaf, outcomes.shape[0], axis=0), dict(draws))
    return rows | {POOL: draws, OUTCOMES: outcomes}


def whole(draws: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch as it was drawn, with `parameters` and `extra`."""
    return draws.get(POOL, draws)


def possible_outcomes(draws: Mapping[str, Any]) -> Tensor | None:
    """The possible outcomes that the rows are for, (S, *outcome_shape); None where a row is a draw."""
    return draws.get(OUTCOMES)
