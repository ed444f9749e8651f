"""General properties that every design space has; a new space adds a line to spaces.py."""

import keras
import numpy as np
import pytest
from keras import ops, tree

from kerasbed import backend
from kerasbed.simulators.simulator import design_shape
from tests.designs.spaces import SPACES

every_space = pytest.mark.parametrize("build", SPACES.values(), ids=SPACES.keys())


def leaves(value):
    return [np.asarray(leaf) for leaf in tree.flatten(value)]


def at_once(function):
    """A map of NumPy arrays in float32: one program on JAX, which would compile each of its operations."""
    return backend.compile_light(function, "float32")


def assert_close(a, b, **tolerance):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def assert_same_designs(found, given, space):
    """Equal to 2e-5 of each entry's standard deviation over the space, and the rounding of float32 at its values.

    The second matters where entries move little about large values: those of `tight_times` vary by 1.5e-4 about 1.
    """
    for leaf, expected, over_space in zip(leaves(found), leaves(given), leaves(space.sample(500, seed=0)), strict=True):
        rounding = 2.0 * np.finfo("float32").eps * np.abs(over_space).max()
        assert np.all(np.abs(leaf - expected) <= 2e-5 * over_space.std(axis=0) + rounding), (leaf, expected)


@every_space
def test_samples_are_admissible_and_repeat_with_the_seed(build):
    space = build(seed=0)
    sample = space.sample(50, seed=1)
    assert design_shape(sample) == space.shape
    assert space.contains(sample) is True
    assert space.contains(tree.map_structure(np.ndarray.tolist, sample)) is True
    assert_close(sample, space.sample(50, seed=1), rtol=0)
    assert not np.array_equal(leaves(sample)[0], leaves(space.sample(50, seed=2))[0])


@every_space
def test_constrain_gives_admissible_values_wherever_weights_go(build):
    space = build(seed=0)
    u = 30.0 * np.random.default_rng(0).standard_normal((200, *space.unconstrained_shape)).astype("float32")
    values = at_once(space.constrain)(u)
    assert all(np.isfinite(leaf).all() for leaf in leaves(values))
    assert space.contains(values) is True


@every_space
def test_unconstrain_inverts_constrain(build):
    space = build(seed=0)
    sample = tree.map_structure(np.float32, space.sample(50, seed=1))
    back = at_once(lambda values: space.constrain(space.unconstrain(values)))(sample)
    assert_same_designs(back, sample, space)
    assert space.weights == []  # maps own no variables


@every_space
def test_the_gradient_of_constrain_is_its_finite_difference(build):
    space = build(seed=0)
    rng = np.random.default_rng(0)
    u = rng.standard_normal((1, *space.unconstrained_shape))
    directions = [rng.standard_normal(leaf.shape) for leaf in leaves(space.sample(1, seed=0))]

    def projection(u):
        values = tree.flatten(space.constrain(u))
        return sum(
            ops.sum(v * ops.convert_to_tensor(d, dtype=v.dtype)) for v, d in zip(values, directions, strict=True)
        )

    evaluate = backend.value_and_gradient(projection, "float64", compiled=backend.NAME == "jax")
    _, gradient = evaluate(u)
    steps = 1e-6 * np.eye(u.size).reshape(u.size, *u.shape)
    numeric = [(evaluate(u + step)[0] - evaluate(u - step)[0]) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient.ravel(), numeric, rtol=1e-6, atol=1e-6 * np.abs(numeric).max())


@every_space
def test_encodings_are_centred_and_of_order_one(build):
    space = build(seed=0)
    features = at_once(space.encode)(space.sample(2000, seed=0))
    assert features.shape == (2000, space.encoding_width())
    # The mean of 2,000 draws of spread at most 1: 4.5 standard errors of each entry, false alarm 7e-6.
    assert np.abs(features.mean(axis=0)).max() < 0.1
    assert features.std(axis=0).min() > 0.25
    assert features.std(axis=0).max() < 1.1


@every_space
def test_numpy_returns_what_was_assigned(build):
    space = build(seed=0)
    value = tree.map_structure(lambda leaf: leaf[0], space.sample(1, seed=3))
    space.assign(value)
    assert_same_designs(space.numpy(), value, space)
    assert_close(space.numpy(), tree.map_structure(lambda leaf: leaf[0], backend.to_numpy(space())), rtol=1e-6)


@every_space
def test_random_starts_repeat_with_the_seed(build):
    assert_close(build(seed=4).numpy(), build(seed=4).numpy(), rtol=0)
    assert not np.array_equal(leaves(build(seed=4).numpy())[0], leaves(build(seed=5).numpy())[0])


@every_space
def test_the_start_can_be_given(build):
    value = tree.map_structure(lambda leaf: leaf[0], build(seed=0).sample(1, seed=3))
    space = build(initial=value)
    assert_same_designs(space.numpy(), value, space)


@pytest.mark.one_backend
@every_space
def test_the_config_rebuilds_the_space(build):
    space = build(seed=4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(space))
    assert repr(again) == repr(space)
    assert again.shape == space.shape
    assert_close(again.numpy(), space.numpy(), rtol=1e-6)
    space.unconstrained.assign(np.random.default_rng(7).standard_normal(space.unconstrained.shape))
    again.set_weights(space.get_weights())
    assert_close(again.numpy(), space.numpy(), rtol=0)


@every_space
def test_a_fixed_space_has_no_trainable_weights(build):
    space = build(seed=0, trainable=False)
    space.build()
    assert space.trainable_variables == []


@every_space
def test_values_of_the_wrong_shape_are_refused(build):
    space = build(seed=0)
    value = tree.map_structure(lambda leaf: np.append(leaf[0].ravel(), 1.0), space.sample(1, seed=0))
    with pytest.raises(ValueError, match="shape"):
        space.assign(value)


@every_space
def test_values_that_are_not_finite_are_refused(build):
    space = build(seed=0)
    value = tree.map_structure(lambda leaf: np.full_like(np.asarray(leaf[0], "float64"), np.nan), space.sample(1, 0))
    with pytest.raises(ValueError):
        space.assign(value)
