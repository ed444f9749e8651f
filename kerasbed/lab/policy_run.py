"""Learn a policy and write down what came of it: what it gains over random designs, some experiments, pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from keras import tree

from kerasbed import plots
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.lab.files import TRAINING, write_figure, write_table
from kerasbed.lab.training import trained, write_history
from kerasbed.model.design_model import DesignModel
from kerasbed.problems import ReadyExperiment

EIG_ROLLOUTS = 1024
SHOWN = 20  # experiments in the table and the picture
FILES = ("experiments.csv", "history.csv", "model.keras", "experiments.png", "bound.png")
RANDOM, LEARNED = "random designs", "learned policy"


def learn_and_report_policy(
    model: DesignModel, experiment: ReadyExperiment, folder: Path, epochs: int, steps: int, say: Callable[[str], None]
) -> None:
    """Train the policy of a model; tell the result and write it into a folder.

    Args:
        model: untrained, of a policy.
        experiment: names the design and the outcome.
        folder: `pathlib.Path` of an existing folder, which then holds experiments.csv, history.csv, model.keras and two
            PNG pictures.
        epochs, steps: size of the training, in epochs of `steps` steps.
        say: what is called with each line of the result.
    """
    history = trained(model, folder, epochs, steps)
    say("comparing the learned policy with random designs")
    estimates = compared_with_random(model, experiment)
    for name, estimate in estimates.items():
        say(f"{name}: {estimate}")
    made = model.simulator.simulate(SHOWN, model.design, seed=model.seed)
    write_table(experiments_table(made), folder / "experiments.csv")
    write_history(history, folder)
    model.save(folder / "model.keras")
    shown = {"num_samples": SHOWN, "seed": model.seed, "labels": experiment.labels}
    panels = plots.realisations(model.simulator, model.design, **shown)
    write_figure(np.ravel(panels)[0].figure, folder / "experiments.png")
    lines = {f"EIG, {name}": estimate for name, estimate in estimates.items()}
    write_figure(plots.bound(history, references=lines).figure, folder / "bound.png")
    (folder / TRAINING).unlink()
    say(f"\nwritten to {folder}: {', '.join(FILES)}")


def compared_with_random(model: DesignModel, experiment: ReadyExperiment) -> dict[str, EIGEstimate]:
    """EIG of the model's policy, and of designs drawn from its space where a likelihood gives it without training."""
    found = {LEARNED: model.estimate_eig(EIG_ROLLOUTS)}
    if experiment.random is None or experiment.objective is None or not model.simulator.has_likelihood:
        return found
    random = DesignModel(model.simulator, experiment.random(model.seed), experiment.objective(), seed=model.seed)
    return {RANDOM: random.estimate_eig(EIG_ROLLOUTS), **found}


def experiments_table(made: dict) -> pd.DataFrame:
    """A row for each measurement of rollouts: experiment and look, counted from 1, entries of design and outcome."""
    design = made["design"] if isinstance(made["design"], dict) else {"design": made["design"]}
    outcome = made["outcome"] if isinstance(made["outcome"], dict) else {"outcome": made["outcome"]}
    rows, length = tree.flatten(outcome)[0].shape[:2]
    columns = {"experiment": np.repeat(1 + np.arange(rows), length), "look": np.tile(1 + np.arange(length), rows)}
    for name, values in {**design, **outcome}.items():
        entries = values.reshape(rows * length, -1)
        for i in range(entries.shape[1]):
            columns[name if entries.shape[1] == 1 else f"{name} {i + 1}"] = entries[:, i]
    return pd.DataFrame(columns)
