"""Compiled programs are made once, hold nothing old, and stay with their owner."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.backend import programs
from kerasbed.model import landscape, ranking
from kerasbed.model.polish import Polish
from tests import toys

DESIGN = np.array([-0.5, 0.8])
NOISE = 0.5


class Adjustable(kb.GaussianSimulator):
    """y = gain * slope * x + noise, with plain data of several kinds that a user may change."""

    def __init__(self):
        self.prior = kb.Prior(slope=stats.norm())
        self.gain = np.array([1.0, 1.0])

    def mean(self, parameters, design):
        return parameters["slope"] * design * ops.convert_to_tensor(self.gain, dtype=design.dtype)

    def scale(self, parameters, design):
        return NOISE


def exact(gain, noise=0.5):
    return 0.5 * np.log1p(np.sum(np.square(gain * DESIGN)) / noise**2)


def eig(simulator):
    return kb.eig.grid(simulator, DESIGN, num_samples=100, grid_size=256, seed=0)


def made(*owners):
    return sum(programs.of(owner).compilations for owner in owners)


def test_the_least_recently_used_is_forgotten_at_the_limit():
    kept = programs.Programs(limit=2)
    for key in "aabacab":
        assert kept.get(key, lambda key=key: key) == key
    assert kept.compilations == 4  # a, b, c, and b again
    assert len(kept) == 2
    for twin in (copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert (len(twin), twin.limit, twin.compilations) == (0, 2, 0)


def test_changed_data_of_a_simulator_give_the_new_result(monkeypatch):
    """A number, an array written into, a global of a method, and the class itself."""
    simulator = Adjustable()
    np.testing.assert_allclose(eig(simulator).lower, exact(np.ones(2)), rtol=0.2)
    first = eig(simulator).lower
    simulator.gain = np.array([2.0, 2.0])
    second = eig(simulator).lower
    simulator.gain[:] = 4.0
    third = eig(simulator).lower
    fresh = Adjustable()
    fresh.gain = np.array([2.0, 2.0])
    assert second == eig(fresh).lower
    fresh.gain = np.array([4.0, 4.0])
    assert third == eig(fresh).lower
    assert first < second < third
    monkeypatch.setitem(globals(), "NOISE", 0.25)
    assert eig(simulator).lower == pytest.approx(exact(4.0, 0.25), rel=0.2)
    assert eig(simulator).lower > third
    simulator.gain = np.array([1.0, 1.0])
    monkeypatch.setitem(globals(), "NOISE", 0.5)
    assert eig(simulator).lower == first


def test_functions_are_known_by_what_they_refer_to():
    level = 1.0

    def outcome(parameters, design, noise):
        return parameters["a"] + level * noise

    simulator = kb.Simulator.from_functions(kb.Prior(a=stats.norm()), outcome)
    before = programs.state_of(simulator)
    assert programs.state_of(simulator) == before
    level = 2.0
    assert programs.state_of(simulator) != before
    level = 1.0
    assert programs.state_of(simulator) == before


class Emulated(Adjustable):
    """The same with a network in place of the gain."""

    def __init__(self):
        super().__init__()
        self.emulator = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        self.emulator.build((None, 1))

    def mean(self, parameters, design):
        return ops.cast(self.emulator(parameters["slope"]), design.dtype) * design


def test_weights_of_a_simulators_network_count():
    """An emulator that is trained further between two estimates."""
    simulator, plain, found = Emulated(), Adjustable(), []
    for gain in (1.0, 2.0, 1.0):
        simulator.emulator.kernel.assign([[gain]])
        plain.gain = np.array([gain, gain])
        found.append(eig(simulator).lower)
        assert found[-1] == pytest.approx(eig(plain).lower, rel=1e-4)  # weights are float32
    assert found[0] == found[2] < found[1]


def test_parts_of_a_choice_among_simulators_count_with_their_data():
    parts = {"a": Adjustable(), "b": Adjustable()}
    simulator = kb.ModelChoice(parts)
    before = programs.state_of(simulator)
    parts["b"].gain[0] = 3.0
    assert programs.state_of(simulator) != before


def test_copies_have_programs_of_their_own():
    simulator = Adjustable()
    value = eig(simulator).lower
    for twin in (copy.copy(simulator), copy.deepcopy(simulator)):
        assert made(twin) == 0
        assert eig(twin).lower == value
        assert made(twin) > 0
    twin = copy.copy(simulator)
    twin.gain = np.array([4.0, 4.0])
    assert eig(twin).lower > value
    assert eig(simulator).lower == value


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = toys.line_model()
    toys.fill_weights(model, scale=0.1)
    toys.tell_trained(model)
    return model


ESTIMATES = {
    "bracket": lambda model, seed: kb.eig.bracket(model.simulator, model.design, 32, 128, seed=seed),
    "target": lambda model, seed: kb.eig.bracket(
        model.simulator, model.design, 32, 128, seed=seed, target="slope", num_nuisance=16
    ),
    "compare": lambda model, seed: kb.eig.compare(model.simulator, [DESIGN, -DESIGN], 32, 128, seed=seed),
    "importance": lambda model, seed: kb.eig.importance(
        model.simulator, model.design, model.posterior, 32, 8, seed=seed
    ),
    "laplace": lambda model, seed: kb.eig.laplace(model.simulator, model.design, 64, seed=seed),
    "grid": lambda model, seed: kb.eig.grid(model.simulator, model.design, 32, grid_size=64, seed=seed),
    "estimate": lambda model, seed: model.estimate_eig(32, seed=seed, num_inner=8),
    "contributions": lambda model, seed: model.contributions(32, seed=seed),
    "sample": lambda model, seed: model.sample(2, {"outcome": np.ones((1, 2))}, seed=seed),
    "log_prob": lambda model, seed: model.log_prob(
        {"intercept": np.zeros((1, 1)), "slope": np.zeros((1, 1))}, {"outcome": np.ones((1, 2))}
    ),
    "ranking": lambda model, seed: ranking.rank_coordinates(model.study, np.zeros((2, 2)), 64, seed),
    "ascend": lambda model, seed: landscape.climb(model.study, 1, 1, 64, seed),
    "polish": lambda model, seed: Polish(model.study, None, [seed])(np.ones(2)),
    "polish by Laplace": lambda model, seed: Polish(
        model.study, kb.eig.FisherCriterion(model.simulator, 16, seed=seed), [seed]
    )(np.ones(2)),
    "variational fit": lambda model, seed: kb.variational.fit(
        model.simulator, DESIGN, [0.5, 1.0], base_samples=kb.base_samples.Sobol(32, seed), num_samples=64, seed=seed
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ESTIMATES)
def test_a_second_estimate_compiles_nothing(model, name):
    owners = model.simulator, model.simulator.prior, model.posterior, model.objective
    estimate = ESTIMATES[name]
    estimate(model, 0)
    before = made(*owners)
    with toys.jax_compilations() as compiled:
        estimate(model, 1)
    assert made(*owners) == before
    assert compiled == []


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_changed_weights_give_the_new_result(model):
    """The same numbers as programs that are made after the change."""
    old = kb.eig.importance(model.simulator, model.design, model.posterior, 32, 8)
    before = made(model.posterior)
    toys.fill_weights(model, seed=3, scale=0.1)
    model.design.assign(np.array([0.2, 0.9]))
    new = kb.eig.importance(model.simulator, model.design, model.posterior, 32, 8)
    assert made(model.posterior) == before
    assert new.lower != old.lower
    vars(model.posterior).pop("_kept_programs")
    fresh = kb.eig.importance(model.simulator, model.design, model.posterior, 32, 8)
    assert (new.lower, new.upper) == (fresh.lower, fresh.upper)
