"""The optimizer that treats networks, the design and descending networks each in their way."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import keras
from keras import ops

from kerasbed.backend import Tensor, errors, updates

NETWORK_RATE = 2e-3
DESIGN_RATE = 1e-1
# From finite gradients and rates these make finite updates, so that weights need no look once they are changed.
KNOWN = tuple(
    getattr(keras.optimizers, name) for name in ("SGD", "Adam", "AdamW", "Nadam", "Adamax", "Adagrad", "Lion")
)
POLICY_RATE, POLICY_BETA, POLICY_WARMUP = 3e-3, 0.98, 100  # of Adam, and its steps of growing rate
STATIC_RATE = 3e-3  # of the static sequence that a policy's networks correct
POLICY_NORM = 1.0  # the largest norm of a gradient of a policy's networks, which learn through whole experiments


@keras.saving.register_keras_serializable("kerasbed")
class PlannedDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `rate`, then cosine decay to zero, over the steps that `fit` plans; constant until then.

    Args:
        rate: largest learning rate.
        warmup: fraction of the plan over which the rate grows from zero.
        start, steps: first step of the plan and its length; set by `fit`.
        warmup_steps: the same as a number of steps, of at most half the plan.
    """

    def __init__(
        self, rate: float, warmup: float = 0.0, start: int = 0, steps: int | None = None, warmup_steps: int = 0
    ):
        super().__init__()
        if not math.isfinite(rate):
            raise ValueError(f"rate is {rate}, but a finite learning rate was expected.")
        if not 0.0 <= warmup < 1.0:
            raise ValueError(f"warmup is {warmup}, but a fraction of the plan in [0, 1) was expected.")
        self.rate, self.warmup, self.start, self.steps = float(rate), float(warmup), int(start), steps
        self.warmup_steps = int(warmup_steps)
        self.held: tuple[Any, Any] | None = None  # start and steps as variables of the optimizer that was compiled

    def plan(self, start: int, steps: int) -> None:
        """Follow the schedule from step `start` over `steps` steps."""
        self.start, self.steps = int(start), int(steps)

    @property
    def mean(self) -> float:
        """Mean rate over a plan: both the warm-up and the decay are half the largest rate on average."""
        return self.rate if self.steps is None else 0.5 * self.rate

    def __call__(self, step):
        if self.steps is None:
            return self.rate
        start, steps = (self.start, self.steps) if self.held is None else self.held
        done = ops.clip((ops.cast(step, "float32") - start) / steps, 0.0, 1.0)
        if not (self.warmup or self.warmup_steps):
            return self.rate * _cosine(done)
        warmup = ops.maximum(self.warmup, ops.minimum(self.warmup_steps / steps, 0.5))
        decay = _cosine(ops.clip((done - warmup) / (1.0 - warmup), 0.0, 1.0))
        return self.rate * ops.minimum(done / warmup, 1.0) * decay

    def get_config(self) -> dict[str, Any]:
        names = ("rate", "warmup", "start", "steps", "warmup_steps")
        return {name: getattr(self, name) for name in names}


def _cosine(done):
    return 0.5 * (1.0 + ops.cos(math.pi * done))


@keras.saving.register_keras_serializable("kerasbed")
class DesignOptimizer(keras.optimizers.MultiOptimizer):
    """Optimizers for networks, for the design and for a policy's networks, behind one interface.

    It selects the design's variables by their exact paths, negates the gradients of variables that descend, cuts those
    of a policy's networks to a largest norm, and leaves all weights and slots untouched at a step whose gradients,
    rates or updates are not all finite; `iterations` counts the other steps.

    Args:
        optimizer: Keras optimizer of the networks.
        design_optimizer: Keras optimizer of the design.
        policy_optimizer: Keras optimizer of a policy's networks; None: that of all networks.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        design_optimizer: keras.optimizers.Optimizer,
        policy_optimizer: keras.optimizers.Optimizer | None = None,
        name: str = "design_optimizer",
    ):
        super().__init__(lambda variable: self._select(variable), name=name)
        self.network_optimizer, self.design_optimizer = optimizer, design_optimizer
        self.policy_optimizer = optimizer if policy_optimizer is None else policy_optimizer
        self._design_paths = self._descending_paths = self._policy_paths = frozenset()
        self._pure = False  # inside stateless_apply, which has made the choice between old and new values
        self._inner_optimizers.extend([optimizer, design_optimizer])
        if policy_optimizer is not None:
            self._inner_optimizers.append(policy_optimizer)
        # Variables, so that a compiled step follows the plan of the next fit as well.
        self._plan = tuple(self.add_variable((), dtype="float32", name=name) for name in ("plan_start", "plan_steps"))
        self._hold_plan()

    def _select(self, variable):
        if variable.path in self._design_paths:
            return self.design_optimizer
        return self.policy_optimizer if variable.path in self._policy_paths else self.network_optimizer

    def attach(
        self,
        placed_variables: Iterable[keras.Variable],
        descending_variables: Iterable[keras.Variable],
        policy_variables: Iterable[keras.Variable] = (),
    ) -> None:
        """Tell which variables are coordinates of designs, which descend, and which are weights of a policy's networks.

        See `Design.placed_variables` and `Design.network_variables`.
        """
        self._design_paths = frozenset(variable.path for variable in placed_variables)
        self._descending_paths = frozenset(variable.path for variable in descending_variables)
        self._policy_paths = frozenset(variable.path for variable in policy_variables)

    def plan(self, start: int, steps: int) -> bool:
        """Plan the decay of the default rates; returns whether a step that was compiled before does not follow it."""
        is_new = any(schedule.steps is None for schedule in self._planned)
        for schedule in self._planned:
            schedule.plan(start, steps)
        self._hold_plan()
        return is_new

    @property
    def _planned(self):
        schedules = [optimizer._learning_rate for optimizer in self.optimizers]
        return [schedule for schedule in schedules if isinstance(schedule, PlannedDecay)]

    def _hold_plan(self):
        """Let the schedules read their plan from variables."""
        for schedule in self._planned:
            schedule.held = self._plan
            if schedule.steps is not None:
                for variable, value in zip(self._plan, (schedule.start, schedule.steps), strict=True):
                    variable.assign(float(value))

    @property
    def _saved(self):
        """The variables of a file; the plan is part of the schedules' configuration."""
        return [variable for variable in self.variables if all(variable is not one for one in self._plan)]

    def save_own_variables(self, store: Any) -> None:
        for number, variable in enumerate(self._saved):
            store[str(number)] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        saved = self._saved
        if len(store.keys()) != len(saved):
            errors.warn(
                f"The file has {len(store.keys())} variables of an optimizer, but this one has {len(saved)}; it starts "
                "anew, and the weights are loaded as they are.",
                errors.FileWarning,
            )
            return
        for number, variable in enumerate(saved):
            variable.assign(store[str(number)])

    def plans(self) -> list[dict[str, Any] | None]:
        """How the default rates are planned, one entry for each optimizer; None where the rate is the user's."""
        schedules = [optimizer._learning_rate for optimizer in self.optimizers]
        return [schedule.get_config() if isinstance(schedule, PlannedDecay) else None for schedule in schedules]

    def bring_plans_back(self, plans: Sequence[Mapping[str, Any] | None]) -> None:
        """Plan the default rates as `plans` told."""
        for optimizer, plan in zip(self.optimizers, plans, strict=True):
            if plan is not None and plan["steps"] is not None:
                optimizer._learning_rate.plan(plan["start"], plan["steps"])
        self._hold_plan()

    @property
    def has_schedules(self) -> bool:
        """Whether a learning rate follows a schedule, which rate callbacks cannot set."""
        schedule = keras.optimizers.schedules.LearningRateSchedule
        return any(isinstance(optimizer._learning_rate, schedule) for optimizer in self.optimizers)

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[Any] | None = None):
        """One update (eagerly or inside a TensorFlow graph); nothing changes unless all of it is finite."""
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        # A design that the draws bring along leaves the learned one without a gradient, which Keras takes for an error.
        own_paths = self._design_paths | self._policy_paths
        grads = [
            ops.zeros_like(variable) if grad is None and variable.path in own_paths else grad
            for grad, variable in zip(grads, variables, strict=True)
        ]
        if not self.built:
            self.build(variables)
        # Before the branch: TensorFlow takes no gradients of which some are made within it.
        grads = self._cut(self._signed(grads, variables), variables)
        if self._pure:
            return super().apply(grads, variables)
        return ops.cond(self._is_finite(grads), lambda: self._apply_if_finite(grads, variables), lambda: None)

    def _apply_if_finite(self, grads, variables):
        """Keras' update, taken back where an optimizer that is not known made a weight that is no number."""
        if self._is_known:
            super().apply(grads, variables)
            return
        kept = [*variables, *self.variables]
        before = [ops.copy(variable) for variable in kept]
        super().apply(grads, variables)

        def take_back():
            for variable, old in zip(kept, before, strict=True):
                variable.assign(old)

        ops.cond(ops.isfinite(updates.squared_norm(variables)), lambda: None, take_back)

    def stateless_apply(
        self, optimizer_variables: Sequence[Tensor], grads: Sequence[Tensor], trainable_variables: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """One update as a pure function (JAX): the new values where all of it is finite, else the old.

        A branch, because XLA copies most of the state at every step where new and old values are chosen one by one.
        """
        old = trainable_variables, optimizer_variables

        def update():
            self._pure = True
            try:
                new = super(DesignOptimizer, self).stateless_apply(optimizer_variables, grads, trainable_variables)
            finally:
                self._pure = False
            if self._is_known:
                return new
            return ops.cond(ops.isfinite(updates.squared_norm(new[0])), lambda: new, lambda: old)

        with keras.StatelessScope(state_mapping=list(zip(self.variables, optimizer_variables, strict=True))):
            finite = self._is_finite(grads)
        return ops.cond(finite, update, lambda: old)

    @property
    def _is_known(self):
        return all(updates.is_one_of(used, KNOWN) and getattr(used, "epsilon", 1.0) > 0.0 for used in self.optimizers)

    def _is_finite(self, grads):
        """Whether all gradients, learning rates and their products are finite."""
        squared = updates.squared_norm([grad for grad in grads if grad is not None])
        # A planned rate is finite, and on torch reading one costs as much as a layer.
        told = [used for used in self.optimizers if not isinstance(used._learning_rate, PlannedDecay)]
        rates = [ops.cast(used.learning_rate, squared.dtype) for used in told]
        return ops.isfinite(squared * (1.0 + sum(ops.square(rate) for rate in rates)))

    def _signed(self, grads, variables):
        """Gradients of which those of variables that descend are negated."""
        return [
            -grad if grad is not None and variable.path in self._descending_paths else grad
            for grad, variable in zip(grads, variables, strict=True)
        ]

    def _cut(self, grads, variables):
        """Gradients of which those of a policy's networks have a norm of at most `POLICY_NORM` together."""
        is_policy = [variable.path in self._policy_paths for variable in variables]
        if not any(is_policy):
            return grads
        norm = ops.sqrt(sum(ops.sum(ops.square(grad)) for grad, cut in zip(grads, is_policy, strict=True) if cut))
        factor = POLICY_NORM / ops.maximum(norm, POLICY_NORM)
        return [grad * factor if cut else grad for grad, cut in zip(grads, is_policy, strict=True)]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        own = self.policy_optimizer is not self.network_optimizer
        return {
            "optimizer": serialize(self.network_optimizer),
            "design_optimizer": serialize(self.design_optimizer),
            "policy_optimizer": serialize(self.policy_optimizer) if own else None,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        deserialize = keras.saving.deserialize_keras_object
        own = config.get("policy_optimizer")
        return cls(
            deserialize(config["optimizer"]),
            deserialize(config["design_optimizer"]),
            deserialize(own) if own else None,
            name=config["name"],
        )


def default_optimizers(
    optimizer: str | keras.optimizers.Optimizer | None,
    design_optimizer: str | keras.optimizers.Optimizer | None,
    policy_optimizer: str | keras.optimizers.Optimizer | None = None,
    of_policy: bool = False,
) -> DesignOptimizer:
    """The optimizer for `DesignModel.compile`: Keras optimizers, their names, or None for the defaults.

    Args:
        optimizer, design_optimizer, policy_optimizer: see there.
        of_policy: whether a policy is learned, whose networks have a default of their own.

    Raises:
        TypeError: a multi-optimizer was passed as one of them.
    """
    if isinstance(optimizer, DesignOptimizer):
        return optimizer
    given = (optimizer, design_optimizer, policy_optimizer)
    if any(isinstance(one, keras.optimizers.MultiOptimizer) for one in given):
        raise TypeError(
            "compile got a MultiOptimizer, but it builds one itself: pass optimizer= for the networks, "
            "design_optimizer= for the design and policy_optimizer= for a policy's networks."
        )
    if policy_optimizer is not None:
        policy_optimizer = keras.optimizers.get(policy_optimizer)
    elif of_policy and optimizer is None:
        policy_optimizer = _of_policies(POLICY_RATE)
    network = (
        keras.optimizers.Adam(PlannedDecay(NETWORK_RATE)) if optimizer is None else keras.optimizers.get(optimizer)
    )
    if design_optimizer is not None:
        design = keras.optimizers.get(design_optimizer)
    else:
        design = _of_policies(STATIC_RATE) if of_policy else keras.optimizers.Adam(PlannedDecay(DESIGN_RATE))
    return DesignOptimizer(network, design, policy_optimizer)


def _of_policies(rate):
    """Gradients through whole experiments change their size as a policy learns: a short memory of their squares."""
    return keras.optimizers.Adam(PlannedDecay(rate, warmup_steps=POLICY_WARMUP), beta_2=POLICY_BETA)
