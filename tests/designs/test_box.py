import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb


def test_bounds_hold_and_their_middle_is_zero():
    space = kb.designs.Box((2,), low=[0.0, -1.0], high=[400.0, 1.0], initial=[200.0, 0.0])
    np.testing.assert_allclose(ops.convert_to_numpy(space.encode(space())), 0.0, atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(space.unconstrained), 0.0, atol=1e-6)


def test_a_start_on_the_bound_is_kept():
    space = kb.designs.Box((2,), low=0.0, high=400.0, initial=[0.0, 400.0])
    np.testing.assert_allclose(space.numpy(), [0.0, 400.0], atol=1e-3)
    assert np.isfinite(ops.convert_to_numpy(space.unconstrained)).all()


def test_samples_are_uniform():
    sample = kb.designs.Box((1,), low=2.0, high=4.0).sample(2000, seed=0)
    assert stats.kstest(sample.ravel(), stats.uniform(2.0, 2.0).cdf).pvalue > 1e-4  # false alarm 1e-4


def test_free_samples_have_their_center_and_scale():
    sample = kb.designs.Free((1,), center=5.0, scale=2.0).sample(2000, seed=0)
    assert stats.kstest(sample.ravel(), stats.norm(5.0, 2.0).cdf).pvalue > 1e-4  # false alarm 1e-4


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: kb.designs.Box((2,), 1.0, 1.0), ValueError, "low must be below high"),
        (lambda: kb.designs.Box((2,), [0.0, 3.0], [1.0, 2.0]), ValueError, "low must be below high"),
        (lambda: kb.designs.Box((2,), 0.0, np.inf), ValueError, "must be finite; use Free"),
        (
            lambda: kb.designs.Box((2,), [0.0, 0.0, 0.0], 1.0),
            ValueError,
            r"low has shape \(3,\), but a number or shape",
        ),
        (lambda: kb.designs.Box((0,), 0.0, 1.0), ValueError, "tuple of positive integers"),
        (lambda: kb.designs.Box((), 0.0, 1.0), ValueError, r"scalar design has shape \(1,\)"),
        (
            lambda: kb.designs.Box("three", 0.0, 1.0),
            TypeError,
            "shape is 'three', but an integer or a list of integers",
        ),
        (lambda: kb.designs.Free((2,), scale=0.0), ValueError, "must be positive"),
        (lambda: kb.designs.Box((2,), 0.0, 1.0, initial=[0.5, 2.0]), ValueError, "lies outside Box"),
        (lambda: kb.designs.Box((2,), 0.0, 1.0, initial=[0.5]), ValueError, r"has shape \(1,\), but this Box"),
    ],
)
def test_improper_spaces_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_assigning_outside_the_box_leaves_it_unchanged():
    space = kb.designs.Box((2,), 0.0, 1.0, initial=[0.25, 0.5])
    with pytest.raises(ValueError, match="lies outside Box"):
        space.assign([0.5, 1.5])
    np.testing.assert_allclose(space.numpy(), [0.25, 0.5], rtol=1e-6)
