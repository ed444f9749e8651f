"""Learn a design and write down what came of it: numbers, tables, the model and pictures."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from kerasbed import backend, plots
from kerasbed.backend.reporting import LOGGER
from kerasbed.eig import exact_posterior
from kerasbed.eig.applicability import grid_applies
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.lab import policy_run
from kerasbed.lab.comparison import LEARNED, STARTING, compared
from kerasbed.lab.design_tables import design_table, readable_table
from kerasbed.lab.files import TRAINING, write_figure, write_table
from kerasbed.lab.training import trained, write_history
from kerasbed.model.design_model import DesignModel
from kerasbed.plots.units import Label
from kerasbed.problems import ReadyExperiment
from kerasbed.simulators.symmetry import measurements_are_exchangeable

POSTERIOR_DRAWS = 2000
OUTCOMES = 3  # test outcomes whose posteriors are shown
FILES = (
    "design.csv",
    "history.csv",
    "model.keras",
    "realisations.png",
    "design_path.png",
    "bound.png",
    "posterior.png",
)


def learn_and_report(
    experiment: ReadyExperiment,
    folder: Path,
    epochs: int,
    steps: int,
    seed: int,
    say: Callable[[str], None] = LOGGER.info,
) -> DesignModel:
    """Learn the design of a ready experiment; tell the result and write it into a folder.

    Args:
        experiment: `kerasbed.problems.ReadyExperiment`.
        folder: `pathlib.Path` of an existing folder.
        epochs, steps: size of the training, in epochs of `steps` steps.
        seed: integer; the same seed gives the same result.
        say: what is called with each line of the result.

    Returns:
        The trained model. The folder holds design.csv, history.csv, model.keras and four PNG pictures; of a policy
        those of `kerasbed.lab.policy_run`. Training that was stopped goes on when it is called again: its state is kept
        in the folder after every epoch, and model.keras after Ctrl-C.
    """
    backend.seed_everything(seed)
    simulator, design = experiment.simulator(), experiment.design(seed=seed)
    objective = None if experiment.objective is None else experiment.objective()
    limits = {"cost": experiment.cost, "budget": experiment.budget}
    model = DesignModel(simulator, design, objective, seed=seed, **limits)
    if not design.is_static:
        policy_run.learn_and_report_policy(model, experiment, folder, epochs, steps, say)
        return model
    start = design.numpy()
    history = trained(model, folder, epochs, steps)
    say("comparing the learned design with the starting one")
    values = {STARTING: start, LEARNED: design.numpy()}
    estimates, gain = compared(model, values, experiment, epochs, steps)
    in_any_order = measurements_are_exchangeable(simulator, design)
    say(f"\n{readable_table(values, _settings_between(design, values), in_any_order)}\n")
    for name, estimate in estimates.items():
        say(f"{name}: {estimate}")
    say(f"gained by learning: {gain}")

    write_table(design_table(values), folder / "design.csv")
    write_history(history, folder)
    model.save(folder / "model.keras")
    write_pictures(model, history, values, estimates, experiment.labels, folder, seed)
    (folder / TRAINING).unlink()
    say(f"\nwritten to {folder}: {', '.join(FILES)}")
    return model


def write_pictures(
    model: DesignModel,
    history: keras.callbacks.History,
    values: Mapping[str, np.ndarray | dict],
    estimates: Mapping[str, EIGEstimate],
    labels: tuple[Label, Label],
    folder: Path,
    seed: int,
) -> None:
    """realisations.png, design_path.png, bound.png and posterior.png."""
    write_figure(_realisations(model, values, labels, seed), folder / "realisations.png")
    path = plots.design_path(model, label=labels[0])
    write_figure(np.ravel(path)[0].figure, folder / "design_path.png")
    lines = {f"EIG, {name}": estimate for name, estimate in estimates.items()}
    write_figure(plots.bound(history, references=lines).figure, folder / "bound.png")

    data = model.simulator.simulate(OUTCOMES, model.design, seed=seed)
    draws = model.sample(POSTERIOR_DRAWS, conditions={"outcome": data["outcome"]}, seed=seed)
    exact = None
    if grid_applies(model.simulator):
        conditions = {"outcome": data["outcome"], "design": model.design}
        exact = exact_posterior.sample(model.simulator, POSTERIOR_DRAWS, conditions, seed=seed)
    panels = plots.posterior(draws, reference=exact, truth=data["parameters"])
    write_figure(np.ravel(panels)[0].figure, folder / "posterior.png")


def _realisations(model, values, labels, seed) -> Figure:
    """Experiments at each of the designs, one above the other on the same axes."""
    figure, made = plt.figure(layout="constrained"), []
    limits = _settings_between(model.design, values)
    parts: Any = figure.subfigures(len(values), 1)
    for part, (name, value) in zip(parts, values.items(), strict=True):
        panels = plots.realisations(model.simulator, value, seed=seed, limits=limits, labels=labels, axes=part)
        made.append(np.ravel(panels))
        part.suptitle(name)
    rows, columns = made[0][0].get_gridspec().get_geometry()
    figure.set_size_inches(1.0 + 4.5 * columns, len(values) * (1.2 + 2.8 * rows))
    for pair in zip(*made, strict=True):
        low, high = zip(*(panel.get_ylim() for panel in pair), strict=True)
        for panel in pair:
            panel.set_ylim(min(low), max(high))
    return figure


def _settings_between(space, values):
    """The range that a picture of settings spans: of the space's draws and of the designs shown, by their parts."""
    shown = [space.sample(256, seed=0), *values.values()]
    if isinstance(shown[0], dict):
        return {part: _range([one[part] for one in shown]) for part in shown[0]}
    return _range(shown)


def _range(shown):
    flat = keras.tree.flatten(shown)
    return float(min(map(np.min, flat))), float(max(map(np.max, flat)))
