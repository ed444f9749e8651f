"""What networks are told of a design, and whether its gradient passes through that."""

import contextlib
import contextvars
from collections.abc import Iterator

from keras import ops, tree

from kerasbed.backend import Tensor

_FOLLOWED: contextvars.ContextVar[bool] = contextvars.ContextVar("followed", default=False)


def detach(design: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """The same values, through which no gradient flows; designs may be dicts.

    Example:
        >>> value = ops.ones((1, 2))
        >>> bool(ops.all(kb.designs.detach(value) == value))  # for a term through which a design must not be learned
        True
    """
    return tree.map_structure(ops.stop_gradient, design)


def as_condition(design: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """The design as a network is told it: without a gradient, but within `followed_conditions`.

    A network that learns together with the design pulls on it by a score with expectation zero, which is cut.
    """
    return design if _FOLLOWED.get() else detach(design)


@contextlib.contextmanager
def followed_conditions() -> Iterator[None]:
    """Context in which what networks are told of a design is part of the function that is differentiated.

    For ascent with networks that stay as they are, and for policies. A compiled function belongs to the context in
    which it was called first.
    """
    token = _FOLLOWED.set(True)
    try:
        yield
    finally:
        _FOLLOWED.reset(token)
