"""Experiments with a state, and sums over looks, against SciPy."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.lab import likelihoods
from kerasbed.policies import particles
from kerasbed.simulators import looks

DESIGN = np.array([[1.0], [2.0], [0.5]])


class Tank(kb.Simulator):
    """What flows out of a tank is a share of what is left in it."""

    prior, noise_shape = kb.Prior(rate=stats.lognorm(0.3)), (1,)

    def initial_state(self, parameters):
        return 10.0 * ops.ones_like(parameters["rate"])

    def outcome(self, parameters, design, noise, state):
        flow = parameters["rate"] * design * state / 10.0 + 0.1 * noise
        return flow, state - flow

    def log_likelihood(self, outcome, parameters, design, state):
        residual = (outcome - parameters["rate"] * design * state / 10.0) / 0.1
        log_p = -0.5 * ops.square(residual) - float(np.log(0.1 * np.sqrt(2.0 * np.pi)))
        return ops.sum(log_p, axis=-1), state - outcome


def by_hand(rate, flows, design=DESIGN):
    left, total = 10.0, 0.0
    for place, flow in zip(design[:, 0], flows[:, 0], strict=True):
        total += stats.norm(rate * place * left / 10.0, 0.1).logpdf(flow)
        left -= flow
    return total


@pytest.fixture(scope="module")
def drawn():
    return kb.Sequence(Tank(), 3).simulate(5, DESIGN, seed=0)


def test_the_state_passes_from_look_to_look(drawn):
    rate, flows = drawn["parameters"]["rate"], drawn["outcome"]
    left = 10.0 - np.cumsum(flows[..., 0], axis=1)
    expected = rate * DESIGN[1:, 0] * left[:, :2] / 10.0
    assert np.all(np.abs(flows[:, 1:, 0] - expected) < 0.1 * 5)  # 5 standard deviations of the noise
    assert np.std(flows[:, 1:, 0] - expected) > 0.02


def test_likelihoods_follow_the_chain(drawn):
    simulator, rate = kb.Sequence(Tank(), 3), drawn["parameters"]["rate"]
    expected = [[by_hand(theta, flows) for theta in rate[:, 0]] for flows in drawn["outcome"]]
    own = backend.compile_function(simulator.log_likelihood, "float64")(drawn["outcome"], {"rate": rate}, DESIGN[None])
    np.testing.assert_allclose(own, np.diag(expected), rtol=1e-10)
    pairs = backend.compile_function(simulator.log_likelihood, "float64")(
        drawn["outcome"][:, None], {"rate": rate[None]}, np.repeat(DESIGN[None, None], 5, axis=0)
    )
    np.testing.assert_allclose(pairs, expected, rtol=1e-10)


@pytest.mark.parametrize("shared", [True, False])
def test_looks_without_a_state_are_summed_for_pairs(shared):
    class One(kb.GaussianSimulator):
        prior, noise_shape = kb.Prior(slope=stats.norm()), (2,)

        def mean(self, parameters, design):
            return parameters["slope"] * design

        def scale(self, parameters, design):
            return 1.0 + 0.1 * ops.abs(parameters["slope"])

    simulator, rng = kb.Sequence(One(), 3), np.random.default_rng(1)
    outcome, slope = rng.normal(size=(4, 3, 2)), rng.normal(size=(5, 1))
    design = rng.normal(size=(1 if shared else 4, 3, 2))
    found = backend.compile_function(simulator.log_likelihood, "float64")(
        outcome[:, None], {"slope": slope[None]}, design[:, None]
    )
    law = stats.norm(slope[None, :, :, None] * design[:, None], 1.0 + 0.1 * np.abs(slope)[None, :, :, None])
    np.testing.assert_allclose(found, law.logpdf(outcome[:, None]).sum(axis=(-1, -2)), rtol=1e-10)


def test_a_static_design_learns_with_a_state():
    design = kb.designs.Sequence(kb.designs.Box((1,), 0.1, 3.0, seed=0), length=2, seed=0)
    model = kb.DesignModel(kb.Sequence(Tank(), 2), design, kb.objectives.PriorContrastive(), seed=0)
    history = model.fit(epochs=2, steps_per_epoch=15, verbose=0, diagnose=False)
    assert model.gradient == "reparameterization"
    assert history.history["eig"][1] > history.history["eig"][0]


@pytest.mark.one_backend
def test_a_look_by_itself_is_refused_by_name():
    with pytest.raises(kb.errors.OutcomeError, match=r"kb\.Sequence\(SIR\(\), length\)"):
        kb.problems.SIR().simulate(4, np.array([10.0]), seed=0)
    assert kb.Sequence(kb.problems.SIR(), 1).simulate(4, np.array([[10.0]]), seed=0)["outcome"].shape[:2] == (4, 1)


class Drift(kb.Simulator):
    """A line whose start is a share of its slope, and what is left of one look adds to the next."""

    prior, noise_shape = kb.Prior(slope=stats.norm()), (1,)

    def initial_state(self, parameters):
        return 0.3 * parameters["slope"]

    def outcome(self, parameters, design, noise, state):
        y = parameters["slope"] * design + state + noise
        return y, 0.5 * y

    def log_likelihood(self, outcome, parameters, design, state):
        residual = outcome - parameters["slope"] * design - state
        return ops.sum(-0.5 * ops.square(residual), axis=-1), 0.5 * outcome + 0.0 * state


def drift(**methods):
    """A simulator of one look whose user wrote some methods differently."""
    return type("Other", (Drift,), methods)()


def outcome_then(after):
    """An `outcome` that returns `after(outcome, state)`."""
    return lambda self, parameters, design, noise, state: after(parameters["slope"] * design + noise, state)


def density_then(after):
    """A `log_likelihood` that returns `after(log density, outcome, state)`."""
    return lambda self, y, parameters, design, state: after(
        ops.sum(y - parameters["slope"] * design - state, axis=-1), y, state
    )


STARTS = {
    "flat": (lambda parameters: 0.3 * parameters["slope"][..., 0], r"shape \(6,\)"),
    "empty": (lambda parameters: parameters["slope"][..., :0], r"shape \(6, 0\)"),
    "rows": (lambda parameters: parameters["slope"][:2], r"shape \(2, 1\)"),
    "dict": (lambda parameters: {"left": parameters["slope"]}, "a dict"),
    "tuple": (lambda parameters: (parameters["slope"], parameters["slope"]), "a tuple of 2"),
    "none": (lambda parameters: None, "None"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", STARTS)
def test_a_state_before_the_first_look_of_other_axes_is_refused(kind):
    start, found = STARTS[kind]
    simulator = drift(initial_state=lambda self, parameters: start(parameters))
    expected = rf"Other\.initial_state returned .*{found} as the state, .*\(6, s\), s >= 1, or \(1, s\) was expected"
    with pytest.raises(kb.errors.OutcomeError, match=expected):
        kb.Sequence(simulator, 3).simulate(6, DESIGN, seed=1)


def test_a_state_for_all_rows_and_one_that_is_shared_later_are_those_of_each():
    shared = drift(
        initial_state=lambda self, parameters: ops.zeros((1, 1)) + 0.3,
        outcome=outcome_then(lambda y, state: (y + state, ops.ones((1, 1)))),
        log_likelihood=density_then(lambda log_p, y, state: (log_p, ops.ones_like(y))),
    )
    drawn = kb.Sequence(shared, 3).simulate(6, DESIGN, seed=1)
    noise = drawn["outcome"] - drawn["parameters"]["slope"][:, None] * DESIGN
    rest = np.array([0.3, 1.0, 1.0])
    assert np.max(np.abs(noise[..., 0] - rest)) < 4.0
    found = backend.compile_function(kb.Sequence(shared, 3).log_likelihood, "float64")(
        drawn["outcome"][:, None], {"slope": drawn["parameters"]["slope"][None]}, DESIGN[None, None]
    )
    lines = drawn["parameters"]["slope"][None] * DESIGN[:, 0]
    np.testing.assert_allclose(found, np.sum(drawn["outcome"][:, None, :, 0] - lines - rest, axis=-1), rtol=1e-5)


def test_the_state_has_the_axes_of_the_parameters():
    slope = np.arange(6.0).reshape(2, 3, 1)
    found = backend.compile_function(lambda p: looks.start(Drift(), p), "float64")({"slope": slope})
    np.testing.assert_allclose(found, 0.3 * slope)
    flat = drift(initial_state=lambda self, parameters: 0.3 * parameters["slope"][..., 0])
    with pytest.raises(kb.errors.OutcomeError, match=r"Other\.initial_state returned .* \(6,\) as the state"):
        backend.compile_function(lambda p: looks.start(flat, p), "float64")({"slope": slope})


AFTER = {
    "flat": (outcome_then(lambda y, state: (y, y[..., 0])), r"shape \(6,\) as the state, .*shape \(6, 1\)"),
    "wider": (outcome_then(lambda y, state: (y, ops.repeat(state, 2, axis=1))), r"\(6, 2\) as the state, .*\(6, 1\)"),
    "dict": (outcome_then(lambda y, state: (y, {"left": state})), r"a dict as the state, .*\(6, 1\)"),
    "none": (outcome_then(lambda y, state: (y, None)), r"None as the state, .*\(6, 1\)"),
    "left out": (outcome_then(lambda y, state: y), r"shape \(6, 1\), but \(outcome, state\) was expected"),
    "no batch": (outcome_then(lambda y, state: (ops.sum(y), state)), r"shape \(\), but \(6, \.\.\.\) was expected"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", AFTER)
def test_what_outcome_returns_beside_the_rule_is_named(kind):
    outcome, expected = AFTER[kind]
    policy = kb.policies.RandomPolicy(kb.designs.Box((1,), -2.0, 2.0), 3, seed=0)
    with pytest.raises(kb.errors.OutcomeError, match=rf"Other\.outcome returned .*{expected}"):
        drift(outcome=outcome).simulate(6, policy, seed=1)


DENSITIES = {
    "flat": (density_then(lambda log_p, y, state: (log_p, y[..., 0])), r"shape \(5,\) as the state, .*\(5, 1\)"),
    "wider": (density_then(lambda log_p, y, state: (log_p, ops.repeat(y, 2, axis=-1))), r"\(5, 2\) as the state"),
    "left out": (density_then(lambda log_p, y, state: log_p), r"shape \(5,\), but \(log density, state\) was expected"),
}


@pytest.mark.parametrize("kind", DENSITIES)
def test_what_a_likelihood_returns_beside_the_rule_is_named(kind):
    density, expected = DENSITIES[kind]
    simulator = kb.Sequence(drift(log_likelihood=density), 3)
    evaluate = backend.compile_function(simulator.log_likelihood, "float64")
    with pytest.raises(kb.errors.OutcomeError, match=rf"Other\.log_likelihood returned .*{expected}"):
        evaluate(np.zeros((5, 3, 1)), {"slope": np.ones((5, 1))}, DESIGN[None])


@pytest.mark.one_backend
def test_the_laboratory_and_particles_read_likelihoods_by_the_same_rule():
    simulator, measured = drift(log_likelihood=DENSITIES["flat"][0]), likelihoods.Measured(DESIGN[0], np.zeros(1))
    with pytest.raises(
        kb.errors.OutcomeError, match=r"Other\.log_likelihood returned .*shape \(1,\) as the state, .*\(4, 1\)"
    ):
        likelihoods.Likelihoods(simulator).all({"slope": np.ones((4, 1))}, [measured])
    seen = particles.Particles(simulator, 2, 8, np.random.default_rng(0))
    with pytest.raises(
        kb.errors.OutcomeError, match=r"Other\.log_likelihood returned .*shape \(2, 1\) as the state, .*\(2, 8, 1\)"
    ):
        seen.see(particles.Look(np.ones((2, 1)), np.zeros((2, 1))))


class Fixed(kb.GaussianSimulator):
    prior, noise_shape = kb.Prior(slope=stats.norm()), (1,)

    def initial_state(self, parameters):
        return parameters["slope"]

    def mean(self, parameters, design):
        return parameters["slope"] * design

    def scale(self, parameters, design):
        return 1.0


@pytest.mark.one_backend
def test_methods_that_take_no_state_are_named():
    without = drift(
        outcome=lambda self, parameters, design, noise: parameters["slope"] * design + noise,
        log_likelihood=lambda self, outcome, parameters, design: ops.sum(outcome, axis=-1),
    )
    takes = (
        r"Other\.outcome takes \(parameters, design, noise\), where \(parameters, design, noise, state\) was expected"
    )
    for call in (lambda: kb.Sequence(without, 3).simulate(6, DESIGN), lambda: without.simulate(6, DESIGN[0])):
        with pytest.raises(kb.errors.OutcomeError, match=takes):
            call()
    likelihood = drift(log_likelihood=type(without).log_likelihood)
    with pytest.raises(
        kb.errors.OutcomeError, match=r"Other\.log_likelihood takes \(outcome, parameters, design\), where"
    ):
        kb.eig.bracket(kb.Sequence(likelihood, 3), DESIGN, num_outer=64, num_inner=64, seed=0)
    law = r"Fixed\.outcome is that of GaussianSimulator, which has no state .*\(self, .*, state\).* on a kb\.Simulator"
    for call in (lambda: kb.Sequence(Fixed(), 3).simulate(6, DESIGN), lambda: Fixed().simulate(6, DESIGN[0])):
        with pytest.raises(kb.errors.OutcomeError, match=law):
            call()


@pytest.mark.one_backend
@pytest.mark.parametrize("length", [None, 3])
def test_a_state_without_a_start_is_named(length):
    simulator, design = drift(initial_state=None), DESIGN[0]
    if length:
        simulator, design = kb.Sequence(simulator, length), DESIGN
    with pytest.raises(kb.errors.OutcomeError, match=r"Other has no method initial_state.*initial_state\(self, param"):
        simulator.simulate(6, design, seed=0)
