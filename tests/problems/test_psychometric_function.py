"""The psychometric function against values worked out by hand and the gain of one answer by integration."""

import numpy as np
import pytest
from scipy import special

import kerasbed as kb
from kerasbed import backend

OBSERVER = kb.problems.PsychometricFunction()


def test_guesses_and_lapses_bound_the_curve():
    parameters = {"threshold": [[0.5]], "slope": [[4.0]], "guess": [[0.1]], "lapse": [[0.02]]}
    parameters = {name: np.repeat(values, 3, axis=0) for name, values in parameters.items()}
    found = backend.compile_function(OBSERVER.probability)(parameters, np.array([[-4.0], [0.5], [4.0]]))[:, 0]
    np.testing.assert_allclose(
        found, [0.1 + 0.88 * special.expit(-18.0), 0.1 + 0.44, 0.98 - 0.88 * special.expit(-14.0)]
    )


def test_one_answer_says_most_at_the_mean_threshold():
    parameters = OBSERVER.prior.sample(20_000, seed=0)
    p = [backend.compile_function(OBSERVER.probability)(parameters, np.array([[x]])) for x in (-3.0, 0.0, 3.0)]
    entropy = lambda q: special.entr(q) + special.entr(1 - q)  # noqa: E731
    gains = [entropy(q.mean()) - entropy(q).mean() for q in p]
    assert gains[1] > 3 * max(gains[0], gains[2])
    bracket = kb.eig.bracket(OBSERVER, np.array([0.0]), 2048, 2048, seed=0)
    assert abs(bracket.lower - gains[1]) < 4 * bracket.lower_se + 0.01


@pytest.mark.parametrize("stimulus", [-4.1, 4.1])
def test_stimuli_stay_in_their_range(stimulus):
    assert not OBSERVER.design.contains([stimulus])
