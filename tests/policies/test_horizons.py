"""Experiments of random length: what comes after the end counts for nothing, and one policy serves all lengths."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.backend import batch, compile_function
from kerasbed.objectives import gradients, horizons
from kerasbed.simulators import datasets
from tests import toys
from tests.sequence_experiments import Slope


class Sample(kb.Simulator):
    """A look uses up a share x of what is left of a sample: y = slope tanh(4 x r) + noise, r' = r (1 - x)."""

    prior, noise, noise_shape = kb.Prior(slope=stats.norm()), stats.norm(), (1,)

    def initial_state(self, parameters):
        return ops.ones_like(parameters["slope"])

    def _mean(self, parameters, design, state):
        return parameters["slope"] * ops.tanh(4.0 * design * state)

    def outcome(self, parameters, design, noise, state):
        return self._mean(parameters, design, state) + noise, state * (1.0 - design)

    def log_likelihood(self, outcome, parameters, design, state):
        residual = outcome - self._mean(parameters, design, state)
        log_p = ops.sum(-0.5 * ops.square(residual) - 0.5 * np.log(2.0 * np.pi), axis=-1)
        return log_p, state * (1.0 - design)


def policy(shortest=1, steps=3, **options):
    return kb.policies.Policy(kb.designs.Box((1,), -1.0, 1.0), steps, shortest=shortest, seed=0, **options)


def drawn(model, rows=8):
    data = datasets.SimulatorDataset(model.simulator, model.design, rows, 1, seed=3).bind(model)
    return data.batch(0)


@pytest.mark.parametrize("simulator", [Slope(), Sample()], ids=["lines", "sample"])
def test_likelihoods_count_the_first_looks_of_each_row(simulator):
    rng = np.random.default_rng(0)
    made, design, outcome = np.array([1.0, 3.0, 2.0]), rng.uniform(0.2, 0.8, (3, 3, 1)), rng.standard_normal((3, 3, 1))
    sequence, inner = kb.Sequence(simulator, 3), {"slope": rng.standard_normal((1, 5, 1))}

    def densities(made, design, outcome, inner):
        own = {"slope": inner["slope"][0, :3]}
        counting = sequence.counting(made)
        of_all = counting.log_density(outcome[:, None], inner, design[:, None])
        return counting.log_density(outcome, own, design), of_all

    own, pairs = compile_function(densities)(made, design, outcome, inner)
    for row, looks in enumerate(made.astype(int)):
        first = kb.Sequence(simulator, int(looks))
        expected = compile_function(lambda y, xi, p, first=first: first.log_density(y[:, None], p, xi[:, None]))(
            outcome[row : row + 1, :looks], design[row : row + 1, :looks], inner
        )
        np.testing.assert_allclose(pairs[row], expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(own[row], expected[0, row], rtol=1e-5, atol=1e-5)
    assert sequence.made is None


def test_pairs_by_a_product_count_alike():
    rng = np.random.default_rng(0)
    sequence, parameters = kb.Sequence(Slope(), 2), {"slope": rng.standard_normal((4, 1))}
    design, outcome, made = rng.uniform(-1.0, 1.0, (1, 2, 1)), rng.standard_normal((3, 2, 1)), np.array([1.0, 2.0, 1.0])

    def both(parameters, design, outcome, made):
        counting, spread = sequence.counting(made), {name: v[None] for name, v in parameters.items()}
        product = counting.pairwise_log_density(outcome, parameters, design)
        return product, counting.log_density(outcome[:, None], spread, design[:, None])

    product, direct = compile_function(both)(parameters, design, outcome, made)
    np.testing.assert_allclose(product, direct, rtol=1e-4, atol=1e-4)


def test_a_row_that_ends_early_is_the_shortened_experiment():
    """The bound of a batch told of two decisions is that of the shortened policy, whose rollouts are the same."""
    whole = policy()
    model = kb.DesignModel(Slope(), whole, kb.objectives.PriorContrastive(31, num_local=0), seed=0)
    draws = drawn(model)
    assert set(draws[batch.EXTRA][batch.HORIZON].tolist()) <= {1.0, 2.0, 3.0}
    draws[batch.EXTRA][batch.HORIZON] = np.full(8, 2.0)
    short = kb.DesignModel(Slope(), whole.shortened(2), kb.objectives.PriorContrastive(31, num_local=0), seed=0)
    cut = draws | {batch.NOISE: draws[batch.NOISE][:, :2]}
    cut[batch.EXTRA] = {name: v for name, v in draws[batch.EXTRA].items() if name != batch.HORIZON}
    found = {}
    for name, owner, given in (("whole", model, draws), ("short", short, cut)):
        made = compile_function(lambda draws, owner=owner: owner.study.terms(draws)._asdict())(given)
        found[name] = made["values"], made["design"][:, :2], made["outcome"][:, :2]
    for ours, theirs in zip(*found.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["BarberAgakov", "InfoNCE"])
@pytest.mark.usefixtures("lean_networks")
def test_networks_see_nothing_after_the_end(kind):
    """Outcomes after the end may be anything."""
    model = kb.DesignModel(Slope(), policy(), getattr(kb.objectives, kind)(), seed=0)
    rng = np.random.default_rng(0)
    for weight in model.objective.trainable_weights:  # before training they may depend on nothing
        weight.assign(weight + 0.1 * rng.standard_normal(weight.shape))
    draws = drawn(model)
    draws[batch.EXTRA][batch.HORIZON] = np.resize([1.0, 2.0], 8)

    def terms(draws, outcome, design):
        return model.objective(draws, outcome, design, training=False)

    design, outcome = rng.uniform(-1.0, 1.0, (8, 3, 1)), rng.standard_normal((8, 3, 1))
    ends = draws[batch.EXTRA][batch.HORIZON].astype(int)[:, None, None]
    other = np.where(np.arange(3)[None, :, None] < ends, outcome, 7.0)
    program = compile_function(terms, "float32")
    ours, theirs = program(draws, outcome, design), program(draws, other, design)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert np.abs(ours - program(draws, outcome + 1.0, design)).max() > 1e-4


def test_estimates_are_of_whole_experiments():
    model = kb.DesignModel(Slope(), policy(), kb.objectives.PriorContrastive(31), seed=0)
    assert all(batch.HORIZON not in draws[batch.EXTRA] for draws in model.study.draws(16, 0))
    plain = Slope().simulate(4, model.design, seed=0)
    cut = Slope().simulate(4, model.design.shortened(3), seed=0)
    np.testing.assert_allclose(plain["design"], cut["design"], atol=1e-6)


def test_next_designs_are_those_of_the_shortened_rollout():
    chosen = policy(shortest=2, per_step=2)
    chosen.prepare(kb.Sequence(Slope(), 6))
    short = chosen.shortened(2)
    made = Slope().simulate(3, short, seed=0)
    assert made["design"].shape == (3, 4, 1)
    history = {name: made[name][:, :2] for name in ("design", "outcome")}
    np.testing.assert_allclose(chosen.next_design(history, steps=2), made["design"][:, 2:], atol=1e-5)
    np.testing.assert_allclose(short.next_design(history), made["design"][:, 2:], atol=1e-5)
    assert np.abs(chosen.next_design(history) - made["design"][:, 2:]).max() > 1e-4  # it is told of another look
    with pytest.raises(kb.errors.HistoryError, match="nothing to choose"):
        short.next_design({name: made[name] for name in ("design", "outcome")})


def test_rules_hold_in_a_shortened_experiment():
    chosen = policy(rules=[kb.policies.Moves(0.2, start=[0.5])])
    chosen.prepare(kb.Sequence(Slope(), 3))
    made = Slope().simulate(16, chosen.shortened(2), seed=0)
    moved = np.abs(np.diff(made["design"][..., 0], axis=1, prepend=0.5))
    assert 0.1 < moved.max() <= 0.2 + 1e-6
    history = {name: made[name][:, :1] for name in ("design", "outcome")}
    np.testing.assert_allclose(chosen.shortened(2).next_design(history), made["design"][:, 1], atol=1e-5)


def test_one_policy_is_best_for_one_look_and_for_two():
    """All of the sample at once, or half of it twice: 0.5 log(1 + sum tanh(4 u)^2), 0.346 and 0.525 nats.

    Half of it is worth 0.329 where there is no second look, so that a policy that is not told reaches 95%.
    """
    keras.utils.set_random_seed(0)
    both = kb.policies.Policy(kb.designs.Box((1,), 0.0, 1.0), 2, shortest=1, seed=0)
    model = kb.DesignModel(Sample(), both, kb.objectives.PriorContrastive(127, num_largest=128, num_local=0), seed=0)
    model.compile(policy_optimizer=keras.optimizers.Adam(1e-2), **toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=60, batch_size=128, verbose=0, diagnose=False)
    for steps, best in ((1, 0.3464), (2, 0.5250)):
        used = Sample().simulate(64, both.shortened(steps), seed=1)["design"][..., 0]
        left = np.cumprod(np.concatenate([np.ones((64, 1)), 1.0 - used], axis=1), axis=1)[:, :-1]
        gain = 0.5 * np.log1p(np.sum(np.tanh(4.0 * used * left) ** 2, axis=1)).mean()
        assert 0.99 * best < gain < 1.001 * best


def test_brackets_are_of_the_shortened_experiment():
    chosen = policy()
    chosen.prepare(kb.Sequence(Slope(), 3))
    few = {"num_temperatures": 50, "num_chains": 15, "check": False}
    found = kb.eig.bracket(Slope(), chosen.shortened(2), 64, seed=0, method="annealed", **few)
    used = Slope().simulate(64, chosen.shortened(2), seed=0)["design"]
    exact = 0.5 * np.log1p(np.sum(used**2, axis=(1, 2)) / 0.25).mean()
    assert found.lower - 4 * found.lower_se < exact < found.upper + 4 * found.upper_se


@pytest.mark.one_backend
def test_it_is_kept_in_files_and_copies(tmp_path):
    model = kb.DesignModel(Slope(), policy(), kb.objectives.PriorContrastive(15, num_local=0), seed=0)
    model.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", simulator=Slope())
    assert loaded.design.shortest == 1
    history = {"design": np.zeros((1, 1, 1)), "outcome": np.ones((1, 1, 1))}
    expected = model.design.next_design(history, steps=2)
    np.testing.assert_allclose(loaded.design.next_design(history, steps=2), expected, atol=1e-6)
    np.testing.assert_allclose(model.design.shortened(2).frozen_copy().next_design(history), expected, atol=1e-6)
    kb.DesignModel(Slope(), model.design.shortened(2), seed=0).save(tmp_path / "short.keras")
    short = kb.load(tmp_path / "short.keras", simulator=Slope()).design
    np.testing.assert_allclose(short.next_design(history), expected, atol=1e-6)
    assert short.shortened(1).length == 1


@pytest.mark.one_backend
def test_what_it_is_not_for_is_refused():
    with pytest.raises(ValueError, match="shortest is 3 and steps 3"):
        policy(shortest=3)
    with pytest.raises(ValueError, match="shortest is 0"):
        policy(shortest=0)
    with pytest.raises(kb.errors.PolicyError, match="for 2 to 3 decisions"):
        policy(shortest=2).shortened(1)
    with pytest.raises(kb.errors.PolicyError, match=r"steps=5, shortest=1"):
        policy().shortened(5)
    with pytest.raises(kb.errors.PolicyError, match="steps is 3, but what was shortened makes 2"):
        policy().shortened(2).shortened(3)
    with pytest.raises(kb.errors.PolicyError, match="AdaptiveContrastive takes experiments of one number"):
        kb.DesignModel(Slope(), policy(), kb.objectives.AdaptiveContrastive(), seed=0)
    with pytest.raises(kb.errors.PolicyError, match="some end early"):
        kb.DesignModel(Slope(), policy(), cost=lambda design: ops.sum(design, axis=(1, 2)), budget=1.0)
    assert horizons.counted("simulator", {}) == "simulator"
    assert gradients.rows_per_draw("score", kb.Sequence(Slope(), 3), policy()) == 1
