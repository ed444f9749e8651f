"""Where a posterior network was trained: designs, and lengths of histories, that it is an extrapolation to leave."""

from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, errors

REGION_DECAY = 0.99  # memory of the designs seen in training: the last few hundred steps
REGION_TOLERANCE = 0.05  # of an encoded design, whose space spans about [-1, 1]
NEVER = 1e30  # beyond every encoded design

TRAIN_THERE = (
    "Train at it: model.design.assign(executed), then model.fit with trainable=False, or train on designs drawn over "
    "the space with SimulatorDataset(..., designs='space')."
)
FIT_AGAIN = (
    "model.fit_posterior() had trained it at the design of that time, which a later fit or assign has moved unless "
    "another one was asked for: call model.fit_posterior() again."
)


class TrainedRegion:
    """Weights of a layer that remember what it was trained on, and warnings where it was not.

    The layer has a `space`, a `design_width` and, where it reads histories, a `layout`.
    """

    space: Any
    layout: Any
    design_width: int
    add_weight: Any

    def _build_region(self):
        width = (self.design_width,)
        self.region_weight = self.add_weight(shape=(), initializer="zeros", trainable=False, name="region_weight")
        self.region_mean = self.add_weight(shape=width, initializer="zeros", trainable=False, name="region_mean")
        self.region_square = self.add_weight(shape=width, initializer="zeros", trainable=False, name="region_square")
        if self.layout is None:
            return
        ends = {"trainable": False, "shape": width}
        self.region_low = self.add_weight(initializer=_constant(NEVER), name="region_low", **ends)
        self.region_high = self.add_weight(initializer=_constant(-NEVER), name="region_high", **ends)
        self.region_shortest = self.add_weight(
            shape=(), initializer=_constant(self.layout.length + 1.0), trainable=False, name="region_shortest"
        )

    def _record_region(self, features):
        """Exponential moving moments of the encoded designs that the network has seen."""
        features, keep = ops.stop_gradient(features), REGION_DECAY
        self.region_weight.assign(keep * self.region_weight + (1.0 - keep))
        self.region_mean.assign(keep * self.region_mean + (1.0 - keep) * ops.mean(features, axis=0))
        self.region_square.assign(keep * self.region_square + (1.0 - keep) * ops.mean(ops.square(features), axis=0))

    def _record_histories(self, histories):
        """The same of histories in their layout, with the ends of all designs and the shortest length so far."""
        histories = ops.stop_gradient(histories)
        features, measured = self.layout.features_of(histories), histories[..., -1:]
        share = ops.sum(measured, axis=(0, 1))
        keep = REGION_DECAY
        for weight, values in ((self.region_mean, features), (self.region_square, ops.square(features))):
            mean = ops.sum(values * measured, axis=(0, 1)) / share
            weight.assign(keep * weight + (1.0 - keep) * mean)
        self.region_weight.assign(keep * self.region_weight + (1.0 - keep))
        made = measured > 0.5
        low = ops.min(ops.where(made, features, NEVER), axis=(0, 1))
        high = ops.max(ops.where(made, features, -NEVER), axis=(0, 1))
        self.region_low.assign(ops.minimum(self.region_low, low))
        self.region_high.assign(ops.maximum(self.region_high, high))
        shortest = ops.min(ops.sum(measured, axis=(1, 2)))
        self.region_shortest.assign(ops.minimum(self.region_shortest, shortest))

    @property
    def is_trained(self) -> bool:
        return float(ops.convert_to_numpy(self.region_weight)) > 0.0

    @property
    def trained_steps(self) -> float:
        """Steps that were taken in training, by the weight 1 - decay^n of what was seen; above 1,000 a lower bound."""
        left = max(1.0 - float(ops.convert_to_numpy(self.region_weight)), REGION_DECAY**1000)
        return float(np.log(left) / np.log(REGION_DECAY))

    def warn_outside_region(self, design: Tensor, cure: str | None = None) -> None:
        """Warn if designs (num, *shape) lie where the network was not trained; an untrained one was nowhere.

        Args:
            design: tensors in the user's units.
            cure: what to do; None: train at them, or over the space.
        """
        if not self.is_trained:
            return
        weight = ops.convert_to_numpy(self.region_weight)
        mean = ops.convert_to_numpy(self.region_mean) / weight
        spread = np.sqrt(np.maximum(ops.convert_to_numpy(self.region_square) / weight - mean**2, 0.0))
        features = ops.convert_to_numpy(self.space.encode(design))
        distance = np.abs(features - mean)
        if np.any(distance > 2.0 * spread + REGION_TOLERANCE):
            errors.warn(
                f"The executed design differs from those the posterior was trained at (by up to {distance.max():.3g} "
                "in encoded units, where the space is about 2 wide); its posterior is an extrapolation. "
                + (cure or TRAIN_THERE),
                errors.OutOfTrainingWarning,
            )

    def warn_about_histories(self, design: Any, length: int) -> None:
        """Warn if histories, of a policy, are shorter than those of training or have designs beyond them.

        Args:
            design: (num, t, *shape), tensors in the user's units.
            length: t.
        """
        if not self.is_trained:
            return
        shortest = round(float(ops.convert_to_numpy(self.region_shortest)))
        if length < shortest:
            errors.warn(
                f"The posterior was trained on histories of {shortest} measurements, but one of {length} was given; "
                "what it says of it is an extrapolation. kb.objectives.BarberAgakov trains on all lengths: call "
                "model.fit_posterior().",
                errors.OutOfTrainingWarning,
            )
        features = ops.convert_to_numpy(self.layout.encoded(design))
        low, high = ops.convert_to_numpy(self.region_low), ops.convert_to_numpy(self.region_high)
        slack = REGION_TOLERANCE * (1.0 + high - low)
        beyond = np.maximum(features - high - slack, low - slack - features)
        if np.any(beyond > 0.0):
            count = int(np.sum(np.any(beyond > 0.0, axis=(1, 2))))
            errors.warn(
                f"{count} of {len(features)} histories have designs that the policy did not choose in training; the "
                "posterior of these is an extrapolation. Measure where policy.next_design(history) says, or condition "
                "on the data by kb.reference.",
                errors.OutOfTrainingWarning,
            )


def _constant(value):
    return lambda shape, dtype=None: ops.full(shape, value, dtype=dtype)
