"""The float types of networks and of simulations, and the contexts in which they differ from the process'.

Keras keeps its float type, and its table of promotion, once for the process: a context that sets them and sets them
back changes what another thread computes meanwhile, and two that overlap leave the type of the one that ended last. So
the two places where Keras reads them ask the thread's context first; without one they are what they are in Keras.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

from kerasbed.backend.selection import NAME  # first: it chooses the backend

import keras  # isort: skip
from keras import ops  # isort: skip

if NAME == "jax":
    import jax
    import numpy as np

Tensor = Any

FLOATS = ("float32", "float64")

_CHOSEN: contextvars.ContextVar[str | None] = contextvars.ContextVar("floatx", default=None)
_KEEPS_FLOAT64 = contextvars.ContextVar("keeps_float64", default=False)


class _Promotion(dict):
    """Keras' table of types that become narrower ones, without float64 where a context keeps it.

    Keras 3.15 promotes float64 to float32 on JAX and torch inside some operations (sin, tanh, matmul, maximum, var,
    ...), whatever the floatx. Where float64 is asked for, its table is told to keep it.
    """

    def get(self, dtype, default=None):
        return dtype if dtype == "float64" and _KEEPS_FLOAT64.get() else super().get(dtype, default)


def _floatx():
    """What `keras.config.floatx` becomes; its names are those of Keras' module."""
    return _floatx_of_thread() or _FLOATX  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


def _ask_contexts_first() -> dict[str, str]:
    """Let Keras ask for its float type and for its table of promotion by way of the contexts below; the table."""
    config, dtypes = keras.src.backend.config, keras.src.backend.common.dtypes
    if not isinstance(dtypes.BIT64_TO_BIT32_DTYPE, _Promotion):
        dtypes.BIT64_TO_BIT32_DTYPE = _Promotion(dtypes.BIT64_TO_BIT32_DTYPE)
        config._floatx_of_thread = _CHOSEN.get
        config.floatx.__code__ = _floatx.__code__  # and not the function, which many modules of Keras have imported
    return dtypes.BIT64_TO_BIT32_DTYPE


_PROMOTION = _ask_contexts_first()


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
    keras.config.dtype_policy()  # a thread takes it from the float type when it is first asked for, and keeps it
    token = _CHOSEN.set(dtype)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Context in which `keras.ops` computes in `dtype` and creates constants in it, whatever the process' floatx.

    Within `wide_simulation` float64 tensors stay what they are. Other threads notice nothing of it.
    """
    keeps_float64 = dtype == "float64" or _WIDE.get()
    x64 = jax.enable_x64(keeps_float64) if NAME == "jax" else contextlib.nullcontext()
    token = _KEEPS_FLOAT64.set(keeps_float64 or _KEEPS_FLOAT64.get())
    try:
        with constants_in(dtype), x64:
            yield
    finally:
        _KEEPS_FLOAT64.reset(token)
