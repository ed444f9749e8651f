"""Refinement after half of the measurements of location finding (L6), and under a shifted prior.

A policy of `STEPS` measurements is trained for two hidden sources with standard normal places. Each history is half of
an experiment with sources of its own; what is left of the policy is refined from the posterior. The bounds on what is
left to be learned, before and after, share their draws. Under the shifted prior the places are normal around (1.5, 0):
the policy has never seen that, and the histories come from there.
"""

import copy

import keras
import numpy as np
from scipy import stats

import kerasbed as kb

STEPS = 10


def _trained(steps) -> kb.policies.Policy:
    keras.utils.set_random_seed(0)
    simulator = kb.problems.LocationFinding()
    policy = kb.policies.Policy(simulator.design, STEPS, seed=0)
    model = kb.DesignModel(simulator, policy, seed=0)
    model.fit(epochs=1, steps_per_epoch=steps, verbose=0)
    return policy


def _gains(policy, simulator, histories, steps) -> np.ndarray:
    """(histories, 2): gain of what is left to be learned, and its error."""
    found = []
    for seed in range(histories):
        made = simulator.simulate(1, policy, seed=100 + seed)
        lab = kb.Experiment(simulator, policy, seed=seed)
        half = {name: made[name][0, : STEPS // 2] for name in ("design", "outcome")}
        lab.add_measurements(half)
        told = lab.refine(steps)
        found.append((told.gain if told.kept else 0.0, told.gain_se))
    return np.array(found)


def _row(id, gains) -> dict:
    mean, error = gains[:, 0].mean(), gains[:, 0].std(ddof=1) / np.sqrt(len(gains))
    error = np.hypot(error, np.sqrt(np.sum(gains[:, 1] ** 2)) / len(gains))
    note = f"+- {error:.3f} over {len(gains)} histories of {STEPS // 2} of {STEPS} measurements; at least 2 errors"
    return {"id": id, "reported": float(mean), "truth": None, "passed": bool(mean > 2.0 * error), "note": note}


def refined(options) -> list[dict]:
    """Both rows."""
    small = options.size == "small"
    histories, training, steps = (3, 100, 50) if small else (16, 1500, 300)
    policy, simulator = _trained(training), kb.problems.LocationFinding()
    shifted = copy.copy(simulator)
    centre = np.tile([1.5, 0.0], len(simulator.prior.sample(1, 0)[simulator.prior.names[0]][0]) // 2)
    shifted.prior = kb.Prior(**{simulator.prior.names[0]: stats.multivariate_normal(centre, np.eye(len(centre)))})
    rows = [_row("L6", _gains(policy, simulator, histories, steps))]
    return [*rows, _row("L6/shifted", _gains(policy, shifted, histories, steps))]
