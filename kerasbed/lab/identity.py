"""What makes two problems the same: names and shapes, and the numbers that a few simulated looks give.

A record holds them, so that it is not continued with another simulator, prior or space by mistake. Draws are NumPy's
and simulated in float64, the same on every machine and backend to rounding; code is not compared. Draws alone do not
tell laws of few values apart, which densities and likelihoods do where they are known.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from kerasbed.designs import Space
from kerasbed.lab.likelihoods import Likelihoods, Measured
from kerasbed.simulators.sequence import Sequence
from kerasbed.simulators.simulator import Simulator

LOOKS, PROBED = 512, 8  # simulated, and compared
RELATIVE = 1e-3
WORDS = {
    "outcome": "the noise or the law of the outcome",
    "prior": "the prior's density",
    "likelihood": "the likelihood",
}
LATER = "prior", "likelihood"  # which the first records did not hold


@dataclass
class Pilot:
    """Simulated looks at designs drawn over the space.

    Attributes:
        parameters: {name: (n, d)}.
        designs: (n, *shape), or a dict of those.
        outcomes: (n, *outcome_shape).
    """

    parameters: dict[str, np.ndarray]
    designs: Any
    outcomes: np.ndarray


def pilot(simulator: Simulator, space: Space) -> Pilot:
    """`LOOKS` looks, each of an experiment of its own."""
    designs = space.sample(LOOKS, 0)
    looks = tree.map_structure(lambda leaf: np.asarray(leaf, "float64")[:, None], designs)
    made = Sequence(simulator, 1).simulated(LOOKS, looks, seed=0, per_draw=True)
    return Pilot(made["parameters"], designs, made["outcome"][:, 0])


def described(simulator: Simulator, space: Space, target: Collection[str] | None, made: Pilot) -> dict[str, Any]:
    """A problem in plain numbers and texts."""
    leaves = {f"design {i}": leaf for i, leaf in enumerate(tree.flatten(made.designs))}
    probes = {f"parameter {name}": values for name, values in made.parameters.items()} | leaves
    probes["outcome"] = made.outcomes
    probes |= _known_laws(simulator, made)
    return {
        "simulator": type(simulator).__name__,
        "space": space.kind,
        "parameters": dict(simulator.prior.dims),
        "target": None if target is None else list(target),
        "outcome_shape": simulator.layouts.config(made.outcomes.shape[-1]) or list(made.outcomes.shape[1:]),
        "probes": {name: _numbers(values[:PROBED]) for name, values in probes.items()},
    }


def _known_laws(simulator, made) -> dict[str, np.ndarray]:
    """Log densities of the parameters probed, and log likelihoods of the looks probed together."""
    parameters, found = {name: values[:PROBED] for name, values in made.parameters.items()}, {}
    if simulator.prior.has_density:
        found["prior"] = simulator.prior.log_prob(parameters)
    if simulator.has_likelihood:
        rows = [
            tree.map_structure(lambda leaf, i=i: np.asarray(leaf[i], "float64"), made.designs) for i in range(PROBED)
        ]
        history = [Measured(design, outcome) for design, outcome in zip(rows, made.outcomes, strict=False)]
        found["likelihood"] = Likelihoods(simulator).all(parameters, history)[0]
    return found


def _numbers(values):
    flat = np.asarray(values, "float64").ravel()
    return [float(value) if np.isfinite(value) else None for value in flat]


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two problems differ, in words; nothing where they are the same."""
    names = ("simulator", "space", "parameters", "target", "outcome_shape")
    found = [f"{name}: {then.get(name)!r} there, {now[name]!r} here" for name in names if then.get(name) != now[name]]
    if found:
        return found
    probes = then.get("probes", {})
    for name, values in now["probes"].items():
        if name in probes or name not in LATER:
            found += [] if _agree(probes.get(name, []), values) else [WORDS.get(name, f"the law of {name}")]
    return found


def _agree(then, now) -> bool:
    one, two = (np.array([np.nan if v is None else v for v in values], "float64") for values in (then, now))
    if one.shape != two.shape:
        return False
    scale = np.nanmax(np.abs(two), initial=0.0)
    return bool(np.allclose(one, two, rtol=RELATIVE, atol=1e-6 * scale, equal_nan=True))
