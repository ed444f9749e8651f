"""The law that imitates simulated outcomes: what is an atom, and a density that is one."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from kerasbed.eig.imitation import Continuum, Imitation, atoms_of

pytestmark = pytest.mark.one_backend
RNG_SEED = 4


def draws(num=1024):
    rng = np.random.default_rng(RNG_SEED)
    normal = rng.standard_normal(num)
    return {
        "continuous": (normal, [], True),
        "zeros": (np.maximum(normal, 0.0), [0.0], True),
        "both ends": (np.clip(normal, -1.0, 0.5), [-1.0, 0.5], True),
        "binary": ((normal > 1.0) * 1.0, [0.0, 1.0], True),
        "counts": (rng.poisson(4.0, num) * 1.0, None, True),
        "fine lattice": (np.round(normal, 3), None, False),
    }


@pytest.mark.parametrize("name", draws())
def test_what_is_an_atom(name):
    column, expected, told = draws()[name]
    atoms, is_told = atoms_of(column)
    assert is_told == told
    if expected is not None:
        np.testing.assert_array_equal(atoms, expected)
    elif told:
        np.testing.assert_array_equal(atoms, np.unique(column))  # rare counts belong to the lattice of the others


@pytest.mark.parametrize("law", [stats.norm(3.0, 2.0), stats.uniform(), stats.lognorm(2.0), stats.cauchy()])
def test_the_density_of_a_continuum_integrates_to_one(law):
    fitted = Continuum(law.rvs(size=(1024, 1), random_state=RNG_SEED))
    knots = fitted.y_knots[:, 0]
    points = np.unique(np.concatenate([np.linspace(a, b, 500) for a, b in itertools.pairwise(knots)]))
    log_density, _, inside = fitted.evaluate(points[:, None])
    # What lies beyond the 1 / 2048 quantiles of the normal scores is missing; at knots the density has jumps.
    assert integrate.trapezoid(np.exp(log_density), points) == pytest.approx(1.0, abs=1e-2)
    assert inside[1:-1].all()


def test_frequencies_and_densities_of_a_mixed_law():
    rng = np.random.default_rng(RNG_SEED)
    zero = rng.random(4000) < 0.25
    law = Imitation(np.column_stack([np.where(zero, 0.0, rng.standard_normal(4000)), zero * 1.0]))
    log_q, _, inside = law.evaluate(np.array([[0.0, 1.0], [0.3, 0.0], [0.3, 1.0], [9.0, 0.0]]))
    np.testing.assert_array_equal(inside, [True, True, False, False])
    np.testing.assert_allclose(np.exp(log_q[0]), zero.mean(), rtol=1e-12)
    # A density from 3,000 draws: a few percent of error.
    np.testing.assert_allclose(np.exp(log_q[1]), 0.75 * stats.norm.pdf(0.3), rtol=0.2)


def test_entries_that_determine_each_other_have_no_density():
    y = np.random.default_rng(RNG_SEED).standard_normal((1024, 2))
    for determined in (y[:, :1] ** 2, y[:, :1] - 2.0 * y[:, 1:], y[:, :1] * y[:, 1:], np.maximum(y[:, :1], y[:, 1:])):
        assert not Imitation(np.concatenate([y, determined], axis=1)).is_comparable
    assert Imitation(y).is_comparable
