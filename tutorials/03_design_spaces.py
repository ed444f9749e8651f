# %% [markdown]
# # Design spaces: times, subsets, shares, mixtures of them, and what they cost
#
# A real experiment is seldom "seven numbers between 0 and 400". Blood samples are taken in order and not all at once;
# sensors stand where there are mounts; a measuring budget is shared out; and a dose is chosen together with the times.
# In kerasbed each of these is a *design space*: a smooth map from unconstrained weights to admissible designs. Gradient
# steps move the weights, so that no step can leave the space.
#
# | space | designs |
# |---|---|
# | `Box`, `Free` | numbers between bounds, or any numbers |
# | `Times(count, low, high, min_gap)` | ordered, never closer than the gap |
# | `Simplex(size, total)` | shares of a fixed total |
# | `Subset(candidates, size)`, `Choice`, `Integer` | k of n, one of several, whole numbers |
# | `Ball`, `Sphere` | points within or at a distance |
# | `Product(name=space, ...)` | several of these together, as a dict |
# | `Transformed(space, fn)` | a constraint of your own |
# | `Sequence(design, length)` | one of these for each of several measurements; `kb.Sequence` simulates them |

# %%
import os
from pathlib import Path

import kerasbed as kb  # isort: skip  (first: it picks a backend if none is set)

import keras
import matplotlib.pyplot as plt
import numpy as np

from kerasbed.plots.style import COLORS, line_of, marker_of

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"  # a quick pass that shows nothing but that all runs
STEPS, OUTER, INNER = (10, 64, 4096) if SMALL else (1000, 2048, 65_536)
keras.utils.set_random_seed(3)


def show(figure, name):
    """Save the picture where KERASBED_TUTORIAL_OUT says, else show it."""
    if folder := os.environ.get("KERASBED_TUTORIAL_OUT"):
        figure.savefig(Path(folder) / f"{name}.png", dpi=110)
    else:
        plt.show()
    plt.close(figure)


def learn(simulator, design, steps=STEPS, **arguments):
    """A design learned on the prior contrastive bound, which needs a likelihood and no network."""
    model = kb.DesignModel(simulator, design, kb.objectives.PriorContrastive(512), seed=1, **arguments)
    model.fit(epochs=1, steps_per_epoch=steps, batch_size=128, verbose=0)
    return model


# %% [markdown]
# ## Times that keep their order and their distance
#
# After an oral dose a drug is absorbed into the blood and eliminated from it. When should fifteen samples be taken, at
# least a quarter of an hour apart? This is the experiment of Ryan et al. (2014).

# %%
drug = kb.problems.Pharmacokinetics()
blood = learn(drug, kb.designs.Times(15, low=0.0, high=24.0, min_gap=0.25, seed=0))
times, even = blood.design.numpy(), np.linspace(0.0, 24.0, 15)
print("learned times (h):", times.round(2), " smallest gap:", np.diff(times).min().round(3))
comparison = kb.eig.compare(drug, [times, even], OUTER, INNER, seed=2)
print(f"EIG learned >= {comparison['lower'][0]:.3f}, evenly spread >= {comparison['lower'][1]:.3f} nats")

figure, axes = plt.subplots(figsize=(7.0, 4.0), layout="constrained")
hours = np.linspace(0.0, 24.0, 300)
parameters = drug.prior.sample(3, seed=4)
for i in range(3):
    volume, absorption, elimination = (parameters[name][i] for name in ("volume", "absorption", "elimination"))
    curve = drug.dose / volume * absorption / (absorption - elimination)
    axes.plot(hours, curve * (np.exp(-elimination * hours) - np.exp(-absorption * hours)), **line_of(i))
for i, (label, values) in enumerate((("learned times", times), ("evenly spread", even))):
    axes.plot(values, np.full(15, -1.0 - 1.5 * i), linestyle="", label=label, color=COLORS[i], **marker_of(i))
axes.set(xlabel="time after the dose (h)", ylabel="concentration (mg/l)", ylim=(-3.5, None))
axes.set_title("three patients of the prior; below them the sampling times", fontsize="medium")
axes.legend(frameon=False, loc="upper right")
show(figure, "times")

# %% [markdown]
# The samples gather where the parameters show: during absorption, around the peak, and late, when elimination has had
# its effect. Where they would all like to be at one time, the gap keeps them apart.
#
# ## Shares of a total, and subsets
#
# Twenty sensors see a cubic polynomial on [-1, 1]. Two questions can be asked: how should a fixed measuring effort be
# shared among the sensors (`Simplex`; a sensor with twice the effort has half the noise variance), and which four
# should be built (`Subset`)? Here both have exact answers, an EIG of 2.20577 and of 3.7462 nats.

# %%
sensors = kb.problems.LinearGaussian.polynomial(20)
shares = learn(sensors, kb.designs.Simplex(20, seed=0))
weights = shares.design.numpy().astype("float64")
print(f"effort: EIG {sensors.exact_eig(weights / weights.sum()):.4f} of at most 2.2058 nats")

places = np.linspace(-1.0, 1.0, 7 if SMALL else 20)
cubic = kb.problems.Quadratic(degree=3, noise_scale=0.5, prior_scale=1.0)
chosen = kb.DesignModel(cubic, kb.designs.Subset(places, size=4, seed=0), seed=1)  # the default, a posterior network
chosen.fit(epochs=1, steps_per_epoch=2 * STEPS, batch_size=256, verbose=0)
print(
    f"subset: EIG {cubic.exact_eig(chosen.design.numpy()):.4f} of at most 3.7462 nats at",
    chosen.design.numpy().round(2),
)
print(chosen.starts_table.head(3)[["eig", "eig_se", "difference", "difference_se"]].round(4).to_string())

figure, axes = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
axes.vlines(
    np.linspace(-1.0, 1.0, 20), 0.0, weights, color=COLORS[1], linewidth=3, label="share of the effort (Simplex)"
)
axes.plot(np.linspace(-1.0, 1.0, 20), weights, linestyle="", color=COLORS[1], marker="o", markersize=4)
subset = chosen.design.numpy()
axes.plot(subset, np.full(4, 0.56), "v", color=COLORS[2], markersize=9, label="four of twenty (Subset)")
axes.set(xlabel="place of the sensor", ylabel="share of the effort", ylim=(0.0, 0.75))
axes.legend(frameon=False, loc="upper center", ncols=2)
show(figure, "sensors")

# %% [markdown]
# A subset has no gradient, so a distribution over subsets is learned: logits, perturbed by Gumbel base samples, relaxed
# while it trains. In the end the model samples subsets from what it learned, compares them on common draws, and keeps
# the best; then single sensors are exchanged as long as that helps. `starts_table` is the last comparison.
#
# ## Several things at once, and what they cost
#
# Now the dose is a choice too, and patients must wait until the last sample. A design becomes a dict, and `cost` says
# what it takes; going over the `budget` is penalised while the design is learned.


# %%
class DosedDrug(kb.problems.Pharmacokinetics):
    """Three samples after one of three doses."""

    noise_shape = (3,)

    def mean(self, parameters, design):
        return design["dose"] / self.dose * super().mean(parameters, design["times"])


def price(design):
    """10 for every hour of waiting, and the dose in mg."""
    return 10.0 * design["times"][..., -1] + design["dose"][..., 0]


def space(seed):
    return kb.designs.Product(
        times=kb.designs.Times(3, low=0.0, high=24.0, min_gap=0.25),
        dose=kb.designs.Choice((1,), options=[100.0, 200.0, 400.0]),
        seed=seed,
    )


within = learn(DosedDrug(), space(5), cost=price, budget=300.0)
print("within the budget:", {name: values.round(2).tolist() for name, values in within.design.numpy().items()})
print(f"reached cost {within.reached_cost:.1f} of 300;  {within.estimate_eig(OUTER, num_inner=INNER)}")

# %% [markdown]
# ## Several starts in one model
#
# An EIG may have many local optima. `starts=` learns several designs side by side in the same batches; in the end all
# are ranked on common draws with the error of their differences, and the best is kept.

# %%
kinetics = kb.problems.MichaelisMenten()
multi = learn(kinetics, kb.designs.Box((7,), 0.0, 400.0, seed=2), starts=6)
table = multi.starts_table
print(table[["eig", "eig_se", "difference", "difference_se"]].round(4).to_string())

figure, axes = plt.subplots(figsize=(7.0, 3.8), layout="constrained")
for rank, (design, gap, error) in enumerate(
    zip(table["design"], table["difference"], table["difference_se"], strict=True)
):
    # One below the other, so that equal concentrations stay visible.
    axes.plot(np.sort(design), rank + np.linspace(-0.3, 0.3, 7), linestyle="", color=COLORS[1], **marker_of(0))
    text = "best" if rank == 0 else f"{gap:.3f} ± {error:.3f}"
    axes.annotate(text, (1.02, rank), xycoords=axes.get_yaxis_transform(), va="center", fontsize="small")
axes.set(xlabel="substrate concentration (arb. units)", ylabel="start, by rank", yticks=range(len(table)))
axes.set_title("EIG minus that of the best (nats)", loc="right", fontsize="small")
axes.invert_yaxis()
show(figure, "starts")

# %% [markdown]
# ## The whole landscape from one posterior
#
# A posterior network that is trained at designs drawn from the whole space knows the posterior at *any* of them. Then
# the EIG can be read off everywhere, and climbed, without new training. Two times for the reaction A -> B -> C, whose
# species A and B are both measured:

# %%
reaction = kb.problems.ConsecutiveReaction()
pair = kb.designs.Times(2, low=0.0, high=20.0, min_gap=0.5, seed=0)
amortised = kb.DesignModel(reaction, pair, seed=1)
everywhere = kb.SimulatorDataset(reaction, pair, batch_size=256, num_batches=2 * STEPS, seed=1, designs="space")
amortised.fit(everywhere, epochs=1, verbose=0)

ticks = np.linspace(0.25, 19.75, 6 if SMALL else 27)
first, second = np.meshgrid(ticks, ticks, indexing="ij")
allowed = (second - first >= 0.5) & (first <= 15.0) & (second >= 4.0)  # corners of the space are seldom trained at
designs = np.stack([first[allowed], second[allowed]], axis=-1)
values = np.full(first.shape, np.nan)
values[allowed] = amortised.eig_landscape(designs, num_samples=OUTER // 4)["eig"]
climbed = amortised.ascend(starts=2 if SMALL else 8, steps=3 if SMALL else 50, num_samples=OUTER)
best = amortised.design.numpy()
exact = kb.eig.grid(reaction, best, num_samples=200 if SMALL else 4000)
print(f"best times {best.round(2)} min; bound there {climbed['eig'].iloc[0]:.3f}, {exact}")

figure, axes = plt.subplots(figsize=(6.0, 4.4), layout="constrained")
surface = axes.contourf(ticks, ticks, values.T, levels=15, cmap="Greys")
figure.colorbar(surface, label="EIG lower bound (nats)")
axes.plot(*best, "*", color=COLORS[5], markeredgecolor="black", markersize=15, linestyle="", label="after ascent")
axes.set(xlabel="first time (min)", ylabel="second time (min)")
axes.legend(frameon=False, loc="lower right")
show(figure, "landscape")

# %% [markdown]
# ## References
#
# - Amos, Koltun and Kolter (2019): The limited multi-label projection layer (the relaxed subset).
# - Box and Lucas (1959): Design of experiments in non-linear situations.
# - Foster et al. (2020): A unified stochastic gradient approach to designing Bayesian-optimal experiments.
# - Maddison, Mnih and Teh (2017), Jang, Gu and Poole (2017): relaxed choices by Gumbel noise.
# - Ryan, Drovandi, Thompson and Pettitt (2014): Towards Bayesian experimental design for nonlinear models that require
#   a large number of sampling times.
