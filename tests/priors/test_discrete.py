"""Discrete parameters and targets: probabilities, entropies and posteriors against enumeration."""

import numpy as np
import pytest
from keras import ops
from scipy import integrate, special, stats

import kerasbed as kb
from kerasbed.eig import learned_bound
from tests import toys

UNEVEN = stats.rv_discrete(values=([-1.5, 0.0, 4.0], [0.2, 0.5, 0.3]))
LAWS = {
    "bernoulli": stats.bernoulli(0.3),
    "binomial": stats.binom(4, 0.4),
    "uniform": stats.randint(2, 6),
    "several": (stats.bernoulli(0.2), 3),
    "one law each": stats.binom([2, 3], [0.4, 0.6]),
    "truncated": kb.Prior.truncated(stats.poisson(2.0), tail=1e-4),
}


@pytest.mark.parametrize("name", LAWS)
def test_probabilities_and_entropy_are_those_of_the_law(name):
    prior, law = kb.Prior(k=LAWS[name]), LAWS[name][0] if isinstance(LAWS[name], tuple) else LAWS[name]
    draws = prior.sample(3000, seed=0)["k"]
    np.testing.assert_allclose(prior.log_prob({"k": draws}), law.logpmf(draws).sum(axis=-1), rtol=1e-10)
    np.testing.assert_allclose(
        ops.convert_to_numpy(prior.log_density({"k": ops.convert_to_tensor(draws[:20], "float32")})),
        prior.log_prob({"k": draws[:20]}),
        rtol=1e-5,
    )
    entropy = np.sum(np.broadcast_to(law.entropy(), (prior.dim,)))
    assert float(prior.entropy()) == pytest.approx(entropy, rel=1e-6)
    assert prior.entropy().standard_error == 0.0
    # The mean of 3,000 draws within 4.5 standard errors in each coordinate: false alarm 7 in a million each.
    assert np.all(np.abs(draws.mean(axis=0) - law.mean()) < 4.5 * law.std() / np.sqrt(3000))
    assert prior.log_prob({"k": np.full((1, prior.dim), 0.5)})[0] == -np.inf
    assert not prior.contains({"k": np.full((1, prior.dim), 0.5)})[0]


def test_listed_values_need_not_be_whole():
    prior = kb.Prior(k=UNEVEN)
    np.testing.assert_array_equal(prior.discrete["k"][0], [-1.5, 0.0, 4.0])
    np.testing.assert_allclose(prior.log_prob({"k": [[4.0], [1.0]]}), [np.log(0.3), -np.inf])
    grid = (np.arange(1000)[:, None] + 0.5) / 1000
    assert np.mean(prior.transform(grid)["k"] == 0.0) == 0.5


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (stats.poisson(3.0), r"kb\.Prior\.truncated"),
        (stats.geom(0.5), "possible values"),
        ((stats.bernoulli(0.5), 0), "positive integer"),
        (stats.binom(3, 1.5), "possible values|sum to"),
    ],
)
def test_laws_without_finite_support_are_refused(law, message):
    with pytest.raises(ValueError, match=message):
        kb.Prior(k=law)


def test_truncation_gives_up_no_more_than_it_says():
    cut = kb.Prior.truncated(stats.poisson(3.0), tail=1e-3)
    low, high = cut.support()
    assert stats.poisson(3.0).cdf(low - 1) <= 1e-3
    assert stats.poisson(3.0).sf(high) <= 1e-3
    with pytest.raises(TypeError, match="frozen discrete law"):
        kb.Prior.truncated(stats.norm())
    with pytest.raises(ValueError, match="tail is"):
        kb.Prior.truncated(stats.poisson(1.0), tail=0.7)


class Mixed(kb.GaussianSimulator):
    """Two readings of (kind - 1) (1 - x^2) + a x with noise 0.5, kind in {0, 1, 2} and a ~ N(0, 1)."""

    prior = kb.Prior(kind=stats.randint(0, 3), a=stats.norm())

    def mean(self, parameters, design):
        return 2.0 * (parameters["kind"] - 1.0) * (1.0 - ops.square(design)) + parameters["a"] * design

    def scale(self, parameters, design):
        return 0.5


X = np.array([0.1, 0.8])
OUTCOME = np.array([[0.5, 0.9]])


def kind_posterior(outcome):
    """p(kind | y) at X, from the Gaussian evidence of each kind: (num, 2) -> (num, 3)."""
    covariance = np.outer(X, X) + 0.25 * np.eye(2)
    means = 2.0 * (np.arange(3)[:, None] - 1.0) * (1.0 - X**2)
    return special.softmax(
        [stats.multivariate_normal(m, covariance).logpdf(outcome).reshape(-1) for m in means], axis=0
    ).T


def exact_kind_eig():
    """I(kind; y) at X: entropy of a mixture of three Gaussians by quadrature, minus that of one."""
    covariance = np.outer(X, X) + 0.25 * np.eye(2)
    means = 2.0 * (np.arange(3)[:, None] - 1.0) * (1.0 - X**2)
    grid = np.linspace(-7.0, 7.0, 281)
    y = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    p = np.mean([stats.multivariate_normal(m, covariance).pdf(y) for m in means], axis=0)
    entropy = integrate.trapezoid(integrate.trapezoid(special.entr(p), grid), grid)
    return entropy - stats.multivariate_normal(means[0], covariance).entropy()


def fixed(**kwargs):
    design = kb.designs.Box((2,), -1.0, 1.0, initial=X, trainable=False)
    return kb.DesignModel(Mixed(), design, **{"objective": toys.lean_objective()} | kwargs, seed=0)


@pytest.fixture(scope="module")
def joint():
    model = fixed()
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=400, batch_size=256, verbose=0)
    return model


@pytest.mark.one_backend
def test_discrete_and_continuous_parameters_are_learned_together(joint):
    """I(kind, a; y) lies between importance bounds; marginals are Bayes' rule, conditionals the Gaussian update."""
    estimate = joint.estimate_eig(2048)
    reference = kb.eig.bracket(Mixed(), X, 4096, 8192, check=False)
    error = 4 * np.hypot(estimate.lower_se, reference.lower_se)
    assert reference.lower - error - 0.01 < estimate.lower < estimate.upper + 1e-9 < reference.upper + error + 0.01
    np.testing.assert_allclose(joint.probabilities({"outcome": OUTCOME})["kind"][0], kind_posterior(OUTCOME), atol=0.04)
    draws = joint.sample(4000, {"outcome": OUTCOME}, seed=0)
    for kind in (1.0, 2.0):
        a = draws["a"][0, draws["kind"][0, :, 0] == kind, 0]
        precision = 1.0 + X @ X / 0.25
        mean = X @ (OUTCOME[0] - 2.0 * (kind - 1.0) * (1.0 - X**2)) / 0.25 / precision
        assert abs(a.mean() - mean) < 0.25 / np.sqrt(precision) + 4 / np.sqrt(precision * a.size)
        assert a.std() == pytest.approx(1 / np.sqrt(precision), rel=0.2)
    log_q = joint.log_prob({"kind": [[2.0], [0.5]], "a": [[0.4], [0.4]]}, {"outcome": np.tile(OUTCOME, (2, 1))})
    assert np.isfinite(log_q[0])
    assert log_q[1] == -np.inf


def test_a_discrete_target_has_an_exact_entropy_and_a_bound(tmp_path):
    model = fixed(target="kind")
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=400, batch_size=256, verbose=0)
    value, own = exact_kind_eig(), learned_bound.estimate(model.study, 2**15, 0)
    assert 0.98 * value - 4 * own.lower_se < own.lower < value + 4 * own.lower_se
    estimate = model.estimate_eig(4096)
    assert estimate.lower - 4 * estimate.lower_se < value < estimate.upper + 4 * estimate.upper_se
    assert estimate.upper - estimate.lower < 0.02 * value
    model.save(tmp_path / "kind.keras")
    again = kb.load(tmp_path / "kind.keras", simulator=Mixed())
    conditions = {"outcome": OUTCOME}
    np.testing.assert_array_equal(again.probabilities(conditions)["kind"], model.probabilities(conditions)["kind"])


def is_middle(parameters):
    return ops.cast(ops.equal(parameters["kind"], 1.0), "int32")[:, 0]


def test_a_discrete_function_is_a_target_with_an_estimated_entropy():
    """Whether kind is the middle one: probabilities are sums of those of the kinds, the entropy that of 1/3."""
    model = fixed(target=kb.targets.Discrete(is_middle, num_classes=2))
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=300, batch_size=256, verbose=0)
    found = model.probabilities({"outcome": OUTCOME})["target"][0, 0]
    np.testing.assert_allclose(found[1], kind_posterior(OUTCOME)[0, 1], atol=0.04)
    entropy = model.target.entropy()
    assert abs(entropy.value - special.entr([1 / 3, 2 / 3]).sum()) < 5 * entropy.standard_error
    assert 0.0 < entropy.standard_error < 1e-3
    estimate = model.estimate_eig(4096)
    assert "estimated by frequencies" in estimate.method
    assert 0.0 < estimate.lower < exact_kind_eig() + 4 * estimate.lower_se  # a function of kind says less than kind


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda: kb.targets.Discrete(is_middle, 1), "num_classes is 1"),
        (lambda: kb.targets.Discrete("kind", 2), "fn is 'kind', but a function"),
        (lambda: kb.targets.Discrete(lambda p: p["kind"] * 2.0, 3), "whole numbers"),
        (lambda: kb.targets.Discrete(lambda p: 0.0 * p["kind"], 2), "same value at every draw"),
    ],
)
def test_bad_discrete_targets_say_what_is_wrong(target, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fixed(target=target())


@pytest.mark.one_backend
def test_what_discrete_parameters_cannot_do_is_said():
    with pytest.raises(ValueError, match="no gradient reaches a proposal"):
        fixed(objective=kb.objectives.AdaptiveContrastive())
    many = Mixed()
    many.prior = kb.Prior(kind=stats.randint(0, 3), a=stats.norm(), flags=(stats.bernoulli(0.5), 14))
    with pytest.raises(ValueError, match="joint values"):
        kb.DesignModel(many, kb.designs.Box((2,), -1.0, 1.0), seed=0)
    with pytest.raises(ValueError, match="no probabilities"):
        fixed(target="a").probabilities({"outcome": OUTCOME})
    with pytest.raises(ValueError, match="discrete"):
        kb.eig.grid(Mixed(), X)
    with pytest.raises(ValueError, match="discrete"):
        kb.variational.fit(Mixed(), X, OUTCOME[0])
