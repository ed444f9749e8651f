"""The training step: `Trainer` hands Keras' own `train_step` to the device in the way each backend wants it.

Fused by a loop on the device on JAX, by `steps_per_execution` on TensorFlow, recorded once as a graph on torch.
"""

import contextlib
import copy
import functools
import itertools
import sys
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import errors, metrics, slow_compilation
from kerasbed.backend.float_types import wide_simulation
from kerasbed.backend.kept_state import KeptState, as_batch
from kerasbed.backend.kept_state import KerasModel as KerasModel
from kerasbed.backend.selection import NAME

if NAME == "jax":
    import jax
elif NAME == "torch":
    import torch
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

FUSED_STEPS = {"jax": 50, "tensorflow": 50, "torch": 10}[NAME]


def fused_steps(steps: int) -> int:
    """How many of `steps` training steps to hand to the device at once: a divisor, so that one program is compiled."""
    divisors = [d for d in range(1, min(FUSED_STEPS, steps) + 1) if steps % d == 0]
    return divisors[-1] if divisors[-1] >= min(10, steps) else min(FUSED_STEPS, steps)


def _equal_prefix(batches: list) -> list:
    """The leading batches that have the shapes of the first one."""
    shapes = _shapes(batches[0])
    return list(itertools.takewhile(lambda batch: _shapes(batch) == shapes, batches))


def _shapes(batch):
    """JAX' own walk through a tree takes a tenth of the time of Keras'."""
    return [np.shape(leaf) for leaf in jax.tree.leaves(batch)]


def _stacked(batches: list, longest: dict) -> Any:
    """Batches along a new axis, as many as the longest group of these shapes had: the last one fills up the rest."""
    shapes = tuple(_shapes(batches[0]))
    longest[shapes] = max(longest.get(shapes, 0), len(batches))
    batches = batches + batches[-1:] * (longest[shapes] - len(batches))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)


def _place(variable: keras.Variable, variables: list) -> int:
    """Where a variable stands in a list, by identity: variables compare by value."""
    return next(i for i, other in enumerate(variables) if other is variable)


def _watched_at_first(function):
    """A function whose first call, at which its program is made, may be told to take long."""
    calls = []

    def call(iterator):
        if calls:
            return function(iterator)
        calls.append(True)
        with slow_compilation.watching():
            return function(iterator)

    return call


def _recorded(function, arguments):
    """torch: a function as a flat graph of tensor operations.

    torch notes shape and type of each tensor in it under a mode that it makes anew for each, nearly half of the time;
    here all share one.
    """
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(function)(*arguments)


def _collate_dict(collate, rows):
    return as_batch(collate(rows))


def dicts_as_batches(loader: Any) -> Any:
    """A torch DataLoader whose dicts come as batches without targets; Keras 3.15 on JAX keeps a dict's keys only."""
    torch_data = sys.modules.get("torch.utils.data")
    if torch_data is None or not isinstance(loader, torch_data.DataLoader):
        return loader
    twin = copy.copy(loader)
    twin.collate_fn = functools.partial(_collate_dict, loader.collate_fn)
    return twin


class Trainer(KeptState):
    """How a Keras model's `train_step` reaches the device. Mix in before `keras.Model`.

    Keras' `train_step`, `fit`, callbacks and metrics stay as they are; only the function that carries several batches
    through `train_step` is replaced, so that `compile(steps_per_execution=...)` works on all three backends.

    Attributes:
        wide: whether experiments are simulated in float64; see `wide_simulation`.
        skipped_tracker: counts the steps that the optimizer does not apply; None: all are.
    """

    wide = False
    skipped_tracker: Any = None  # `metrics.SkippedSteps`

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        with wide_simulation(self.wide), self._weights_kept(), self._last_group_may_be_short():
            return super().fit(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with wide_simulation(self.wide), self._weights_kept(), self._last_group_may_be_short():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        with wide_simulation(self.wide), self._weights_kept():
            return super().predict(*args, **kwargs)

    @contextlib.contextmanager
    def _last_group_may_be_short(self):
        """torch: Keras takes a short last group of batches for data that ran out, and warns."""
        with warnings.catch_warnings():
            if NAME == "torch" and self.steps_per_execution > 1:
                warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)
            yield

    def make_train_function(self, force: bool = False) -> None:
        if self.train_function is not None and not force:
            return
        if NAME == "jax" and not self.run_eagerly and self.jit_compile:
            self.train_function = self._looped_steps()
        elif NAME == "torch":
            self.train_function = self._recorded_steps(self._torch_step())
        else:
            super().make_train_function(force=force)
            if NAME == "jax":
                self.train_function = self._told_steps(self.train_function)
            else:
                self.train_function = _watched_at_first(self.train_function)

    # -- steps that are not taken ---

    def train_step(self, *given: Any) -> Any:
        """Keras' step; where steps are counted, one whose update was not applied leaves everything else alone, too."""
        if self.skipped_tracker is None:
            return super().train_step(*given)
        return self._pure_step(*given) if NAME == "jax" else self._counted_step(*given)

    def _pure_step(self, state, data):
        """JAX: (trainable, non-trainable, optimizer, metrics) values and a batch to logs and new values."""
        _, kept, before, _ = state
        in_a_row: Any = self._in_a_row(state)
        if not isinstance(in_a_row, jax.core.Tracer) and in_a_row >= metrics.IN_A_ROW:
            with self._metrics_of(state[3]):  # step by step, a model that is stuck tries no more either
                return self.get_metrics_result(), state
        logs, (trainable, others, optimizer, told) = super().train_step(state, data)
        place = _place(self.optimizer.iterations, self.optimizer.variables)
        applied = optimizer[place] > before[place]
        others = [jax.numpy.where(applied, new, old) for new, old in zip(others, kept, strict=True)]
        with self._metrics_of(told) as scope:
            self.skipped_tracker.update_state(applied)
            logs = {**logs, self.skipped_tracker.name: self.skipped_tracker.result()}
        return logs, (trainable, others, optimizer, [scope.get_current_value(v) for v in self.metrics_variables])

    def _counted_step(self, data):
        """TensorFlow and torch, whose variables change in place; a model that is stuck tries no more."""

        def step():
            iterations, kept = ops.copy(self.optimizer.iterations), self._floats_beside_weights()
            before = [ops.copy(variable) for variable in kept]
            super(Trainer, self).train_step(data)
            applied = self.optimizer.iterations > iterations
            for variable, old in zip(kept, before, strict=True):
                variable.assign(ops.where(applied, variable, old))
            self.skipped_tracker.update_state(applied)

        ops.cond(self.skipped_tracker.is_stuck, lambda: None, step)
        return self.get_metrics_result()

    def _floats_beside_weights(self):
        """What a step may change besides weights, slots and metrics, such as moments of what was seen."""
        return [variable for variable in self.non_trainable_variables if "float" in variable.dtype]

    def _metrics_of(self, values):
        """Scope in which the metrics' variables have given values."""
        return keras.StatelessScope(state_mapping=list(zip(self.metrics_variables, values, strict=True)))

    def _in_a_row(self, state):
        """How many steps in a row were not taken, of JAX' state; None where they are not counted."""
        if self.skipped_tracker is None:
            return None
        return state[3][_place(self.skipped_tracker.in_a_row, self.metrics_variables)]

    def _told_steps(self, function):
        """JAX, step by step: tell after each how many in a row were not taken."""

        def train_function(state, iterator):
            logs, state = function(state, iterator)
            if self.skipped_tracker is not None:
                self.skipped_tracker.keep(self._in_a_row(state))
            return logs, state

        return train_function

    # -- several steps at once ---

    def _looped_steps(self):
        """JAX: one device program runs up to `steps_per_execution` steps over stacked batches.

        A loop over a number of steps, so that it ends where steps are no longer taken, and that a short last group of
        batches needs no program of its own.
        """

        @jax.jit
        def run(state, batches, count):
            def goes_on(carry):
                in_a_row = self._in_a_row(carry[1])
                return (carry[0] < count) & (True if in_a_row is None else in_a_row < metrics.IN_A_ROW)

            def step(carry):
                batch = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, carry[0], keepdims=False), batches)
                return carry[0] + 1, self.train_step(carry[1], batch)[1]

            _, state = jax.lax.while_loop(goes_on, step, (np.int32(0), state))
            with self._metrics_of(state[3]):
                return self.get_metrics_result(), self._in_a_row(state), state

        longest = {}

        def train_function(state, iterator):
            batches = list(itertools.islice(iterator, self.steps_per_execution))
            if not batches:
                raise StopIteration
            batches = [as_batch(batch) for batch in batches]
            while batches:  # a ragged last batch gets a program of its own
                equal = _equal_prefix(batches)
                logs, in_a_row, state = run(state, _stacked(equal, longest), np.int32(len(equal)))
                batches = batches[len(equal) :]
            if self.skipped_tracker is not None:
                self.skipped_tracker.keep(in_a_row)
            return logs, state

        return train_function

    def _torch_step(self):
        """torch: Keras' step with its forward and backward pass recorded once as a flat graph of tensor operations.

        Three quarters of an eager step are Python bookkeeping around some hundred layer calls; the graph has none.
        `jit_compile=True` compiles the graph, `run_eagerly=True` keeps Keras' step as it is.
        """
        graphs, variables = {}, []

        def step(data):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            shapes = tuple(tuple(leaf.shape) for leaf in keras.tree.flatten(x))
            if shapes not in graphs:
                graphs[shapes] = None if y is not None or sample_weight is not None else self._record_graph(x)
            if graphs[shapes] is None:
                return self.train_step(data)
            if not variables:  # looking for them takes a fifth of a step of a large network
                variables.append((*self._step_variables(), len(self.non_trainable_variables)))
            return self._run_graph(graphs[shapes], x, *variables[0])

        return self.train_step if self.run_eagerly else step

    def _step_variables(self):
        return self.trainable_variables, self.non_trainable_variables + self.metrics_variables

    def _record_graph(self, x):
        """`(trainable, state, leaves of x) -> (gradients, new state)` as a graph; None where it cannot be traced."""
        trainable, state = self._step_variables()

        def gradients_and_state(trainable_values, state_values, leaves):
            values = [value.detach().requires_grad_() for value in trainable_values]
            batch = keras.tree.pack_sequence_as(x, leaves)
            mapping = [*zip(trainable, values, strict=True), *zip(state, state_values, strict=True)]
            with torch.enable_grad(), keras.StatelessScope(collect_losses=True, state_mapping=mapping) as scope:
                y_pred = self(batch, training=True)
                loss = self.compute_loss(x=batch, y_pred=y_pred, training=True)
                self._loss_tracker.update_state(loss, sample_weight=leaves[0].shape[0])
            gradients = torch.autograd.grad(loss, values, materialize_grads=True)
            return gradients, [scope.get_current_value(variable) for variable in state]

        arguments = (*([v.value.detach() for v in part] for part in (trainable, state)), keras.tree.flatten(x))
        try:
            with slow_compilation.watching():
                graph = _recorded(gradients_and_state, arguments)
        except Exception as error:
            with torch.no_grad():
                self(x)  # data that do not fit fail here too: their error says more than a warning about recording
            errors.warn(
                f"The training step could not be recorded as a graph ({type(error).__name__}: {error}), so it runs "
                "eagerly, several times slower. Data-dependent Python branches in outcome() and dropout are causes.",
                errors.SlowWarning,
            )
            return None
        graph.graph.eliminate_dead_code()
        graph.recompile()
        return torch.compile(graph) if self.jit_compile is True else graph

    def _run_graph(self, graph, x, trainable, state, beside_weights):
        values = [[variable.value.detach() for variable in part] for part in (trainable, state)]
        with torch.no_grad():
            gradients, new_state = graph(*values, keras.tree.flatten(x))
            before = int(self.optimizer.iterations.value)
            self.optimizer.apply(list(gradients), trainable)
            applied = int(self.optimizer.iterations.value) > before
            for i, (variable, old, new) in enumerate(zip(state, values[1], new_state, strict=True)):
                if new is not old and (applied or i >= beside_weights):
                    variable.assign(new)
            if self.skipped_tracker is not None:
                self.skipped_tracker.update_state(applied)

    def _recorded_steps(self, train_step):
        """torch: run the steps with gradients on, whatever the process-wide switch says, and leave that alone."""

        def train_function(batches):
            with torch.enable_grad():
                for data in batches:
                    if self.skipped_tracker is not None and bool(self.skipped_tracker.is_stuck):
                        break
                    train_step(as_batch(data))
            return self.get_metrics_result()

        return train_function
