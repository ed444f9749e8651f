"""Data that cannot be right are refused or warned about, and right ones are not, however heavy their tails."""

import re
import warnings

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

import kerasbed as kb
from kerasbed.backend.validation import finite_values
from kerasbed.eig.observed import SeenOutcomes
from kerasbed.eig.study import Study
from tests import toys

pytestmark = pytest.mark.one_backend
RNG = np.random.default_rng(0)
MASKED = np.ma.masked_array([[0.0, 1.0]], mask=[[False, True]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.0, np.nan], [np.inf, 1.0]], r"outcome has 2 NaN or infinite entries of 4 \(the first at \[0, 1\]\)"),
        (MASKED, r"outcome has 1 masked entries \(the first at \[0, 1\]\)"),
        ([MASKED[0]], r"outcome has 1 masked entries \(the first at \[0, 1\]\)"),
        ([[0.0, 1.0], [2.0]], "outcome has parts of different lengths"),
        (np.array([[0.0, 1.0], [2.0]], object), "outcome has parts of different lengths"),
        ([["a", "b"]], "outcome has values of type <U1, but real numbers were expected, not texts"),
        ([[1j, 0.0]], "outcome has values of type complex128, but real numbers were expected, not complex numbers"),
        ([[None, 0.0]], "outcome has 1 NaN"),
        ([[object(), 0.0]], "outcome has values of type object"),
    ],
)
def test_values_that_are_no_finite_numbers(values, message):
    with pytest.raises(ValueError, match=message):
        finite_values(values, "outcome")


def test_numbers_of_other_types_are_taken():
    for values in (
        [1, 2],
        [True, False],
        np.float32([1.0, 2.0]),
        np.ma.masked_array([1.0, 2.0]),
        np.array([1, 2.5], object),
    ):
        assert finite_values(values, "outcome").dtype == "float64"


def problems(simulated, observed, possible=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SeenOutcomes(simulated, possible).warn(np.asarray(observed, "float64"))
    return [str(warning.message) for warning in caught]


LAWS = {
    "normal": stats.norm(),
    "far from zero": stats.norm(1e6, 1.0),
    "uniform": stats.uniform(),
    "lognormal": stats.lognorm(2.0),
    "cauchy": stats.cauchy(),
    "poisson": stats.poisson(3.0),
    "rare": stats.bernoulli(0.02),
}


@pytest.mark.parametrize("name", LAWS)
def test_outcomes_of_the_same_law_are_not_warned_about(name):
    """40,000 of them; by the rule's own rate a false alarm has a chance of 1e-2 for Cauchy tails and far less else."""
    simulated, observed = (LAWS[name].rvs(size=(num, 1), random_state=num) for num in (4096, 40_000))
    assert problems(simulated, observed) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("normal", 999.0, r"1 of 2 outcomes are far .*entry \[0\] of data set 1 is 999, but 4096 simulated"),
        ("far from zero", 1e6 + 30.0, "are far"),
        ("uniform", -2.0, "are far"),
        ("lognormal", -30.0, "are far"),
        ("poisson", 2.5, r"a value that no simulated outcome has: .* is 2\.5, but only 0, 1, 2"),
        ("rare", 0.5, "a value that no simulated outcome has.*but only 0, 1 were"),
    ],
)
def test_outcomes_that_cannot_be_right(name, value, message):
    simulated = LAWS[name].rvs(size=(4096, 1), random_state=1)
    (found,) = problems(simulated, [simulated[0], [value]])
    assert re.search(message, found)


def test_zeros_of_a_mixed_law_are_no_list_of_values():
    simulated = np.maximum(RNG.standard_normal((4096, 1)), 0.0)
    assert problems(simulated, [[0.0], [0.123]]) == []
    assert len(problems(simulated, [[-1.0]])) == 1


def test_outcomes_outside_the_outcome_space():
    space = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    simulated = space[RNG.integers(3, size=4096)]
    assert problems(simulated, space, space) == []
    (found,) = problems(simulated, [[1.0, 0.0]], space)
    assert "not among the 3 of outcome_space()" in found


@pytest.fixture(scope="module")
def model():
    """Untrained, but told that it is trained."""
    found = toys.small_model(toys.LINE, kb.designs.Box((2,), -1.0, 1.0, seed=1))
    toys.tell_trained(found)
    return found


@pytest.mark.parametrize("call", ["sample", "log_prob"])
def test_a_model_refuses_data_that_are_no_numbers_and_warns_about_far_ones(model, call):
    def ask(outcome):
        if call == "sample":
            return model.sample(2, {"outcome": outcome}, seed=0)
        return model.log_prob({"intercept": [[0.0]], "slope": [[0.0]]}, {"outcome": outcome})

    with pytest.raises(ValueError, match="1 NaN or infinite"):
        ask([[0.0, np.nan]])
    with pytest.raises(ValueError, match="1 masked"):
        ask(MASKED)
    with pytest.warns(UserWarning, match=r"entry \[1\] of data set 0 is 999"):
        ask([[0.0, 999.0]])
    ask([[0.1, -0.2]])


def test_parameters_that_are_no_numbers_and_no_data_at_all_are_refused(model):
    with pytest.raises(ValueError, match="parameter 'slope' has 1 NaN entries of 1"):
        model.log_prob({"intercept": [[0.0]], "slope": [[np.nan]]}, {"outcome": [[0.0, 1.0]]})
    with pytest.raises(ValueError, match="outcome holds no data set"):
        model.sample(2, {"outcome": np.zeros((0, 2))})


def test_masked_draws_and_masked_data_of_exact_posteriors_are_refused(model):
    with pytest.raises(ValueError, match="1 draws of 'theta' are masked"):
        kb.Prior.from_samples({"theta": np.ma.masked_array(RNG.standard_normal(9), np.arange(9) == 3)})
    with pytest.raises(ValueError, match="outcome has 1 masked entries"):
        kb.reference.posterior(model.simulator, {"outcome": MASKED, "design": np.ones(2)})


def test_exact_posteriors_warn_of_values_that_an_outcome_never_takes():
    yes_or_no = kb.Simulator.from_functions(
        kb.Prior(theta=stats.norm()),
        lambda parameters, design, noise: ops.cast(noise < ops.sigmoid(parameters["theta"] + design), noise.dtype),
        lambda outcome, parameters, design: ops.sum(
            -ops.softplus(ops.where(outcome > 0.5, -1.0, 1.0) * (parameters["theta"] + design)), axis=-1
        ),
        noise=stats.uniform(),
    )
    with pytest.warns(UserWarning, match="a value that no simulated outcome has"):
        kb.reference.sample(yes_or_no, 10, {"outcome": [[0.4]], "design": np.zeros(1)}, seed=0)


def test_other_entries_refuse_them_too():
    simulator, design = toys.Polynomial(1), np.ones(2)
    with pytest.raises(ValueError, match="outcome has 2 NaN"):
        kb.reference.sample(simulator, 5, {"outcome": [[np.nan, np.nan]], "design": design})
    with pytest.raises(ValueError, match=r"outcome is masked_array.*without NaN or masked"):
        kb.variational.fit(simulator, design, np.ma.masked_all(2))
    for call in (kb.eig.bracket, kb.eig.laplace, kb.eig.grid, kb.eig.check_likelihood):
        with pytest.raises(ValueError, match=r"design is .*nan.*without NaN"):
            call(simulator, np.array([np.nan, 1.0]))


# -- parameters under which the data are impossible -------------------------------------------------------------------


def uniform_model():
    """x ~ U(0, u) three times; untrained, so that a part of the posterior is below the largest x."""

    def log_likelihood(y, parameters, design):
        u = parameters["u"][..., 0]
        return ops.where(ops.max(y, axis=-1) <= u, -3.0 * ops.log(u), -np.inf)

    simulator = kb.Simulator.from_functions(
        kb.Prior(u=stats.expon()),
        lambda p, d, e: p["u"] * e * (1.0 + 0.0 * d),
        log_likelihood,
        noise=stats.uniform(),
        noise_shape=(3,),
    )
    found = toys.small_model(simulator, kb.designs.Box((1,), 0.5, 2.0, trainable=False, initial=[1.0]))
    toys.fill_weights(found, scale=0.2)
    toys.tell_trained(found)
    return found


DATA = np.array([[0.2, 1.0, 0.6]])


def test_draws_under_which_the_data_are_impossible_are_drawn_again():
    with pytest.warns(UserWarning, match=r"of the amortised draws .* are impossible under the likelihood"):
        draws = uniform_model().sample(2000, {"outcome": DATA}, seed=0)["u"]
    assert draws.min() >= 1.0


def trained_for_a_moment():
    model = uniform_model()
    model.compile(keras.optimizers.Adam(1e-2), **toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=300, batch_size=128, verbose=0)
    return model


def test_densities_without_the_impossible_part_integrate_to_one(monkeypatch):
    model = uniform_model()
    monkeypatch.setattr(Study, "can_weigh_posterior", False)
    points = np.exp(np.linspace(-3.0, 9.0, 2000))
    with pytest.warns(UserWarning, match="by importance weights for 0 of 1"):
        log_density = model.log_prob({"u": points[None, :, None]}, {"outcome": DATA})[0]
    np.testing.assert_array_equal(np.isfinite(log_density), points >= 1.0)
    # The share that leaks is known from 1,024 draws, to 4 errors of at most .5 / 32 of a share that is a half or less.
    assert integrate.trapezoid(np.exp(log_density), points) == pytest.approx(1.0, abs=0.15)


@pytest.mark.slow
def test_a_trained_posterior_that_leaks_is_corrected_by_importance_weights():
    """p(u | y) ~ u^-3 exp(-u) above max y."""
    model, points = trained_for_a_moment(), np.linspace(1.0, 40.0, 40_001)
    exact = points**-3.0 * np.exp(-points)
    exact /= integrate.trapezoid(exact, points)
    with pytest.warns(UserWarning, match="by importance weights for 1 of 1"):
        draws = model.sample(4000, {"outcome": DATA}, seed=0)["u"][0, :, 0]
    with pytest.warns(UserWarning, match="by importance weights for 1 of 1"):
        density = np.exp(model.log_prob({"u": points[None, 1:2000, None]}, {"outcome": DATA})[0])
    # 4 errors of a mean of 200 or more effective draws of standard deviation .5, likewise of the evidence.
    assert draws.mean() == pytest.approx(integrate.trapezoid(points * exact, points), abs=0.14)
    np.testing.assert_allclose(density, exact[1:2000], rtol=0.3)
    assert draws.min() >= 1.0
