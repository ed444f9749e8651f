"""The way of each entry of a design: unbiased mixed gradients, scores of choices, errors by name, files."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.model import gradient_choice
from kerasbed.objectives.paths import Paths
from tests import toys
from tests.dict_experiments import NamedAnswered

PRIOR = kb.Prior(t=stats.norm())
TABLE = np.array([0.2, 1.0, 3.0, 0.5])


class Mixed(kb.Simulator):
    """A reading with a gain d_0, and a detection at a threshold d_1."""

    prior, noise, noise_shape = PRIOR, stats.uniform(), (2,)

    def outcome(self, parameters, design, noise):
        reading = design[:, :1] * parameters["t"] + np.sqrt(2.0) * ops.erfinv(2.0 * noise[:, :1] - 1.0)
        seen = ops.cast(noise[:, 1:] < ops.sigmoid(parameters["t"] - design[:, 1:]), noise.dtype)
        return ops.concatenate([reading, seen], axis=-1)

    def log_likelihood(self, outcome, parameters, design):
        reading = -0.5 * ops.square(outcome[..., :1] - design[..., :1] * parameters["t"]) - 0.5 * np.log(2 * np.pi)
        logit = parameters["t"] - design[..., 1:]
        return ops.sum(reading + outcome[..., 1:] * logit - ops.softplus(logit), axis=-1)


class Silent(Mixed):
    """The same without a likelihood."""

    log_likelihood = kb.Simulator.log_likelihood


class Looked(kb.GaussianSimulator):
    """A gain that is looked up by the number of an instrument, and a place."""

    prior, noise_shape = PRIOR, (1,)

    def mean(self, parameters, design):
        table = ops.convert_to_tensor(TABLE, dtype=parameters["t"].dtype)
        gain = ops.take(table, ops.cast(ops.round(design["which"]), "int32"))
        return gain * parameters["t"] * design["place"]

    def scale(self, parameters, design):
        return 1.0


def box(**options):
    return kb.designs.Box((2,), -2.0, 2.0, initial=[0.5, 1.0], **options)


def product(**options):
    which, place = kb.designs.Choice((1,), np.arange(4.0)), kb.designs.Box((1,), 0.0, 1.0, initial=[0.5])
    return kb.designs.Product(which=which, place=place, seed=0, **options)


def exact_eig(d):
    """The EIG of `Mixed` by sums over grids of the parameter and the reading."""
    t, y = np.linspace(-6.0, 6.0, 401), np.linspace(-16.0, 16.0, 801)
    w = stats.norm.pdf(t) / stats.norm.pdf(t).sum()
    reading = stats.norm.pdf(y, d[0] * t[:, None]) * (y[1] - y[0])
    seen = special.expit(t - d[1])[:, None]
    p = np.concatenate([seen * reading, (1.0 - seen) * reading], axis=1)
    evidence = w @ p
    return np.sum(w @ special.xlogy(p, p)) - np.sum(special.xlogy(evidence, evidence))


def test_each_entry_takes_its_own_way():
    found = gradient_choice.choose("auto", Mixed(), box(), (2,))
    assert found.gradient == "mixed"
    np.testing.assert_array_equal(found.paths.closed, [False, True])
    assert not found.paths.choices


def test_a_mixed_gradient_is_that_of_the_exact_eig():
    """512 contrastive draws leave a bias of 1%; |t| < 4 beside it, fixed seeds."""
    model = kb.DesignModel(Mixed(), box(), kb.objectives.PriorContrastive(512), seed=0)
    assert model.gradient == "mixed"
    assert model.needs_independent_draws
    d, step = np.array([0.5, 1.0]), 1e-4
    expected = [(exact_eig(d + step * e) - exact_eig(d - step * e)) / (2 * step) for e in np.eye(2)]

    def bound(design, draws):
        return ops.mean(model(draws | {"design": design}))

    evaluate = backend.value_and_gradient(bound, "float32")
    found = np.array([evaluate(d[None], toys.batch_of(model, 2048, seed))[1][0] for seed in range(12)])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4 * error + 0.02 * np.abs(expected))
    assert np.all(np.abs(expected) > 4 * error)


@pytest.mark.one_backend
def test_what_was_asked_for_is_obeyed_with_a_warning():
    with pytest.warns(kb.errors.SettingWarning, match=r"Mixed: outcome\[1\] jumps.* as design\[1\] changes"):
        model = kb.DesignModel(Mixed(), box(), kb.objectives.PriorContrastive(), gradient="reparameterization", seed=0)
    assert model.gradient == "reparameterization"
    assert gradient_choice.choose("score", Mixed(), box(), (2,)) == ("score", None)


@pytest.mark.one_backend
def test_without_a_likelihood_the_entries_are_named():
    message = r"Silent: outcome\[1\] jumps.* as design\[1\] changes.*log_likelihood.*not defined.*kb.BernoulliSimulator"
    with pytest.raises(kb.errors.GradientError, match=message):
        kb.DesignModel(Silent(), box())
    fixed = kb.DesignModel(Silent(), box(trainable=False), toys.lean_objective())
    assert fixed.gradient == "reparameterization"


@pytest.mark.one_backend
def test_entries_of_a_dict_are_named_as_the_user_does():
    class Named(NamedAnswered):
        log_likelihood = kb.Simulator.log_likelihood

    for simulator, design, places in (
        (Named(), kb.designs.Box((1,), -1.0, 1.0), r"Named: answer\[0\], answer\[1\] jumps"),
        (
            kb.Sequence(Named(), 2),
            kb.designs.Sequence(kb.designs.Box((1,), -1.0, 1.0), 2),
            r"Sequence: answer\[0, 0\], answer\[0, 1\]",
        ),
    ):
        with pytest.raises(kb.errors.GradientError, match=places):
            kb.DesignModel(simulator, design)


def test_a_likelihood_without_a_slope_is_named():
    class Flat(Mixed):
        def log_likelihood(self, outcome, parameters, design):
            return super().log_likelihood(outcome, parameters, ops.stop_gradient(design))

    with pytest.raises(kb.errors.GradientError, match="log_likelihood has no slope there either"):
        kb.DesignModel(Flat(), box())


def test_a_likelihood_that_follows_a_choice_in_part_does_not_pass_for_one_that_does():
    class Noisy(Looked):
        def scale(self, parameters, design):
            return 0.1 * design["which"] + 0.5

    found = gradient_choice.choose("auto", Noisy(), product(), (1,))
    assert found.paths.choices


def test_a_yes_or_no_that_follows_the_options_keeps_the_score_of_its_likelihood():
    class Dose(kb.BernoulliSimulator):
        prior, noise_shape = PRIOR, (1,)

        def probability(self, parameters, design):
            return ops.sigmoid(parameters["t"] - design)

    assert gradient_choice.choose("auto", Dose(), kb.designs.Choice((1,), [0.0, 1.0, 3.0]), (1,)) == ("score", None)


def test_a_lookup_takes_the_score_of_its_choices():
    found = gradient_choice.choose("auto", Looked(), product(), (1,))
    assert found.gradient == "mixed"
    assert found.paths.choices
    assert not found.paths.uses_likelihood


@pytest.mark.one_backend
def test_what_is_looked_up_is_learned():
    model = kb.DesignModel(Looked(), product(), kb.objectives.PriorContrastive(), seed=0)
    model.compile(keras.optimizers.Adam(), keras.optimizers.Adam(0.1), **toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=40, verbose=0)
    assert model.design.numpy()["which"] == [2.0]
    assert ops.convert_to_numpy(model.design.unconstrained)[0, :4].argmax() == 2  # learned, not only exchanged


@pytest.mark.parametrize(
    "space",
    [
        kb.designs.Choice((2,), [0.0, 1.0, 5.0], seed=1),
        kb.designs.Integer((1,), 2, 4, seed=1),
        kb.designs.Subset(5, size=2, seed=1),
        kb.designs.Subset([1.0, 2.0, 4.0], size=2, seed=1),
        kb.designs.Product(a=kb.designs.Choice((1,), [0.0, 1.0]), b=kb.designs.Box((1,), 0.0, 1.0), seed=1),
        kb.designs.Sequence(kb.designs.Choice((1,), [0.0, 1.0, 2.0]), length=2, seed=1),
    ],
)
def test_choices_are_drawn_as_often_as_their_probability_says(space):
    """Every choice within 5 standard errors, and a mean score of 0; coordinates at which no two are equally likely."""
    space.build()
    num, rng = 4000, np.random.default_rng(0)
    extra = {name: v.astype("float32") for name, v in space.extra_draws(num, rng).items()}
    shape = space.unconstrained_shape
    u, direction = rng.normal(size=(2, 1, *shape)).astype("float32")

    def log_prob(s, u, direction, extra):
        return space.choice_log_prob(u + ops.reshape(s, (-1,) + (1,) * len(shape)) * direction, extra)

    log_p, score = backend.value_and_gradient(log_prob, "float32")(np.zeros(num), u, direction, extra)
    assert log_p.shape == (num,)
    assert np.abs(score.mean()) < 5 * score.std() / np.sqrt(num)
    values, counts = np.unique(np.round(log_p, 3), return_counts=True)
    p = np.exp(values)
    assert p.sum() == pytest.approx(1.0, abs=0.02)  # choices so rare that none was drawn
    assert np.all(np.abs(counts / num - p) < 5 * np.sqrt(p * (1 - p) / num) + 1e-3)


def test_masks_split_the_gradient_and_survive_a_file():
    paths = Paths({"a": np.array([True, False]), "b": np.array([False])}, choices=True)
    again = Paths.from_config(paths.config())
    assert again.choices
    values = {"a": np.array([[1.0, 2.0]]), "b": np.array([[3.0]])}

    def through(values, name="through_outcome"):
        kept = getattr(again, name)(values)
        return ops.sum(kept["a"]) + ops.sum(kept["b"])

    for name, expected in (
        ("through_outcome", ([[0.0, 1.0]], [[1.0]])),
        ("through_likelihood", ([[1.0, 0.0]], [[0.0]])),
    ):
        value, gradient = backend.value_and_gradient(lambda v, name=name: through(v, name))(values)
        assert value == 6.0
        np.testing.assert_array_equal(gradient["a"], expected[0])
        np.testing.assert_array_equal(gradient["b"], expected[1])


@pytest.mark.one_backend
def test_a_saved_model_keeps_its_paths(tmp_path):
    model = kb.DesignModel(Mixed(), box(), kb.objectives.PriorContrastive(), seed=0)
    model.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", simulator=Mixed())
    assert loaded.gradient == "mixed"
    np.testing.assert_array_equal(loaded.paths.closed, [False, True])
    draws = toys.batch_of(model, 32)
    np.testing.assert_array_equal(*(backend.to_numpy(m(backend.cast(draws))) for m in (model, loaded)))


class Censored(kb.Simulator):
    """A reading that is cut off at the design."""

    prior, noise_shape = PRIOR, (1,)

    def outcome(self, parameters, design, noise):
        return ops.minimum(parameters["t"] + 0.5 * noise, design)

    def log_likelihood(self, outcome, parameters, design):
        z = (outcome - parameters["t"]) / 0.5
        inside = -0.5 * ops.square(z) - np.log(0.5 * np.sqrt(2.0 * np.pi))
        beyond = ops.log(ops.maximum(0.5 * ops.erfc((design - parameters["t"]) / (0.5 * np.sqrt(2.0))), 1e-30))
        return ops.sum(ops.where(outcome >= design, beyond, inside), axis=-1)


def censored_eig(d):
    """By sums over grids; the cells of readings end at d."""
    t, y = np.linspace(-6.0, 6.0, 601), np.linspace(-9.0, d, 2001)
    w, edges = stats.norm.pdf(t) / stats.norm.pdf(t).sum(), stats.norm.cdf(y, t[:, None], 0.5)
    p = np.concatenate([np.diff(edges, axis=1), 1.0 - edges[:, -1:]], axis=1)
    evidence = w @ p
    return np.sum(w @ special.xlogy(p, p)) - np.sum(special.xlogy(evidence, evidence))


def test_an_end_that_moves_takes_the_support_along():
    """0.3 of the draws are censored; |t| < 4 beside 2% for contrastive draws and the grid, fixed seeds."""
    found = gradient_choice.choose("auto", Censored(), kb.designs.Box((1,), -1.0, 3.0, seed=0), (1,))
    assert found.gradient == "score"
    np.testing.assert_array_equal(found.paths.ends, [[False], [True]])
    design = kb.designs.Box((1,), -1.0, 3.0, initial=[0.5])
    model = kb.DesignModel(Censored(), design, kb.objectives.PriorContrastive(512), seed=0)
    expected = (censored_eig(0.51) - censored_eig(0.49)) / 0.02

    def bound(design, draws):
        return ops.mean(model(draws | {"design": design}))

    evaluate = backend.value_and_gradient(bound, "float32")
    found = [evaluate(np.array([[0.5]]), toys.batch_of(model, 2048, seed))[1][0, 0] for seed in range(12)]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - expected) < 4 * error + 0.02 * expected
    assert expected > 8 * error
