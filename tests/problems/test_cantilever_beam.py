"""The beam against the numbers of its constants and against the differential equation it solves."""

import numpy as np
import pytest

import kerasbed as kb
from kerasbed import backend


def deflection(beam, parameters, positions):
    evaluate = backend.compile_function(lambda p, x: beam.mean(p, x))
    return evaluate({name: np.array([[value]]) for name, value in parameters.items()}, np.asarray(positions)[None])[0]


def test_the_tip_deflection_of_the_published_experiment():
    beam = kb.problems.CantileverBeam(moduli=2)
    tip = deflection(beam, {"E1": 10_000.0, "E2": 8_000.0}, beam.tip)[0]
    # Plus the first draw of the seed's noise, 0.4 * 1.690526, this is the published observation 5.377065; the mean is
    # 11 q0 L^4 / (120 E I) with E = (10 E1 + 20 E2) / 30.
    np.testing.assert_allclose(tip, 11 * 10 * 100.0**4 / (120 * (26_000 / 3) * 2250), rtol=1e-12)
    observed = tip + 0.4 * np.random.RandomState(7).normal()
    assert round(observed, 6) == 5.377065


def test_the_deflection_solves_the_beam_equation():
    """E I w'''' = q0 x / L, with w = w' = 0 at the clamp and w'' = w''' = 0 at the tip; differences of a quintic."""
    beam, modulus = kb.problems.CantileverBeam(moduli=1), 9_000.0
    x = np.linspace(0.0, 100.0, 11)
    polynomial = np.polynomial.Polynomial.fit(x, deflection(beam, {"E": modulus}, x), 5).convert()
    load = modulus * beam.second_moment * polynomial.deriv(4)(x)
    np.testing.assert_allclose(load, 10.0 * x / 100.0, atol=1e-6)
    np.testing.assert_allclose([polynomial(0.0), polynomial.deriv(1)(0.0)], 0.0, atol=1e-9)
    np.testing.assert_allclose([polynomial.deriv(2)(100.0), polynomial.deriv(3)(100.0)], 0.0, atol=1e-9)


def test_simulated_outcomes_have_the_likelihood_claimed():
    beam = kb.problems.CantileverBeam(moduli=2, noise_scale=0.3)
    positions = np.array([50.0, 100.0])
    draws = beam.simulate(4000, positions, seed=0)
    evaluate = backend.compile_function(beam.log_likelihood)
    log_likelihood = evaluate(draws["outcome"], draws["parameters"], positions[None])
    # Minus the entropy of two normals; the log density's sd is 1 for two of them: 4 standard errors of 4,000 draws.
    expected = -2 * (0.5 * np.log(2 * np.pi * np.e) + np.log(0.3))
    assert abs(log_likelihood.mean() - expected) < 4 / np.sqrt(4000)


def test_impossible_beams_are_refused():
    with pytest.raises(ValueError, match="moduli is 3"):
        kb.problems.CantileverBeam(moduli=3)
    with pytest.raises(ValueError, match="leave no core"):
        kb.problems.CantileverBeam(skin_thickness=15.0)
    with pytest.raises(ValueError, match="noise_scale is 0"):
        kb.problems.CantileverBeam(noise_scale=0.0)
