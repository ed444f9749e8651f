# %% [markdown]
# # Acquisition functions and the reparameterization trick
#
# Where should the next few experiments of an expensive black box go? A Gaussian process says what we believe about it;
# an *acquisition function* says what evaluating q points at once would be worth. Each is an integral over the outcomes
# we might see,
#
# $$a(A) = E_z\, u(\mu(A) + L(A) z), \qquad z \sim N(0, I),$$
#
# and because the base samples $z$ do not depend on the points $A$, the average over fixed draws is a smooth function
# of $A$ with a gradient. This follows Wilson, Moriconi, Hutter and Deisenroth, "The reparameterization trick for
# acquisition functions" (2017). Here you see
#
# - stochastic gradient ascent on five acquisition surfaces;
# - that gradient-based maximisers find better batches than random search and DIRECT in the same time;
# - what that does to the regret of the search.

# %%
import os
import time

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import matplotlib.pyplot as plt
import numpy as np

from kerasbed import acquisition
from kerasbed.acquisition import maximisers
from kerasbed.base_samples import MonteCarlo, Sobol
from kerasbed.plots.style import COLORS, LINES

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"
OUT = os.environ.get("KERASBED_TUTORIAL_OUT")


def finish(name):
    """Save the picture if a folder is given, else show it."""
    if OUT:
        plt.savefig(os.path.join(OUT, f"06_{name}.png"), dpi=110)
        plt.close()
    else:
        plt.show()


# %% [markdown]
# ## A belief about a function of one input
#
# Five evaluations, known hyperparameters. `posterior` gives the joint mean and Cholesky factor at any points, and a
# draw of the function is `mean + cholesky @ z`.

# %%
inputs = np.array([[0.06], [0.3], [0.42], [0.72], [0.94]])
outcomes = np.sin(9.0 * inputs[:, 0]) + 0.6 * inputs[:, 0]
gp = acquisition.GaussianProcess(inputs, outcomes, lengthscale=0.16, variance=1.0, noise=1e-4, mean=0.0)
grid = np.linspace(0.0, 1.0, 101)[:, None]
mean, deviation = gp.predict(grid)

# %% [markdown]
# ## Stochastic gradient ascent on five acquisition functions
#
# With two points at once (q = 2) an acquisition function is a surface over the square, symmetric because the order of
# the points does not matter. Each panel shows the surface and ascents that use 16 *fresh* base samples at every step:
# noisy gradients of the right expectation, as in the paper's first figure.

# %%
bounds = np.array([[0.0, 1.0]])
samples = Sobol(64 if SMALL else 256, seed=0)
representers = acquisition.representers(gp, bounds, num=24 if SMALL else 50, seed=0)
functions = {
    "Expected Improvement": acquisition.ExpectedImprovement(gp, base_samples=samples),
    "Probability of Improvement": acquisition.ProbabilityOfImprovement(gp, temperature=0.1, base_samples=samples),
    "Upper Confidence Bound": acquisition.UpperConfidenceBound(gp, base_samples=samples),
    "Simple Regret": acquisition.SimpleRegret(gp, base_samples=samples),
    "Entropy Search": acquisition.EntropySearch(gp, representers, temperature=0.1),
}


def ascend(function, start, steps, rate=0.02, num=16):
    """Plain stochastic ascent with normalised steps; returns the path (steps + 1, 2)."""
    path, kept = [start], function.base_samples
    for step in range(steps):
        function.base_samples = MonteCarlo(num, seed=step)  # fresh noise, the same formula
        _, gradient = function.value_and_gradient(path[-1][:, None])
        length = np.linalg.norm(gradient) + np.finfo("float64").tiny
        path.append(np.clip(path[-1] + rate * gradient[:, 0] / length / (1.0 + 0.05 * step), 0.0, 1.0))
    function.base_samples = kept
    return np.array(path)


side = np.linspace(0.0, 1.0, 25 if SMALL else 61)
pairs = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2, 1)
starts = np.array([[0.1, 0.9], [0.45, 0.2], [0.6, 0.95], [0.85, 0.55], [0.3, 0.5]])
figure, panels = plt.subplots(2, 3, figsize=(10.5, 6.8), layout="constrained")
panel = panels[0, 0]
panel.fill_between(grid[:, 0], mean - 2 * deviation, mean + 2 * deviation, color="0.85", label="mean ± 2 sd")
panel.plot(grid[:, 0], mean, color=COLORS[0], label="posterior mean")
panel.plot(inputs[:, 0], outcomes, "o", color=COLORS[2], label="evaluated")
panel.set(title="Belief", xlabel="input", ylabel="outcome")
panel.legend(frameon=False, fontsize=8, loc="lower left")
for panel, (name, function) in zip(panels.flat[1:], functions.items(), strict=True):
    surface = maximisers.evaluate_in_chunks(function, pairs).reshape(len(side), len(side))
    panel.contourf(side, side, surface, levels=20, cmap="Greys")
    for start in starts:
        path = ascend(function, start, steps=10 if SMALL else 60)
        panel.plot(*path.T, "-", color=COLORS[2], lw=1.2)
        panel.plot(*path[0], "o", color="white", mec=COLORS[0], ms=5)
        panel.plot(*path[-1], "*", color=COLORS[5], mec=COLORS[0], ms=10)
    panel.set(title=name, xlabel="first point", ylabel="second point")
finish("ascent")

# %% [markdown]
# The circles are starts, the stars where the ascents end. All of them climb towards the dark regions; those on the
# diagonal would be two evaluations at one place, which every parallel acquisition function marks down.
#
# ## Maximisers at equal time
#
# In more dimensions the surface cannot be drawn, and cannot be searched by chance either. `maximize` moves 32 starts
# together, one compiled call a step. We give random search and DIRECT the time that Adam took.

# %%
DIM, BATCH = (3, 2) if SMALL else (8, 4)
rng = np.random.default_rng(1)
known = {"lengthscale": 0.5, "variance": 1.0, "noise": 1e-3, "mean": 0.0}
cube = np.tile([0.0, 1.0], (DIM, 1))
seen = rng.random((32, DIM))
prior = acquisition.GaussianProcess(np.full((1, DIM), 50.0), np.zeros(1), **known)  # too far away to tell anything
belief = acquisition.GaussianProcess(seen, prior.sample(seen, 1, seed=2)[0], **known)
improvement = acquisition.ExpectedImprovement(belief, base_samples=Sobol(64 if SMALL else 256, seed=0))
spent = {}
for method in ("adam", "adam", "l-bfgs-b", "l-bfgs-b", "random", "direct"):  # the first call of a method compiles
    begin = time.perf_counter()
    limit = spent["adam"] if method in ("random", "direct") else None
    points, value = acquisition.maximize(improvement, cube, q=BATCH, method=method, time_limit=limit)
    seconds = spent[method] = time.perf_counter() - begin
    print(f"{method:9s} expected improvement {value:.4f} in {seconds:.2f} s")

# %% [markdown]
# ## What it does to the regret
#
# The same search, with batches chosen by maximising expected improvement by gradient or by random search, on functions
# drawn from the Gaussian process. `BlackBoxSearch` is kerasbed's loop around all this.

# %%
REPEATS, BUDGET = (2, 12) if SMALL else (8, 60)
space = kb.designs.Box((DIM,), 0.0, 1.0)
dense = np.random.default_rng(3).random((200 if SMALL else 600, DIM))


def drawn_function(seed):
    """A function from the prior: the posterior mean of a process that has seen one joint draw at many points."""
    truth = acquisition.GaussianProcess(dense, prior.sample(dense, 1, seed=seed)[0], **known)
    _, best = acquisition.maximize(acquisition.SimpleRegret(truth), cube, method="adam", seed=seed)
    return lambda x: float(truth.predict(x[None])[0][0]), best


figure, axes = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
for i, method in enumerate(("adam", "random")):
    curves = []
    for seed in range(REPEATS):
        function, best = drawn_function(seed)
        search = kb.search.BlackBoxSearch(
            function, space, batch_size=BATCH, seed=seed, method=method, noise=0.0, initial=8
        )
        search.run(BUDGET)
        curves.append(np.maximum(best - search.table()["incumbent"].to_numpy(), 1e-4))
    low, middle, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
    number = np.arange(1, BUDGET + 1)
    axes.fill_between(number, low, high, step="post", color=COLORS[i + 1], alpha=0.2, lw=0)
    label = {"adam": "gradient (Adam)", "random": "random search"}[method]
    axes.step(number, middle, where="post", color=COLORS[i + 1], linestyle=LINES[i], label=label)
axes.set(xlabel="evaluations", ylabel="regret of the best so far", yscale="log")
axes.legend(frameon=False, title=f"batches of {BATCH} maximised by", loc="upper right")
finish("regret")

# %% [markdown]
# Lines are medians over functions, bands quartiles. Both searches have the same model and the same criterion; what
# differs is only how well the criterion was maximised.
