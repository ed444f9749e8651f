"""Bounds of a target's EIG by inner sums: directions and values against closed forms."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.backend import numerics
from tests import toys
from tests.test_targets import Mixture, exact

X = [0.1, 0.7]
NUISANCE = exact(X, [1.0, 0.0])


def test_both_bounds_equal_the_closed_form_of_a_nuisance():
    """Within 1% of the exact value beyond 3 standard errors of 1.4% (false alarm at other seeds: 3 in 1,000)."""
    found = kb.eig.bracket(Mixture(), X, 8192, 8192, seed=1, target="a", num_nuisance=4096)
    assert found.lower_se < 0.016 * NUISANCE
    assert found.lower - 3 * found.lower_se < NUISANCE < found.upper + 3 * found.upper_se
    assert found.lower > 0.99 * NUISANCE - 3 * found.lower_se
    assert found.upper < 1.01 * NUISANCE + 3 * found.upper_se


def test_few_inner_draws_loosen_the_bounds_in_their_directions():
    """With 16 draws both are off by far more than their errors: 5 errors of the mean of 12 seeds."""
    found = []
    for seed in range(12):
        with pytest.warns(UserWarning, match="bound") as seen:  # of some seeds also that the lower bound is below zero
            found.append(kb.eig.bracket(Mixture(), X, 1024, 16, seed=seed, target="a", num_nuisance=16, check=False))
        assert any("outcomes that no inner draw comes near" in str(warning.message) for warning in seen)
    lower, lower_error = numerics.mean_and_error([bound.lower for bound in found])
    upper, upper_error = numerics.mean_and_error([bound.upper for bound in found])
    assert lower < NUISANCE - 5 * lower_error
    assert upper > NUISANCE + 5 * upper_error
    # The 16 draws are shared by all outcomes: an error without that source would be a tenth of the spread of the seeds.
    assert np.mean([bound.upper_se for bound in found]) > upper_error * np.sqrt(12)


@pytest.mark.parametrize("name", ["PriorContrastive", "NestedMonteCarlo", "AdaptiveContrastive", "VariationalNested"])
def test_objectives_bound_the_target_from_their_side(name):
    design = kb.designs.Box((2,), -0.8, 0.8, initial=X, trainable=False)
    objective = getattr(kb.objectives, name)(num_nuisance=64)
    model = kb.DesignModel(Mixture(), design, objective=objective, target="a", seed=0)
    if objective.posterior is not None:
        assert objective.posterior.prior.dim == 2  # the proposal is of all parameters
    values = model.contributions(2048, seed=1)
    error = values.std() / np.sqrt(values.size)
    if objective.direction == "upper bound":
        assert values.mean() > NUISANCE - 4 * error
    else:
        assert -2.0 < values.mean() < NUISANCE + 4 * error


def test_a_design_is_learned_on_a_contrastive_bound_of_a_target():
    """The best design about `a` alone, ranked and compared without a posterior network."""
    design = kb.designs.Box((2,), -0.8, 0.8, seed=0)
    objective = kb.objectives.PriorContrastive()
    model = kb.DesignModel(Mixture(), design, objective=objective, target="a", starts=3, seed=0)
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=200, batch_size=128, verbose=0)
    grid = np.linspace(-0.8, 0.8, 41)
    best = max(exact([x, z], [1.0, 0.0]) for x in grid for z in grid)
    assert exact(model.design.numpy(), [1.0, 0.0]) > 0.99 * best
    table = model.eig_landscape(np.array([[0.1, 0.7], [0.0, 0.0]]), num_samples=512)
    assert table["eig"][0] > table["eig"][1]
    estimate = model.estimate_eig(2048)
    value = exact(model.design.numpy(), [1.0, 0.0])
    assert estimate.lower - 4 * estimate.lower_se < value < estimate.upper + 4 * estimate.upper_se
    assert "inner sums" in estimate.method


class Effects(kb.GaussianSimulator):
    """Random effects: each reading has an effect of its own around a common level, y_i = effect_i x_i + 0.3 noise."""

    prior = kb.Prior.hierarchical(level=stats.norm(), effects=(lambda level: stats.norm(level, 0.5), 2))

    def mean(self, parameters, design):
        return parameters["effects"] * design

    def scale(self, parameters, design):
        return 0.3


def test_random_effects_are_summed_given_the_target():
    """level and y are jointly Gaussian: I = -log(1 - R^2) / 2. Errors as above."""
    x = np.array([0.5, 1.0])
    covariance = np.outer(x, x) + np.diag(0.25 * x**2 + 0.09)
    value = -0.5 * np.log(1.0 - x @ np.linalg.solve(covariance, x))
    found = kb.eig.bracket(Effects(), x, 4096, 8192, seed=0, target="level", num_nuisance=1024)
    assert found.lower - 3 * found.lower_se < value < found.upper + 3 * found.upper_se
    assert found.upper - found.lower < 0.05
    with pytest.raises(ValueError, match="cannot make"):
        kb.eig.bracket(Effects(), x, target="effects")


def half(parameters):
    return ops.multiply(parameters["a"], 0.5)


@pytest.mark.one_backend
def test_targets_without_a_likelihood_are_refused():
    design = kb.designs.Box((2,), -0.8, 0.8)
    with pytest.raises(ValueError, match="by name"):
        kb.DesignModel(Mixture(), design, objective=kb.objectives.PriorContrastive(), target=half, seed=0)
    with pytest.raises(ValueError, match="independent of the target"):
        kb.DesignModel(Effects(), design, objective=kb.objectives.NestedMonteCarlo(), target="level", seed=0)
    with pytest.raises(ValueError, match="cannot leave some out"):
        kb.DesignModel(Mixture(), design, objective=kb.objectives.InfoNCE(), target="a", seed=0)
    with pytest.raises(ValueError, match="cannot make"):
        kb.eig.bracket(Mixture(), X, target=half)
