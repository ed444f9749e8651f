import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from tests import toys

PRIOR = kb.Prior(a=stats.norm(), b=(stats.norm(), 2))


def sum_outcome(parameters, design, noise):
    return parameters["a"] * design + ops.sum(parameters["b"], axis=-1, keepdims=True) + noise


def test_simulate_applies_the_outcome_to_the_priors_draws():
    simulator = toys.LINE
    design = np.array([-1.0, 0.5])
    data = simulator.simulate(20_000, design, seed=0)
    residual = data["outcome"] - data["parameters"]["intercept"] - data["parameters"]["slope"] * design
    # Noise of sd 0.5: mean and sd within 5 standard errors, false alarm 6e-7 each.
    np.testing.assert_allclose(residual.mean(axis=0), 0.0, atol=5 * 0.5 / np.sqrt(20_000))
    np.testing.assert_allclose(residual.std(axis=0), 0.5, atol=5 * 0.5 / np.sqrt(40_000))


def test_simulate_repeats_with_the_seed():
    one, two, three = (toys.LINE.simulate(4, [0.0, 1.0], seed=seed)["outcome"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)


def test_simulate_takes_a_design_for_each_draw_and_a_space():
    simulator = toys.LINE
    designs = np.random.default_rng(0).uniform(-1, 1, (6, 2))
    together = simulator.simulate(6, designs, seed=0, per_draw=True)["outcome"]
    np.testing.assert_allclose(together[2], simulator.simulate(6, designs[2], seed=0)["outcome"][2], rtol=1e-5)
    space = kb.designs.Box((2,), -1.0, 1.0, initial=designs[0])
    of_values, of_space = (simulator.simulate(6, value, seed=0)["outcome"] for value in (designs[0], space))
    np.testing.assert_allclose(of_space, of_values, rtol=1e-5, atol=1e-6)


def test_function_form_equals_the_class():
    functions = kb.Simulator.from_functions(
        prior=toys.Line.prior,
        outcome=lambda parameters, design, noise: toys.LINE.outcome(parameters, design, noise),
        log_likelihood=lambda outcome, parameters, design: toys.LINE.log_likelihood(outcome, parameters, design),
    )
    assert functions.has_likelihood
    one, two = (s.simulate(5, [0.0, 1.0], seed=0)["outcome"] for s in (functions, toys.LINE))
    np.testing.assert_array_equal(one, two)
    assert not kb.Simulator.from_functions(prior=PRIOR, outcome=sum_outcome).has_likelihood


def test_noise_follows_its_law_and_shape():
    simulator = kb.Simulator.from_functions(
        prior=PRIOR,
        outcome=lambda parameters, design, noise: parameters["a"] + 0.0 * design + noise,
        noise=stats.laplace(),
        noise_shape=(3,),
    )
    draws = simulator.draw_noise(4000, simulator.resolve_noise_shape((1,)), np.random.default_rng(0))
    assert draws.shape == (4000, 3)
    assert stats.kstest(draws.ravel(), "laplace").pvalue > 1e-4  # false alarm 1e-4


def test_a_scalar_outcome_gets_an_axis():
    simulator = kb.Simulator.from_functions(PRIOR, lambda p, design, noise: (p["a"] * design + noise)[:, 0])
    assert simulator.simulate(7, [1.0], seed=0)["outcome"].shape == (7, 1)


class Heteroscedastic(kb.GaussianSimulator):
    """Mean and spread both depend on the parameters; outcomes are (2, 3) arrays."""

    prior = kb.Prior(a=stats.norm(), b=(stats.norm(), 3))

    def mean(self, parameters, design):
        return parameters["a"][..., None] * design + parameters["b"][..., None, :]

    def scale(self, parameters, design):
        return 0.3 + ops.exp(0.2 * parameters["a"][..., None]) * ops.abs(design)


@pytest.mark.parametrize("simulator", [toys.LINE, Heteroscedastic()], ids=["line", "heteroscedastic"])
def test_gaussian_likelihoods_are_scipys_one_by_one_and_in_pairs(simulator):
    design = np.array([0.2, 0.9]) if isinstance(simulator, toys.Line) else np.linspace(-1, 1, 6).reshape(2, 3)
    data = simulator.simulate(4, design, seed=0)

    def everything(theta, xi, y):
        mean = simulator.mean(theta, xi)
        return (
            mean,
            simulator.scale(theta, xi) * ops.ones_like(mean),
            simulator.log_likelihood(y, theta, xi),
            simulator.pairwise_log_likelihood(y, theta, xi),
            kb.Simulator.pairwise_log_likelihood(simulator, y, theta, xi),
        )

    evaluate = backend.compile_function(everything)
    mean, scale, one_by_one, pairs, by_broadcast = evaluate(data["parameters"], design[None], data["outcome"])
    axes = tuple(range(1, data["outcome"].ndim))
    expected = stats.norm(mean, scale).logpdf(data["outcome"]).sum(axis=axes)
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-10)
    np.testing.assert_allclose(np.diag(pairs), expected, rtol=1e-10)
    np.testing.assert_allclose(pairs, by_broadcast, rtol=1e-9)


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (
            lambda p, design, noise: p["c"] * design + noise,
            r"asked for 'c', but the prior's parameters are \['a', 'b'\]",
        ),
        (lambda p, design, noise: ops.sum(noise), r"returned shape \(\), but \(5, ...\) was expected"),
        (lambda p, design, noise: ops.transpose(p["a"] * design + noise), r"returned shape \(2, 5\)"),
        (lambda p, design, noise: p["b"] @ ops.ones((3, 2)) + noise, r"parameters.*'b': \(5, 2\).*design.*\(1, 2\)"),
    ],
)
def test_outcomes_that_break_the_contract_are_explained(outcome, message):
    simulator = kb.Simulator.from_functions(PRIOR, outcome)
    with pytest.raises(ValueError, match=message):
        simulator.simulate(5, [0.0, 1.0], seed=0)


def test_noise_that_does_not_fit_names_the_argument_and_the_fix():
    simulator = kb.Simulator.from_functions(PRIOR, sum_outcome, noise_shape=(3,))
    with pytest.raises(ValueError, match=r"noise of shape \(5, 3\).*noise_shape"):
        simulator.simulate(5, [0.0, 1.0], seed=0)
    with pytest.raises(ValueError, match=r"(?s)noise of shape \((2|batch), .*3,?\).*noise_shape"):
        kb.DesignModel(simulator, kb.designs.Free((2,)))


def test_what_is_not_defined_says_so():
    class Empty(kb.Simulator):
        prior = PRIOR

    with pytest.raises(NotImplementedError, match="must define outcome"):
        Empty().simulate(2, [0.0])
    with pytest.raises(NotImplementedError, match="no log_likelihood"):
        Empty().log_likelihood(np.zeros((1, 1)), {"a": np.zeros((1, 1))}, np.zeros((1, 1)))
    with pytest.raises(ValueError, match="set noise_shape"):
        Empty().resolve_noise_shape({"time": (1,)})


class Proportional(kb.GaussianSimulator):
    """An error in proportion to a mean that counts how often it is computed."""

    prior, calls = kb.Prior(a=stats.norm()), 0

    def mean(self, parameters, design):
        type(self).calls += 1
        return ops.exp(parameters["a"] * design)

    def scale(self, parameters, design, mean):
        return 0.1 * mean


class Apart(Proportional):
    """The same law, with a mean that is computed for the scale again."""

    def scale(self, parameters, design):
        return 0.1 * self.mean(parameters, design)


def of_all_kinds(simulator, design):
    """Outcome, likelihood, pairs, information: all that asks for a mean and a scale."""
    draws = simulator.simulate(4, design, seed=0)
    pairs = backend.compile_function(simulator.pairwise_log_likelihood, compiled=False)
    own = backend.compile_function(simulator.log_likelihood, compiled=False)
    given = draws["outcome"], draws["parameters"], design[None]
    return draws["outcome"], own(*given), pairs(*given)


@pytest.mark.parametrize("lift", [lambda s: s, lambda s: kb.Sequence(s, 2)], ids=["one", "sequence"])
def test_a_scale_may_take_the_mean_which_is_then_computed_once(lift, monkeypatch):
    design = np.array([[0.5, 1.0], [0.2, 2.0]])
    design = design if isinstance(lift(Apart()), kb.Sequence) else design[0]
    calls = []
    for kind in (Apart, Proportional):
        monkeypatch.setattr(kind, "calls", 0)
        calls.append((of_all_kinds(lift(kind()), design), kind.calls))
    for apart, together in zip(calls[0][0], calls[1][0], strict=True):
        np.testing.assert_allclose(together, apart, rtol=1e-12)
    assert calls[0][1] == 2 * calls[1][1]


@pytest.mark.one_backend
def test_laplace_takes_the_same_information_from_both_forms():
    one, two = (kb.eig.laplace(kind(), np.array([0.5, 1.0]), seed=0).value for kind in (Apart, Proportional))
    assert one == pytest.approx(two, rel=1e-9)


class Fixed(kb.GaussianSimulator):
    """A scale as an attribute, in the place of the method."""

    prior, scale = kb.Prior(a=stats.norm()), 0.3

    def mean(self, parameters, design):
        return parameters["a"] * design


class Kept(kb.GaussianSimulator):
    """An attribute of the instance that hides the method."""

    prior = kb.Prior(a=stats.norm())

    def __init__(self):
        self.mean = [1.0, 2.0]

    def scale(self, parameters, design):
        return 0.3


@pytest.mark.parametrize(("kind", "message"), [(Fixed, "Fixed.scale is 0.3"), (Kept, r"Kept.mean is \[1.0, 2.0\]")])
def test_a_value_in_the_place_of_a_method_is_named(kind, message):
    with pytest.raises(kb.errors.OutcomeError, match=message):
        kind().simulate(3, [0.5], seed=0)
    with pytest.raises(kb.errors.OutcomeError, match=message):
        kb.DesignModel(kind(), kb.designs.Box((1,), 0.0, 1.0))
    with pytest.raises(kb.errors.OutcomeError, match=message):
        kind().simulate(3, kb.policies.RandomPolicy(kb.designs.Box((1,), 0.0, 1.0), steps=2), seed=0)


class Broken(kb.Simulator):
    """A number with the name of another kind's method, which is none here."""

    prior, rate = kb.Prior(a=stats.norm()), 2.0

    def outcome(self, parameters, design, noise):
        raise RuntimeError("no current")


def test_a_value_with_the_name_of_another_kinds_method_is_no_cause():
    with pytest.raises(kb.errors.OutcomeError, match="no current"):
        Broken().simulate(3, [0.5], seed=0)
