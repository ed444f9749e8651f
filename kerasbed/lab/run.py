"""Learn a design and write down what came of it: numbers, tables, the model and pictures."""

from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from kerasbed import backend, plots
from kerasbed.backend import numerics
from kerasbed.backend.reporting import LOGGER
from kerasbed.eig import exact_posterior
from kerasbed.eig.applicability import grid_applies
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.integration import grid_contributions
from kerasbed.lab import policy_run
from kerasbed.lab.files import TRAINING, write_figure, write_table
from kerasbed.lab.training import trained, write_history
from kerasbed.model.design_model import DesignModel
from kerasbed.problems import ReadyExperiment

EIG_DRAWS = 20_000
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
STARTING, LEARNED = "starting design", "learned design"


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
    table = design_table(values)
    say(f"\n{table.to_string(index=False, float_format='{:.4g}'.format)}\n")
    for name, estimate in estimates.items():
        say(f"{name}: {estimate}")
    say(f"gained by learning: {gain}")

    write_table(table, folder / "design.csv")
    write_history(history, folder)
    model.save(folder / "model.keras")
    write_pictures(model, history, values, estimates, experiment.labels, folder, seed)
    (folder / TRAINING).unlink()
    say(f"\nwritten to {folder}: {', '.join(FILES)}")
    return model


def design_table(values: Mapping[str, np.ndarray | dict]) -> pd.DataFrame:
    """One row for every entry of the designs, {label: (*shape) or a dict of those}."""
    columns = {label: _entries(value) for label, value in values.items()}
    names = list(next(iter(columns.values())))
    return pd.DataFrame({"entry": names, **{label: list(found.values()) for label, found in columns.items()}})


def _entries(value, prefix="") -> dict[str, float]:
    """Entries of a design by name, counted from 1: "3", or "times 3" in a dict of designs."""
    if isinstance(value, dict):
        return {key: v for name, part in value.items() for key, v in _entries(part, f"{name} ").items()}
    return {f"{prefix}{i + 1}": float(entry) for i, entry in enumerate(np.ravel(value))}


def compared(
    model: DesignModel, values: Mapping[str, np.ndarray | dict], experiment: ReadyExperiment, epochs: int, steps: int
) -> tuple[dict[str, EIGEstimate], str]:
    """EIG of both designs, in the best way that the simulator allows, and the gain in words.

    Args:
        model: trained at the learned design.
        values: {STARTING: values, LEARNED: values}.
        experiment: makes the design space again, fixed at the start.
        epochs, steps: size of the training that the model had.

    Returns:
        {STARTING: `EIGEstimate`, LEARNED: `EIGEstimate`}, text.
    """
    if grid_applies(model.simulator):
        terms = {name: grid_contributions(model.simulator, value, EIG_DRAWS) for name, value in values.items()}
        gain, error = numerics.mean_and_error(terms[LEARNED] - terms[STARTING])
        estimates = {name: _exact(contributions) for name, contributions in terms.items()}
        return estimates, f"{gain:.4f} +- {error:.4f} nats (same draws for both)"
    # Without an explicit likelihood: a bound at each design, its network trained for as long.
    fixed = DesignModel(model.simulator, experiment.design(initial=values[STARTING], trainable=False), seed=model.seed)
    fixed.fit(epochs=epochs, steps_per_epoch=steps, verbose=0)
    estimates = {STARTING: fixed.estimate_eig(EIG_DRAWS), LEARNED: model.estimate_eig(EIG_DRAWS)}
    gain = estimates[LEARNED].lower - estimates[STARTING].lower
    error = np.hypot(estimates[LEARNED].lower_se, estimates[STARTING].lower_se)
    return estimates, f"{gain:.4f} +- {error:.4f} nats (difference of lower bounds)"


def _exact(contributions) -> EIGEstimate:
    value, error = numerics.mean_and_error(contributions)
    return EIGEstimate(value, error, value, error, f"grid, {len(contributions)} draws")


def write_pictures(
    model: DesignModel,
    history: keras.callbacks.History,
    values: Mapping[str, np.ndarray | dict],
    estimates: Mapping[str, EIGEstimate],
    labels: tuple[str, str],
    folder: Path,
    seed: int,
) -> None:
    """realisations.png, design_path.png, bound.png and posterior.png."""
    figure, panels = plt.subplots(1, len(values), figsize=(10.0, 4.0), sharey=True, layout="constrained")
    limits = _settings_between(model.design, values)
    for panel, (name, value) in zip(panels, values.items(), strict=True):
        plots.realisations(model.simulator, value, seed=seed, limits=limits, labels=labels, axes=panel)
        panel.set_title(name)
        panel.label_outer()
    write_figure(figure, folder / "realisations.png")
    write_figure(plots.design_path(model.design_history, label=labels[0]).figure, folder / "design_path.png")
    lines = {f"EIG, {name}": estimate for name, estimate in estimates.items()}
    write_figure(plots.bound(history, references=lines).figure, folder / "bound.png")

    data = model.simulator.simulate(OUTCOMES, model.design, seed=seed)
    draws = model.sample(POSTERIOR_DRAWS, conditions={"outcome": data["outcome"]}, seed=seed)
    exact = None
    if grid_applies(model.simulator):
        conditions = {"outcome": data["outcome"], "design": model.design}
        exact = exact_posterior.sample(model.simulator, POSTERIOR_DRAWS, conditions, seed=seed)
    panels = plots.posterior(draws, reference=exact, truth=data["parameters"])
    write_figure(panels[0].figure, folder / "posterior.png")


def _settings_between(space, values):
    """The range that a picture of settings spans: of the space's draws and of the designs shown."""
    shown = keras.tree.flatten([space.sample(256, seed=0), list(values.values())])
    return min(map(np.min, shown)), max(map(np.max, shown))
