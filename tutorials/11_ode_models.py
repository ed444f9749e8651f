# %% [markdown]
# # Experiments that are differential equations
#
# A drug passes from the gut into the blood, a prey is eaten by a predator, a reaction runs: what can be measured is the
# solution of an ordinary differential equation. `kb.ode.solve` puts one into a simulator. Here you see
#
# - how to write the equations, with doses at given times;
# - how to know that the steps are short enough;
# - a noise in proportion to what is measured, which is pharmacology's standard;
# - when to take six blood samples, and how much of the drug to give, within a budget.

# %%
import os
import time
from pathlib import Path

import kerasbed as kb  # isort: skip  (first: it picks a backend if none is set)

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from scipy import stats

from kerasbed.plots.style import COLORS, line_of, marker_of

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"  # a quick pass that shows nothing but that all runs
DRAWS, EPOCHS, STEPS, SIZE = (64, 1, 2, 1024) if SMALL else (2000, 10, 100, 4096)
keras.utils.set_random_seed(11)


def show(figure, name):
    """Save the picture where KERASBED_TUTORIAL_OUT says, else show it."""
    if folder := os.environ.get("KERASBED_TUTORIAL_OUT"):
        figure.savefig(Path(folder) / f"{name}.png", dpi=110)
    else:
        plt.show()
    plt.close(figure)


# %% [markdown]
# ## The equations, and doses
#
# A field says how fast the state changes: `field(t, state, *args)`. A state by name reads best. All is (batch, 1), as
# parameters are: `kb.ode.solve` takes a row of parameters for each row of the batch.


# %%
def field(t, amounts, absorption, elimination):
    absorbed = absorption * amounts["gut"]
    return {"gut": -absorbed, "blood": absorbed - elimination * amounts["blood"]}


prior = kb.Prior(absorption=stats.lognorm(0.3, scale=1.0), elimination=stats.lognorm(0.3, scale=0.15))
patients = prior.sample(4, seed=0)
rates = patients["absorption"], patients["elimination"]
hours = np.linspace(0.0, 24.0, 97)
doses = [(0.0, {"gut": 100.0}), (8.0, {"gut": 100.0}), (16.0, {"gut": 50.0})]
amounts = kb.ode.solve(field, {"gut": 0.0, "blood": 0.0}, hours, args=rates, events=doses)

figure, panel = plt.subplots(figsize=(6.5, 3.5), layout="constrained")
for i, row in enumerate(ops.convert_to_numpy(amounts["blood"])[..., 0]):
    panel.plot(hours, row, **line_of(i), label=f"patient {i + 1}")
for when, _ in doses:
    panel.axvline(when, color="black", linestyle=":", linewidth=1.0)
panel.set(xlabel="time (h); doses at the dotted lines", ylabel="amount in the blood (mg)", ylim=(0.0, None))
panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
show(figure, "doses")

# %% [markdown]
# ## Are the steps short enough?
#
# From each time or dose to the next the solution takes `steps_per_interval` steps of the classical Runge-Kutta method.
# `kb.ode.error` takes the same arguments and says how far off the solution is, by halving the steps until that does not
# matter. Steps that are far too long explode; where they are short enough, errors of the orders 4 and 5 fall by 16
# and by 32 whenever steps are halved, until rounding is all that is left.

# %%
numbers, times = (1, 2) if SMALL else (1, 2, 4, 8, 16), [2.0, 6.0, 12.0, 24.0]
empty = {"gut": 0.0, "blood": 0.0}
figure, panel = plt.subplots(figsize=(5.5, 3.5), layout="constrained")
for i, method in enumerate(("rk4", "tsit5")):
    told = [kb.ode.error(field, empty, times, rates, n, method=method, events=doses)["blood"].max() for n in numbers]
    panel.loglog(numbers, told, **line_of(i), **marker_of(i), label=method)
panel.set(xlabel="steps per interval", ylabel="largest error (mg)")
panel.set_xticks(numbers, [str(n) for n in numbers])
panel.minorticks_off()
panel.legend(frameon=False)
show(figure, "errors")

# %% [markdown]
# ## A simulator, with noise in proportion
#
# A `GaussianSimulator` wants a mean and a scale. Where the scale depends on the mean, let it take the mean as a third
# argument: the equations are then solved once. Everything is written for leading axes that broadcast, so take
# components by `[..., 0]`, never by `[:, 0]`.


# %%
class Drug(kb.GaussianSimulator):
    def __init__(self):
        self.prior = prior

    def mean(self, parameters, design):
        args = parameters["absorption"], parameters["elimination"]
        found = kb.ode.solve(field, {"gut": 100.0, "blood": 0.0}, design, args, steps_per_interval=16)
        return found["blood"][..., 0]

    def scale(self, parameters, design, mean):
        return 0.5 + 0.1 * mean


begin = time.perf_counter()
model = kb.DesignModel(Drug(), kb.designs.Times(4, 0.25, 24.0, min_gap=0.25), seed=1)
print(f"a model of {4 * 16} steps is built in {time.perf_counter() - begin:.1f} s")

# %% [markdown]
# Do not write the steps as a Python loop: it is unrolled, and XLA takes exponentially long to compile that. Four steps
# already take minutes on JAX; kerasbed then says what has been compiling for how long.
#
# ## When to sample, and how much to give
#
# `kb.problems.TwoCompartment` adds a tissue from which the drug comes back slowly. Its design has two parts, six times
# and a dose. A higher dose raises concentrations above the noise, and late samples tell of the tissue; but a milligram
# costs one unit, an hour in the clinic four, and there are 120 to spend. Gradients go through the solution into the
# times and the dose alike.

# %%
drug = kb.problems.TwoCompartment()
begin = {"times": np.linspace(0.5, 5.0, 6), "dose": np.array([80.0])}  # within the budget
space = kb.problems.REGISTRY["two-compartment"].design(initial=begin)
model = kb.DesignModel(drug, space, kb.objectives.PriorContrastive(255), seed=2, cost=drug.cost, budget=120.0)
model.fit(epochs=EPOCHS, steps_per_epoch=STEPS, batch_size=128, verbose=0, diagnose=not SMALL)
learned = space.numpy()
print({name: values.round(1) for name, values in learned.items()})

# %% [markdown]
# Compared with what one would do without computing: a dose that leaves four hours, and equal gaps; and one that stays
# the whole day.

# %%
designs = {
    "learned": learned,
    "short": {"times": np.linspace(0.5, 5.0, 6), "dose": np.array([100.0])},
    "long": {"times": np.linspace(4.0, 24.0, 6), "dose": np.array([24.0])},
}
table = kb.eig.compare(drug, list(designs.values()), num_outer=SIZE // 4, num_inner=SIZE, seed=0)
table.insert(0, "name", list(designs))
print(table[["name", "lower", "lower_se", "difference", "difference_se"]].round(3).to_string(index=False))

figure, panels = plt.subplots(1, 3, figsize=(10.0, 3.2), sharex=True, sharey=True, layout="constrained")
draws = {name: ops.convert_to_tensor(values, "float32") for name, values in drug.prior.sample(DRAWS, seed=3).items()}
for panel, (name, values) in zip(panels, designs.items(), strict=True):
    grid = np.linspace(0.25, 24.0, 6 * 16).reshape(16, 6)  # six times each, as the design has
    curves = np.concatenate(
        [
            ops.convert_to_numpy(drug.mean(draws, {"times": row[None].astype("float32"), "dose": values["dose"][None]}))
            for row in grid[:: 8 if SMALL else 1]
        ],
        axis=-1,
    )
    shown = grid[:: 8 if SMALL else 1].ravel()
    for low, alpha in ((0.05, 0.25), (0.25, 0.45)):
        panel.fill_between(shown, *np.quantile(curves, [low, 1.0 - low], axis=0), color=COLORS[1], alpha=alpha)
    for when in values["times"]:
        panel.axvline(when, color=COLORS[0], linewidth=1.0)
    panel.set(title=f"{name}: {values['dose'].item():.0f} mg", xlabel="time (h)")
panels[0].set(ylabel="concentration (mg/l)", ylim=(0.0, None))
show(figure, "designs")

# %% [markdown]
# The bands hold half and nine tenths of the prior's patients, the lines are the samples.
#
# ## Exercises
#
# 1. Let the second dose's time be part of the design: `events=[(design["second"], {"gut": 50.0})]` with
#    `second=kb.designs.Box((1,), 4.0, 12.0)` in a `kb.designs.Product`. Its gradient comes along.
# 2. An infusion is a field that jumps. Write `ops.where(t < 2.0, rate, 0.0)`, name the jump by `events=[(2.0, 0.0)]`,
#    and see by `kb.ode.error` what happens without.
# 3. `kb.problems.LotkaVolterra` counts two species. Where would you count them ten times, and why does the answer
#    depend on how well the rates are known beforehand?
