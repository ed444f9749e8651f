"""Michaelis-Menten with kerasbed's defaults: how good the learned design, the posterior and the bound are.

    KERAS_BACKEND=jax python benchmarks/accuracy.py                  # five seeds, 1,000 and 5,000 steps
    KERAS_BACKEND=torch python benchmarks/accuracy.py --seeds 5 --steps 1000 --json accuracy.json

Prints, for every seed and number of steps, the true EIG of the learned design as a paired ratio to the best known one
(dense grid, the same 100,000 draws, entries sorted so that they pair up); and for the last model of each number:

- the cross-validated accuracy of a classifier between 2,000 draws of the amortised and of the grid posterior, averaged
  over 20 fresh outcomes (0.5: indistinguishable);
- BayesFlow's calibration log-gamma on 1,000 data sets against the 0.001 quantile of its null distribution (above 0:
  calibrated), and the same with the posterior shrunk to 0.8 of its width (must be below 0);
- the paired mean of log q - log p_grid in standard errors (an honest bound: below 3).
"""

import argparse
import sys
import warnings

import kerasbed as kb

# isort: split
import keras
import numpy as np
import table
from bayesflow.diagnostics.metrics import calibration_log_gamma
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerasbed import reference
from kerasbed.problems.michaelis_menten import BEST_DESIGN

BATCH = 128
# Lowest and median share of the best EIG that must be reached after so many steps.
LEAST = {1000: (0.96, 0.985), 5000: (0.97, 0.998)}


def train(seed: int, steps: int):
    """A model trained with the defaults."""
    keras.utils.set_random_seed(seed)
    model = kb.DesignModel(kb.problems.MichaelisMenten(), kb.designs.Box((7,), 0.0, 400.0, seed=seed), seed=seed)
    model.fit(epochs=steps // 500, steps_per_epoch=500, batch_size=BATCH, verbose=0)
    return model


def true_eig(simulator, design) -> float:
    """Dense-grid EIG on draws that every design shares."""
    return kb.eig.grid(simulator, np.sort(design), num_samples=100_000, grid_size=64, precision="float32").lower


def two_sample_accuracy(model, num_outcomes: int = 20, num_draws: int = 2000) -> float:
    """Cross-validated classifier accuracy between amortised and exact draws, averaged over fresh outcomes."""
    data = model.simulator.simulate(num_outcomes, model.design, seed=101)
    conditions = {"outcome": data["outcome"]}
    learned = as_matrix(model.sample(num_draws, conditions, seed=1))
    exact = as_matrix(reference.sample(model.simulator, num_draws, conditions | {"design": model.design}, seed=2))
    scores = []
    for a, b in zip(learned, exact, strict=True):
        classifier = make_pipeline(StandardScaler(), MLPClassifier((20, 20), max_iter=300, random_state=0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unconverged classifier between equal samples is no news
            labels = np.repeat([0, 1], num_draws)
            scores.append(cross_val_score(classifier, np.concatenate([a, b]), labels, cv=5).mean())
    return float(np.mean(scores))


def calibration(model, width: float = 1.0, num_datasets: int = 1000, num_draws: int = 500) -> float:
    """Smallest log gamma over the parameters, against the 0.001 quantile of the null; the width of q is scaled."""
    data = model.simulator.simulate(num_datasets, model.design, seed=102)
    draws = model.sample(num_draws, {"outcome": data["outcome"]}, seed=3)
    draws = {k: v.mean(1, keepdims=True) + width * (v - v.mean(1, keepdims=True)) for k, v in draws.items()}
    np.random.seed(0)  # noqa: NPY002 - BayesFlow draws its null distribution from NumPy's global state
    found = calibration_log_gamma(draws, data["parameters"], num_null_draws=5000, quantile=0.001)
    return float(np.min(found["values"]))


def honesty(model, num: int = 20_000) -> float:
    """Mean of log q - log p_grid on the same draws, in standard errors."""
    data = model.simulator.simulate(num, model.design, seed=103)
    conditions = {"outcome": data["outcome"]}
    exact = reference.log_prob(model.simulator, data["parameters"], conditions | {"design": model.design})
    gap = model.log_prob(data["parameters"], conditions) - exact
    return float(gap.mean() / (gap.std(ddof=1) / np.sqrt(num)))


def as_matrix(draws) -> np.ndarray:
    return np.concatenate(list(draws.values()), axis=-1)


def share(made, simulator, best, seed, steps):
    """A row for the design learned from a seed; returns its model and its share of the best."""
    model = train(seed, steps)
    ratio = true_eig(simulator, model.design.numpy()) / best
    low = int(np.sum(model.design.numpy() < 250.0))
    made.row(f"{steps} steps, seed {seed}", ratio, f"{best:.4f} nats", note=f"{low} low, {7 - low} high")
    return model, ratio


def judged(made, steps, ratios, model):
    """Rows with a verdict: the designs of all seeds, and the posterior of the last."""
    worst, median = LEAST.get(steps, (0.0, 0.0))
    made.row(f"{steps} steps, median", np.median(ratios), f"at least {median}", passed=np.median(ratios) >= median)
    made.row(f"{steps} steps, lowest", min(ratios), f"at least {worst}", passed=min(ratios) >= worst)
    made.row(f"{steps} steps, two-sample accuracy", two_sample_accuracy(model), 0.5)
    gamma, narrow = calibration(model), calibration(model, width=0.8)
    made.row(f"{steps} steps, log gamma", gamma, "above 0")
    made.row(f"{steps} steps, log gamma at .8 of the width", narrow, "below 0", passed=narrow < 0.0)
    errors = honesty(model)
    made.row(f"{steps} steps, bound over truth, standard errors", errors, "below 3", passed=errors < 3.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs="+", default=[1000, 5000])
    table.add_arguments(parser)
    arguments = parser.parse_args()
    simulator = kb.problems.MichaelisMenten()
    best = true_eig(simulator, BEST_DESIGN)
    made = table.Table(title=f"Michaelis-Menten, accuracy, batch {BATCH}", seed=0)
    for steps in arguments.steps:
        with made.measure(f"{steps} steps"):
            found = [share(made, simulator, best, seed, steps) for seed in range(arguments.seeds)]
            judged(made, steps, [ratio for _, ratio in found], found[-1][0])
    sys.exit(made.finish(arguments.json))


if __name__ == "__main__":
    main()
