"""The geometry alone: without a weight, compared by what it is made of, and the same maps as the design's."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import ops, tree

import kerasbed as kb
from kerasbed import backend
from kerasbed.designs.own import has_maps_of
from kerasbed.designs.space import Space
from tests import toys
from tests.designs.spaces import SPACES

pytestmark = pytest.mark.one_backend
PARTS = ("spaces", "space", "single")  # serialised: spaces there, designs here
every_space = pytest.mark.parametrize("build", SPACES.values(), ids=SPACES.keys())


def leaves(value):
    return [np.asarray(leaf) for leaf in tree.flatten(value)]


def assert_equal(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@every_space
def test_a_space_has_the_maps_of_its_design_and_no_weight(build):
    design = build(seed=0)
    space = design.space
    assert isinstance(space, Space)
    assert not isinstance(space, keras.layers.Layer)
    assert type(space).__name__ == f"{type(design).__name__}Space"
    assert (space.shape, space.unconstrained_shape) == (design.shape, design.unconstrained_shape)
    assert repr(space).replace("Space(", "(") == repr(design)
    assert has_maps_of(design, type(space))
    assert_equal(space.sample(4, seed=1), design.sample(4, seed=1))
    assert design.get_config().items() >= {k: v for k, v in space.get_config().items() if k not in PARTS}.items()


@every_space
def test_spaces_are_equal_by_what_they_are_made_of(build):
    space, again = build(seed=0).space, build(seed=1).space
    assert space == again
    assert hash(space) == hash(again)
    assert space != kb.designs.Box((7,), 0.0, 1.0).space
    assert build(seed=0) != build(seed=0)  # layers with weights of their own


@every_space
def test_spaces_are_rebuilt_from_their_config(build):
    space = build(seed=0).space
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(space))
    assert again == space
    assert_equal(again.sample(4, seed=1), space.sample(4, seed=1))


def test_spaces_are_copied_and_pickled_without_their_programs():
    space = SPACES["sequence"](seed=0).space
    u = np.random.default_rng(0).standard_normal((3, *space.unconstrained_shape))
    expected = space.values(u)
    for again in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert again == space
        assert_equal(again.values(u), expected)


@pytest.mark.parametrize("name", SPACES)
def test_what_has_choices_says_so_and_names_its_base_samples(name):
    space = SPACES[name](seed=0).space
    drawn = space.choice_draws(1, np.random.default_rng(0))
    assert space.choice_names == tuple(drawn)
    discrete = ("product", "sequence", "subset", "subset_of_points", "mask", "choice", "integer")
    assert space.is_discrete == (name in discrete)


class Logarithmic(kb.designs.Design):
    """A user's own design: powers of ten."""

    def constrain(self, u):
        return ops.exp(u)

    def unconstrain(self, value):
        return ops.log(value)

    def encode(self, design):
        return ops.reshape(ops.log(design), (-1, int(np.prod(self.shape))))

    def sample(self, num, seed=None):
        return np.exp(np.random.default_rng(seed).standard_normal((num, *self.shape)))

    def contains(self, value):
        return value > 0


class Bent(kb.designs.Box):
    """A space of the library whose features are a user's own."""

    def encode(self, design):
        return super().encode(design) ** 3


def test_a_users_own_design_is_learned_and_its_networks_hold_no_weight_of_it():
    model = kb.DesignModel(toys.LINE, Logarithmic((2,), initial=[0.5, 2.0]), toys.lean_objective(), seed=0)
    model.fit(epochs=1, steps_per_epoch=4, batch_size=32, verbose=0)
    assert np.all(np.abs(np.log(model.design.numpy() / [0.5, 2.0])) > 0.01)  # Adam moves by 0.1 a step, decayed
    assert not any(variable is model.design.unconstrained for variable in model.posterior.weights)
    assert not any(variable is model.design.unconstrained for variable in model.objective.weights)
    np.testing.assert_allclose(model.posterior.space.check([1.0, 3.0]), [1.0, 3.0])
    with pytest.raises(ValueError, match="lies outside"):
        model.posterior.space.check([-1.0, 3.0])


def test_what_a_subclass_defines_anew_is_what_networks_see():
    design = Bent((2,), -1.0, 1.0, seed=0)
    found = ops.convert_to_numpy(design.space.encode(backend.to_tensor(np.array([[0.5, -0.8]]), "float32")))
    np.testing.assert_allclose(found, [[0.125, -0.512]], rtol=1e-6)
    assert repr(design.space) == repr(design)
    assert pickle.loads(pickle.dumps(kb.designs.Box((2,), -1.0, 1.0).space)).check([0.0, 0.5]).tolist() == [0.0, 0.5]


class Repeated(kb.designs.Box):
    """Reads a first outcome before it measures: no static design."""

    def measure(self, simulator, draws):
        return super().measure(simulator, draws)


def test_a_design_that_measures_in_its_own_way_is_no_static_one():
    assert kb.designs.Box((1,), 0.0, 1.0).is_static
    assert not Repeated((1,), 0.0, 1.0).is_static


def test_a_choice_that_is_fixed_stays_and_is_not_drawn():
    """Every batch is measured at the given choice, and training ends without another one."""
    design = kb.designs.Choice((2,), [-0.7, 0.1, 0.9], initial=[0.1, 0.9], trainable=False)
    model = kb.DesignModel(toys.LINE, design, toys.lean_objective(), seed=0)
    assert design.extra_draws(4, np.random.default_rng(0)) == {}
    model.fit(epochs=1, steps_per_epoch=1, batch_size=16, verbose=0)
    np.testing.assert_allclose(design.numpy(), [0.1, 0.9], rtol=1e-6)
    assert model.starts_table is None


def test_a_frozen_copy_of_choices_and_starts_is_one_design_that_stays():
    design = kb.designs.Choice((2,), [-0.7, 0.1, 0.9], seed=0)
    design.set_starts(3)
    design.assign([0.1, 0.9])
    copied = design.frozen_copy()
    assert (copied.starts, copied.explores, copied.extra_draws(4, np.random.default_rng(0))) == (1, False, {})
    draws = {"extra": design.extra_draws(4, np.random.default_rng(0))}  # of another design
    np.testing.assert_allclose(ops.convert_to_numpy(copied(draws)), [[0.1, 0.9]], rtol=1e-6)
    assert copied.space == design.space


def test_starts_are_set_once():
    design = kb.designs.Box((2,), 0.0, 1.0, seed=0)
    design.set_starts(3)
    assert design.unconstrained.shape == (3, 2)
    with pytest.raises(ValueError, match="already belongs to a model with starts=3"):
        design.set_starts(2)


def test_a_policy_is_no_space():
    policy = kb.policies.RandomPolicy(kb.designs.Box((1,), 0.0, 1.0), 2)
    for make in (
        lambda: kb.designs.Sequence(policy, 2),
        lambda: kb.designs.Product(dose=policy),
        lambda: kb.designs.Transformed(policy, ops.exp),
    ):
        with pytest.raises(kb.errors.PolicyError, match=r"is RandomPolicy.* chosen beforehand was expected"):
            make()
