"""Policies of location finding, T = 30, and posterior networks on what they measure, by processor seconds of training.

The decay of the rate is planned over the steps that fit into the time: what a run of four groups of fused steps takes
more than a run of one is the time of three, since both compile. A run before them has what only a first one does.
"""

import time
from collections.abc import Callable

import keras

import kerasbed as kb

LOOKS = 30
GROUP = 50  # steps


def steps_within(seconds: float, fit: Callable[..., object]) -> int:
    """Number of steps that `fit(epochs=, steps_per_epoch=)` makes in so many processor seconds."""
    spent = []
    for groups in (1, 1, 4):
        begin = time.process_time()
        fit(epochs=1, steps_per_epoch=groups * GROUP)
        spent.append(time.process_time() - begin)
    of_group = (spent[2] - spent[1]) / 3.0
    compiling = max(spent[1] - of_group, 0.0)
    return int((seconds - compiling) / of_group * GROUP)


def trained(seconds: float, seed: int) -> tuple[kb.DesignModel, int, float]:
    """A model whose policy was trained for about so long; its steps, and the processor seconds that they took."""
    steps = steps_within(seconds, lambda **plan: _model(seed).fit(verbose=0, diagnose=False, **plan))
    model = _model(seed)
    begin = time.process_time()
    model.fit(epochs=max(1, steps // (2 * GROUP)), steps_per_epoch=2 * GROUP, verbose=0, diagnose=False)
    return model, steps, time.process_time() - begin


def _model(seed):
    keras.utils.set_random_seed(seed)
    policy = kb.policies.Policy(kb.designs.Free((2,)), LOOKS, seed=seed)
    return kb.DesignModel(kb.problems.LocationFinding(), policy, seed=seed)


def fit_posterior(model: kb.DesignModel, seconds: float, seed: int) -> tuple[int, float]:
    """Train a posterior network on the policy for about so long; its steps, and the processor seconds they took."""

    def fit(**plan):
        # No data tell the sources apart.
        network = kb.networks.GaussianMixture(exchangeable=2, seed=seed)
        model.fit_posterior(network, batch_size=256, verbose=0, diagnose=False, **plan)

    steps = steps_within(seconds, fit)
    begin = time.process_time()
    fit(epochs=max(1, steps // (2 * GROUP)), steps_per_epoch=2 * GROUP)
    return steps, time.process_time() - begin
