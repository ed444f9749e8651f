"""Exact sums against sums written out here."""

import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed.eig import exact_sums
from kerasbed.priors.table import TablePrior

DOSES = np.linspace(0.0, 1.0, 4)[:, None]
KIND, LEVEL = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)


class Trial(kb.Simulator):
    """A yes/no answer whose probability depends on two discrete parameters and the dose."""

    noise, noise_shape, differentiable = stats.uniform(), (1,), False

    def __init__(self, prior=None):
        self.prior = prior or kb.Prior(kind=stats.bernoulli(0.3), level=stats.randint(0, 3))

    def outcome_space(self):
        return np.array([[0.0], [1.0]])

    def chance(self, parameters, design):
        return 0.1 + 0.2 * parameters["kind"] + 0.15 * parameters["level"] * design

    def outcome(self, parameters, design, noise):
        return ops.cast(noise < self.chance(parameters, design), noise.dtype)

    def log_likelihood(self, outcome, parameters, design):
        p = self.chance(parameters, design)
        return ops.sum(outcome * ops.log(p) + (1.0 - outcome) * ops.log(1.0 - p), axis=-1)


def joint_of(weights, dose):
    """P(kind, level, y), (6, 2)."""
    p = 0.1 + 0.2 * KIND + 0.15 * LEVEL * dose
    return weights[:, None] * np.stack([1.0 - p, p], axis=1)


def information(joint):
    """I of the rows and the columns of a table of probabilities."""
    return np.sum(special.rel_entr(joint, joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)))


WEIGHTS = np.where(KIND == 1, 0.3, 0.7) / 3.0
CORRELATED = np.array([0.2, 0.1, 0.1, 0.05, 0.25, 0.3])
TARGETS = {
    "all": (None, np.arange(6)),
    "name": ("kind", KIND),
    "names": (["level"], LEVEL),
    "function": (lambda p: ops.abs(p["kind"] - p["level"]), np.abs(KIND - LEVEL)),
    "discrete": (kb.targets.Discrete(lambda p: p["level"][..., 0] > 0.5, 2), LEVEL > 0),
}


@pytest.mark.parametrize("weights", [WEIGHTS, CORRELATED], ids=["independent", "correlated"])
@pytest.mark.parametrize("case", list(TARGETS))
def test_every_target_at_all_settings_is_the_sum_written_out(case, weights):
    prior = TablePrior({"kind": KIND, "level": LEVEL}, weights)
    target, groups = TARGETS[case]
    expected = []
    for dose in DOSES[:, 0]:
        joint = joint_of(weights, dose)
        expected.append(information(np.stack([joint[groups == value].sum(axis=0) for value in np.unique(groups)])))
    found = kb.eig.enumerate(Trial(prior), DOSES, target)
    np.testing.assert_allclose(found.eig, expected, rtol=0, atol=1e-14)
    assert found.best == DOSES[np.argmax(expected)]
    assert found.table()["eig"].iloc[0] == max(found.eig)


def test_blocks_do_not_change_the_sums(monkeypatch):
    whole = kb.eig.enumerate(Trial(), DOSES, "kind").eig
    monkeypatch.setattr(exact_sums, "BLOCK_ENTRIES", 8)  # four of six values at a time, one setting
    np.testing.assert_allclose(kb.eig.enumerate(Trial(), DOSES, "kind").eig, whole, rtol=0, atol=1e-15)


def test_the_posterior_is_the_prior_of_the_next_trial():
    found = kb.eig.enumerate(Trial(), DOSES)
    posterior = found.posterior([1.0], DOSES[2])
    weights = joint_of(WEIGHTS, DOSES[2, 0])[:, 1]
    weights = weights / weights.sum()
    values = {"kind": KIND[:, None], "level": LEVEL[:, None]}
    np.testing.assert_allclose(posterior.log_prob(values), np.log(weights), atol=1e-12)
    second = Trial(posterior)
    exact = information(joint_of(weights, 0.5))
    assert kb.eig.enumerate(second, [[0.5]]).eig[0] == pytest.approx(exact, abs=1e-14)
    assert kb.eig.grid(second, [0.5]).lower == pytest.approx(exact, abs=1e-14)
    exact = information(joint_of(weights, 0.5).reshape(2, 3, 2).sum(axis=1))
    bounds = kb.eig.bracket(second, [0.5], 2000, 2000, target="kind", check=False)
    # 4 standard errors: false alarms in 1 of 16,000 seeds.
    assert bounds.lower - 4 * bounds.lower_se < exact < bounds.upper + 4 * bounds.upper_se


def test_continuous_parameters_are_integrated():
    """Three answers of a logistic curve with correlated intercept and log slope, and a target between two regions."""

    class Cohort(kb.Simulator):
        prior = kb.Prior(theta=stats.multivariate_normal([-0.85, 1.0], [[1.0, -0.7], [-0.7, 1.0]]))
        noise_shape, differentiable = (1,), False

        def outcome_space(self):
            return np.arange(4.0)[:, None]

        def log_likelihood(self, outcome, parameters, design):
            eta = parameters["theta"][..., :1] + ops.exp(parameters["theta"][..., 1:]) * design
            choose = ops.take(
                ops.convert_to_tensor(np.log([1.0, 3, 3, 1]), dtype=eta.dtype), ops.cast(outcome, "int32")
            )
            return ops.sum(choose + outcome * eta - 3.0 * ops.softplus(eta), axis=-1)

    axis = np.linspace(-8.0, 8.0, 401)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    w = np.exp(-0.5 * (z**2).sum(axis=1))
    theta = [-0.85, 1.0] + z @ np.linalg.cholesky([[1.0, -0.7], [-0.7, 1.0]]).T
    p = special.expit(theta[:, :1] + np.exp(theta[:, 1:]) * 0.4)
    joint = (w / w.sum())[:, None] * stats.binom.pmf(np.arange(4), 3, p)
    found = kb.eig.enumerate(Cohort(), [[0.4]])
    assert found.eig[0] == pytest.approx(information(joint), abs=1e-6)
    assert found.error[0] <= 1e-6
    high = theta[:, 1] > 1.0
    expected = information(np.stack([joint[high].sum(axis=0), joint[~high].sum(axis=0)]))
    target = kb.targets.Discrete(lambda q: q["theta"][..., 1] > 1.0, 2)
    assert kb.eig.enumerate(Cohort(), [[0.4]], target).eig[0] == pytest.approx(expected, abs=2e-3)  # of that grid
    estimate = kb.eig.grid(Cohort(), [0.4])
    assert estimate.lower == pytest.approx(information(joint), abs=1e-6)
    assert 0 < estimate.lower_se < 1e-4


@pytest.mark.one_backend
def test_discrete_spaces_are_listed():
    def sizes(space):
        return kb.eig.enumerate(Fixed(), space).designs

    class Fixed(Trial):
        def chance(self, parameters, design):
            leaf = next(iter(design.values())) if isinstance(design, dict) else design
            return 0.2 + 0.3 * parameters["kind"] + 0.0 * ops.sum(leaf, axis=-1, keepdims=True)

    assert sizes(kb.designs.Choice((2,), [0.1, 0.2, 0.5])).shape == (9, 2)
    assert sizes(kb.designs.Integer((3,), 0, 1)).shape == (8, 3)
    assert sizes(kb.designs.Subset(np.linspace(0.0, 1.0, 5), 2)).shape == (10, 2)
    product = kb.designs.Product(a=kb.designs.Integer((1,), 1, 2), b=kb.designs.Choice((1,), [0.5, 1.0, 2.0]))
    assert {name: v.shape for name, v in sizes(product).items()} == {"a": (6, 1), "b": (6, 1)}
    with pytest.raises(TypeError, match="no list of its values"):
        sizes(kb.designs.Box((1,), 0.0, 1.0))


@pytest.mark.one_backend
def test_what_cannot_be_summed_is_refused():
    class Unlisted(Trial):
        def outcome_space(self):
            return None

    class Partly(Trial):
        def outcome_space(self):
            return np.array([[1.0]])

    with pytest.raises(ValueError, match="does not list its outcomes"):
        kb.eig.enumerate(Unlisted(), DOSES)
    with pytest.raises(ValueError, match=r"setting 0 .* 1 outcomes .* miss 1 by 0\.84"):
        kb.eig.enumerate(Partly(), DOSES[:1])
    with pytest.raises(ValueError, match="48 terms, but at most"):
        kb.eig.enumerate(Trial(), DOSES, max_terms=10)
    with pytest.raises(ValueError, match="at least one setting"):
        kb.eig.enumerate(Trial(), np.zeros((0, 1)))
    with pytest.raises(ValueError, match=r"target names \['knd'\]"):
        kb.eig.enumerate(Trial(), DOSES, "knd")
    unsure = kb.Prior.from_sampler(
        lambda num, rng: {"kind": rng.integers(2, size=(num, 1)), "level": rng.integers(3, size=(num, 1))},
        log_prob=lambda p: np.full(np.shape(p["kind"])[:-1], np.log(0.2)),
        discrete={"kind": [0, 1], "level": [0, 1, 2]},
    )
    with pytest.raises(ValueError, match=r"6 joint values sum to 1\.2"):
        kb.eig.enumerate(Trial(unsure), DOSES)
    mixed = kb.Prior(kind=stats.norm(), level=stats.norm())
    with pytest.raises(ValueError, match="finitely many values"):
        kb.eig.enumerate(Trial(mixed), DOSES, lambda p: p["kind"] + p["level"])
