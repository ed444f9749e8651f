"""One small model of each kind that a file may hold, and what a loaded one must say again.

    KERAS_BACKEND=jax python -c "from tests import saved_models; saved_models.write('0.1.0')"

writes tests/saved/0.1.0.zip, with the numbers as JSON.

Files that a version has written stay as they are: every later version must load them, or say what to do.
"""

import json
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb
from tests import toys

FOLDER = Path(__file__).parent / "saved"


@keras.saving.register_keras_serializable("kerasbed_tests")
def total(design):
    """A cost that files find by its name."""
    return ops.sum(design, axis=-1)


@keras.saving.register_keras_serializable("kerasbed_tests")
class Ray(kb.GaussianSimulator):
    """y = slope x + noise; known to files by its name."""

    prior = kb.Prior(slope=stats.norm(1.0, 0.5))

    def mean(self, parameters, design):
        return parameters["slope"] * design

    def scale(self, parameters, design):
        return 0.5


@keras.saving.register_keras_serializable("kerasbed_tests")
class Bow(Ray):
    """y = slope x^2 + noise."""

    def mean(self, parameters, design):
        return parameters["slope"] * ops.square(design)


class Late(kb.GaussianSimulator):
    """y = (x - x0) + noise with x0 near a Julian date."""

    prior = kb.Prior(start=stats.norm(2460000.5, 0.01))

    def mean(self, parameters, design):
        return design - parameters["start"]

    def scale(self, parameters, design):
        return 0.005


class Sum(kb.GaussianSimulator):
    """y = intercept + slope x + z + noise, of a design in two parts."""

    prior, noise_shape = kb.Prior(intercept=stats.norm(), slope=stats.norm()), (2,)

    def mean(self, parameters, design):
        return parameters["intercept"] + parameters["slope"] * design["x"] + design["z"]

    def scale(self, parameters, design):
        return 0.5


class Kind(kb.GaussianSimulator):
    """y = size of one of two kinds + noise."""

    prior = kb.Prior(kind=stats.bernoulli(0.4), size=stats.gamma(2.0))

    def mean(self, parameters, design):
        return parameters["kind"] * design + parameters["size"]

    def scale(self, parameters, design):
        return 0.5


def box(count=2):
    return kb.designs.Box((count,), -1.0, 1.0, seed=1)


def with_objective(objective):
    return kb.DesignModel(toys.Line(), box(), objective, seed=0)


def refitted():
    """A design learned without a posterior network, and one fitted afterwards."""
    model = with_objective(kb.objectives.PriorContrastive(16))
    model.fit(epochs=1, steps_per_epoch=2, batch_size=8, verbose=0)
    model.fit_posterior(toys.small_flow(), epochs=1, steps_per_epoch=2, batch_size=8, verbose=0)
    return model


# name -> how the model is made, and its simulator, or None where the file finds it by its name
MODELS = {
    "box": (lambda: toys.line_model(), toys.Line),
    "starts": (lambda: toys.small_model(toys.Line(), box(), starts=2), toys.Line),
    "target": (lambda: toys.small_model(toys.Line(), box(), target="slope"), toys.Line),
    "budget": (lambda: toys.small_model(Ray(), box(), cost=total, budget=1.5), None),
    "choices": (lambda: toys.small_model(toys.Line(), kb.designs.Choice((2,), [-1.0, 0.0, 1.0], seed=1)), toys.Line),
    "parts": (lambda: toys.small_model(Sum(), kb.designs.Product(x=box(), z=box(1))), Sum),
    "julian_dates": (lambda: toys.small_model(Late(), kb.designs.Box((1,), 2460000.0, 2460001.0, seed=1)), Late),
    "discrete_parameters": (lambda: toys.small_model(Kind(), box()), Kind),
    "models": (lambda: kb.DesignModel(kb.ModelChoice([Ray(), Bow()]), box(), seed=0), None),
    "refitted": (refitted, toys.Line),
    "critic": (lambda: with_objective(kb.objectives.InfoNCE(kb.critics.Critic(4, (8,)))), toys.Line),
    "proposals": (lambda: with_objective(kb.objectives.AdaptiveContrastive(toys.small_flow())), toys.Line),
}


def numbers(model) -> dict:
    """What a loaded model must say again, on any backend: design, all weights in short, posterior draws."""
    fitted = model.fitted_posterior
    learned = model.design.weights + model.objective.weights if fitted is None else fitted.network.weights
    sums = [float(np.sum(ops.convert_to_numpy(weight), dtype="float64")) for weight in learned]
    design = np.concatenate([np.ravel(part) for part in keras.tree.flatten(model.design.numpy())])
    found = {"design": design.tolist(), "sums": sorted(sums)}
    if model.fitted_posterior is not None or model.objective.posterior is not None:
        seen = model.simulator.simulate(1, model.design, seed=0)["outcome"]
        drawn = model.sample(2, {"outcome": seen}, seed=0)
        found |= {"sample": {name: np.ravel(values).tolist() for name, values in drawn.items()}}
    return found


def searched() -> kb.search.BlackBoxSearch:
    """A search that has three evaluations behind it."""
    search = kb.search.BlackBoxSearch(None, box(), batch_size=3, seed=0)
    search.tell(search.ask(), [0.1, 0.3, 0.2])
    return search


def write(version: str) -> None:
    """Write the files of this version."""
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, _) in MODELS.items():
            keras.utils.set_random_seed(0)
            model = make()
            model.fit(epochs=1, steps_per_epoch=2, batch_size=8, verbose=0)
            model.save(Path(folder) / f"{name}.keras")
            told[name] = numbers(model)
        searched().save(Path(folder) / "search.json")
        (Path(folder) / "numbers.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        FOLDER.mkdir(exist_ok=True)
        shutil.make_archive(str(FOLDER / version), "zip", folder)
