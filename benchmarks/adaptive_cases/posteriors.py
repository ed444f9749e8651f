"""A8: posteriors after one, half and all of a policy's measurements, held against BayesFlow's calibration statistic.

Log gamma (Modrak et al., 2023) of 1,000 histories with 500 draws each, over the 0.001 quantile of its null
distribution: above 0 where ranks of the true parameters are uniform, which a calibrated posterior fails once in a
thousand parameters. The same posteriors, scaled to 0.8 of their width, must fail.

    KERAS_BACKEND=jax python benchmarks/adaptive_cases/posteriors.py           # rows, one a line
"""

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import keras
import numpy as np
from bayesflow.diagnostics.metrics import calibration_log_gamma

NARROW = 0.8
DATASETS, DRAWS, NULL_DRAWS, QUANTILE = 1000, 500, 5000, 0.001
LOOKS = {"death process": 4, "location finding": 10}
STEPS = {"death process": (400, 1500), "location finding": (600, 4000)}  # of the policy, of its posterior


def log_gamma(model, length: int, width: float = 1.0, seed: int = 102) -> float:
    """Smallest log gamma over the parameters after `length` measurements; the posterior's width is scaled.

    Args:
        model: a `kerasbed.DesignModel` of a policy, with a trained posterior.
        length: measurements of each history.
        width: 1 for the posterior as it is.
        seed: of the histories.
    """
    data = model.simulator.simulate(DATASETS, model.design, seed=seed)
    given = {name: data[name][:, :length] for name in ("design", "outcome")}
    draws = model.sample(DRAWS, given, seed=3)
    targets = {}
    for name, values in draws.items():  # in coordinates without an edge, which a scaled draw could cross
        scale = np.log if np.all(values > 0.0) and np.all(data["parameters"][name] > 0.0) else np.asarray
        draws[name], targets[name] = scale(values), scale(data["parameters"][name])
    draws = {k: v.mean(1, keepdims=True) + width * (v - v.mean(1, keepdims=True)) for k, v in draws.items()}
    np.random.seed(0)  # noqa: NPY002 - BayesFlow draws its null distribution from NumPy's global state
    found = calibration_log_gamma(draws, targets, num_null_draws=NULL_DRAWS, quantile=QUANTILE)
    return float(np.min(found["values"]))


def trained(name: str, seed: int = 1):
    """A model with a policy trained for a moment and a posterior on its histories."""
    keras.utils.set_random_seed(seed)
    if name == "death process":
        simulator = kb.problems.SequentialDeathProcess()
        space = simulator.design
    else:
        simulator, space = kb.problems.LocationFinding(), kb.designs.Free((2,))
    of_policy, of_posterior = STEPS[name]
    policy = kb.policies.Policy(space, LOOKS[name], seed=seed)
    model = kb.DesignModel(simulator, policy, kb.objectives.PriorContrastive(), seed=seed)
    model.fit(epochs=1, steps_per_epoch=of_policy, verbose=0, diagnose=False)
    network = None if name == "death process" else kb.networks.GaussianMixture(exchangeable=2, seed=seed)
    model.fit_posterior(network, epochs=1, steps_per_epoch=of_posterior, batch_size=256, verbose=0, diagnose=False)
    return model


def _rows(id: str, name: str) -> list[dict]:
    model, most = trained(name), LOOKS[name]
    rows = []
    for length in (1, most // 2, most):
        as_it_is, narrow = log_gamma(model, length), log_gamma(model, length, NARROW)
        note = f"{name}, {length} of {most} measurements; at {NARROW} of the width {narrow:.2f}, which must fail"
        rows.append({"reported": as_it_is, "truth": "above 0", "passed": as_it_is > 0.0 > narrow, "note": note})
    return [{"id": id if i == 0 else f"{id}/{name}, {i}", **row} for i, row in enumerate(rows)]


def death_process() -> list[dict]:
    """Rows A8, A8/death process, 1 and 2."""
    return _rows("A8", "death process")


def location_finding() -> list[dict]:
    """Rows A8/location finding, and that with 1 and 2."""
    return _rows("A8/location finding", "location finding")


if __name__ == "__main__":
    for row in death_process() + location_finding():
        print(row, flush=True)
