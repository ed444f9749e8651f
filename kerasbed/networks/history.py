r"""Networks that read a history: measurements of one experiment, each with its design, however many there were.

Given parameters, independent measurements may be told in any order, and so the posterior is a function of a sum,

    p(theta | h) ~ p(theta) exp sum_t log p(y_t | theta, xi_t) = f(theta, sum_t s(xi_t, y_t)),

exactly for an exponential family. `kerasbed.networks.pooling` gathers such sums, and averages.
`HistoryNetwork` looks twice: the second pass sees every measurement in the light of what the first one gathered, and is
told where its design is relative to points c_j of the space of designs that come from there, log |xi_t - c_j|^2. Where
a signal falls with the distance from a place, that is the coordinate in which it is simple.

A history of T measurements of which the first t were made is a tensor (rows, T, features + 1): the last column is 1
for the measurements that were made and 0 for the others, whose features are zeros and count for nothing. In an
experiment with a state the order matters, and a recurrent network takes the place of the sums.

References: Zaheer et al. (2017), theorem 2, for sums; Cho et al. (2014) for gated recurrent units.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer
from kerasbed.networks.initializers import NumpyHeNormal
from kerasbed.networks.pooling import NormalisedPooling, small

CLOSE = 1e-3  # squared distance below which a design counts as being at a point
SPREAD = 0.5  # standard deviation of the points before training
LOG_DISTANCE = 0.3  # brings log |xi - c|^2 to the size of the other features


@keras.saving.register_keras_serializable("kerasbed")
class HistoryNetwork(keras.layers.Layer):
    """Summary of measurements in any order: the default `summary_network` of a policy's posterior and critic.

    Args:
        width: units of the hidden layers.
        heads: averages with learned weights.
        points: c_j that designs are told relative to in a second pass; 0: a single pass.
        seed: of the initial weights, the same on every backend; None draws one and keeps it.
        **kwargs: `name`, `dtype` and what else a Keras layer takes.

    Raises:
        ArgumentError: a count or the seed is none.

    Example:
        Two histories in another order, of which the second measurement of three was not made, are the same.

        >>> network = kb.networks.HistoryNetwork(width=16, seed=0)
        >>> looks = np.array([[[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [3.0, 4.0, 1.0]]], "float32")
        >>> first, second = (ops.convert_to_numpy(network(h)) for h in (looks, looks[:, [2, 0, 1]]))
        >>> bool(abs(first - second).max() < 1e-5)
        True
    """

    @checked(width=positive_integer, heads=positive_integer, seed=optional(integer_seed))
    def __init__(self, width: int = 128, heads: int = 8, points: int = 4, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.width, self.heads, self.points = width, heads, points
        self.seed = draw_seed() if seed is None else seed
        self.design_columns: tuple[int, int] | None = None  # None: all features are taken for places
        settings = {"width": width, "heads": heads, "sums": 32, "dtype": self.dtype_policy}
        self.first = NormalisedPooling(seed=self.seed, name="first", **settings)
        if points:
            self.second = NormalisedPooling(seed=self.seed + 1, name="second", **settings)
            self.guess: Any = None

    def read_designs_from(self, start: int, stop: int) -> None:
        """Tell, before the weights are made, which columns of a measurement are its design."""
        self.design_columns = (int(start), int(stop))

    def build(self, input_shape: Sequence[int]) -> None:
        """Create the weights for histories (rows, T, features + 1)."""
        if self.built:
            return
        features = input_shape[-1] - 1
        self.first.build((1, 1, features))
        if self.points:
            start, stop = self.design_columns or (0, features)
            self.dim = stop - start
            initial = NumpyHeNormal(self.seed + 2)
            outputs = self.points * self.dim
            self.guess = keras.Sequential(
                [
                    keras.layers.Dense(self.width, "silu", kernel_initializer=initial),
                    keras.layers.Dense(outputs, kernel_initializer=small(initial), bias_initializer=self._places),
                ],
                name="guess",
            )
            self.guess.build((None, self.first.state_width))
            self.second.build((1, 1, features + self.points), self.first.state_width + outputs)
        self.built = True

    def _places(self, shape, dtype=None):
        """Points that lie apart from the start."""
        values = SPREAD * np.random.default_rng(self.seed).standard_normal(shape)
        return backend.to_tensor(values, keras.backend.standardize_dtype(dtype))

    @property
    def output_width(self) -> int:
        """Numbers of a summary."""
        if not self.points:
            return self.first.state_width
        return self.first.state_width + self.second.state_width + self.points * self.dim

    def call(self, histories: Tensor, training: bool = False) -> Tensor:
        """Summaries of histories: (rows, T, features + 1) -> (rows, output_width)."""
        looks, measured = histories[..., :-1], histories[..., -1:]
        gathered = self.first(looks, measured)
        if not self.points:
            return gathered
        places = self.guess(gathered)
        context = ops.concatenate([gathered, places], axis=-1)
        again = self.second(ops.concatenate([looks, self._distances(looks, places)], axis=-1), measured, context)
        return ops.concatenate([context, again], axis=-1)

    def _distances(self, looks, places):
        """log squared distances of designs from the points, (rows, T, points)."""
        start, _ = self.design_columns or (0, looks.shape[-1])
        squared = 0.0
        for index in range(self.dim):
            of_points = places[:, None, index * self.points : (index + 1) * self.points]
            squared = squared + ops.square(looks[..., start + index : start + index + 1] - of_points)
        return LOG_DISTANCE * ops.log(squared + CLOSE)

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple:
        return (input_shape[0], self.output_width)

    def get_config(self) -> dict:
        own = {name: getattr(self, name) for name in ("width", "heads", "points", "seed")}
        return super().get_config() | own | {"design_columns": self.design_columns}

    @classmethod
    def from_config(cls, config: dict) -> "HistoryNetwork":
        config = dict(config)
        columns = config.pop("design_columns", None)
        network = cls(**config)
        if columns is not None:
            network.read_designs_from(*columns)
        return network


@keras.saving.register_keras_serializable("kerasbed")
class RecurrentHistory(keras.layers.Layer):
    """Summary of measurements in their order, by gated recurrent units: for experiments with a state.

    Args:
        width: of the state, which is the summary.
        seed: of the initial weights, the same on every backend; None draws one and keeps it.
        **kwargs: `name`, `dtype` and what else a Keras layer takes.

    Raises:
        ArgumentError: the width or the seed is none.

    Example:
        What was not measured changes nothing; the order does.

        >>> network = kb.networks.RecurrentHistory(width=16, seed=0)
        >>> looks = np.array([[[1.0, 2.0, 1.0], [3.0, 4.0, 1.0], [0.0, 0.0, 0.0]]], "float32")
        >>> both, shorter, other = (ops.convert_to_numpy(network(h)) for h in (looks, looks[:, :2], looks[:, [1, 0]]))
        >>> bool(abs(both - shorter).max() < 1e-5), bool(abs(both - other).max() < 1e-5)
        (True, False)
    """

    @checked(width=positive_integer, seed=optional(integer_seed))
    def __init__(self, width: int = 128, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.seed = draw_seed() if seed is None else seed
        initial, policy = NumpyHeNormal(self.seed), self.dtype_policy
        self.encoder = keras.layers.Dense(width, "silu", kernel_initializer=initial, dtype=policy, name="encoder")
        initial = small(initial)
        self.units = keras.layers.GRU(
            width, kernel_initializer=initial, recurrent_initializer=initial, dtype=policy, name="units"
        )

    def build(self, input_shape: Sequence[int]) -> None:
        """Create the weights for histories (rows, T, features + 1)."""
        if not self.built:
            self.encoder.build((None, None, input_shape[-1] - 1))
            self.units.build((None, None, self.width))
            self.built = True

    @property
    def output_width(self) -> int:
        """Numbers of a summary."""
        return self.width

    def call(self, histories: Tensor, training: bool = False) -> Tensor:
        """Summaries of histories: (rows, T, features + 1) -> (rows, width)."""
        return self.units(self.encoder(histories[..., :-1]), mask=histories[..., -1] > 0.5)

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple:
        return (input_shape[0], self.width)

    def get_config(self) -> dict:
        return super().get_config() | {"width": self.width, "seed": self.seed}


def as_history(outcome: Tensor, features: Tensor, measured: Tensor) -> Tensor:
    """Histories as these networks read them, (rows, T, outcomes + features + 1).

    Args:
        outcome: standardised, (rows, T, outcomes).
        features: of designs, (rows, T, features).
        measured: (rows, T, 1), 1 where a measurement was made; what the others hold, NaN included, is lost.
    """
    looks = ops.concatenate([outcome, features], axis=-1)
    looks = ops.where(measured > 0.5, looks, ops.zeros_like(looks))
    return ops.concatenate([looks, measured], axis=-1)
