"""Experiments whose EIG is asked for: parameters, designs and outcomes of M of them, static or by a policy.

For a static design every experiment is made at the same values; for a policy each has a design of its own, which read
the outcomes before it. With h the designs and outcomes of one experiment, a design that is a function of earlier
outcomes (and of draws that depend on nothing) adds no factor to the likelihood of the parameters,

    log p(h | theta) = sum_t log p(y_t | theta, xi_t),

so that the gain of a policy is E [log p(h | theta) - log p(h)] as that of a static design is (Foster et al., 2021,
"Deep adaptive design", theorem 1). All bounds start from these experiments and from `own`, log p(h | theta) of the
parameters that made them.

Equal seeds give equal parameters and noise whatever the design, so that differences between designs are paired.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend import batch, errors, programs, streams
from kerasbed.backend.programs import compiled
from kerasbed.designs import Design
from kerasbed.priors.base import Parameters
from kerasbed.simulators import experiments
from kerasbed.simulators.sequence import lifted
from kerasbed.simulators.simulator import Simulator

ROUNDING = 1e-3  # nats by which float32 may change a log likelihood


@dataclass(frozen=True, eq=False)
class Rollouts:
    """M simulated experiments.

    Attributes:
        simulator: that made them, lifted to as many measurements as the policy makes.
        parameters: {name: (M, d)}, float64.
        design: values (1, *shape) for a static design, (M, *shape) of a policy; or a dict of those.
        outcome: (M, *outcome_shape).
        own: log p(h | theta), (M,) in float64.
    """

    simulator: Simulator
    parameters: dict[str, np.ndarray]
    design: Any
    outcome: np.ndarray
    own: np.ndarray

    def __len__(self) -> int:
        return len(self.own)

    @property
    def is_shared(self) -> bool:
        """Whether all experiments have one design."""
        return all(len(leaf) == 1 for leaf in tree.flatten(self.design))

    @functools.cached_property
    def dtype(self) -> str:
        """The float type in which pairs are evaluated: float32 where it gives the likelihoods of float64."""
        parameters = {name: values[:, None] for name, values in self.parameters.items()}
        with np.errstate(all="ignore"):
            narrow = self.log_likelihood(parameters, "float32")[:, 0]
            return "float32" if np.all(np.abs(narrow - self.own) < ROUNDING) else "float64"

    def rows(self, index: np.ndarray) -> "Rollouts":
        """Some of the experiments, in the order of the index."""
        design = self.design if self.is_shared else tree.map_structure(lambda leaf: leaf[index], self.design)
        parameters = {name: values[index] for name, values in self.parameters.items()}
        return Rollouts(self.simulator, parameters, design, self.outcome[index], self.own[index])

    def log_likelihood(self, parameters: Parameters, dtype: str = "float64") -> np.ndarray:
        """log p(h_m | theta) of other parameters, {name: (M or 1, N, d)} -> (M, N)."""
        function = compiled(pairs_of_rows, self.simulator, dtype=dtype)
        return function(self.outcome, parameters, self.design).astype("float64")


def is_policy(design: Any) -> bool:
    """Whether something is a design that reads what was measured before."""
    return isinstance(design, Design) and design.is_adaptive


def refuse_policy(design: Any, what: str, instead: str) -> None:
    """Refuse a policy where one fixed design is needed.

    Raises:
        PolicyError: the design is a policy.
    """
    if is_policy(design):
        raise errors.PolicyError(
            f"{what} is about fixed designs, but {type(design).__name__} chooses each of its {design.length} "
            f"measurements by those before it; use {instead}."
        )


def lifted_to(simulator: Simulator, design: Any) -> Simulator:
    """The simulator of a whole experiment: for a policy, of as many measurements as it makes.

    It is kept by the simulator of one measurement, so that its compiled programs are.
    """
    return lifted_by(simulator, design.length) if is_policy(design) else simulator


def lifted_by(simulator: Simulator, length: int) -> Simulator:
    """The simulator of so many measurements, kept as `lifted_to` keeps it."""
    key = ("lifted", length, programs.state_of(simulator))
    return programs.of(simulator).get(key, lambda: lifted(simulator, length))


def roll_out(
    simulator: Simulator, design: np.ndarray | dict[str, np.ndarray] | Design, num: int, seed: streams.Entropy
) -> Rollouts:
    """Simulate `num` experiments.

    Raises:
        NumberRangeError: a policy's rollout that becomes infinite or NaN, with its step.
        LikelihoodError: outcomes that are impossible under the parameters that made them.
    """
    of_parameters, of_noise, of_extra = (streams.of(seed, "rollouts", part) for part in range(3))
    simulator = lifted_to(simulator, design)
    if is_policy(design):
        found = _by_policy(simulator, design, num, (of_parameters, of_noise, of_extra))
    else:
        found = _static(simulator, design, num, of_parameters, of_noise)
    own = compiled("log_density", simulator)(found[2], found[0], found[1]).astype("float64")
    own = np.broadcast_to(own, (num,))
    if not np.all(np.isfinite(own)):
        raise errors.LikelihoodError(
            f"log_likelihood is not finite at {int(np.sum(~np.isfinite(own)))} of {num} simulated "
            "outcomes; an outcome must be possible under its own parameters. Check scales, supports and logs."
        )
    return Rollouts(simulator, *found, own)


def _static(simulator, design, num, of_parameters, of_noise):
    values = experiments.lifted(design)
    parameters, noise = experiments.draw(simulator, values, num, of_parameters, of_noise)
    return parameters, values, compiled("measure", simulator)(parameters, values, noise)


def _by_policy(simulator, policy, num, rngs):
    of_parameters, of_noise, of_extra = rngs
    policy.prepare(simulator)
    draws = {
        batch.PARAMETERS: simulator.prior.sample(num, of_parameters),
        batch.NOISE: simulator.resolve_noise(policy.shape).draw(num, of_noise),
        batch.EXTRA: policy.rollout_draws(num, of_extra),
    }
    made = policy.rolled_out(simulator, draws)
    return draws[batch.PARAMETERS], made["design"], made["outcome"]


def pairs_of_rows(
    simulator: Simulator, outcome: backend.Tensor, parameters: dict[str, backend.Tensor], design: Any
) -> backend.Tensor:
    """log p(h_m | theta_mn): (M, *outcome_shape), {name: (M or 1, N, d)}, (M or 1, *shape) -> (M, N), tensors."""
    return simulator.log_density(outcome[:, None], parameters, tree.map_structure(lambda leaf: leaf[:, None], design))
