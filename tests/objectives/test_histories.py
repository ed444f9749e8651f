"""Bounds of histories: scores against all paths of a two-step policy, and what training climbs, shows and needs."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.objectives import gradients, pool
from kerasbed.policies import rollout
from kerasbed.simulators import datasets

PAIRS = list(itertools.product((1e-6, 1.0 - 1e-6), repeat=2))  # uniform numbers that force both outcomes of two looks


class Binary(kb.Simulator):
    """y = 1 with probability sigmoid(ability - difficulty)."""

    prior, noise, noise_shape, differentiable = kb.Prior(ability=stats.norm()), stats.uniform(), (1,), False

    def outcome(self, parameters, design, noise):
        return ops.cast(noise < ops.sigmoid(parameters["ability"] - design), noise.dtype)

    def log_likelihood(self, outcome, parameters, design):
        logit = parameters["ability"] - design
        return ops.sum(outcome * logit - ops.softplus(logit), axis=-1)


def small_policy(space, scale):
    encoder = kb.policies.PooledEncoder(width=3, hidden=4, heads=1, head_width=2, seed=1)
    policy = kb.policies.Policy(space, 2, encoder=encoder, emitter=keras.layers.Dense(4, "tanh"), seed=2)
    policy.prepare(kb.Sequence(Binary(), 2))
    rng = np.random.default_rng(3)
    for variable in policy.trainable_variables:
        variable.assign(scale * rng.standard_normal(variable.shape))
    return policy


def bound(policy, objective):
    """`(weights, draws, probability) -> sum of probability c` and of c alone, as functions of the policy's weights."""
    simulator = kb.Sequence(Binary(), 2)
    objective.setup(simulator, policy, (2, 1))

    def terms(weights, draws):
        with keras.StatelessScope(state_mapping=list(zip(policy.trainable_variables, weights, strict=True))):
            return gradients.contributions(simulator, objective, policy, draws, "score", training=True).values

    def expected(weights, draws, repeats):
        """Over listed paths, each weighted by its probability; `repeats` is their number for one parameter."""
        with keras.StatelessScope(state_mapping=list(zip(policy.trainable_variables, weights, strict=True))):
            design, outcome, log_choice = policy.measure_with_scores(simulator, draws)
            values = objective(draws, outcome, design)
            log_p = log_choice + simulator.log_likelihood(outcome, draws["parameters"], design)
            return ops.sum(ops.exp(log_p) * values) * repeats / values.shape[0]

    return terms, expected


def batch_with(policy, objective, parameters, noise, extra, seed=5):
    """A batch of given parameters and base samples, with one pool of 16 contrastive draws for all."""
    num, rng = len(noise), np.random.default_rng(seed)
    pool_ = {"contrastive": {"ability": np.resize(rng.standard_normal((16, 1)), (num, 1, 1))}}
    priority = {"priority": np.full((num, 2), 0.5)}
    return {"parameters": {"ability": parameters}, "noise": noise, "extra": pool_ | priority | extra}


def spaces():
    return {
        "continuous": (kb.designs.Box((1,), -2.0, 2.0), 1, 0.7),
        "choices": (kb.designs.Choice((1,), options=[-3.0, 0.0, 4.0]), 9, 0.3),
    }


@pytest.mark.parametrize("name", ["continuous", pytest.param("choices", marks=pytest.mark.one_backend("torch"))])
def test_scores_of_histories_equal_all_paths(name, monkeypatch):
    """Mean of 20 batches of sampled scores against the derivative of the sum over all outcomes (and choices) of two
    looks, which itself equals a central difference. |t| < 4.5 for a dozen weights: false alarm 8e-5, fixed seed."""
    monkeypatch.setattr(rollout, "STEEPEST", np.inf)  # listed paths weigh more than sampled ones
    monkeypatch.setattr(kb.objectives.PriorContrastive, "_terms", lambda *_: None)  # scores of the true parameters
    space, choices, scale = spaces()[name]
    policy, ability, rng = small_policy(space, scale), np.array([[-0.8], [0.3], [1.5]]), np.random.default_rng(4)
    terms, expected = bound(policy, kb.objectives.PriorContrastive(16, num_largest=16, num_local=0))
    weights = [backend.to_numpy(variable.value) for variable in policy.trainable_variables]
    paths = list(itertools.product(PAIRS, itertools.product(range(3), repeat=2) if choices > 1 else [None]))
    rows = [(a, noise, chosen) for a in ability for noise, chosen in paths]
    gumbel = np.array([np.zeros((2, 1, 3)) if c is None else 60.0 * np.eye(3)[list(c)][:, None] for *_, c in rows])
    extra = {} if choices == 1 else {"gumbel": gumbel}
    listed = batch_with(policy, None, np.array([r[0] for r in rows]), np.array([r[1] for r in rows])[..., None], extra)
    exact = backend.value_and_gradient(expected)
    value, slope = exact(weights, listed, np.float64(len(paths)))
    ways = [rng.standard_normal(w.shape) for w in weights]
    shifted = [[w + sign * 3e-3 * way for w, way in zip(weights, ways, strict=True)] for sign in (1, -1)]
    up, down = (exact(w, listed, np.float64(len(paths)))[0] for w in shifted)
    along = sum(np.sum(way * s) for way, s in zip(ways, slope, strict=True))
    assert (up - down) / 6e-3 == pytest.approx(along, rel=5e-3)  # the networks round to float32

    sampled, num, found = backend.value_and_gradient(lambda w, d: ops.mean(terms(w, d))), 1536, []
    for _ in range(20):
        extra = {} if choices == 1 else {"gumbel": rng.gumbel(size=(num, 2, 1, 3))}
        batch = batch_with(policy, None, np.resize(ability, (num, 1)), rng.random((num, 2, 1)), extra)
        told, gradient = sampled(weights, batch)
        found.append(np.concatenate([[told], *[g.ravel()[:2] for g in gradient]]))
    found, truth = np.array(found), np.concatenate([[value], *[g.ravel()[:2] for g in slope]])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - truth) < 4.5 * error + 1e-9)
    assert np.abs(truth[1:] / error[1:]).max() > 10.0  # precise enough to tell


@pytest.mark.parametrize("largest", [None, 3])
def test_averaged_scores_equal_all_paths(largest, monkeypatch):
    """Over each of four parameters as the true one against the other three, and all outcomes of two looks: the
    derivative of the bound, for any baseline; by all terms, and by 3 of 3 sampled ones."""
    monkeypatch.setattr(rollout, "STEEPEST", np.inf)
    policy, abilities = small_policy(*spaces()["continuous"][::2]), np.array([-0.8, 0.3, 1.5, -0.1])
    simulator, objective = kb.Sequence(Binary(), 2), kb.objectives.PriorContrastive(3, num_largest=largest, num_local=0)
    objective.setup(simulator, policy, (2, 1))
    objective.of_policy = largest is not None  # else all terms have a gradient

    def averaged(weights, draws, baseline):
        with keras.StatelessScope(state_mapping=list(zip(policy.trainable_variables, weights, strict=True))):
            design, outcome, _ = policy.measure_with_scores(simulator, draws)
            terms = objective(draws, outcome, design, training=True).terms()
            probability = ops.exp(simulator.log_likelihood(outcome, draws["parameters"], design))
            values = terms.value + terms.scores(ops.zeros_like(terms.value) + baseline)
            return ops.sum(ops.stop_gradient(probability) * values)

    _, expected = bound(policy, objective)
    weights = [backend.to_numpy(variable.value) for variable in policy.trainable_variables]
    ways = [backend.value_and_gradient(function) for function in (averaged, expected)]
    found = []
    for true in range(4):
        others = np.delete(abilities, true)[:, None, None]
        draws = {
            "parameters": {"ability": np.full((4, 1), abilities[true])},
            "noise": np.array(PAIRS)[..., None],
            "extra": {"contrastive": {"ability": others[[0, 1, 2, 0]]}, "priority": np.full((4, 2), 0.5)},
        }
        found.append([way(weights, draws, np.float64(number)) for way, number in zip(ways, (0.7, 4.0), strict=True)])
    assert sum(ours[0] for ours, _ in found) == pytest.approx(sum(truth[0] for _, truth in found), rel=1e-5)
    for k in range(len(weights)):
        ours, truth = (sum(f[way][1][k] for f in found) for way in (0, 1))
        np.testing.assert_allclose(ours, truth, rtol=1e-3, atol=1e-5)


def test_training_shows_the_bound_and_climbs_with_local_draws():
    """The values are those without training; the slope is another one."""
    simulator, policy = kb.problems.LocationFinding(sources=1), kb.policies.Policy(kb.designs.Free((2,)), 2, seed=0)
    model = kb.DesignModel(simulator, policy, kb.objectives.PriorContrastive(), seed=0)
    objective = model.objective
    assert (objective.shared, objective.local, objective.largest) == (1024, 256, 32)
    draws = datasets.SimulatorDataset(model.simulator, policy, 32, 1, seed=1).bind(model)[0][0]
    run = backend.compile_function(lambda d: (model(d, training=True), model(d)), "float32", variables=model.variables)
    told, plain = run(draws)
    np.testing.assert_allclose(told, plain, rtol=2e-5, atol=2e-5)
    one_by_one = [special.logsumexp(row) for row in _pairs(model, draws)]
    own = np.diag(_pairs(model, draws, own=True))
    np.testing.assert_allclose(plain, own - np.logaddexp(own, one_by_one) + np.log(1025), rtol=1e-4, atol=1e-4)


def _pairs(model, draws, own=False):
    """Log likelihoods of each history with the contrastive parameters, or with those of all rows, by NumPy."""
    design, outcome = backend.compile_function(lambda d: model.design.measure(model.simulator, d), "float32")(draws)
    if own:
        parameters = draws["parameters"]["sources"]
    else:
        parameters = pool.flatten_pool(draws["extra"]["contrastive"])["sources"][:1024]
        parameters = backend.to_numpy(parameters)
    square = ((parameters[None, :, None] - design[:, None]) ** 2).sum(axis=-1)
    mean = np.log(0.1 + 1.0 / (1e-4 + square))
    return stats.norm(mean, 0.5).logpdf(outcome[:, None, :, 0]).sum(axis=-1)


@pytest.mark.one_backend
def test_static_designs_are_trained_as_before():
    simulator, objective = kb.problems.LinearGaussian(), kb.objectives.PriorContrastive()
    kb.DesignModel(simulator, kb.designs.Simplex(2), objective, seed=0)
    assert (objective.shared, objective.local, objective.largest) == (None, 0, None)
    assert objective.extra_draws(8, np.random.default_rng(0)) == {}
    with pytest.raises(ValueError, match="set num_contrastive as well"):
        kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.PriorContrastive(num_local=8), seed=0)
