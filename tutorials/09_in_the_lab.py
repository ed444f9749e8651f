# %% [markdown]
# # In the laboratory: one measurement at a time
#
# People with instruments or subjects run one measurement, type it in, and want the next one. They measured things
# before, run something else than what was recommended, give up on some, and come back next week on another machine.
# `kb.Experiment` is that loop. It needs a simulator of one measurement and the space of its design, and nothing is
# trained.

# %%
import os
import tempfile
import warnings
from pathlib import Path

import kerasbed as kb  # isort: skip  (first: it picks a backend if none is set)

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import ops
from scipy import special, stats

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"  # a quick pass that shows nothing but that all runs
TRIALS, READINGS = (3, 2) if SMALL else (20, 8)
FOLDER = Path(tempfile.mkdtemp())


def show(figure, name):
    """Save the picture where KERASBED_TUTORIAL_OUT says, else show it."""
    if folder := os.environ.get("KERASBED_TUTORIAL_OUT"):
        figure.savefig(Path(folder) / f"{name}.png", dpi=110)
    else:
        plt.show()
    plt.close(figure)


# %% [markdown]
# ## A psychologist
#
# An observer says yes or no to a stimulus. Threshold and slope of the psychometric function are wanted; that he
# sometimes misses whatever is shown, the lapse rate, is nuisance. All three are put on grids, so that the posterior is
# a table and the expected gain of every stimulus an exact sum: the rule of QUEST+ (Watson, 2017).

# %%
thresholds, slopes, lapses = np.linspace(-3, 3, 41), np.geomspace(0.5, 8.0, 15), np.array([0.0, 0.05, 0.1])
grid = np.stack(np.meshgrid(thresholds, slopes, lapses, indexing="ij"), axis=-1).reshape(-1, 3)


class Observer(kb.BernoulliSimulator):
    """Yes or no to a stimulus."""

    prior = kb.Prior.from_table(dict(zip(("threshold", "slope", "lapse"), grid.T, strict=True)), np.ones(len(grid)))
    noise_shape = (1,)

    def probability(self, parameters, design):
        detected = ops.sigmoid(parameters["slope"] * (design - parameters["threshold"]))
        return 0.02 + (0.98 - parameters["lapse"]) * detected


rng = np.random.default_rng(3)


def ask(stimulus):
    """The observer, whose threshold is 0.8: what nobody knows."""
    return float(rng.random() < 0.02 + 0.95 * special.expit(2.5 * (stimulus[0] - 0.8)))


stimuli = kb.designs.Choice((1,), options=np.linspace(-4, 4, 61))
lab = kb.Experiment(
    Observer(), stimuli, target=["threshold", "slope"], path=FOLDER / "anna.json", stop_when={"gain": 0.02}, seed=0
)
for _ in range(TRIALS):
    stimulus = lab.recommend()
    lab.add_measurements({"design": stimulus, "outcome": ask(stimulus)})
    if lab.stopped:
        break
print(lab)
print(lab.table()[["trial", "design", "outcome", "gain"]].round(2).tail(3).to_string(index=False))
draws = lab.posterior(2000)
print(f"threshold {draws['threshold'].mean():.2f} +- {draws['threshold'].std():.2f}")
show(lab.plot(("stimulus", "answer"))[0].figure, "psychologist")

# %% [markdown]
# Every call was written to `anna.json`, which reads like a notebook, with a table beside it. The session goes on where
# it was: next week, on another machine, after a crash. A wrong entry is taken back.

# %%
lab.add_measurements({"design": 0.0, "outcome": 1.0})  # a typing error
print(lab.undo())
lab.close()
lab = kb.Experiment.load(FOLDER / "anna.json", Observer(), stimuli, target=["threshold", "slope"])
print(len(lab.table()), "trials;", f"the next one is worth {lab.value_of_next().value:.3f} nats")
lab.close()

# %% [markdown]
# ## A chemist
#
# A reaction rate follows Michaelis and Menten's law. Three rates were measured last year, and belong to what is known.
# The posterior lies on a grid that follows it, the next concentration is searched for.


# %%
class Enzyme(kb.GaussianSimulator):
    """The rate at one concentration."""

    prior = kb.Prior(largest=stats.lognorm(0.5, scale=200.0), half_at=stats.lognorm(0.8, scale=50.0))
    noise_shape = (1,)

    def mean(self, parameters, design):
        return parameters["largest"] * design / (parameters["half_at"] + design)

    def scale(self, parameters, design):
        return 8.0


concentrations = kb.designs.Box((1,), 0.0, 400.0)
bench = kb.Experiment(Enzyme(), concentrations, path=FOLDER / "enzyme.json", seed=1)
last_year = pd.DataFrame({"design": [10.0, 50.0, 400.0], "outcome": [30.1, 95.0, 171.9]})
bench.add_measurements(last_year)

# %% [markdown]
# How many readings will it take until the constant is known to 20 units? Sessions are simulated from what is known now.

# %%
planned = bench.how_many(width={"half_at": 20.0}, most=3 if SMALL else 20)
print(planned)

# %% [markdown]
# Two samples are run side by side. One of them is lost; the other came out at a somewhat different concentration.


# %%
def measure(concentration):
    """The instrument."""
    return 200.0 * concentration / (60.0 + concentration) + 8.0 * rng.standard_normal()


first, second = bench.recommend(2)[:, 0]
one, other = bench.running
bench.add_measurements({"trial": one, "design": 0.99 * first, "outcome": measure(0.99 * first)})
bench.abandon(other)
for _ in range(READINGS):
    concentration = bench.recommend()
    bench.add_measurements({"design": concentration, "outcome": measure(concentration)})
print(bench.table()[["trial", "status", "design", "outcome", "recommended"]].round(1).to_string(index=False))
draws = bench.posterior(2000)
print(f"half of the largest rate at {draws['half_at'].mean():.1f} +- {draws['half_at'].std():.1f}")
show(bench.plot(("concentration", "rate"))[0].figure, "chemist")

# %% [markdown]
# What looks like other units is said, and counts nevertheless: who measures knows best. `undo` takes it back.

# %%
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    bench.add_measurements({"design": 100.0, "outcome": 0.0125})
print(told[0].message)
bench.undo()
bench.close()
