"""Everything that differs between JAX, TensorFlow and torch; no other file names a backend.

Two things live here. *Calculus for SciPy and for checks*: `value_and_gradient`, `hessian_vector_product`, `jacobian`
and `compile_function` turn a function written once in `keras.ops` into NumPy-in, NumPy-out functions in the precision
asked for. *The training step*: `Trainer` hands Keras' own `train_step` to the device in the way each backend wants it:
fused by `lax.scan` on JAX, `steps_per_execution` on TensorFlow, gradients switched on for torch.
"""

import contextlib
import contextvars
import copy
import functools
import importlib
import importlib.util
import itertools
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

Tensor = Any  # a tensor of the backend; Keras ships no types
PACKAGES = ("jax", "tensorflow", "torch")


def select() -> None:
    """Choose an installed backend if neither the user nor an earlier import of Keras did.

    Raises:
        ImportError: no backend is installed, or `KERAS_BACKEND` names one that is not.
    """
    if "keras" in sys.modules:
        return
    chosen = os.environ.get("KERAS_BACKEND")
    installed = [package for package in PACKAGES if importlib.util.find_spec(package)]
    if not installed:
        raise ImportError(
            "kerasbed found no Keras backend. It needs one of jax, tensorflow or torch: "
            "install one with `pip install kerasbed[jax]` (or [tensorflow], [torch])."
        )
    if chosen and chosen not in installed:
        raise ImportError(
            f"KERAS_BACKEND is {chosen!r}, but the installed backends are {installed}. "
            f"Set KERAS_BACKEND to one of them, or install it with `pip install kerasbed[{chosen}]`."
        )
    if not chosen:
        os.environ["KERAS_BACKEND"] = installed[0]


def import_quietly(name: str) -> None:
    """Import a package without what it says at import, and leave the root logger as it was.

    BayesFlow gives the root logger a handler and the level INFO, after which other packages print, too; a logger that
    has a handler already is left alone. TensorFlow's C++ writes to stderr, unless the user has set the level of that.
    """
    root, logger, handler = logging.getLogger(), logging.getLogger(name), logging.NullHandler()
    level, propagate = logger.level, logger.propagate
    root.addHandler(handler)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        with _native_output_held_back():
            importlib.import_module(name)
    finally:
        root.removeHandler(handler)
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


@contextlib.contextmanager
def _native_output_held_back():
    """Keep what C++ writes to stderr to itself, unless Python fails meanwhile or TF_CPP_MIN_LOG_LEVEL is set."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or os.environ.get("KERAS_BACKEND") != "tensorflow":
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


select()
import_quietly("bayesflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402

from kerasbed.backend import errors  # noqa: E402

NAME = keras.backend.backend()
if NAME == "jax":
    import jax
elif NAME == "tensorflow":
    import tensorflow as tf
elif NAME == "torch":
    import torch
    import torch.utils._pytree
    from torch.fx.experimental.proxy_tensor import make_fx
else:
    raise ImportError(f"Keras runs on {NAME!r}; kerasbed needs jax, tensorflow or torch. Set KERAS_BACKEND.")


Seed = int | Sequence[int] | np.random.Generator | None  # what `np.random.default_rng` takes; None takes fresh draws

FLOATS = ("float32", "float64")

# Keras 3.15 promotes float64 to float32 on JAX and torch inside some operations (sin, tanh, matmul, maximum, var, ...),
# whatever the floatx. Where float64 is asked for, its table is told to keep it.
_PROMOTION = keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and the backend, so that initial network weights repeat."""
    keras.utils.set_random_seed(seed)


def _jax_keeps_float64() -> bool:
    return jax.dtypes.canonicalize_dtype("float64") == np.dtype("float64")


def check_policy(what: str, policy: keras.DTypePolicy) -> None:
    """Refuse a dtype policy under which densities lose their digits, or that computes in another type than it stores.

    Raises:
        ValueError: a mixed policy, or one of fewer than 32 bits.
    """
    if policy.compute_dtype == policy.variable_dtype and policy.compute_dtype in FLOATS:
        return
    raise ValueError(
        f"{what} is {policy.name!r}, but log densities need one precision throughout, of at least 32 bits. "
        "Call keras.config.set_dtype_policy('float32'), and leave dtype= away."
    )


def check_precision() -> None:
    """Refuse settings under which a density would silently be computed in another precision than asked for.

    Raises:
        ValueError: a mixed-precision or half-precision policy, a float type other than float32 or float64, or float64
            on JAX without x64.
    """
    policy = keras.config.dtype_policy()
    check_policy("The dtype policy", policy)
    if keras.config.floatx() not in FLOATS:
        raise ValueError(f"floatx is {keras.config.floatx()!r}; kerasbed needs 'float32' or 'float64'.")
    if keras.config.floatx() == "float64":
        _PROMOTION["float64"] = "float64"
    if NAME == "jax" and keras.config.floatx() == "float64" and not _jax_keeps_float64():
        raise ValueError(
            "floatx is 'float64', but JAX truncates to float32. "
            "Call jax.config.update('jax_enable_x64', True) before building the model, or use floatx 'float32'."
        )


# -- contexts ---


def gradients() -> contextlib.AbstractContextManager:
    """Context with gradients on. BayesFlow switches torch's off for the whole process; this touches one block only."""
    return torch.enable_grad() if NAME == "torch" else contextlib.nullcontext()


def no_gradients() -> contextlib.AbstractContextManager:
    """Context in which torch records no graph; the other backends record none unless asked."""
    return torch.no_grad() if NAME == "torch" else contextlib.nullcontext()


_WIDE = contextvars.ContextVar("wide", default=False)


@contextlib.contextmanager
def wide_simulation(wide: bool = True) -> Iterator[None]:
    """Context in which experiments are simulated in float64 while networks and their weights keep their own type.

    Tensors of float64 stay float64 through `keras.ops` (and on JAX), and `simulation_dtype` says "float64". Where
    `wide` is False, nothing changes.
    """
    if not wide or _WIDE.get():
        yield
        return
    token = _WIDE.set(True)
    try:
        with precision(keras.config.floatx()):
            yield
    finally:
        _WIDE.reset(token)


def is_wide() -> bool:
    """Whether experiments are simulated in float64 here, beside networks of another type."""
    return _WIDE.get()


def simulates(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an object with the attribute `wide` that runs within `wide_simulation(self.wide)`."""

    @functools.wraps(method)
    def within(self, *args, **kwargs):
        with wide_simulation(self.wide):
            return method(self, *args, **kwargs)

    return within


def simulation_dtype() -> str:
    """The float type of parameters, designs and outcomes: float64 in `wide_simulation`, else the process' floatx."""
    return "float64" if _WIDE.get() else keras.config.floatx()


def as_simulated(tensor: Tensor) -> Tensor:
    """A float tensor in `simulation_dtype`."""
    dtype = simulation_dtype()
    return tensor if keras.backend.standardize_dtype(tensor.dtype) == dtype else ops.cast(tensor, dtype)


@contextlib.contextmanager
def constants_in(dtype: str) -> Iterator[None]:
    """Context in which constants that name no type are of `dtype`: for a network within a computation in another type.

    BayesFlow starts sums at zeros of the process' float type, which TensorFlow adds to no other.
    """
    previous = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(previous)


def floats_as_simulated(structure: Any) -> Any:
    """Nested tensors whose floats are of `simulation_dtype`; Keras would make them those of the networks."""
    dtype = simulation_dtype()
    return _map_leaves(lambda leaf: _in_type(leaf, dtype) if ops.is_tensor(leaf) else leaf, structure)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Context in which `keras.ops` computes in `dtype` and creates constants in it, whatever the process' floatx.

    Within `wide_simulation` float64 tensors stay what they are.
    """
    previous, promotion = keras.config.floatx(), _PROMOTION["float64"]
    keeps_float64 = dtype == "float64" or _WIDE.get()
    x64 = jax.enable_x64(keeps_float64) if NAME == "jax" else contextlib.nullcontext()
    keras.config.set_floatx(dtype)
    _PROMOTION["float64"] = "float64" if keeps_float64 else promotion
    try:
        with x64:
            yield
    finally:
        keras.config.set_floatx(previous)
        _PROMOTION["float64"] = promotion


# -- functions of arrays ---


def _map_leaves(function, structure):
    """`keras.tree.map_structure` for nested dicts, lists and tuples; on torch Keras' takes longer than a small sum."""
    if isinstance(structure, dict):
        return {key: _map_leaves(function, value) for key, value in structure.items()}
    if not isinstance(structure, (list, tuple)):
        return function(structure)
    mapped = [_map_leaves(function, value) for value in structure]
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
    return _map_leaves(lambda t: np.array(ops.convert_to_numpy(t)), structure)


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

    return _map_leaves(convert, structure)


def cast(structure: Any) -> Any:
    """NumPy arrays to tensors of the float type that experiments are simulated in."""
    return to_tensor(structure, simulation_dtype())


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
        given = "float64" if _WIDE.get() else self.dtype
        values = ([variable.value for variable in self.variables],) if self.variables else ()
        with precision(self.dtype):
            if NAME == "jax" and self.compiled:  # a program takes arrays quicker than tensors are made of them
                return to_numpy(self._program(*values, *_map_leaves(lambda leaf: _in_type(leaf, given), args)))
            return to_numpy(self._program(*values, *to_tensor(args, given)))

    def _with_values(self, values, *args):
        with keras.StatelessScope(state_mapping=list(zip(self.variables, values, strict=True))):
            return self.function(*args)

    def __getstate__(self):
        return vars(self) | {"_program": None}


def _program_of(function, compiled):
    if NAME == "jax":
        return jax.jit(function) if compiled else function
    if NAME == "tensorflow":
        return tf.function(function, reduce_retracing=True) if compiled else function
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
    return _signature(structure), keras.config.floatx(), _WIDE.get()


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
                return value, _map_leaves(torch.zeros_like, x)
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
    return tf.function(function, reduce_retracing=True) if NAME == "tensorflow" else function


def value_and_gradient(
    function: Callable[..., Tensor], dtype: str = "float64", compiled: bool = True
) -> Callable[..., Any]:
    """Value and gradient of a scalar `function(x, *args)` written in `keras.ops`.

    Args:
        function: maps a tensor (or nested tensors) `x` and further arguments to a scalar tensor. It may also return one
            value for each row of `x`, each of its own row alone: the rows of the gradient are theirs then.
        dtype: precision of the computation, whatever the process' floatx.
        compiled: False evaluates eagerly, so that Python inside `function` runs at every call.

    Returns:
        A function `(x, *args) -> (value, gradient)`, NumPy in and out; the gradient has the structure of `x`.
    """
    return Compiled(_gradient_program, function, dtype, compiled)


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


# -- the training step ---

FUSED_STEPS = {"jax": 50, "tensorflow": 50, "torch": 10}[NAME]


def fused_steps(steps: int) -> int:
    """How many of `steps` training steps to hand to the device at once: a divisor, so that one program is compiled."""
    divisors = [d for d in range(1, min(FUSED_STEPS, steps) + 1) if steps % d == 0]
    return divisors[-1] if divisors[-1] >= min(10, steps) else min(FUSED_STEPS, steps)


def _equal_prefix(batches: list) -> list:
    """The leading batches that have the shapes of the first one."""
    shapes = [[np.shape(leaf) for leaf in keras.tree.flatten(batch)] for batch in batches]
    different = [i for i, shape in enumerate(shapes) if shape != shapes[0]]
    return batches[: different[0]] if different else batches


def _as_batch(data):
    """A bare dict, as a torch DataLoader or tf.data yields it, is a batch without targets."""
    return (data,) if isinstance(data, dict) else data


def _collate_dict(collate, rows):
    return _as_batch(collate(rows))


def dicts_as_batches(loader: Any) -> Any:
    """A torch DataLoader whose dicts come as batches without targets; Keras 3.15 on JAX keeps a dict's keys only."""
    torch_data = sys.modules.get("torch.utils.data")
    if torch_data is None or not isinstance(loader, torch_data.DataLoader):
        return loader
    twin = copy.copy(loader)
    twin.collate_fn = functools.partial(_collate_dict, loader.collate_fn)
    return twin


# What a mixin is mixed into, for type checkers only: it has every attribute of a Keras model.
KerasModel = keras.Model if TYPE_CHECKING else object


class Trainer(KerasModel):
    """How a Keras model's `train_step` reaches the device. Mix in before `keras.Model`.

    Keras' `train_step`, `fit`, callbacks and metrics stay as they are; only the function that carries several batches
    through `train_step` is replaced, so that `compile(steps_per_execution=...)` works on all three backends.

    Attributes:
        wide: whether experiments are simulated in float64; see `wide_simulation`.
    """

    wide = False

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
    def _weights_kept(self):
        """JAX: Keras empties the model's variables while a loop runs; an error or Ctrl-C must not lose their values."""
        try:
            yield
        except BaseException:
            if NAME == "jax":
                self.jax_state_sync()
            raise

    @contextlib.contextmanager
    def _last_group_may_be_short(self):
        """torch: Keras takes a short last group of batches for data that ran out, and warns."""
        with warnings.catch_warnings():
            if NAME == "torch" and self.steps_per_execution > 1:
                warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)
            yield

    def _get_jax_state(self, **chosen):
        state = super()._get_jax_state(**chosen)
        if chosen.pop("purge_model_variables", False):
            self._jax_state = dict(zip([name for name, wanted in chosen.items() if wanted], state, strict=True))
        return state

    def make_train_function(self, force: bool = False) -> None:
        if self.train_function is not None and not force:
            return
        if NAME == "jax" and not self.run_eagerly and self.jit_compile:
            self.train_function = self._scanned_steps(super().train_step)
        elif NAME == "torch":
            self.train_function = self._recorded_steps(self._torch_step())
        else:
            super().make_train_function(force=force)

    def _scanned_steps(self, train_step):
        """JAX: one device program runs `steps_per_execution` steps over stacked batches, the state donated."""

        @functools.partial(jax.jit, donate_argnums=0)
        def run(state, batches):
            def step(state, batch):
                logs, state = train_step(state, batch)
                return state, logs

            state, logs = jax.lax.scan(step, state, batches)
            return jax.tree.map(lambda log: log[-1], logs), state

        def train_function(state, iterator):
            batches = list(itertools.islice(iterator, self.steps_per_execution))
            if not batches:
                raise StopIteration
            batches = [_as_batch(batch) for batch in batches]
            while batches:  # a ragged last batch gets a program of its own
                equal = _equal_prefix(batches)
                logs, state = run(state, jax.tree.map(lambda *leaves: np.stack(leaves), *equal))
                batches = batches[len(equal) :]
            return logs, state

        return train_function

    def _torch_step(self):
        """torch: Keras' step with its forward and backward pass recorded once as a flat graph of tensor operations.

        Three quarters of an eager step are Python bookkeeping around some hundred layer calls; the graph has none.
        `jit_compile=True` compiles the graph, `run_eagerly=True` keeps Keras' step as it is.
        """
        graphs = {}

        def step(data):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            shapes = tuple(tuple(leaf.shape) for leaf in keras.tree.flatten(x))
            if shapes not in graphs:
                graphs[shapes] = None if y is not None or sample_weight is not None else self._record_graph(x)
            if graphs[shapes] is None:
                return self.train_step(data)
            return self._run_graph(graphs[shapes], x)

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
            graph = make_fx(gradients_and_state)(*arguments)
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

    def _run_graph(self, graph, x):
        trainable, state = self._step_variables()
        values = [[variable.value.detach() for variable in part] for part in (trainable, state)]
        with torch.no_grad():
            gradients, new_state = graph(*values, keras.tree.flatten(x))
            self.optimizer.apply(list(gradients), trainable)
            for variable, old, new in zip(state, values[1], new_state, strict=True):
                if new is not old:
                    variable.assign(new)
        return self.get_metrics_result()

    def _recorded_steps(self, train_step):
        """torch: run the steps with gradients on, whatever the process-wide switch says, and leave that alone."""

        def train_function(batches):
            with torch.enable_grad():
                for data in batches:
                    logs = train_step(_as_batch(data))
            return logs

        return train_function

    def make_test_function(self, force: bool = False):
        fused = self.steps_per_execution
        if NAME != "torch" or fused == 1 or (self.test_function is not None and not force):
            return super().make_test_function(force=force)

        def test_function(batches):
            with torch.no_grad():
                for data in batches:
                    logs = self.test_step(_as_batch(data))
            return logs

        self.test_function = test_function
