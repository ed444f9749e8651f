"""Design spaces: what the experimenter may choose, as smooth maps from unconstrained weights.

A space is a Keras layer. `constrain` and `unconstrain` are pure maps between unconstrained coordinates and the user's
units; `encode` gives centred features for networks; `sample` draws designs over the space; and the layer owns one
trainable weight, the unconstrained coordinates of the current design. Designs carry a leading axis: (1, *shape) for
one design shared by a batch, (batch, *shape) where every draw has its own.
"""

import keras
import numpy as np
from keras import ops, tree

from kerasbed.base_samples import draw_seed

# Spread of random starts in unconstrained coordinates: near the middle of a space, where no squashing map is flat.
START_SPREAD = 0.3


class Design(keras.layers.Layer):
    """What every design space shares. A concrete space defines the maps and the shapes.

    Args:
        shape: shape of one design in the user's units.
        initial: values to start from, (*shape); default a seeded random start near the middle.
        seed: seed of the random start and of nothing else; None draws one and keeps it.
        trainable: False keeps the design fixed while the posterior is learned.

    Raises:
        ValueError: the shape is empty, or the initial values do not fit the space.
    """

    # The network is told the design, but its pull on the design is a score with expectation zero: cut. Policies and
    # ascent on an EIG landscape differentiate through the condition and set this to False.
    detach_condition = True

    def __init__(self, shape, initial=None, seed=None, trainable=True, name=None, dtype=None):
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        self.shape = checked_shape(shape)
        self.seed = draw_seed() if seed is None else int(seed)
        self.initial = None if initial is None else self.check(initial)

    # -- to be defined by a space ---

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        """Shape of one design's unconstrained coordinates."""
        return self.shape

    def constrain(self, u):
        """Unconstrained coordinates (..., *unconstrained_shape) to the user's units (..., *shape)."""
        raise NotImplementedError

    def unconstrain(self, value):
        """Inverse of `constrain`."""
        raise NotImplementedError

    def encode(self, design):
        """Centred features for networks: (1 or batch, *shape) to (1 or batch, width)."""
        raise NotImplementedError

    def extra_draws(self, num: int, rng) -> dict[str, np.ndarray]:
        """Base samples the space needs at every step, each with `num` rows; most need none."""
        return {}

    def sample(self, num: int, seed: int | None = None) -> np.ndarray:
        """Designs drawn over the space, (num, *shape)."""
        raise NotImplementedError

    def contains(self, value) -> np.ndarray | bool:
        """Whether every entry of the values is admissible."""
        raise NotImplementedError

    # -- the weight ---

    def build(self, input_shape=None):
        if self.built:
            return
        start = self._start()  # NumPy: Keras' initialisers give different numbers on each backend
        self.unconstrained = self.add_weight(
            shape=(1, *self.unconstrained_shape),
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(start, dtype=dtype),
            name="unconstrained",
        )
        self.built = True

    def _start(self) -> np.ndarray:
        if self.initial is not None:
            return ops.convert_to_numpy(self.unconstrain(ops.convert_to_tensor(self.initial[None], dtype=self.dtype)))
        return START_SPREAD * np.random.default_rng(self.seed).standard_normal((1, *self.unconstrained_shape))

    def call(self, draws=None):
        """The current design, (1, *shape), or the designs that the draws bring along, (batch, *shape)."""
        if draws is not None and "design" in draws:
            return draws["design"]
        self.build()
        return self.constrain(self.unconstrained)

    def measure(self, simulator, draws):
        """One measurement: the design of each draw and the outcome; a policy replaces this by its rollout."""
        design = self.call(draws)
        return design, simulator.measure(draws["parameters"], design, draws["noise"])

    def numpy(self) -> np.ndarray:
        """The current design in the user's units, (*shape)."""
        return np.array(ops.convert_to_numpy(self.call()))[0]

    def assign(self, value) -> None:
        """Set the current design, (*shape) in the user's units.

        Raises:
            ValueError: the shape differs, or a value lies outside the space.
        """
        self.build()
        value = ops.convert_to_tensor(self.check(value)[None], dtype=self.dtype)
        self.unconstrained.assign(self.unconstrain(value))

    def check(self, value) -> np.ndarray:
        """Values as a float array (*shape), or an error that names what is wrong."""
        value = np.asarray(value, "float64")
        if value.shape != self.shape:
            raise ValueError(
                f"design has shape {value.shape}, but this {type(self).__name__} has shape {self.shape}; "
                "pass one value for each entry."
            )
        if not np.all(np.isfinite(value)) or not np.all(self.contains(value)):
            raise ValueError(f"design {value} lies outside {self!r}; pass values inside it.")
        return value

    def get_config(self):
        initial = None if self.initial is None else self.initial.tolist()
        return super().get_config() | {"shape": self.shape, "initial": initial, "seed": self.seed}


def detach(design):
    """The same values, through which no gradient flows; designs may be dicts."""
    return tree.map_structure(ops.stop_gradient, design)


def checked_shape(shape) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in ((shape,) if np.ndim(shape) == 0 else shape))
    except (TypeError, ValueError):
        raise TypeError(f"shape is {shape!r}, but a tuple of positive integers was expected, e.g. (7,).") from None
    if not shape or any(size < 1 for size in shape):
        raise ValueError(f"shape is {shape}, but a design needs at least one entry; a scalar design has shape (1,).")
    return shape


def entries(name: str, value, shape) -> np.ndarray:
    """A number or (*shape) array, broadcast to one value for each entry."""
    shape, value = checked_shape(shape), np.asarray(value, "float64")
    try:
        return np.broadcast_to(value, shape).copy()
    except ValueError:
        raise ValueError(f"{name} has shape {value.shape}, but a number or shape {shape} was expected.") from None


def like(constant: np.ndarray, tensor):
    return ops.convert_to_tensor(constant, dtype=tensor.dtype)


def flatten(features):
    return ops.reshape(features, (-1, int(np.prod(features.shape[1:]))))


def short(values: np.ndarray):
    return float(values.flat[0]) if np.all(values == values.flat[0]) else values.tolist()
