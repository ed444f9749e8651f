"""Everything that differs between JAX, TensorFlow and torch; no other file names a backend.

*Which backend* runs is `selection`; *float types* are in `float_types`, *the training step* in `trainer`; all that is
public of these is named here as well. *Calculus for SciPy and for checks* stands here: `value_and_gradient`,
`hessian_vector_product`, `jacobian` and `compile_function` turn a function written once in `keras.ops` into NumPy-in,
NumPy-out functions in the precision asked for.
"""

import contextlib
import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

from kerasbed.backend.selection import NAME  # first: it chooses the backend

import keras  # isort: skip
import numpy as np  # isort: skip
from keras import ops  # isort: skip

from kerasbed.backend import slow_compilation as slow_compilation
from kerasbed.backend.float_types import _PROMOTION as _PROMOTION
from kerasbed.backend.float_types import FLOATS as FLOATS
from kerasbed.backend.float_types import as_simulated as as_simulated
from kerasbed.backend.float_types import check_policy as check_policy
from kerasbed.backend.float_types import check_precision as check_precision
from kerasbed.backend.float_types import constants_in as constants_in
from kerasbed.backend.float_types import is_wide as is_wide
from kerasbed.backend.float_types import precision as precision
from kerasbed.backend.float_types import simulates as simulates
from kerasbed.backend.float_types import simulation_dtype as simulation_dtype
from kerasbed.backend.float_types import wide_simulation as wide_simulation
from kerasbed.backend.gradient_limits import bounded_gradient as bounded_gradient
from kerasbed.backend.selection import PACKAGES as PACKAGES
from kerasbed.backend.selection import import_quietly as import_quietly
from kerasbed.backend.selection import select as select
from kerasbed.backend.trainer import FUSED_STEPS as FUSED_STEPS
from kerasbed.backend.trainer import KerasModel as KerasModel
from kerasbed.backend.trainer import Trainer as Trainer
from kerasbed.backend.trainer import dicts_as_batches as dicts_as_batches
from kerasbed.backend.trainer import fused_steps as fused_steps

if NAME == "jax":
    import jax
elif NAME == "tensorflow":
    import tensorflow as tf
elif NAME == "torch":
    import torch
    import torch.utils._pytree

Tensor = Any  # a tensor of the backend; Keras ships no types

Seed = int | Sequence[int] | np.random.Generator | None  # what `np.random.default_rng` takes; None takes fresh draws


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and the backend, so that initial network weights repeat."""
    keras.utils.set_random_seed(seed)


# -- contexts ---


def gradients() -> contextlib.AbstractContextManager:
    """Context with gradients on. BayesFlow switches torch's off for the whole process; this touches one block only."""
    return torch.enable_grad() if NAME == "torch" else contextlib.nullcontext()


def no_gradients() -> contextlib.AbstractContextManager:
    """Context in which torch records no graph; the other backends record none unless asked."""
    return torch.no_grad() if NAME == "torch" else contextlib.nullcontext()


# -- functions of arrays ---


def map_leaves(function: Callable[[Any], Any], structure: Any) -> Any:
    """`keras.tree.map_structure` for nested dicts, lists and tuples; Keras' takes longer than a small sum."""
    if isinstance(structure, dict):
        return {key: map_leaves(function, value) for key, value in structure.items()}
    if not isinstance(structure, (list, tuple)):
        return function(structure)
    mapped = [map_leaves(function, value) for value in structure]
    return type(structure)(mapped) if type(structure) in (list, tuple) else type(structure)(*mapped)  # named tuples


def _flatten(structure) -> list:
    return [structure] if ops.is_tensor(structure) else keras.tree.flatten(structure)


def _pack(structure, leaves):
    return leaves[0] if ops.is_tensor(structure) else keras.tree.pack_sequence_as(structure, leaves)


def register_dict(kind: type[dict]) -> None:
    """Let the trees of Keras and JAX take a class derived from dict for a dict; what they give back is a plain one."""

    def flatten(values):
        return [values[name] for name in sorted(values)], tuple(sorted(values))

    def unflatten(names, leaves):
        return dict(zip(names, leaves, strict=True))

    if importlib.util.find_spec("optree"):
        import optree

        optree.register_pytree_node(kind, lambda v: (*flatten(v), sorted(v)), unflatten, namespace="keras")
    if NAME == "jax":
        jax.tree_util.register_pytree_node(kind, flatten, unflatten)
    elif NAME == "torch":  # Keras takes torch's own trees there
        torch.utils._pytree.register_pytree_node(
            kind, lambda v: flatten(v), lambda leaves, names: unflatten(names, leaves)
        )


def to_numpy(structure: Any) -> Any:
    """Nested tensors to nested NumPy arrays."""
    return map_leaves(lambda t: np.array(ops.convert_to_numpy(t)), structure)


def _in_type(leaf, dtype: str):
    """A tensor or an array with floating values in `dtype`; integers and booleans stay."""
    if ops.is_tensor(leaf):
        given = keras.backend.standardize_dtype(leaf.dtype)
        return ops.cast(leaf, dtype) if "float" in given and given != dtype else leaf
    leaf = np.asarray(leaf)
    return leaf.astype(dtype) if leaf.dtype.kind == "f" else leaf


def to_tensor(structure: Any, dtype: str) -> Any:
    """Nested arrays to nested tensors; floating leaves become `dtype`, integers and booleans stay.

    Tensors of the right type stay as they are, so that what many calls share may be converted once.
    """

    def convert(leaf):
        leaf = _in_type(leaf, dtype)
        if ops.is_tensor(leaf):
            return leaf
        # The type twice: JAX compiles a program for every shape that Keras hands it in another type or without one.
        return ops.convert_to_tensor(leaf, dtype=dtype if leaf.dtype.kind == "f" else None)

    return map_leaves(convert, structure)


def shape_of(function: Callable[..., Any], *arrays: Any) -> tuple[int, ...]:
    """Shape of what a function of tensors gives for arrays in `simulation_dtype`; JAX computes and compiles nothing."""
    if NAME == "jax":
        return jax.eval_shape(function, *map_leaves(lambda leaf: _in_type(leaf, simulation_dtype()), arrays)).shape
    with no_gradients():
        return tuple(np.shape(function(*cast(arrays))))


def cast(structure: Any) -> Any:
    """NumPy arrays to tensors of the float type that experiments are simulated in."""
    return to_tensor(structure, simulation_dtype())


def floats_as_simulated(structure: Any) -> Any:
    """Nested tensors whose floats are of `simulation_dtype`; Keras would make them those of the networks."""
    dtype = simulation_dtype()
    return map_leaves(lambda leaf: _in_type(leaf, dtype) if ops.is_tensor(leaf) else leaf, structure)


class Compiled:
    """A function of NumPy arrays, NumPy out, whose program is made at its first call.

    The program is a cache: it is left out of pickles and copies, which make their own. What is left, the function, must
    be one that Python can pickle: a method, or a function of a module.

    Args:
        make: `(function, compiled) -> program`, of tensors.
        function: in `keras.ops`.
        dtype: of the computation, whatever the process' floatx.
        compiled: handed to `make`.
        variables: Keras variables that `function` reads at each call. Only on JAX a program would hold the values that
            they had when it was made.
    """

    def __init__(
        self,
        make: Callable,
        function: Callable,
        dtype: str,
        compiled: bool = True,
        variables: Sequence[keras.Variable] = (),
    ):
        self.make, self.function, self.dtype, self.compiled = make, function, dtype, compiled
        self.variables = tuple(variables) if NAME == "jax" else ()
        self._program = None

    def __call__(self, *args):
        if self._program is None:
            function = self._with_values if self.variables else self.function
            self._program = self.make(function, self.compiled)
            if NAME == "tensorflow" and self.compiled:
                with slow_compilation.watching():
                    return self._called(args)
        return self._called(args)

    def _called(self, args):
        program: Any = self._program
        given = "float64" if is_wide() else self.dtype
        values = ([variable.value for variable in self.variables],) if self.variables else ()
        with precision(self.dtype):
            if NAME == "jax" and self.compiled:  # a program takes arrays quicker than tensors are made of them
                return to_numpy(program(*values, *map_leaves(lambda leaf: _in_type(leaf, given), args)))
            return to_numpy(program(*values, *to_tensor(args, given)))

    def _with_values(self, values, *args):
        with keras.StatelessScope(state_mapping=list(zip(self.variables, values, strict=True))):
            return self.function(*args)

    def __getstate__(self):
        return vars(self) | {"_program": None}


# Of XLA on CPU, for programs that run once or twice: they compile in two thirds of the time, and run a little slower.
_QUICKLY_COMPILED = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}


@functools.cache
def _options_of_once() -> dict[str, Any] | None:
    """Options for programs that run once; None where this XLA does not know them, or the user chose a level for all."""
    if jax.default_backend() != "cpu" or "xla_backend_optimization_level" in os.environ.get("XLA_FLAGS", ""):
        return None
    try:
        jax.jit(lambda x: x, compiler_options=_QUICKLY_COMPILED)(np.zeros(1, "float32"))
    except Exception:  # a version of JAX with other options
        return None
    return _QUICKLY_COMPILED


def _program_of_once(function, compiled):
    if NAME == "jax" and compiled:
        return jax.jit(function, compiler_options=_options_of_once())
    return _program_of(function, compiled)


def _gradient_program_of_once(function, compiled):
    if NAME == "jax" and compiled:
        return jax.jit(_value_and_gradient_of_tensors(function), compiler_options=_options_of_once())
    return _gradient_program(function, compiled)


def compile_once(
    function: Callable[..., Any], dtype: str = "float64", variables: Sequence[keras.Variable] = ()
) -> Callable[..., Any]:
    """`compile_function` for what sets a model up and runs once: JAX compiles it quicker, and runs it slower."""
    return Compiled(_program_of_once, function, dtype, variables=variables)


def graph_of(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """TensorFlow's program of a function.

    AutoGraph, which rewrites the Python of all that is called, stays out, as in Keras' training steps: what branches on
    a tensor's value runs on no other backend, and tracing takes a quarter less.
    """
    return tf.function(function, autograph=False, **options)


def _program_of(function, compiled):
    if NAME == "jax":
        return jax.jit(function) if compiled else function
    if NAME == "tensorflow":
        return graph_of(function, reduce_retracing=True) if compiled else function
    return torch.no_grad()(function)


def compile_function(
    function: Callable[..., Any],
    dtype: str = "float64",
    compiled: bool = True,
    variables: Sequence[keras.Variable] = (),
) -> Callable[..., Any]:
    """`function(*arrays)` in `keras.ops`, compiled where the backend compiles, NumPy in and out, without gradients.

    `compiled=False` evaluates eagerly: quicker for a function that is called once or twice. `variables` are read at
    each call; others of Keras have, on JAX, the values that they had at the first one.
    """
    return Compiled(_program_of, function, dtype, compiled, variables)


def signature(structure: Any) -> tuple:
    """Nested names, shapes and types of arrays, and the types that are computed in: what one program is made for."""
    return _signature(structure), keras.config.floatx(), is_wide()


def _signature(structure):
    if isinstance(structure, dict):
        return tuple((name, _signature(structure[name])) for name in sorted(structure))
    if isinstance(structure, list | tuple):
        return tuple(_signature(part) for part in structure)
    return np.shape(structure), str(getattr(structure, "dtype", type(structure)))


def compile_light(function: Callable[..., Any], dtype: str = "float64") -> Callable[..., Any]:
    """`compile_function` for a few operations: one program on JAX, which would compile each of them by itself.

    The others evaluate eagerly: a program of TensorFlow's takes longer to make than a few operations take.
    """
    return compile_function(function, dtype, compiled=NAME == "jax")


def _value_and_gradient_of_tensors(function):
    """`(x, *args) -> (value, gradient in x)` on tensors of the active backend; x may be nested."""
    if NAME == "jax":

        def total_and_values(x, *args):
            value = function(x, *args)
            return ops.sum(value), value

        def with_transform(x, *args):
            (_, value), gradient = jax.value_and_grad(total_and_values, has_aux=True)(x, *args)
            return value, gradient

        return with_transform
    if NAME == "tensorflow":

        def with_tape(x, *args):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x, *args)
            return value, tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return with_tape

    def with_autograd(x, *args):
        with torch.enable_grad():
            leaves = [leaf.detach().requires_grad_() for leaf in _flatten(x)]
            value = function(_pack(x, leaves), *args)
            if not value.requires_grad:
                return value, map_leaves(torch.zeros_like, x)
            found = torch.autograd.grad(value, leaves, torch.ones_like(value), materialize_grads=True)
        return value.detach(), _pack(x, found)

    return with_autograd


def differentiated(function: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """`(x, *args) -> (value, gradient in x)` on tensors, for use inside a function that is itself compiled.

    An ascent written in `keras.ops` takes the gradients of its steps with it, so that the whole loop is one program.
    """
    return _value_and_gradient_of_tensors(function)


def _compiled(function):
    if NAME == "jax":
        return jax.jit(function)
    return graph_of(function, reduce_retracing=True) if NAME == "tensorflow" else function


def value_and_gradient(
    function: Callable[..., Tensor], dtype: str = "float64", compiled: bool = True, *, once: bool = False
) -> Callable[..., Any]:
    """Value and gradient of a scalar `function(x, *args)` written in `keras.ops`.

    Args:
        function: maps a tensor (or nested tensors) `x` and further arguments to a scalar tensor. It may also return one
            value for each row of `x`, each of its own row alone: the rows of the gradient are theirs then.
        dtype: precision of the computation, whatever the process' floatx.
        compiled: False evaluates eagerly, so that Python inside `function` runs at every call.
        once: the program runs once or twice, see `compile_once`.

    Returns:
        A function `(x, *args) -> (value, gradient)`, NumPy in and out; the gradient has the structure of `x`.
    """
    return Compiled(_gradient_program_of_once if once else _gradient_program, function, dtype, compiled)


def _gradient_program(function, compiled):
    evaluate = _value_and_gradient_of_tensors(function)
    return _compiled(evaluate) if compiled else evaluate


def hessian_vector_product(function: Callable[..., Tensor], dtype: str = "float64") -> Callable[..., Any]:
    """`(x, v, *args) -> H(x) v` for a scalar `function(x, *args)` of one array, NumPy in and out."""
    return Compiled(_hessian_vector_program, function, dtype)


def _hessian_vector_program(function, _):
    def with_tapes(x, v, *args):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = function(x, *args)
            slope = tf.reduce_sum(inner.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO) * v)
        return outer.gradient(slope, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def with_autograd(x, v, *args):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(function(x, *args), x, create_graph=True, materialize_grads=True)
            if not slope.requires_grad:
                return torch.zeros_like(x)
            (product,) = torch.autograd.grad(slope, x, grad_outputs=v, materialize_grads=True)
        return product.detach()

    if NAME == "jax":
        return jax.jit(lambda x, v, *args: jax.jvp(lambda u: jax.grad(function)(u, *args), (x,), (v,))[1])
    return _compiled(with_tapes if NAME == "tensorflow" else with_autograd)


def jacobian(function: Callable[..., Tensor], dtype: str = "float64") -> Callable[..., Any]:
    """`(x, *args) -> d function / d x` for a tensor-valued function of one array; shape (*value.shape, *x.shape)."""
    return Compiled(_jacobian_program, function, dtype)


def _jacobian_program(function, _):
    def with_tape(x, *args):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x, *args)
        return tape.jacobian(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def with_autograd(x, *args):
        with torch.enable_grad():
            return torch.autograd.functional.jacobian(lambda u: function(u, *args), x)

    if NAME == "jax":
        return jax.jit(jax.jacrev(function))
    return with_tape if NAME == "tensorflow" else with_autograd
