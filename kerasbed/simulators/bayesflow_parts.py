"""A BayesFlow simulator as a prior and an outcome: what it draws first, and what it makes of that at a design.

BayesFlow's simulators are NumPy functions with random numbers of their own, called once for each draw or for a batch;
`kerasbed.Simulator.from_bayesflow` makes experiments of them. Their random numbers are seeded by the base samples, so
that an experiment repeats where these are the same. A function that takes a batch and an argument `noise`, and is
written in `keras.ops`, is handed tensors and base samples, and carries gradients.
"""

import inspect
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import bayesflow as bf
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.backend.errors import OutcomeError

NOISE = "noise"


class Drawn:
    """What the first of several BayesFlow simulators draw: the sampler of a prior.

    Args:
        simulators: in their order, each given what those before it drew.
        names: of the parameters.
    """

    def __init__(self, simulators: Sequence[Any], names: Sequence[str]):
        self.simulators, self.names = list(simulators), tuple(names)

    def __call__(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draws {name: (num, d)} with NumPy's global generator seeded by `rng`."""
        with _Seeded(int(rng.integers(2**32))):
            data = _run(self.simulators, num, {})
        return {name: np.asarray(data[name], "float64").reshape(num, -1) for name in self.names}


class Made:
    """What the later ones make of parameters at a design: the outcome of an experiment.

    Args:
        simulators: in their order.
        scalars: parameters that are handed on as numbers.
        outcome: name of the result; several make it a dict.
        design: name of the argument that a design is handed on as; parts of a dict keep their own.
    """

    def __init__(self, simulators: Sequence[Any], scalars: Sequence[str], outcome: str | Sequence[str], design: str):
        self.simulators, self.scalars, self.result, self.design = list(simulators), set(scalars), outcome, design

    def __call__(self, parameters: Mapping[str, Tensor], design: Any, noise: Tensor) -> Tensor | dict[str, Tensor]:
        """(batch, ...) outcomes of {name: (batch, d)}, designs (1 or batch, *shape) and base samples."""
        designs = dict(design) if isinstance(design, Mapping) else {self.design: design}
        if takes_noise(self.simulators):
            given = {**parameters, **designs, NOISE: noise}
            return self._taken(self.simulators[0].sample_fn(tuple(noise.shape[:1]), **given))
        rows, parameters, designs, noise = noise.shape[0], *backend.to_numpy((dict(parameters), designs, noise))
        given = {name: v[:, 0] if name in self.scalars else v for name, v in parameters.items()}
        given |= {name: np.broadcast_to(v, (rows, *v.shape[1:])) for name, v in designs.items()}
        with _Seeded(zlib.crc32(np.ascontiguousarray(noise).tobytes())):
            found = self._taken(_run(self.simulators, rows, given))
        convert = lambda part: ops.convert_to_tensor(np.asarray(part, noise.dtype), dtype=str(noise.dtype))  # noqa: E731
        return {name: convert(part) for name, part in found.items()} if isinstance(found, dict) else convert(found)

    def _taken(self, results):
        """What is measured, of all that the simulators returned."""
        if isinstance(self.result, str):
            return results[self.result]
        if missing := [name for name in self.result if name not in results]:
            raise OutcomeError(
                f"outcome names {missing}, but the simulators gave {list(results)}; name what the last one returns."
            )
        return {name: results[name] for name in self.result}


def split(
    simulator: Any, parameters: Sequence[str] | None, has_prior: bool
) -> tuple[list, list, dict[str, np.ndarray]]:
    """The simulators that draw the parameters, those that follow, and what the first give for two draws.

    Raises:
        TypeError: it is no BayesFlow simulator.
        ValueError: the parameters are not among what the first simulators draw.
    """
    if not isinstance(simulator, bf.simulators.Simulator):
        raise TypeError(
            f"from_bayesflow got {simulator!r}, but a BayesFlow simulator was expected, such as "
            "bayesflow.make_simulator([prior, likelihood])."
        )
    parts = list(getattr(simulator, "simulators", [simulator]))
    if has_prior and len(parts) == 1:
        return [], parts, {}
    drawn: dict[str, np.ndarray] = {}
    for count, part in enumerate(parts[:-1], start=1):
        drawn |= part.sample((2,), **drawn)
        if parameters is None or set(parameters) <= set(drawn):
            return parts[:count], parts[count:], drawn
    raise ValueError(
        f"The first of {len(parts)} BayesFlow simulators draw {sorted(drawn)}, but the parameters "
        f"{sorted(parameters or [])} were to be drawn before the last one, which makes the outcome. Name them by "
        "parameters=, or give a prior=kb.Prior(...)."
    )


def takes_noise(simulators: Sequence[Any]) -> bool:
    """Whether a simulator is a single function of a batch that is given its base samples."""
    function: Any = getattr(simulators[0], "sample_fn", None)
    if function is None or len(simulators) != 1 or not getattr(simulators[0], "is_batched", False):
        return False
    return NOISE in inspect.signature(function).parameters


def _run(simulators, num, data):
    for simulator in simulators:
        data = data | simulator.sample((num,), **data)
    return data


class _Seeded:
    """Context in which NumPy's global generator starts from a seed, and after which it goes on where it was."""

    def __init__(self, seed):
        self.seed = seed

    def __enter__(self):
        self.state = np.random.get_state()  # noqa: NPY002
        np.random.seed(self.seed)  # noqa: NPY002

    def __exit__(self, *_):
        np.random.set_state(self.state)  # noqa: NPY002
