"""Every picture there is, of every kind of design and outcome: name -> what draws it."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import ops, tree
from matplotlib.figure import Figure
from scipy import stats

import kerasbed as kb
from tests.designs.spaces import SPACES
from tests.plots import pictures

EPOCHS = 30
Pictures = Iterator[tuple[str, Callable[[], Any]]]


class Read(kb.Simulator):
    """What is read at a design: a number for all of it, or one or two for each entry of its first part; also counts.

    Of the kind "named" it is a dict of answers and times.
    """

    prior = kb.Prior(gain=stats.norm(2.0, 0.5), shift=stats.norm())

    def __init__(self, kind: str):
        self.kind = kind

    def resolve_noise_shape(self, design_shape):
        while isinstance(design_shape, dict):
            design_shape = next(iter(design_shape.values()))
        of_one = {"one": (), "two": (*design_shape, 2), "grid": (2, 3, 2), "named": (2, *design_shape)}
        return of_one.get(self.kind, tuple(design_shape))

    def outcome(self, parameters, design, noise):
        first = tree.flatten(design)[0]
        if self.kind == "named":
            answers, times = (Read(kind).outcome(parameters, design, noise[:, i]) for i, kind in enumerate(PARTS))
            return {"answer": answers, "time": times}
        if self.kind in ("one", "grid"):
            first = ops.mean(first, axis=tuple(range(1, len(first.shape))))
        axes = (1,) * (len(noise.shape) - 1)
        gain, shift = (ops.reshape(parameters[name], (-1, *axes)) for name in ("gain", "shift"))
        first = ops.reshape(first, (*first.shape, *(1,) * (len(noise.shape) - len(first.shape))))
        seen = gain * first + shift + 0.3 * noise
        if self.kind == "count":
            return ops.round(ops.abs(seen))
        return ops.cast(seen > 0.0, noise.dtype) if self.kind == "binary" else seen


KINDS = ("each", "one", "two", "grid", "count", "binary", "named")
PARTS = ("binary", "each")


def history_of(design: Any, seed: int = 0) -> kb.DesignHistory:
    """A path between two designs of a space, as training would have left it."""
    start, end = ({"leaf": tree.map_structure(lambda v, i=i: v[i], design.sample(2, seed=seed))} for i in (0, 1))
    history, model = kb.DesignHistory(), keras.Model()
    model.design = design
    history.set_model(model)
    history.epochs = list(range(EPOCHS + 1))
    for share in 1.0 - np.exp(-5.0 * np.arange(EPOCHS + 1) / EPOCHS):
        history.designs.append(tree.map_structure(lambda a, b, s=share: a + s * (b - a), start, end)["leaf"])
    return history


def design_paths() -> Pictures:
    for name, make in SPACES.items():
        yield f"path of {name}", lambda make=make: kb.plots.design_path(history_of(make()))
    for name, ready in kb.problems.REGISTRY.items():
        if ready.random is None:
            label = ready.labels[0]
            yield (
                f"path of {name}",
                lambda ready=ready, label=label: kb.plots.design_path(history_of(ready.design(seed=0)), label),
            )


def realisations() -> Pictures:
    for name, make in SPACES.items():
        for kind in KINDS:
            yield f"{kind} over {name}", lambda make=make, kind=kind: kb.plots.realisations(Read(kind), make(seed=1))
    yield "many experiments", lambda: kb.plots.realisations(Read("each"), np.linspace(0.0, 1.0, 5), num_samples=40)


def registered() -> Pictures:
    """Experiments of the registry; those of a policy by its baseline, which draws its designs."""
    for name, ready in kb.problems.REGISTRY.items():
        yield (
            f"experiments of {name}",
            lambda ready=ready: kb.plots.realisations(
                ready.simulator(),
                ready.design(seed=0) if ready.random is None else ready.random(0),
                labels=ready.labels,
            ),
        )


def posteriors(draws: int = 500) -> Pictures:
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 6):
        for outcomes in (1, 3):
            found = {f"parameter_{i}": rng.normal(0.0, 10.0 ** (3 - i), (outcomes, draws, 1)) for i in range(size)}
            beside = {
                "reference": {name: values[:, ::-1] + 0.1 for name, values in found.items()},
                "truth": {name: values[:, 0] for name, values in found.items()},
                "prior": {name: 3.0 * values[0] for name, values in found.items()},
            }
            yield (
                f"posterior of {size} parameters, {outcomes} outcomes",
                lambda found=found, beside=beside: kb.plots.posterior(found, **beside),
            )
    discrete = {"model": rng.integers(0, 3, (1, draws, 1)), "rate": rng.normal(size=(1, draws, 1))}
    yield "posterior of a model and a rate", lambda: kb.plots.posterior(discrete)


def bounds() -> Pictures:
    rng = np.random.default_rng(0)
    rising = 3.7 - 2.7 * np.exp(-np.arange(EPOCHS) / 4.0) + 0.05 * rng.standard_normal(EPOCHS)
    references = {
        "starting design": kb.EIGEstimate(2.5, 0.02, 2.5, 0.02),
        "learned design": kb.EIGEstimate(3.6, 0.03, 3.72, 0.03),
        "by Laplace's approximation": kb.eig.PointEstimate(3.9, 0.01),
        "published elsewhere": 3.8,
    }
    for name, values in {"rising": rising, "falling": rising[::-1], "short": rising[:3]}.items():
        logs = {"eig": values, "val_eig": values - 0.05}
        yield f"{name} bound", lambda logs=logs: kb.plots.bound(logs)
        yield f"{name} bound with references", lambda logs=logs: kb.plots.bound(logs, references)


def others() -> Pictures:
    """Of variational fits, black-box searches and sessions."""

    def searched():
        search = kb.search.BlackBoxSearch(None, SPACES["box"](), seed=0)
        search.tell(search.ask(6), [1.0, np.nan, 2.0, 1.5, 1.8, 2.2], errors=[0.1] * 6)
        return search.plot()

    def session():
        policy = kb.Experiment(kb.problems.TwoCompartment(), kb.problems.TwoCompartment().design, seed=0)
        policy.add_measurements({"design": {"times": np.arange(1.0, 7.0), "dose": [100.0]}, "outcome": np.full(6, 0.5)})
        return policy.plot(kb.problems.REGISTRY["two-compartment"].labels)

    fit = kb.variational.fit(kb.problems.Quadratic(), np.array([0.0, 1.0, -1.0]), [1.0, 2.0, 1.0], num_samples=200)
    labels = [str(2**i) for i in range(3, 9)]
    study = pd.DataFrame({"label": labels, "training_objective": np.arange(6.0), "negative_elbo": np.arange(6.0) + 0.5})
    drawn = kb.variational.plots
    yield "search", searched
    yield "session", session
    yield "convergence", lambda: drawn.plot_convergence(fit)
    yield "base samples", lambda: drawn.plot_base_samples(fit)
    yield "importance weights", lambda: drawn.plot_importance_weights(fit, num_samples=1000)
    yield "study", lambda: drawn.plot_study(study, reference=3.0)


ALL = (design_paths, realisations, registered, posteriors, bounds, others)


def figure_of(drawn: Any) -> Figure:
    """The figure of Axes, or of an array of them."""
    return np.ravel(np.asarray(drawn, object))[0].figure


def faults_of(draw: Callable[[], Any]) -> list[str]:
    """What is wrong with a picture; it is closed."""
    figure = figure_of(draw())
    found = pictures.faults(figure) + [f"several units: {label!r}" for label in _several_units(figure)]
    plt.close(figure)
    return found


def _several_units(figure) -> list[str]:
    """Labels of an axis that name more than one unit, in brackets as in "time (h)"."""
    labels = [label for axes in figure.axes for label in (axes.get_xlabel(), axes.get_ylabel())]
    return [label for label in labels if len(set(re.findall(r"\(([^)]*)\)", label))) > 1]
