# %% [markdown]
# # Where to measure: Michaelis-Menten kinetics
#
# An enzyme turns a substrate into a product. The rate of the reaction rises with the concentration of the substrate and
# saturates; two unknown parameters say where and how high. We may measure the rate at seven concentrations of our
# choice. Which seven teach us most about the parameters?
#
# This tutorial follows Desi R. Ivanova's "Bayesian Experimental Design (BED) with BayesFlow and PyTorch" and runs on
# JAX, TensorFlow or torch: set the environment variable `KERAS_BACKEND`, or let kerasbed pick an installed one.
#
# ## The idea
#
# With a prior $p(\theta)$ and a simulator of outcomes $y$ at a design $\xi$, the **expected information gain** is how
# much the experiment narrows the parameters down, on average over what it may bring:
#
# $$\mathrm{EIG}(\xi) = \mathbb{E}_{p(\theta)\,p(y \mid \theta, \xi)}
#   \left[\log p(\theta \mid y, \xi) - \log p(\theta)\right].$$
#
# The posterior in it is unknown. Put any density $q(\theta \mid y, \xi)$ in its place and the value can only fall
# (Barber and Agakov, 2003), so a flexible $q$, here a normalizing flow, and the design $\xi$ can climb the same hill
# together: the flow towards the posterior, the design towards the most informative experiment. What is left in the end
# is the design *and* a posterior for it, ready for the data.

# %%
import os
from pathlib import Path

import bayesflow as bf
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb  # before Keras: it picks a backend if none is set

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"  # a quick pass that shows nothing but that all runs
EPOCHS, STEPS, DRAWS, DATA_SETS, GRID_DRAWS = (2, 20, 200, 20, 500) if SMALL else (50, 100, 2000, 300, 20_000)
keras.utils.set_random_seed(20240929)
print("backend:", keras.backend.backend())


def show(figure, name):
    """Save the picture where KERASBED_TUTORIAL_OUT says, else show it."""
    if folder := os.environ.get("KERASBED_TUTORIAL_OUT"):
        figure.savefig(Path(folder) / f"{name}.png", dpi=110)
    else:
        plt.show()
    plt.close(figure)


# %% [markdown]
# ## The simulator
#
# A simulator is a prior and an `outcome`: a differentiable function, in `keras.ops`, of the parameters, the design and
# `noise`, which arrives as standard normal numbers. Gaussian noise has a shortcut: say its `mean` and `scale`, and the
# likelihood comes along, which this tutorial needs only to check the results. (`kb.problems.MichaelisMenten` is this
# class.)


# %%
class MichaelisMenten(kb.GaussianSimulator):
    """Reaction rates at chosen substrate concentrations between 0 and 400."""

    prior = kb.Prior(theta_1=stats.norm(0.5, 0.1), theta_2=stats.norm(0.5, 0.1))

    def mean(self, parameters, design):
        maximum = 20.0 + 180.0 * parameters["theta_1"]
        half_point = 20.0 + 180.0 * parameters["theta_2"]
        x, k = ops.power(design / 400.0, 4), ops.power(half_point / 400.0, 4)
        return maximum * x / (k + x)

    def scale(self, parameters, design):
        return 5.0


simulator = MichaelisMenten()
start = 400.0 * np.array([0.4745, 0.4456, 0.5147, 0.5618, 0.4844, 0.4880, 0.5162])
labels = ("substrate concentration (arb. units)", "reaction rate (arb. units)")
axes = kb.plots.realisations(simulator, start, seed=1, limits=(0.0, 400.0), labels=labels)
show(axes.figure, "realisations_start")

# %% [markdown]
# ## A posterior at a fixed design
#
# The design space says what may be chosen: seven numbers between 0 and 400. With `trainable=False` the design stays
# where it starts, and `fit` learns only the posterior network: neural posterior estimation, as BayesFlow does it.

# %%
fixed = kb.DesignModel(
    simulator, kb.designs.Box(shape=(7,), low=0.0, high=400.0, initial=start, trainable=False), seed=1
)
fixed.fit(epochs=EPOCHS, steps_per_epoch=STEPS, verbose=0)
print(fixed.estimate_eig())

# %% [markdown]
# How good is it? For two parameters a dense grid gives the exact posterior. Three simulated experiments, the flow
# dashed, the grid solid:

# %%
fixed_data = simulator.simulate(3, start, seed=2)
fixed_draws = fixed.sample(DRAWS, conditions={"outcome": fixed_data["outcome"]}, seed=3)
fixed_exact = kb.reference.sample(simulator, DRAWS, {"outcome": fixed_data["outcome"], "design": start}, seed=4)
prior_draws = simulator.prior.sample(1000, seed=5)
panels = kb.plots.posterior(fixed_draws, fixed_exact, truth=fixed_data["parameters"], prior=prior_draws)
show(panels[0].figure, "posterior_start")

# %% [markdown]
# The flow is right, and the posterior is wide: these seven concentrations say little about the second parameter.
#
# ## Learning the design along with the posterior
#
# Leave `trainable=False` out, and the design moves. Nothing else changes.

# %%
design = kb.designs.Box(shape=(7,), low=0.0, high=400.0, initial=start)
model = kb.DesignModel(simulator, design, seed=1)
history = model.fit(epochs=EPOCHS, steps_per_epoch=STEPS, verbose=0)
print("learned design:", np.sort(model.design.numpy()).round(1))
print("with the flow: ", model.estimate_eig())
before, after = (kb.eig.grid(simulator, d, num_samples=GRID_DRAWS) for d in (start, model.design))
print("exact, start:  ", before)
print("exact, learned:", after)

# %% [markdown]
# `estimate_eig` is a lower bound with its standard error; the grid confirms it from outside. The design path shows
# what was found: measure several times where the curve is steep, and several times where it is flat and high.

# %%
show(kb.plots.design_path(model.design_history, label=labels[0]).figure, "design_path")
references = {"exact EIG, starting design": before, "exact EIG, learned design": after}
show(kb.plots.bound(history, references=references).figure, "bound")
axes = kb.plots.realisations(simulator, model.design, seed=1, limits=(0.0, 400.0), labels=labels)
show(axes.figure, "realisations_learned")

# %% [markdown]
# The same parameters as before, measured at the learned design (the same seed gives the same parameters and noise):

# %%
data = simulator.simulate(3, model.design, seed=2)
draws = model.sample(DRAWS, conditions={"outcome": data["outcome"]}, seed=3)
exact = kb.reference.sample(simulator, DRAWS, {"outcome": data["outcome"], "design": model.design}, seed=4)
panels = kb.plots.posterior(draws, exact, truth=data["parameters"], prior=prior_draws)
show(panels[0].figure, "posterior_learned")
for name in simulator.prior.names:
    ratio = draws[name].std(axis=1).mean() / fixed_draws[name].std(axis=1).mean()
    print(f"posterior width of {name}, learned design / starting design: {ratio:.2f}")

# %% [markdown]
# ## Is the posterior calibrated?
#
# Three outcomes look right; are all of them? Draws have BayesFlow's shapes, so its diagnostics take them as they are.
# A log-gamma statistic above 0 means that the ranks of the true parameters are as uniform as they should be (Modrák et
# al., 2023), and so does a line inside its band.

# %%
many = simulator.simulate(DATA_SETS, model.design, seed=6)
estimates = model.sample(200, conditions={"outcome": many["outcome"]}, seed=7)
log_gamma = bf.diagnostics.metrics.calibration_log_gamma(estimates=estimates, targets=many["parameters"])
print(dict(zip(log_gamma["variable_names"], np.round(log_gamma["values"], 2), strict=True)))
figure = bf.diagnostics.plots.calibration_ecdf(
    estimates=estimates, targets=many["parameters"], difference=True, figsize=(9.0, 4.0)
)
show(figure, "calibration")

# %% [markdown]
# ## Real data
#
# Measure at the learned concentrations, pass what came out, and the posterior is there at once. Should a concentration
# not come out as planned, pass the executed design too; a warning says where the network was not trained for it.

# %%
measured = data["outcome"][0]
answer = model.sample(DRAWS, conditions={"outcome": measured}, seed=8)
for name, values in answer.items():
    print(f"{name} = {values.mean():.3f} +- {values.std():.3f}")

# %% [markdown]
# ## The whole story in one picture

# %%
figure, panels = plt.subplots(1, 3, figsize=(12.0, 3.8), layout="constrained", width_ratios=(1.2, 1, 1))
kb.plots.design_path(model.design_history, label=labels[0], axes=panels[0])
panels[0].set_title("the design over training")
shown = [
    ("posterior, starting design", fixed_draws, fixed_exact, fixed_data),
    ("posterior, learned design", draws, exact, data),
]
for panel, (title, sampled, reference, simulated) in zip(panels[1:], shown, strict=True):
    first = [{name: values[1:2] for name, values in d.items()} for d in (sampled, reference, simulated["parameters"])]
    kb.plots.posterior(*first, prior=prior_draws, axes=[panel])
    panel.set(title=title, xlim=(0.2, 0.8), ylim=(0.2, 0.9))
panels[2].get_legend().remove()
show(figure, "story")

# %% [markdown]
# ## References
#
# - Barber and Agakov (2003): The IM algorithm, a variational approach to information maximization.
# - Foster et al. (2020): A unified stochastic gradient approach to designing Bayesian-optimal experiments.
# - Modrák et al. (2023): Simulation-based calibration checking for Bayesian computation.
# - Rainforth, Foster, Ivanova and Bickford Smith (2024): Modern Bayesian experimental design.
