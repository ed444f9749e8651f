"""The polynomial: its EIG against the determinant of a Bayesian linear model's information, and what is no design."""

import numpy as np
import pytest

import kerasbed as kb


def test_exact_eig_is_that_of_the_linear_model():
    problem, places = kb.problems.Quadratic(degree=1, noise_scale=0.3, prior_scale=2.0), np.array([-1.0, 0.25, 0.5])
    design = np.stack([np.ones(3), places], axis=1)
    covariance = np.linalg.inv(np.eye(2) / 2.0**2 + design.T @ design / 0.3**2)
    expected = 0.5 * (2 * np.log(2.0**2) - np.linalg.slogdet(covariance)[1])
    assert problem.exact_eig(places) == pytest.approx(expected, rel=1e-10)


@pytest.mark.one_backend
@pytest.mark.parametrize("design", [[], np.zeros((2, 3)), 0.5, [0.5, np.nan], ["a"], None])
def test_what_is_no_row_of_places_is_refused(design):
    with pytest.raises(ValueError, match=r"^design is |^design has "):
        kb.problems.Quadratic().exact_eig(design)
