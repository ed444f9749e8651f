"""A mean that counts its axes from the front is found when a model is built, in words about it."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.eig.leading_axes import check_leading_axes

PRIOR = kb.Prior(a=stats.norm(), b=(stats.norm(), 2))
DESIGN = np.array([0.5, 1.0, 2.0])
BAD = {
    "first axis": lambda p, d: p["a"][:, 0:1] * d,
    "lost axis": lambda p, d: p["a"][:, 0][:, None] * d,
    "stacked": lambda p, d: ops.stack([p["a"][..., 0] * d[..., i] for i in range(3)], axis=1),
    "summed": lambda p, d: ops.sum(p["b"], axis=1, keepdims=True) * d,
    "fails": lambda p, d: ops.matmul(p["b"], ops.ones((2, 1))) * d if len(p["b"].shape) == 2 else p["none"],
}


def simulator(kind, method, function, **members):
    members |= {"prior": PRIOR, method: lambda self, p, d: function(p, d)}
    return type("Mine", (kind,), members)()


@pytest.mark.parametrize("name", BAD)
def test_a_mean_without_leading_axes_is_named(name):
    with pytest.raises(kb.errors.LikelihoodError, match=r"Mine\.mean returned shape \(5, 3\) for 5 draws, but"):
        check_leading_axes(simulator(kb.GaussianSimulator, "mean", BAD[name], scale=lambda s, p, d: 1.0), DESIGN)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("kind", "method"),
    [(kb.BernoulliSimulator, "probability"), (kb.PoissonSimulator, "rate"), (kb.GaussianSimulator, "scale")],
)
def test_so_is_every_other_function_of_a_likelihood(kind, method):
    mean = {"mean": lambda self, p, d: p["a"] * d} if method == "scale" else {}
    mine = simulator(kind, method, lambda p, d: ops.exp(BAD["first axis"](p, d)), **mean)
    with pytest.raises(kb.errors.LikelihoodError, match=rf"Mine\.{method} returned shape"):
        check_leading_axes(kb.Sequence(mine, 2), np.stack([DESIGN, DESIGN]))
    with pytest.raises(kb.errors.LikelihoodError, match=rf"Mine\.{method} returned shape"):
        kb.eig.check_likelihood(mine, DESIGN)


def test_functions_that_broadcast_pass():
    for scale in (lambda s, p, d: 1.0, lambda s, p, d: d, lambda s, p, d, mean: 0.1 + ops.abs(mean)):
        check_leading_axes(simulator(kb.GaussianSimulator, "mean", lambda p, d: p["a"] * d, scale=scale), DESIGN)
    check_leading_axes(kb.problems.MichaelisMenten(), DESIGN)


@pytest.mark.one_backend
def test_a_model_is_not_built_with_such_a_mean():
    mine = simulator(kb.GaussianSimulator, "mean", BAD["lost axis"], scale=lambda s, p, d: 1.0)
    with pytest.raises(kb.errors.LikelihoodError, match="Count axes from the end"):
        kb.DesignModel(mine, kb.designs.Box((3,), 0.0, 1.0), seed=0)
