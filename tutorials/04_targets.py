# %% [markdown]
# # Targets: the question that matters
#
# An experiment that teaches most about *everything* need not be the one that answers your question. You may want one
# rate constant and not care about the other; or a prediction, to which all parameters contribute. In kerasbed this is
# one argument, `target=`: a parameter's name, a list of names, or a function of the parameters. All else is *nuisance*:
# unknown, simulated, but not counted.
#
# For a target $t = g(\theta)$ the quantity that is maximised becomes
#
# $$I(t; y \mid \xi) = \mathbb{E}\left[\log p(t \mid y, \xi) - \log p(t)\right],$$
#
# and the Barber-Agakov bound holds for it with a network $q(t \mid y, \xi)$ for the target alone: the nuisance
# parameters are never integrated, their effect is learned from simulations.

# %%
import os
from pathlib import Path

import kerasbed as kb  # isort: skip  (first: it picks a backend if none is set)

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from scipy import stats

from kerasbed.plots.style import COLORS, LINES, marker_of

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"  # a quick pass that shows nothing but that all runs
STEPS, DRAWS, DATA_SETS = (10, 100, 8) if SMALL else (2000, 1000, 200)
keras.utils.set_random_seed(4)


def show(figure, name):
    """Save the picture where KERASBED_TUTORIAL_OUT says, else show it."""
    if folder := os.environ.get("KERASBED_TUTORIAL_OUT"):
        figure.savefig(Path(folder) / f"{name}.png", dpi=110)
    else:
        plt.show()
    plt.close(figure)


# %% [markdown]
# ## One experiment, three questions
#
# A substance A turns into B, and B into C, with unknown rates $k_1$ and $k_2$. The concentrations of A and B are
# measured at three times. What do we want to know?
#
# 1. both rates;
# 2. only $k_2$, with which B decays;
# 3. a prediction: the time at which B peaks and is harvested, $t^* = \log(k_1 / k_2) / (k_1 - k_2)$.


# %%
@keras.saving.register_keras_serializable("tutorial")
def log_peak_time(parameters):
    """log t*, (batch, 1). A target is a differentiable function of the parameters with a last axis."""
    first, second = parameters["k_1"], parameters["k_2"]
    ratio = ops.log(first / second)
    # t* = ratio / (k_1 - k_2) = ratio / (2 sqrt(k_1 k_2) sinh(ratio / 2)), which has a limit where the rates are equal.
    half = ratio / 2.0
    near = ops.abs(half) < 1e-3
    quotient = ops.where(
        near, 1.0 + ops.square(half) / 6.0, ops.sinh(half) / ops.where(near, ops.ones_like(half), half)
    )
    return -0.5 * (ops.log(first) + ops.log(second)) - ops.log(quotient)


QUESTIONS = {"both rates": None, "k_2 alone": "k_2", "peak time of B": log_peak_time}
reaction = kb.problems.ConsecutiveReaction()
models = {}
for question, target in QUESTIONS.items():
    design = kb.designs.Times(3, low=0.0, high=20.0, min_gap=0.25, seed=1)
    model = kb.DesignModel(reaction, design, target=target, seed=1)
    model.fit(epochs=1, steps_per_epoch=STEPS, batch_size=256, verbose=0)
    models[question] = model
    print(f"{question:15} measure at {model.design.numpy().round(2)} min;  {model.estimate_eig(1024)}")

# %% [markdown]
# The times differ, and so do the figures, which are not comparable with each other: they count information about
# different things.
#
# Note what the last line says it is. The entropy of the parameters is known in closed form, so that the first two
# figures are lower bounds. A function of the parameters has no density in closed form; a learned one would make the
# figure an *estimate* that can claim too much. The lower bound printed first comes from contrasts instead: InfoNCE with
# the critic $\log q(t \mid y) - \log m(t)$ and fresh, independent targets is below the EIG whatever $m$ is.

# %%
figure, axes = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
minutes = np.linspace(0.0, 20.0, 300)
k_1, k_2 = 0.7, 0.2
curves = (np.exp(-k_1 * minutes), k_1 / (k_2 - k_1) * (np.exp(-k_1 * minutes) - np.exp(-k_2 * minutes)))
for name, curve, line in zip(("A", "B"), curves, LINES, strict=False):
    axes.plot(minutes, curve, color="black", linestyle=line, linewidth=1.2, label=f"concentration of {name}")
for i, (question, model) in enumerate(models.items()):
    height = np.full(3, -0.1 - 0.1 * i)
    axes.plot(
        model.design.numpy(), height, linestyle="", color=COLORS[i], label=f"times for {question}", **marker_of(i)
    )
axes.axvline(np.log(k_1 / k_2) / (k_1 - k_2), color="0.6", linewidth=1.0, linestyle=":", label="peak of B")
axes.set(xlabel="time (min)", ylabel="relative concentration", ylim=(-0.38, 1.05))
axes.legend(frameon=False, fontsize="small")
show(figure, "times")

# %% [markdown]
# ## Does the right question pay?
#
# Each design is put to every question. For two parameters a dense grid gives exact posteriors; here is how wide they
# are on average over simulated experiments, relative to the best of the three designs for that question.

# %%
truth = reaction.prior.sample(DATA_SETS, seed=5)


def posterior_widths(design):
    """Mean posterior standard deviations of log k_2 and log t*, and of both log rates together (the root of |cov|)."""
    data = reaction.simulate(DATA_SETS, design, seed=5)
    draws = kb.reference.sample(reaction, DRAWS, {"outcome": data["outcome"], "design": design}, seed=6)
    rates = np.log(np.concatenate([draws["k_1"], draws["k_2"]], axis=-1))
    flat = {name: values.reshape(-1, 1) for name, values in draws.items()}
    peak = ops.convert_to_numpy(log_peak_time({n: ops.convert_to_tensor(v) for n, v in flat.items()}))
    joint = np.mean([np.linalg.det(np.cov(pair.T)) ** 0.25 for pair in rates])
    return np.array([joint, rates[..., 1].std(axis=1).mean(), peak.reshape(DATA_SETS, -1).std(axis=1).mean()])


widths = np.stack([posterior_widths(model.design.numpy()) for model in models.values()])
relative = widths / widths.min(axis=0)
print("posterior width relative to the best design (rows: designed for; columns: asked for)")
for question, row in zip(QUESTIONS, relative, strict=True):
    print(f"{question:15}", "  ".join(f"{value:.3f}" for value in row))

figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for i, (question, row) in enumerate(zip(QUESTIONS, relative, strict=True)):
    bars = axes.bar(
        np.arange(3) + 0.27 * (i - 1), row, 0.25, color=COLORS[1 + i], edgecolor="black", hatch=("", "//", "..")[i]
    )
    bars.set_label(f"designed for {question}")
axes.set(xticks=range(3), xticklabels=list(QUESTIONS), xlabel="asked for", ylabel="posterior width / best")
axes.set_ylim(0.0, 1.35 * relative.max())
axes.legend(frameon=False, fontsize="small", loc="upper left", ncols=2)
show(figure, "widths")

# %% [markdown]
# ## The posterior is one of the target
#
# `sample` and `log_prob` speak of the target: of the parameter by its name, or of `"target"` for a function.

# %%
asked = models["peak time of B"]
observed = reaction.simulate(1, asked.design, seed=7)
peak_draws = np.exp(asked.sample(DRAWS, {"outcome": observed["outcome"]}, seed=8)["target"][0, :, 0])
print(f"peak time of B: {peak_draws.mean():.2f} +- {peak_draws.std():.2f} min")

# %% [markdown]
# ## Which model is right?
#
# The question may be about the law itself. Does a substance decay by first order, $e^{-kt}$, or by second order,
# $1 / (1 + kt)$? `ModelChoice` makes the law an unknown like any other: a classifier takes the place of the posterior
# network, and the EIG about the law is at most its entropy, here $\log 2 = 0.693$ nats. The rates are nuisance.


# %%
class FirstOrder(kb.GaussianSimulator):
    """The rate is proportional to what is left."""

    prior = kb.Prior(k=stats.lognorm(s=0.3))

    def mean(self, parameters, design):
        return ops.exp(-parameters["k"] * design)

    def scale(self, parameters, design):
        return 0.1


class SecondOrder(FirstOrder):
    """The rate is proportional to the square of what is left."""

    def mean(self, parameters, design):
        return 1.0 / (1.0 + parameters["k"] * design)


laws = kb.ModelChoice([FirstOrder(), SecondOrder()])
telling = kb.DesignModel(laws, kb.designs.Times(3, low=0.0, high=8.0, min_gap=0.1, seed=0), seed=0)
telling.fit(epochs=1, steps_per_epoch=STEPS, batch_size=256, verbose=0)
times = telling.design.numpy()
print(f"to tell the laws apart measure at {times.round(2)} min;  {telling.estimate_eig(1024)}")
measured = SecondOrder().simulate(2, times, seed=9)["outcome"]
print("P(first order), P(second order):", telling.model_probabilities({"outcome": measured}).round(3).tolist())

figure, axes = plt.subplots(figsize=(7.0, 3.8), layout="constrained")
minutes = np.linspace(0.0, 8.0, 200)
for i, (label, law) in enumerate((("first order", FirstOrder()), ("second order", SecondOrder()))):
    spread = law.simulate(500, minutes, seed=10)["outcome"]
    low, middle, high = np.quantile(spread, [0.1, 0.5, 0.9], axis=0)
    axes.fill_between(minutes, low, high, color=COLORS[1 + i], alpha=0.25, linewidth=0)
    axes.plot(minutes, middle, color=COLORS[1 + i], linestyle=LINES[i], label=f"{label}: median, 10 to 90%")
axes.plot(times, np.full(3, -0.12), linestyle="", color="black", label="when to measure", **marker_of(2))
axes.set(xlabel="time (min)", ylabel="relative concentration", ylim=(-0.2, 1.1))
axes.legend(frameon=False, fontsize="small")
show(figure, "laws")

# %% [markdown]
# ## References
#
# - Attia, Alexanderian and Saibaba (2018): Goal-oriented optimal design of experiments.
# - Barber and Agakov (2003): The IM algorithm, a variational approach to information maximization.
# - van den Oord, Li and Vinyals (2018): Representation learning with contrastive predictive coding (InfoNCE).
