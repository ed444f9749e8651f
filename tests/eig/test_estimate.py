"""The family of results: one value as a number, two sides by name, and the same fields everywhere."""

import pickle
import re

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.eig import reliability
from tests import toys

pytestmark = pytest.mark.one_backend

BOTH = kb.EIGEstimate(1.0, 0.1, 1.2, 0.2, "bounds", {"seed": 3})
TABLE = kb.eig.Enumeration(np.array([0.5, 0.7]), np.zeros(2), np.array([[1.0], [2.0]]), 2, 3)


@pytest.mark.parametrize(
    ("estimate", "value"),
    [
        (kb.EIGEstimate(1.0, 0.1, 1.0, 0.1), 1.0),
        (kb.EIGEstimate(lower=1.0, lower_se=0.1), 1.0),
        (kb.EIGEstimate(upper=2.0, upper_se=0.1), 2.0),
        (kb.eig.LaplaceEstimate(3.0, 0.1, "Laplace"), 3.0),
        (kb.eig.Entropy(np.inf, np.nan, "Monte Carlo"), np.inf),
        (TABLE.estimate(1), 0.7),
    ],
)
def test_an_estimate_of_one_value_is_a_number(estimate, value):
    assert float(estimate) == value
    assert isinstance(estimate, kb.eig.Estimate)


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        (BOTH, "EIGEstimate has the values .lower and .upper, but one value was expected"),
        (kb.EIGEstimate(method="grid"), "EIGEstimate has no value, but one value was expected"),
        (TABLE, "Enumeration has 2 settings, but one value was expected; take .estimate(index)"),
    ],
)
def test_an_estimate_of_several_values_says_which_there_are(estimate, told):
    with pytest.raises(TypeError, match=re.escape(told)):
        float(estimate)


def test_a_result_survives_pickling_and_tells_what_it_was_found_with():
    for estimate in (BOTH, kb.eig.BoundGap(0.2, 0.01, "gap", {"seed": 3}, 0.1), prior_entropy()):
        copied = pickle.loads(pickle.dumps(estimate))
        assert (copied, copied.settings) == (estimate, estimate.settings)
        assert repr(copied).startswith(type(estimate).__name__ + "(")
    assert BOTH.values == {"lower": (1.0, 0.1), "upper": (1.2, 0.2)}


def prior_entropy():
    return kb.Prior(a=stats.norm()).entropy()


def test_what_is_left_out_of_an_estimate_leaves_its_settings():
    assert reliability.presentable(kb.EIGEstimate(np.nan, 0.1, 1.0, 0.1, "m", {"seed": 3})).settings == {"seed": 3}


def test_estimates_name_their_settings_and_errors():
    found = kb.eig.laplace(toys.LINE, [0.3, 0.4], num_samples=8, seed=2)
    assert found.settings == {"num_samples": 8, "num_outcomes": 64, "seed": 2}
    assert found.standard_error == found.value_se
    assert str(prior_entropy()) == "1.4189 +- 0.0000 nats (closed form)"
    np.testing.assert_array_equal(TABLE.eig_se, TABLE.error)


def test_a_point_estimate_unpacks_into_value_and_error():
    found = kb.eig.LaplaceEstimate(3.0, 0.1, "Laplace")
    value, error = found
    assert (value, error) == found[:2] == (3.0, 0.1)
