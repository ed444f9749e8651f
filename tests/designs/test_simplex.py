import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed import backend


def test_constrain_and_unconstrain_are_inverse():
    space = kb.designs.Simplex(size=4, total=2.5)
    values = space.sample(50, seed=0)
    u = backend.compile_function(space.unconstrain)(values)
    back = backend.compile_function(space.constrain)(u)
    np.testing.assert_allclose(back, values, rtol=1e-12)
    np.testing.assert_allclose(values.sum(axis=1), 2.5)
    np.testing.assert_allclose(u.mean(axis=1), 0.0, atol=1e-12)


def test_sample_is_uniform():
    """Dirichlet(1, 1, 1): mean 1/3, variance 1/18; 20,000 draws, 5 standard errors (false alarm below 1e-5)."""
    draws = kb.designs.Simplex(size=3).sample(20_000, seed=1)
    assert np.all(np.abs(draws.mean(axis=0) - 1 / 3) < 5 * np.sqrt(1 / 18 / 20_000))
    assert np.all(np.abs(draws.var(axis=0) - 1 / 18) < 0.05 / 18)


def test_layer_starts_at_the_given_weights_and_zero_is_the_boundary():
    space = kb.designs.Simplex(size=3, initial=[0.2, 0.3, 0.5])
    np.testing.assert_allclose(space.numpy(), [0.2, 0.3, 0.5], atol=1e-6)
    space.assign([0.0, 0.4, 0.6])
    np.testing.assert_allclose(space.numpy(), [0.0, 0.4, 0.6], atol=1e-6)
    assert space.numpy().min() >= 0


def test_encode_is_centred():
    space = kb.designs.Simplex(size=4, total=8.0)
    encoded = ops.convert_to_numpy(space.encode(ops.convert_to_tensor(np.full((1, 4), 2.0))))
    np.testing.assert_allclose(encoded, 0.0, atol=1e-12)


@pytest.mark.parametrize("weights", [[0.5, 0.6], [-0.1, 1.1], [0.5, 0.4]])
def test_weights_off_the_simplex_are_refused(weights):
    with pytest.raises(ValueError, match="sum to"):
        kb.designs.Simplex(size=2).check(weights)


def test_constructor_refuses_nonsense():
    with pytest.raises(ValueError, match="positive integer"):
        kb.designs.Simplex(size=0)
    with pytest.raises(ValueError, match="total"):
        kb.designs.Simplex(size=2, total=-1.0)


def test_config_round_trip():
    space = kb.designs.Simplex(size=3, total=2.0, initial=[0.5, 0.5, 1.0])
    again = kb.designs.Simplex.from_config(space.get_config())
    np.testing.assert_allclose(again.numpy(), space.numpy())
    assert repr(again) == "Simplex(size=3, total=2)"
