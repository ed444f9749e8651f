r"""The point of a segment up to which something is admissible, found by bisection, with its gradient.

From an admissible design y towards a proposal x, with an excess e that is at most 0 where a design is admissible,

    xi = y + s (x - y),     s in [0, 1]     with     e(y + s (x - y), a) = 0,

a the rest that e depends on. Halving [0, 1] as often as a float has digits keeps a low end at which e <= 0, whatever e
is in between, and that end is s: the admissible side of the crossing. Several halvings are one look at all the points
that they might ask for, since a backend takes about as long for one as for few. Where e grows along the segment,

    ds = -(de/ds)^-1 ( de/dx dx + de/dy dy + de/da da )     at s held fixed,

by the implicit function theorem. So s is given the value that was found and the gradient of one Newton step from it,
s - e(y + s (x - y), a) / (de/ds), of which the numerator alone is differentiated. Where e falls or jumps at the
crossing, s is held. Where e is flat there, as a cost that is a square is where nothing is left, ds grows without bound;
so de/ds counts as a small part of its mean over the segment, e(x) - e(y), at least. A proposal that is admissible stays
as it is.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.backend.numerics import like
from kerasbed.policies.parts import Parts

FLAT = 0.03  # of the mean slope
AT_ONCE = 4  # halvings


def pulled(
    parts: Parts,
    excess: Callable[[Any, Any], Tensor],
    given: Any,
    admissible: Any,
    design: Any,
    slack: float = 0.0,
) -> Any:
    """Admissible designs (rows, *shape) on the way from some that are admissible to proposals, or the proposals.

    Args:
        parts: of the space.
        excess: (designs, given) -> (rows,), of each row alone.
        given: nested tensors (rows, ...) that the excess depends on, and numbers.
        admissible: designs (rows, *shape), which is what comes out where not even they have no excess.
        design: proposals (rows, *shape).
        slack: excess up to which a proposal stays as it is.
    """
    held = tree.map_structure(ops.stop_gradient, {"given": given, "begin": admissible, "end": design})
    found = excess(design, given)
    is_over = ops.logical_not(found <= slack)  # also where it is no number
    found = ops.stop_gradient(found)
    share = _crossing(lambda held, share: _along(parts, excess, held, share), held, found)
    here = excess(parts.between(admissible, design, share), given)
    change = _change(lambda share: _along(parts, excess, held, share), found, share)
    moved = share - (here - ops.stop_gradient(here)) * change
    return parts.chosen(is_over, parts.between(admissible, design, moved), design)


def _along(parts, excess, held, share):
    """The excess (rows,) at shares (rows,) of the way, without a gradient but in them."""
    return excess(parts.between(held["begin"], held["end"], share), held["given"])


def _change(along, found, share):
    """-ds / de at the crossing, (rows,), without a gradient; 0 where the excess does not grow there."""
    slope = ops.stop_gradient(backend.differentiated(along)(share)[1])
    rise = FLAT * (found - ops.stop_gradient(along(ops.zeros_like(share))))
    steepness = ops.maximum(slope, ops.where(ops.isfinite(rise), rise, ops.zeros_like(rise)))
    grows = ops.logical_and(slope >= 0.0, steepness > 0.0)
    return ops.where(grows, 1.0 / ops.where(grows, steepness, ops.ones_like(slope)), ops.zeros_like(slope))


def _crossing(along, held, found):
    """The admissible end (rows,) of the last interval, without a gradient."""
    digits = np.finfo(keras.backend.standardize_dtype(found.dtype)).nmant + 2
    count = 2**AT_ONCE - 1
    inner = like(np.arange(1, count + 1) / (count + 1), found)
    many = tree.map_structure(lambda v: ops.repeat(v, count, axis=0) if len(v.shape) else v, held)

    def narrow(_, ends):
        low, width = ends
        points = low[:, None] + width[:, None] * inner
        is_admissible = ops.reshape(along(many, ops.reshape(points, (-1,))) <= 0.0, (-1, count))
        first = ops.sum(ops.cumprod(ops.cast(is_admissible, low.dtype), axis=1), axis=1)  # before one that is not
        width = width / (count + 1)
        return low + width * first, width

    low, _ = ops.fori_loop(0, -(-digits // AT_ONCE), narrow, (ops.zeros_like(found), ops.ones_like(found)))
    return ops.stop_gradient(low)
