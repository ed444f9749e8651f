"""What an experiment in float64 computes, it computes in float64."""

import numpy as np
import pytest

from tests import toys

FLOAT64 = """
import json, keras
keras.config.set_floatx("float64")
import numpy as np
from keras import ops
import kerasbed as kb
from kerasbed import backend
from kerasbed.eig import certificate
from kerasbed.designs.cheapest_design import cheapest
from kerasbed.model.costs import Cost
from kerasbed.model.exchange import Scores
from tests import linear_experiments as linear, toys

space = kb.designs.Box((2,), -1.0, 1.0, seed=1)
model = toys.small_model(toys.Line(), space, target=lambda p: ops.square(p["slope"]))
linear.roughen(model)
rng = np.random.default_rng(0)
found = certificate._Bound(model.study, rng, 8)
targets = model.posterior.prior.sample(50, rng)
draws = next(iter(model.study.draws(50, 0)))
conditions = certificate._conditions(model.study, draws)[0]
auxiliary = rng.standard_normal((50, model.posterior.auxiliary_dim))
with backend.no_gradients():
    exact = certificate._log_q(model.posterior, *backend.to_tensor((targets, conditions, auxiliary), "float64"))
ratios = found.evaluate(targets, conditions, auxiliary)
u = cheapest(space, Cost(lambda d: ops.sum(ops.square(d), axis=-1), None, space), 0.0).u
rating = Scores(lambda row: float(np.sum(row)))
print(json.dumps({
    "ratios": np.asarray(ratios[0], "float64").tolist(),
    "exact": backend.to_numpy(exact[0]).tolist(),
    "cheapest": str(u.dtype),
    "ratings": rating(np.array([[1.0], [1.0 + 1e-10]])).tolist(),
}))
"""


@pytest.mark.one_backend
def test_certificates_costs_and_exchanges_follow_the_float_type():
    found = toys.run_python(toys.WITHOUT_TENSORFLOW + FLOAT64, JAX_ENABLE_X64="1")
    np.testing.assert_allclose(found["ratios"], found["exact"], rtol=1e-11)
    assert found["cheapest"] == "float64"
    assert found["ratings"][0] != found["ratings"][1]
