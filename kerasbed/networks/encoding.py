"""How what networks are told of an outcome and of its design is put together."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor
from kerasbed.designs import Design
from kerasbed.designs.sequence import SequenceSpace
from kerasbed.networks.history import HistoryNetwork, RecurrentHistory, as_history
from kerasbed.networks.looks import outcome_features


def beside(encoded: Tensor, features: Tensor) -> Tensor:
    """Encoded outcomes (rows, width) and, behind them, those of their designs (1 or rows, features)."""
    features = ops.broadcast_to(features, (ops.shape(encoded)[0], features.shape[-1]))
    return ops.concatenate([encoded, features], axis=-1)


class HistoryLayout:
    """The histories of a policy as networks read them, (rows, T, features of outcome and design + 1); see `history`.

    Args:
        space: of the designs of T measurements, `kerasbed.designs.sequence.SequenceSpace`.
        outcome_shape: (T, *shape of one outcome).
    """

    def __init__(self, space: Any, outcome_shape: Sequence[int]):
        self.single, self.length = space.single, space.length
        self.outcome_shape = tuple(outcome_shape[1:])
        self.outcome_width = int(np.prod(self.outcome_shape))
        self.design_width = self.single.encoding_width()

    @property
    def design_columns(self) -> tuple[int, int]:
        """Which features of a measurement are of its design."""
        start = 4 * self.outcome_width
        return start, start + self.design_width

    def one_by_one(self, outcome: Any) -> Any:
        """Outcomes (num, T, *shape) as those of single measurements, (num * T, *shape)."""
        return outcome.reshape(-1, *self.outcome_shape)

    def encoded(self, design: Tensor | dict[str, Tensor]) -> Tensor:
        """Features of designs (rows, t, *shape): (rows, t, features)."""
        length = tree.flatten(design)[0].shape[1]
        single = tree.map_structure(lambda leaf: ops.reshape(leaf, (-1, *leaf.shape[2:])), design)
        return ops.reshape(self.single.encode(single), (-1, length, self.design_width))

    def features_of(self, histories: Tensor) -> Tensor:
        """The features of designs, (rows, T, features)."""
        start, stop = self.design_columns
        return histories[..., start:stop]

    def __call__(
        self,
        standardize: Callable[[Tensor], Tensor],
        outcome: Tensor,
        design: Tensor | dict[str, Tensor],
        lengths: Tensor | None,
        dtype: str,
    ) -> Tensor:
        """Histories of outcomes (rows, t, *shape) and designs (1 or rows, t, *shape), t <= T; see `as_history`.

        Args:
            standardize: of single outcomes.
            outcome, design: in the user's units.
            lengths: measurements that were made, (rows,); None: t of them.
            dtype: of the network.
        """
        rows, length = ops.shape(outcome)[0], outcome.shape[1]
        z = outcome_features(ops.reshape(ops.cast(standardize(outcome), dtype), (-1, length, self.outcome_width)))
        features = ops.cast(self.encoded(design), dtype)
        features = ops.broadcast_to(features, (rows, *features.shape[1:]))
        if lengths is None:
            measured = ops.ones_like(z[..., :1])
        else:
            steps = ops.arange(length, dtype=dtype)
            measured = ops.cast(steps < ops.cast(lengths, dtype)[:, None], dtype)[..., None]
        histories = as_history(z, features, measured)
        return ops.pad(histories, [[0, 0], [0, self.length - length], [0, 0]])


def has_histories(design: Design) -> bool:
    """Whether what was measured is a history, each of whose designs may depend on the outcomes before it."""
    return not design.is_static and isinstance(design.space, SequenceSpace)


def history_summary(network: Any, simulator: Any, layout: HistoryLayout) -> Any:
    """The network that summarises histories: the one given, or the default for the experiment.

    Args:
        network: of the user's; None for the default: sums, or where the experiment has a state a recurrent network.
        simulator: a `kerasbed.Sequence`.
        layout: which columns are the design.
    """
    if network is None:
        network = RecurrentHistory(name="summary") if has_state(simulator) else HistoryNetwork(name="summary")
    if isinstance(network, HistoryNetwork) and not network.built:
        network.read_designs_from(*layout.design_columns)
    return network


def has_state(simulator: Any) -> bool:
    """Whether one measurement changes the experiment that the next is made in, so that their order matters."""
    return getattr(getattr(simulator, "single", simulator), "initial_state", None) is not None
