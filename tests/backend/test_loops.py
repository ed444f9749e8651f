"""A loop over the leading axis, its outputs and its gradient."""

import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend.loops import scan

INPUTS = np.random.default_rng(0).normal(size=(4, 3, 2))


def looped(x):
    """A sum over the last carry and over outputs of another shape."""
    start = ops.zeros((3, 2), dtype=x.dtype)
    last, made = scan(lambda c, i: (ops.tanh(c + i["a"]), ops.concatenate([c, i["a"]], -1)), start, {"a": x})
    product, nothing = scan(lambda c, i: (c * ops.exp(i), None), ops.ones((3, 2), dtype=x.dtype), x)
    assert nothing is None
    return ops.sum(last) + ops.sum(ops.square(made)) + ops.sum(product)


def by_hand(x):
    carry, total = np.zeros((3, 2)), 0.0
    for row in x:
        total += np.sum(carry**2) + np.sum(row**2)
        carry = np.tanh(carry + row)
    return total + carry.sum() + np.exp(x.sum(axis=0)).sum()


def test_value_and_gradient_are_those_of_the_steps_written_out():
    value, gradient = backend.value_and_gradient(looped, "float64")(INPUTS)
    np.testing.assert_allclose(value, by_hand(INPUTS), rtol=1e-12)
    for index in [(0, 0, 0), (2, 1, 1), (3, 2, 0)]:
        step = np.zeros_like(INPUTS)
        step[index] = 1e-5
        slope = (by_hand(INPUTS + step) - by_hand(INPUTS - step)) / 2e-5
        np.testing.assert_allclose(gradient[index], slope, rtol=1e-7)


def test_outputs_may_be_nested_and_loops_lie_within_loops():
    def looped(x):
        def outer(carry, row):
            carry = scan(lambda total, entry: (total + entry, None), carry, row)[0]
            return carry, {"sum": carry, "square": ops.square(carry)[None]}

        found = scan(outer, ops.zeros((2,), dtype=x.dtype), x)[1]
        return ops.sum(found["sum"][:, 0]) + ops.sum(found["square"][:, 0, 1])

    value, gradient = backend.value_and_gradient(looped, "float64")(INPUTS)
    sums = np.cumsum(INPUTS.sum(axis=1), axis=0)
    assert abs(value - (sums[:, 0].sum() + (sums[:, 1] ** 2).sum())) < 1e-12
    later = np.stack([4.0 - np.arange(4), 2.0 * np.cumsum(sums[::-1, 1])[::-1]], axis=-1)
    np.testing.assert_allclose(gradient, np.broadcast_to(later[:, None], gradient.shape), rtol=1e-12)
