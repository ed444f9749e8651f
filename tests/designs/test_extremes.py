"""Every design space at extreme weights and while it is relaxed; choices, shared batches and bad spaces."""

import functools

import numpy as np
import pytest
from keras import ops, tree

import kerasbed as kb
from kerasbed import backend
from tests.designs.spaces import SPACES, decades

DISCRETE = ("subset", "subset_of_points", "mask", "choice", "integer", "product")


NUM = 24  # rows of every batch here, so that each map is compiled once


@functools.cache
def compiled(name, method):
    """A map of a space, compiled once; the maps own no variables, so that one instance serves all tests."""
    return backend.compile_function(getattr(SPACES[name](seed=1), method), "float32")


@pytest.fixture(params=SPACES)
def name(request):
    return request.param


@pytest.fixture
def space(name):
    return SPACES[name](seed=1)


def rows(designs):
    return [tree.map_structure(lambda leaf, i=i: leaf[i], designs) for i in range(len(tree.flatten(designs)[0]))]


def same(a, b, **tolerance):
    for left, right in zip(tree.flatten(a), tree.flatten(b), strict=True):
        np.testing.assert_allclose(left, right, **tolerance)


def extreme_weights(space, rng):
    """Random, huge, tiny, one-sided and equal coordinates."""
    shape = (NUM, *space.unconstrained_shape)
    base = rng.standard_normal(shape)
    spread = np.array([1e-30, 1e-3, 1.0, 30.0, 1e4, 1e30])[np.arange(NUM) % 6].reshape(-1, *[1] * (len(shape) - 1))
    u = base * spread
    u[18:20] = np.abs(u[18:20])
    u[20], u[21], u[22] = 0.0, 1e4, -1e4
    return u


def test_every_weight_gives_an_admissible_design(name, space):
    u = extreme_weights(space, np.random.default_rng(0))
    if isinstance(space, (kb.designs.Free, kb.designs.Transformed)):
        u = np.clip(u, -30.0, 30.0)  # Free has no bounds; the registered inverse is a logarithm in single precision
    for design in rows(compiled(name, "constrain")(u)):
        assert np.all(space.contains(design)), design


def test_designs_stay_in_their_space_after_long_training_at_extreme_rates(name, space):
    """Gradient steps of rate 1e4 (SGD), 100 in one direction and 100 in directions that change at random."""
    rng = np.random.default_rng(6)
    shapes = [leaf.shape for leaf in tree.flatten(space.sample(1, seed=0))]

    def pulled(u, pulls, choice):
        return sum(
            ops.sum(leaf * pull) for leaf, pull in zip(tree.flatten(space.relax(u, choice, 0.9)), pulls, strict=True)
        )

    evaluate = backend.value_and_gradient(pulled, "float32")
    u, pulls = np.zeros((1, *space.unconstrained_shape)), None
    for step in range(200):
        if step == 0 or step >= 100:
            pulls = [rng.standard_normal(shape) for shape in shapes]
        u = u + 1e4 * np.asarray(evaluate(u, pulls, space.choice_draws(1, rng))[1])
    space.build()
    space.unconstrained.assign(u)
    assert np.all(np.isfinite(u))
    assert np.all(space.contains(space.numpy())), space.numpy()  # to 1e-6 of the range, see below


OUTSIDE = [  # by 2e-6 of the range, where 1e-6 is allowed
    (kb.designs.Box((2,), 0.0, 400.0), [0.0, 400.0], [0.0, 400.0008]),
    (kb.designs.Simplex(2, total=3.0), [1.0, 2.0], [1.0, 2.000006]),
    (kb.designs.Simplex(2, total=3.0), [0.0, 3.0], [-6e-6, 3.000006]),
    (kb.designs.Times(2, 0.0, 24.0, min_gap=1.0), [0.0, 1.0], [0.0, 1.0 - 5e-5]),
    (kb.designs.Times(2, 0.0, 24.0, min_gap=1.0), [0.0, 24.0], [-5e-5, 24.0]),
    (kb.designs.Ball((2,), radius=2.0), [2.0, 0.0], [2.000004, 0.0]),
    (kb.designs.Sphere((2,), radius=2.0), [2.0, 0.0], [1.999996, 0.0]),
    (kb.designs.Choice((1,), [0.0, 10.0]), [10.0], [10.00002]),
    (kb.designs.Subset([0.0, 1.0, 10.0], 2), [0.0, 10.0], [0.0, 10.00002]),
    (kb.designs.Subset(3, 2), [1.0, 0.0, 1.0], [1.000004, 0.0, 1.0]),
]


@pytest.mark.parametrize("case", range(len(OUTSIDE)))
def test_spaces_contain_their_edges_and_nothing_beyond(case):
    space, edge, beyond = OUTSIDE[case]
    assert np.all(space.contains(np.array(edge)))
    assert not np.all(space.contains(np.array(beyond)))


@pytest.mark.parametrize("name", DISCRETE)
def test_relaxed_designs_have_the_gradient_of_finite_differences(name):
    space = SPACES[name](seed=1)
    rng = np.random.default_rng(5)
    u = 0.7 * rng.standard_normal((3, *space.unconstrained_shape))
    choice = space.choice_draws(3, rng)
    weights = [rng.standard_normal(leaf.shape) for leaf in tree.flatten(space.sample(3, seed=0))]

    def score(u):
        draws = {name: ops.convert_to_tensor(draw, dtype=u.dtype) for name, draw in choice.items()}
        leaves = tree.flatten(space.relax(u, draws, 0.3))
        return sum(
            ops.sum(leaf * ops.convert_to_tensor(w, dtype=u.dtype)) for leaf, w in zip(leaves, weights, strict=True)
        )

    evaluate = backend.value_and_gradient(score)
    _, gradient = evaluate(u)
    step = 1e-5
    directions = rng.standard_normal((4, *u.shape))
    for direction in directions:
        difference = (evaluate(u + step * direction)[0] - evaluate(u - step * direction)[0]) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", DISCRETE)
def test_relaxed_choices_become_exact_as_the_temperature_falls(name):
    space = SPACES[name](seed=1)
    rng = np.random.default_rng(10)
    u, choice = rng.standard_normal((200, *space.unconstrained_shape)), space.choice_draws(200, rng)
    for part in space.spaces.values() if name == "product" else [space]:
        if not isinstance(part, kb.designs.Times):
            part.temperatures = (1.0, 1e-3)
    relaxed = backend.compile_function(lambda u, choice: space.relax(u, choice, 1.0), "float32")(u, choice)
    perturbed = u + choice["gumbel"].reshape(u.shape) if name != "product" else u
    if name == "product":
        relaxed, exact = (
            relaxed["dose"],
            np.array([1.0, 2.0, 4.0])[np.argmax(u[:, 4:] + choice["dose/gumbel"][:, 0], -1)],
        )
        exact = exact[:, None]
    else:
        exact = backend.compile_function(space.constrain, "float32")(perturbed)
    near = np.abs(relaxed - exact).reshape(200, -1).max(axis=1) < 1e-3 * np.abs(exact).max()
    assert near.mean() > 0.95  # near ties stay relaxed at any temperature


def test_relaxed_masks_sum_to_the_size_and_stay_between_zero_and_one():
    space = SPACES["mask"](seed=1)
    u = extreme_weights(space, np.random.default_rng(11))
    u = np.clip(u, -1e6, 1e6)
    gumbel = {"gumbel": ops.zeros(u.shape)}
    for progress in (0.0, 0.5, 1.0):
        mask = ops.convert_to_numpy(space.relax(ops.convert_to_tensor(u, dtype="float32"), gumbel, progress))
        assert mask.min() > -1e-6
        assert mask.max() < 1 + 1e-6
        np.testing.assert_allclose(mask.sum(axis=-1), 2.0, atol=1e-5)


def test_sampled_subsets_follow_the_law_of_draws_without_replacement():
    space = kb.designs.Subset(4, size=2, straight_through=True)
    logits = np.array([0.0, 0.5, 1.0, -1.0])
    rng = np.random.default_rng(12)
    u = ops.convert_to_tensor(np.tile(logits, (40_000, 1)), dtype="float32")
    choice = backend.to_tensor(space.choice_draws(40_000, rng), "float32")
    masks = ops.convert_to_numpy(space.relax(u, choice, 0.0))
    p = np.exp(logits) / np.exp(logits).sum()
    pair = np.outer(p, p) * (1 / (1 - p)[:, None] + 1 / (1 - p)[None])
    inclusion = (pair - np.diag(np.diag(pair))).sum(axis=1)
    error = np.sqrt(inclusion * (1 - inclusion) / 40_000)
    assert np.all(np.abs(masks.mean(axis=0) - inclusion) < 4.5 * error)  # false alarms: 4 entries x 7e-6


def test_straight_through_shows_exact_choices():
    space = SPACES["mask"](seed=1, straight_through=True)
    rng = np.random.default_rng(13)
    u = ops.convert_to_tensor(rng.standard_normal((50, 6)), dtype="float32")
    masks = ops.convert_to_numpy(space.relax(u, backend.to_tensor(space.choice_draws(50, rng), "float32"), 0.0))
    assert all(space.contains(np.round(mask, 6)) for mask in masks)


def test_starts_share_a_batch():
    space = SPACES["times"]()
    space.starts = 4
    space.build()
    assert tuple(space.unconstrained.shape) == (4, 6)
    draws = {"extra": backend.to_tensor(space.extra_draws(10, np.random.default_rng(0)), "float32")}
    designs = ops.convert_to_numpy(space(draws))
    own = ops.convert_to_numpy(space.constrain(ops.convert_to_tensor(space.unconstrained)))
    np.testing.assert_allclose(designs, own[np.arange(10) * 4 // 10], rtol=1e-6)
    space.choose(ops.convert_to_numpy(space.unconstrained)[2])
    np.testing.assert_allclose(space.numpy(), own[2], rtol=1e-6)


BAD = [
    (lambda: kb.designs.Times(5, 0.0, 1.0, min_gap=0.25), "need a range wider"),
    (lambda: kb.designs.Times(15, 0.0, 24.0, min_gap=2.0), "lower count or min_gap"),
    (lambda: kb.designs.Times(3, 0.0, 1.0, min_gap=float("nan")), "min_gap"),
    (lambda: kb.designs.Times(3, 1.0, 0.0), "low below high"),
    (lambda: kb.designs.Times(3, 0.0, 1.0, min_gap=-0.1), "min_gap"),
    (lambda: kb.designs.Times(0, 0.0, 1.0), "count"),
    (lambda: kb.designs.Subset([1.0, 2.0], size=3), "below it was expected"),
    (lambda: kb.designs.Subset([1.0, 2.0], size=0), "positive integer"),
    (lambda: kb.designs.Subset([1.0, 2.0, 3.0], size=1.5), "positive integer"),
    (lambda: kb.designs.Subset(3, size=3), "nothing to choose"),
    (lambda: kb.designs.Subset([1.0, np.nan], size=1), "finite"),
    (lambda: kb.designs.Subset(3, size=1, temperatures=(1.0, 0.0)), "temperatures"),
    (lambda: kb.designs.Choice((1,), [1.0, 1.0]), "each was expected once"),
    (lambda: kb.designs.Integer((1,), 2, 2), "low below high"),
    (lambda: kb.designs.Ball((2,), radius=0.0), "radius"),
    (lambda: kb.designs.Sphere((1,)), "two coordinates"),
    (lambda: kb.designs.Product(), "no parts"),
    (lambda: kb.designs.Product(a=3), "design space"),
    (lambda: kb.designs.Product(a=SPACES["product"]()), "Product itself"),
    (lambda: kb.designs.Product(a=SPACES["box"](), initial={"b": 1.0}), "parts"),
    (lambda: kb.designs.Transformed(SPACES["box"](), ops.sum), "batch axis"),
    (lambda: kb.designs.Transformed(kb.designs.Box((2,), -1.0, 1.0), lambda d: ops.log(d)), "NaN or infinite"),
    (lambda: kb.designs.Transformed(SPACES["free"](), decades, initial=[1.0, 2.0, 3.0]), "no inverse"),
    (lambda: kb.designs.Times(3, 0.0, 1.0, min_gap=0.2, initial=[0.1, 0.2, 0.9]), "outside"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_spaces_say_what_is_wrong(case):
    build, words = BAD[case]
    with pytest.raises((ValueError, TypeError), match=words):
        build()
