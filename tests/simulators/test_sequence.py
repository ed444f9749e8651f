"""Sequences of independent measurements against closed forms, and against the single simulator they are made of."""

import copy
import itertools
import pickle

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from tests import toys

X = np.array([[-0.8], [0.3], [0.9]])  # three designs of one measurement
EXACT = toys.linear_eig(np.hstack([np.ones_like(X), X]))


@keras.saving.register_keras_serializable("kerasbed_tests")
class NamedLine(toys.Line):
    """A line whose class a file finds by itself."""


class Pair(kb.GaussianSimulator):
    """Two readings at a time and a gain, with noise that is correlated and depends on the parameters."""

    prior = kb.Prior(level=stats.norm(1.0, 0.2), rate=stats.lognorm(s=0.3))
    correlation = np.array([[1.0, 0.6], [0.6, 1.0]])
    noise_shape = (2,)

    def mean(self, parameters, design):
        decay = parameters["level"] * ops.exp(-parameters["rate"] * design["time"])
        return ops.concatenate([decay, design["gain"] * decay], axis=-1)

    def scale(self, parameters, design):
        return 0.1 * ops.abs(parameters["level"]) + 0.05


class Alarm(kb.Simulator):
    """A detector that answers yes or no, the likelier the higher its gain: nothing to differentiate."""

    prior = kb.Prior(level=stats.norm())
    noise = stats.logistic()
    differentiable = False

    def outcome(self, parameters, design, noise):
        return ops.cast(design * parameters["level"] + noise > 0, noise.dtype)

    def log_likelihood(self, outcome, parameters, design):
        sign = 2.0 * outcome - 1.0
        return ops.sum(-ops.softplus(-sign * design * parameters["level"]), axis=-1)

    def outcome_space(self):
        return np.array([[0.0], [1.0]])


def pair_design(**kwargs):
    single = kb.designs.Product(
        time=kb.designs.Box((1,), 0.1, 4.0), gain=kb.designs.Choice((1,), [0.5, 2.0], straight_through=False)
    )
    return kb.designs.Sequence(single, length=3, **kwargs)


def evaluated(function, *arguments):
    with backend.precision("float64"), backend.no_gradients():
        return ops.convert_to_numpy(function(*backend.to_tensor(arguments, "float64")))


def test_the_eig_of_linear_gaussian_measurements_is_the_closed_form():
    simulator = kb.Sequence(toys.LINE, 3)
    assert isinstance(simulator, kb.GaussianSimulator)
    grid = kb.eig.grid(simulator, X, num_samples=2000)
    assert abs(grid.lower - EXACT) < 4 * grid.lower_se + 1e-3
    criterion = kb.eig.FisherCriterion(simulator, 64).value(X)
    np.testing.assert_allclose(criterion, EXACT, rtol=1e-5)  # the Laplace approximation is exact here


@pytest.mark.slow
def test_bounds_of_a_sequence_enclose_the_closed_form():
    simulator = kb.Sequence(toys.LINE, 3)
    bracket = kb.eig.bracket(simulator, X, num_outer=512, num_inner=4096)
    assert bracket.lower - 4 * bracket.lower_se < EXACT < bracket.upper + 4 * bracket.upper_se
    assert bracket.upper - bracket.lower < 0.2


def test_a_sequence_of_entries_is_the_simulator_that_is_written_for_all_of_them():
    """`Line` measures every entry of its design by itself, so both are one experiment, number by number."""
    simulator, whole = kb.Sequence(toys.LINE, 3), toys.LINE
    rng = np.random.default_rng(0)
    parameters, noise = whole.prior.sample(5, rng), rng.standard_normal((5, 3))
    outcome = evaluated(simulator.measure, parameters, X[None], noise[..., None])
    np.testing.assert_allclose(outcome[..., 0], evaluated(whole.measure, parameters, X[None, :, 0], noise), rtol=1e-12)
    for name, shape in (("log_likelihood", (5,)), ("pairwise_log_likelihood", (5, 5))):
        found = evaluated(getattr(simulator, name), outcome, parameters, X[None])
        expected = evaluated(getattr(whole, name), outcome[..., 0], parameters, X[None, :, 0])
        assert found.shape == shape
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_log_likelihood_is_the_sum_of_the_measurements():
    """With designs that are dicts, a design for each draw, and correlated noise whose scale has parameters."""
    single, simulator, design = Pair(), kb.Sequence(Pair(), 3), pair_design()
    values = design.sample(4, seed=0)
    drawn = simulator.simulate(4, values, seed=1, per_draw=True)
    assert drawn["outcome"].shape == (4, 3, 2)
    found = evaluated(simulator.log_likelihood, drawn["outcome"], drawn["parameters"], values)
    parts = [
        evaluated(
            single.log_likelihood, drawn["outcome"][:, t], drawn["parameters"], {k: v[:, t] for k, v in values.items()}
        )
        for t in range(3)
    ]
    np.testing.assert_allclose(found, np.sum(parts, axis=0), rtol=1e-12)
    noise = simulator.resolve_noise(design.shape).draw(4, np.random.default_rng(2))
    y = evaluated(simulator.measure, drawn["parameters"], values, noise)
    each = [
        evaluated(single.measure, drawn["parameters"], {k: v[:, t] for k, v in values.items()}, noise[:, t])
        for t in range(3)
    ]
    np.testing.assert_allclose(y, np.stack(each, axis=1), rtol=1e-12)


def test_mean_scale_and_correlation_are_those_of_all_measurements():
    """The law of a `GaussianSimulator` that they describe is the one that the likelihood has."""
    simulator, values = kb.Sequence(Pair(), 3), pair_design().sample(1, seed=0)
    drawn = simulator.simulate(2, {name: part[0] for name, part in values.items()}, seed=1)
    mean = evaluated(simulator.mean, drawn["parameters"], values)
    scale = np.broadcast_to(evaluated(simulator.scale, drawn["parameters"], values), mean.shape)
    expected = [
        stats.multivariate_normal.logpdf(y.ravel(), m.ravel(), np.outer(s, s) * simulator.correlation)
        for y, m, s in zip(drawn["outcome"], mean, scale.reshape(2, -1), strict=True)
    ]
    found = evaluated(simulator.log_likelihood, drawn["outcome"], drawn["parameters"], values)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_base_samples_are_the_single_ones_side_by_side():
    single, noise = Alarm().resolve_noise((1,)), kb.Sequence(Alarm(), 4).resolve_noise((4, 1))
    drawn = noise.draw(3, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.reshape(12, 1), single.draw(12, np.random.default_rng(0)))
    uniform = np.random.default_rng(1).random((3, 4))
    np.testing.assert_array_equal(noise.transform(uniform)[..., 0], stats.logistic.ppf(uniform))
    np.testing.assert_array_equal(noise.median(), np.zeros((4, 1)))
    assert noise.is_continuous
    assert (noise.shape, noise.size) == ((4, 1), 4)


@pytest.mark.slow
def test_a_sequence_of_detectors_is_summed_exactly():
    """Choices for each of two measurements of a thing without a gradient; all 9 designs are enumerated."""
    simulator = kb.Sequence(Alarm(), 2)
    design = kb.designs.Sequence(kb.designs.Choice((1,), [0.2, 1.0, 3.0]), length=2, seed=0)
    np.testing.assert_array_equal(simulator.outcome_space()[..., 0], list(itertools.product([0.0, 1.0], repeat=2)))
    table = kb.eig.enumerate(simulator, design)
    assert len(table.eig) == 9
    model = kb.DesignModel(simulator, design, kb.objectives.PriorContrastive(256), seed=0)
    assert model.gradient == "score"
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=60, batch_size=64, verbose=0)
    np.testing.assert_allclose(model.design.numpy(), [[3.0], [3.0]])
    np.testing.assert_allclose(table.best, [[3.0], [3.0]])
    found = model.estimate_eig(4096)
    assert found.lower - 4 * found.lower_se < table.eig.max()
    assert found.lower + 4 * found.lower_se + 0.02 > table.eig.max()


@pytest.fixture(scope="module")
def learned():
    """Three measurements of a line; the best are at the ends of the box."""
    design = kb.designs.Sequence(kb.designs.Box((1,), -1.0, 1.0), length=3, seed=0)
    model = kb.DesignModel(kb.Sequence(NamedLine(), 3), design, toys.lean_objective(), seed=0)
    data = kb.SimulatorDataset(model.simulator, design, batch_size=128, num_batches=150, seed=1)
    model.fit(data, epochs=1, verbose=0)
    return model


def test_a_sequence_is_learned(learned):
    learned_at = learned.design.numpy()
    assert learned_at.shape == (3, 1)
    assert np.all(np.abs(learned_at) > 0.9)
    exact = toys.linear_eig(np.hstack([np.ones_like(learned_at), learned_at]))
    estimate = learned.estimate_eig(4096)
    assert exact - 0.1 - 4 * estimate.lower_se < estimate.lower < exact + 4 * estimate.lower_se
    outcome = learned.simulator.simulate(1, learned.design, seed=3)["outcome"]
    assert learned.sample(7, {"outcome": outcome}, seed=0)["slope"].shape == (1, 7, 1)


@pytest.mark.one_backend
def test_a_learned_sequence_is_saved_copied_and_pickled(learned, tmp_path):
    learned.save(tmp_path / "sequence.keras")
    outcome = learned.simulator.simulate(1, learned.design, seed=3)["outcome"]
    expected = learned.sample(5, {"outcome": outcome}, seed=0)["slope"]
    for again in (kb.load(tmp_path / "sequence.keras"), copy.deepcopy(learned)):
        np.testing.assert_array_equal(again.design.numpy(), learned.design.numpy())
        np.testing.assert_array_equal(again.sample(5, {"outcome": outcome}, seed=0)["slope"], expected)
    simulator = learned.simulator
    for again in (pickle.loads(pickle.dumps(simulator)), copy.deepcopy(simulator), copy.copy(simulator)):
        assert type(again) is type(simulator)
        found, given = (one.simulate(2, X, seed=0)["outcome"] for one in (again, simulator))
        np.testing.assert_array_equal(found, given)


@pytest.mark.one_backend
def test_a_file_of_an_unregistered_simulator_says_what_to_pass(tmp_path):
    design = kb.designs.Sequence(kb.designs.Box((1,), -1.0, 1.0), length=2, seed=0)
    toys.small_model(kb.Sequence(toys.LINE, 2), design).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"sequence of tests.toys.Line.*simulator=kb.Sequence"):
        kb.load(tmp_path / "model.keras")
    again = kb.load(tmp_path / "model.keras", simulator=kb.Sequence(toys.LINE, 2))
    np.testing.assert_array_equal(again.design.numpy(), design.numpy())


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: kb.Sequence(3.0, 2), TypeError, "instance of a kb.Simulator"),
        (lambda: kb.Sequence(toys.LINE, 0), ValueError, "length"),
        (lambda: kb.Sequence(toys.LINE, 2).simulate(3, X), ValueError, "designs.Sequence.*length=2"),
        (lambda: kb.Sequence(toys.LINE, 2).simulate(3, X[0]), ValueError, "shape of one measurement"),
        (lambda: kb.designs.Sequence(3.0, 2), TypeError, "single is 3.0, but a design space"),
        (lambda: kb.designs.Sequence(kb.designs.Box((1,), 0, 1, initial=[0.5]), 2), ValueError, "initial="),
        (lambda: kb.designs.Sequence(kb.designs.Box((1,), 0, 1), 2.5), ValueError, "length"),
        (lambda: kb.designs.Sequence(kb.designs.Box((1,), 0, 1), 2).check([[0.5]]), ValueError, "each of 2"),
        (lambda: kb.designs.Sequence(kb.designs.Box((1,), 0, 1), 2).check([[0.5], [7.0]]), ValueError, "outside"),
    ],
)
def test_what_does_not_fit_says_why(make, error, words):
    with pytest.raises(error, match=words):
        make()
